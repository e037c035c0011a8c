//! An agent that goes onto the recreated disk: nothing of it is in memory before, and nothing of it on the host after.

use std::fs;
use std::path::Path;

use towline_harness::protected::{Scene, code_typed, recovered};

use super::host::{errand, is_back, protected};

/// Ends with status 0 only if nothing of the agent's layer is left.
const NOTHING_LEFT: &[u8] =
    b"#!/bin/sh\nfor it in /.towline*; do test ! -e \"$it\" && test ! -L \"$it\" || exit 1; done\n";

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn an_agent_on_the_target_restores_the_host_and_leaves_nothing_there() {
    let scene = protected().scene("target-layer");
    publish_agent_for_the_target(&scene);
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    recovered(&mut running).expect("it recovers");
    let seen = running.seen();
    for words in [
        "agent/restic/99/amd64 is fetched later, onto the recreated file systems",
        "fetching agent/restic/99/amd64 onto the disk",
        "processes that the agent has left, which are ended: 1",
        "passed: nothing of the recovery is left on the host",
        "passed: a kernel has the drivers of the disks: virtio_blk",
    ] {
        assert!(seen.iter().any(|line| line.contains(words)), "{words}");
    }
    is_back(&scene, &disk, &opened);
    errand(&scene, &disk, &[("run", 0o755, NOTHING_LEFT)]);
}

/// A process that stays when the restore is over, in a session of its own, and that keeps the target busy.
const DAEMON: &str = "cd \"$2\" && setsid sleep 86400 > /dev/null 2>&1 &\n";

/// The same agent as a layer of a later version that goes onto the target, and leaves a process behind.
fn publish_agent_for_the_target(scene: &Scene) {
    let text = fs::read_to_string(protected().recipe("agent-restic")).expect("the recipe");
    let newer = text.replace(
        "version = \"${package.restic}\"",
        "version = \"99\"\nplacement = \"target\"",
    );
    let restores = "exec /usr/lib/towline/agents/restic/with-credentials --no-lock restore";
    let newer = newer.replace(restores, &format!("{DAEMON}{restores}"));
    assert!(newer.contains("\"99\"") && newer.contains(DAEMON), "{text}");
    let recipe = scene.folder().join("agent.toml");
    fs::write(&recipe, newer).expect("the recipe");
    let (recipe, out) = (text_of(&recipe), scene.folder().join("agent"));
    scene.towline(&["layer", "build", &recipe, "-o", &text_of(&out)]);
    let files = fs::read_dir(out).expect("the built layer");
    let mut files = files.map(|it| it.expect("a file").path());
    let layer = files.find(|it| it.extension().is_some_and(|it| it == "layer"));
    scene.towline(&["publish", &text_of(&layer.expect("the built layer"))]);
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
