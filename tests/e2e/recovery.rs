//! A host with LVM, a separate /boot and data, backed up by restic and captured, comes back on an empty disk from the generic
//! medium and one code: the booted host has every file as it was, with modes, owners, times, attributes and links.
//!
//! `towline demo` does it, with 1 GiB of memory; what it says is what a person would see.

use std::process::Command;

use crate::world::{built, built_in, towline};

#[test]
#[ignore = "boots QEMU: make test"]
fn a_host_whose_disk_was_lost_comes_back_by_one_code() {
    built();
    let output = Command::new(towline())
        .args(["demo", "--dir"])
        .arg(built_in())
        .output()
        .expect("towline runs");
    let (told, talk) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{talk}\n{told}", output.status);
    for line in ["alpha has started from its own disk", "the host is back: "] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
}
