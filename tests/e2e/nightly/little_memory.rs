//! A machine that has too little memory is told so, with figures, before its disk is touched.

use towline_harness::protected::{FAILED, RECOVERY, code_typed};

use super::host::{is_untouched, protected};

/// Memory that starts the rescue system, and is too little for a restore, in MiB.
const TOO_LITTLE_MIB: u32 = 256;

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_machine_with_too_little_memory_is_refused_with_figures_and_its_disk_stays_as_it_is() {
    let scene = protected().scene("little-memory");
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut machine = scene.machine(&disk);
    machine.memory_mib = TOO_LITTLE_MIB;
    let mut running = code_typed(&machine, &opened.code).expect("it asks for a code");
    let refused = running.wait_for(FAILED, RECOVERY).expect("it refuses");
    assert!(refused.contains("MiB of free memory, and "), "{refused}");
    running
        .wait_for("tries again by itself", RECOVERY)
        .expect("it stays");
    assert!(is_untouched(&disk));
    let shown = scene.shown(&opened.id);
    assert_eq!(shown["state"]["is"], "failed", "{shown}");
}
