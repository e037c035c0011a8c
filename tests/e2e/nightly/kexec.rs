//! A recovery works as well when the rescue system is started by kexec: its code, credentials and reports come along.

use towline_harness::protected::{RECOVERY, code_typed, recovered};

use super::host::{is_back, protected, steps};

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_host_comes_back_by_a_rescue_system_that_was_started_by_kexec() {
    let scene = protected().scene("kexec-recovery");
    let config = scene.site().join("towline.toml");
    let text = std::fs::read_to_string(&config).expect("towline.toml");
    let changed = text.replace("hand_over = \"auto\"", "hand_over = \"kexec\"");
    assert_ne!(text, changed, "the configuration says how to hand over");
    std::fs::write(&config, changed).expect("towline.toml");
    let mut scene = scene;
    scene.stop_serving();
    scene.serve();

    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("starting the rescue system (by kexec)", RECOVERY)
        .expect("it hands over by kexec");
    running
        .wait_for("Linux version", RECOVERY)
        .expect("a second kernel starts");
    recovered(&mut running).expect("it recovers");
    let steps = steps(&is_back(&scene, &disk, &opened));
    assert!(
        steps.iter().any(|it| it.contains("hands over: Kexec")),
        "{steps:#?}"
    );
}
