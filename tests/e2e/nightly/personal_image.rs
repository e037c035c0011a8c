//! A complete rescue system that ReaR has made of the host (`OUTPUT=RAMDISK`) is imported by the ready recipes, as kernel and base
//! of that host alone; agent and credentials are as current as in any recovery.

use std::fs;
use std::path::Path;

use towline_harness::protected::{HOST, RECOVERY, Scene, code_typed, recovered};
use towline_harness::rescue_image::RescueImage;

use super::host::{is_back, protected};

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_host_comes_back_by_its_own_rescue_image_with_the_current_agent_and_credentials_over_it() {
    let image = RescueImage::of(protected());
    let mut scene = protected().scene("personal-image");
    choose(&scene);
    import(&scene, &image);
    scene.stop_serving();
    scene.serve();

    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("starting the rescue system (by kexec)", RECOVERY)
        .expect("the host has another kernel than the medium");
    running
        .wait_for("-cloud-amd64", RECOVERY)
        .expect("the rescue system runs the host's kernel");
    recovered(&mut running).expect("it recovers");
    let shown = is_back(&scene, &disk, &opened);
    let layers = shown["report"]["layers"].as_array().expect("layers");
    let has = |start: &str| {
        let mut names = layers.iter().filter_map(|it| it.as_str());
        names.any(|it| it.starts_with(start))
    };
    for wanted in [
        "kernel/alpha/",
        "base/alpha/",
        "agent/restic/",
        "host/alpha/",
    ] {
        assert!(has(wanted), "no {wanted} in {layers:?}");
    }
}

/// Gives the host a kernel and a base of its own. The site's other hosts keep theirs.
fn choose(scene: &Scene) {
    let config = scene.site().join("towline.toml");
    let text = fs::read_to_string(&config).expect("towline.toml");
    let own = format!("\n[plan.hosts.{HOST}]\nkernel = \"{HOST}\"\nbase = \"{HOST}\"\n");
    fs::write(&config, text + &own).expect("towline.toml");
}

/// Builds and publishes both layers of the image.
fn import(scene: &Scene, image: &RescueImage) {
    let host = format!("host={HOST}");
    let kernel = format!("kernel={}", image.kernel().display());
    let initrd = format!("initrd={}", image.initrd().display());
    let build = |recipe: &str, settings: &[&str]| {
        let words = ["layer", "build", recipe, "-o", "personal", "--set", &host];
        scene.towline(&[words.as_slice(), settings].concat());
    };
    build(
        "recipes/personal-kernel.toml",
        &["--set", &kernel, "--set", &initrd],
    );
    build("recipes/personal-base.toml", &["--set", &initrd]);
    let mut publish = vec!["publish".to_owned()];
    let built = fs::read_dir(scene.site().join("personal")).expect("the built layers");
    let built = built.map(|it| it.expect("a file").path());
    let layers = built.filter(|it| it.extension().is_some_and(|it| it == "layer"));
    publish.extend(layers.map(|it| text_of(&it)));
    assert_eq!(publish.len(), 3, "{publish:?}");
    scene.towline(&publish.iter().map(String::as_str).collect::<Vec<_>>());
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
