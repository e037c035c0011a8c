//! A session of before is recovered as it was: its files and its layout, not those of later; by the agent of today.

use std::fs;
use std::path::Path;

use towline_harness::protected::{Scene, code_typed, recovered};

use super::host::{is_back, protected, sessions, some_time_later};

/// What the host does a while later.
const BACK_UP_AGAIN: &str = include_str!("back-up-again.sh");

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn an_older_session_is_recovered_with_its_own_files_and_layout_by_the_newest_agent() {
    let scene = protected().scene("older-session");
    let before = sessions(&scene);
    some_time_later(&scene, BACK_UP_AGAIN, &[]);
    let after = sessions(&scene);
    assert_eq!((before.len(), after.len()), (1, 2), "{after:?}");
    publish_newer_agent(&scene);

    let session = &before[0]["session"];
    let at = session["time"].as_str().expect("the session's time");
    let (disk, opened) = (
        scene.disk("disk.raw", 4),
        scene.open(&["--unattended", "--at", at]),
    );
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    recovered(&mut running).expect("it recovers");
    let seen = running.seen();
    assert!(
        !seen.iter().any(|line| line.contains("vg0-late")),
        "a volume of later is made"
    );
    let shown = is_back(&scene, &disk, &opened);
    assert_eq!(
        shown["session"]["agent_session"], session["backup"]["session"],
        "{shown}"
    );
    let layers = &shown["report"]["layers"];
    let layers = layers.as_array().expect("layers");
    assert!(
        layers.iter().any(|it| it == "agent/restic/99/amd64"),
        "{layers:?}"
    );
}

/// The same agent as a layer of a later version.
fn publish_newer_agent(scene: &Scene) {
    let text = fs::read_to_string(protected().recipe("agent-restic")).expect("the recipe");
    let newer = text.replace("version = \"${package.restic}\"", "version = \"99\"");
    assert_ne!(text, newer, "the recipe says its version");
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
