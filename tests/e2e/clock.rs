//! A clock that is years off does not keep a machine from booting, and the rescue system gets the corrected time.

use towline_machine::Machine;

use crate::world::{READY, RESCUE, Site, built};

fn boots_with_clock_at(name: &str, rtc: &str, year: &str) {
    let site = Site::serving(&built().layers);
    let machine = Machine {
        rtc: Some(rtc.into()),
        ..site.machine(name, site.https_medium())
    };
    let mut running = machine.start().expect("QEMU");
    running.wait_for(READY, RESCUE).expect("the rescue system");
    let corrected = running
        .seen()
        .iter()
        .find(|line| line.contains("towline: ") && line.contains("clock"));
    let corrected = corrected.expect("a line on the corrected clock");
    assert!(
        corrected.contains(year),
        "the clock's first time is shown: {corrected}"
    );
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_clock_at_2012_still_boots() {
    boots_with_clock_at("rtc-2012", "2012-01-01T00:00:00", "2012");
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_clock_at_2038_still_boots() {
    boots_with_clock_at("rtc-2038", "2038-01-20T00:00:00", "2038");
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_clock_at_1970_still_boots() {
    boots_with_clock_at("rtc-1970", "1970-01-02T00:00:00", "1970");
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_clock_at_2100_still_boots() {
    boots_with_clock_at("rtc-2100", "2099-12-31T00:00:00", "2099");
}
