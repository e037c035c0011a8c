//! The backups' server may be away when a recovery begins, and in the middle of it: the machine says so, and waits.

use std::path::Path;
use std::time::Duration;

use towline_harness::protected::{RECOVERY, code_typed, recovered};

use super::host::{is_back, is_untouched, protected};

/// What the machine says while it waits, before the disk is written and during the restore.
const AWAY: &str = "restic does not answer for the session, trying again in";

/// Longest until the agent gives up an answer that does not come.
const NOTICED: Duration = Duration::from_secs(900);

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn no_disk_is_written_while_the_backups_are_away_and_the_recovery_goes_on_when_they_are_back() {
    let mut scene = protected().scene("backups-away");
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    scene.stop_serving_backups();
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    let mut waits = |disk: &Path| {
        running
            .wait_for(AWAY, NOTICED)
            .expect("it says who is away");
        assert!(is_untouched(disk), "nothing is written yet");
    };
    waits(&disk);
    waits(&disk);
    assert_eq!(scene.shown(&opened.id)["state"]["is"], "rescue");
    scene.serve_backups();
    running
        .wait_for("all checks passed; the disks are written", RECOVERY)
        .expect("it goes on by itself");

    running
        .wait_for("restore: ", RECOVERY)
        .expect("a part of the files is there");
    scene.stop_serving_backups();
    running
        .wait_for(AWAY, NOTICED)
        .expect("it waits in the middle of the restore too");
    scene.serve_backups();
    recovered(&mut running).expect("it recovers");
    is_back(&scene, &disk, &opened);
}
