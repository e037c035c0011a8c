//! Towline's server may be away in the middle of a recovery: the machine goes on, and nothing is missing in the report.

use towline_harness::protected::{RECOVERY, code_typed, recovered};

use super::host::{is_back, protected, steps};

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_recovery_goes_on_while_the_server_is_away_and_its_report_is_complete() {
    let mut scene = protected().scene("server-restarts");
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("Running 'layout/recreate' stage", RECOVERY)
        .expect("the disks are being recreated");
    scene.stop_serving();
    running
        .wait_for("restore: ", RECOVERY)
        .expect("it goes on without its server, and has given up telling it of the layout");
    scene.serve();
    recovered(&mut running).expect("it recovers");
    let shown = is_back(&scene, &disk, &opened);
    let steps = steps(&shown);
    let wanted = [
        "code used",
        "checks passed, ",
        "recovers session",
        "recreated the layout",
        "restored everything",
        "is recovered after",
        "started from its own disk",
    ];
    let place = |what: &str| steps.iter().position(|step| step.contains(what));
    let places: Vec<_> = wanted.iter().map(|what| place(what)).collect();
    assert!(places.iter().all(Option::is_some), "{places:?}: {steps:#?}");
    assert!(places.is_sorted(), "{places:?}: {steps:#?}");
    assert_eq!(shown["machine"]["times"], 1, "{shown}");
}
