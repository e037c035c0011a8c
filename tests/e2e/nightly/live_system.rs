//! A live system made by Debian's live-boot becomes kernel and base by the ready recipes, and the rescue system with ReaR in it
//! comes up from them.

use std::fs;
use std::path::{Path, PathBuf};

use towline_harness::live_system::LiveSystem;

use crate::world::{RESCUE, Site, built, expect_rescue, run, target};

/// The kernel's layer, of the modules that the initramfs has: enough to start, and what other live systems may have only there.
const OF_INITRD: &str = "kind = \"kernel\"\nname = \"initrd\"\nversion = \"${kernel.release}\"\nlevel = 1\n\
    [[source]]\ntype = \"kernel\"\nimage = \"${kernel}\"\ninitrd = \"${initrd}\"\nmodules = [\"**/*\"]\n\
    plain = [\"squashfs\", \"overlay\", \"loop\"]\n";

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_live_system_is_the_rescue_system_with_rear_over_it() {
    let live = LiveSystem::in_target(&target());
    let folder = tempfile::tempdir_in(target()).expect("a folder below target/");
    let own = layers(&live, folder.path());
    let [_, _, others @ ..] = built().layers.as_slice() else {
        panic!("kernel, base, and what goes over them")
    };
    let site = Site::serving(&[own.as_slice(), others].concat());

    let machine = site.machine("live-system", site.https_medium());
    let mut running = machine.start().expect("QEMU");
    running
        .wait_for("starting the rescue system (by kexec)", RESCUE)
        .expect("the live system has another kernel than the medium");
    running
        .wait_for("-cloud-amd64", RESCUE)
        .expect("the rescue system runs the live system's kernel");
    expect_rescue(&mut running, &site);
    let events = site.events();
    for wanted in ["kernel/live/", "base/live/", "ReaR runs", "GRUB is known"] {
        assert!(events.contains(wanted), "no {wanted} in {events}");
    }
}

/// Kernel and base, by the ready recipes.
fn layers(live: &LiveSystem, folder: &Path) -> Vec<PathBuf> {
    let [kernel, initrd, squashfs] = [
        ("kernel", live.kernel()),
        ("initrd", live.initrd()),
        ("squashfs", live.squashfs()),
    ]
    .map(|(name, file)| format!("{name}={}", file.display()));
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs/recipes");
    let ready = |name: &str| recipes.join(name).to_str().expect("UTF-8").to_owned();
    let of_initrd = folder.join("of-initrd.toml");
    fs::write(&of_initrd, OF_INITRD).expect("a folder below target/");
    let of_initrd = of_initrd.to_str().expect("UTF-8").to_owned();
    let builds: [(String, &str, &[&str]); 3] = [
        (of_initrd, "of-initrd", &[&kernel, &initrd]),
        (
            ready("live-kernel.toml"),
            "ready",
            &["name=live", &kernel, &squashfs],
        ),
        (ready("live-base.toml"), "ready", &["name=live", &squashfs]),
    ];
    for (recipe, out, settings) in &builds {
        let mut words = vec!["layer", "build", recipe, "-o", out];
        words.extend(settings.iter().flat_map(|it| ["--set", it]));
        run(folder, &words);
    }
    let built = fs::read_dir(folder.join("ready")).expect("the built layers");
    let built = built.map(|it| it.expect("a file").path());
    let layers: Vec<_> = built
        .filter(|it| it.extension().is_some_and(|it| it == "layer"))
        .collect();
    assert_eq!(layers.len(), 2, "{layers:?}");
    layers
}
