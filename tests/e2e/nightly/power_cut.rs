//! A power cut in the middle of the restore costs the work, not the host: the same medium and the same code do it again.

use towline_harness::protected::{RECOVERY, code_typed, recovered};

use super::host::{is_back, protected, steps};

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_recovery_cut_off_in_its_restore_is_done_again_with_the_same_medium_and_code() {
    let scene = protected().scene("power-cut");
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("restore: ", RECOVERY)
        .expect("a part of the files is there");
    drop(running);
    assert_eq!(scene.shown(&opened.id)["state"]["is"], "restoring");

    let again = code_typed(&scene.machine(&disk), &opened.code);
    let mut again = again.expect("it asks for the code again");
    recovered(&mut again).expect("it recovers all the same");
    let seen = again.seen();
    assert!(
        !seen
            .iter()
            .any(|line| line.contains("holds something else")),
        "what the first attempt left is the host's own"
    );
    let shown = is_back(&scene, &disk, &opened);
    let used = steps(&shown);
    let used = used.iter().filter(|it| it.starts_with("code used")).count();
    assert_eq!(used, 2, "{shown}");
}
