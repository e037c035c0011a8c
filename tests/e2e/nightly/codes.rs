//! A code opens one recovery to one machine, whoever types it and however often it is mistyped.

use std::time::Duration;

use towline_harness::protected::{ASKS_CODE, RECOVERY, Scene, asked, code_typed, recovered};
use towline_machine::Machine;

use super::host::{is_back, is_untouched, protected};

/// Longest until the server's answer is on the console.
const ANSWER: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_mistyped_code_is_refused_and_a_used_one_is_of_no_use_on_another_machine() {
    let scene = protected().scene("codes");
    let (disk, other_disk) = (scene.disk("disk.raw", 4), scene.disk("other-disk.raw", 4));
    let first = scene.open(&["--unattended"]);
    let mut running = asked(&scene.machine(&disk)).expect("it asks for a code");
    for (typed, answer) in [
        ("no code at all", "a recovery code has 12 letters"),
        (
            &*mistyped(&first.code),
            "this is no code of an open recovery",
        ),
    ] {
        running.send(&format!("{typed}\n")).expect("typed");
        running.wait_for(answer, ANSWER).expect("it says so");
        running.wait_for(ASKS_CODE, ANSWER).expect("it asks again");
    }
    running.send(&format!("{}\n", first.code)).expect("typed");
    running
        .wait_for("recovering alpha as of", RECOVERY)
        .expect("the right one is taken");
    drop(running);

    let second = scene.open(&["--unattended"]);
    let other = other_machine(&scene, &other_disk);
    let mut running = code_typed(&other, &first.code).expect("it asks for a code");
    running
        .wait_for("the code was used on another machine at", ANSWER)
        .expect("the first machine's code is refused");
    assert!(is_untouched(&other_disk));
    running.wait_for(ASKS_CODE, ANSWER).expect("it asks again");
    running.send(&format!("{}\n", second.code)).expect("typed");
    recovered(&mut running).expect("with a code of its own it recovers");
    is_back(&scene, &other_disk, &second);
}

/// A code of the right letters, which is another one.
fn mistyped(code: &str) -> String {
    let (start, end) = code.split_at(code.len() - 1);
    format!("{start}{}", if end == "2" { "3" } else { "2" })
}

/// The same but for the network card's address.
fn other_machine(scene: &Scene, disk: &std::path::Path) -> Machine {
    Machine {
        network_card: "virtio-net-pci,mac=52:54:00:65:43:21".into(),
        ..scene.machine(disk)
    }
}
