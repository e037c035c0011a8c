//! A host with LVM, a separate /boot and data, backed up by restic and captured, comes back on an empty disk from the generic
//! medium and one code: the booted host has every file as it was, with modes, owners, times, attributes and links.
//!
//! `towline demo` does it, with 1 GiB of memory; what it says is what a person would see. At night it does it also for a host
//! that starts by UEFI with Secure Boot, for one on two mirrored disks, and with the other agents.

use std::process::Command;

use crate::world::{built, built_in, towline};

/// Runs the demonstration with these options, and expects that the host comes back; what it said.
fn comes_back(options: &[&str]) -> String {
    built();
    let output = Command::new(towline())
        .args(["demo", "--dir"])
        .arg(built_in())
        .args(options)
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
    talk.into_owned()
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_host_whose_disk_was_lost_comes_back_by_one_code() {
    comes_back(&[]);
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_uefi_host_with_secure_boot_comes_back() {
    let talk = comes_back(&["--firmware", "secure-boot"]);
    for line in ["Secure Boot is enforced", "\\EFI\\debian\\shimx64.efi"] {
        assert!(talk.contains(line), "no {line:?} in {talk}");
    }
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_host_on_two_mirrored_disks_comes_back() {
    let talk = comes_back(&["--disks", "raid1"]);
    for line in [
        "the host's 2 disks are lost",
        "boot code on /dev/vda, /dev/vdb",
        "array md2 is [UU], and GRUB is on vda vdb",
        "array md3 is [UU], and GRUB is on vda vdb",
    ] {
        assert!(talk.contains(line), "no {line:?} in {talk}");
    }
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_host_comes_back_by_borg_over_ssh() {
    comes_back(&["--agent", "borg"]);
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn nightly_a_host_comes_back_by_an_agent_that_is_installed_on_its_new_disk() {
    let talk = comes_back(&["--agent", "run"]);
    for line in [
        "fetching the agent's installer",
        "installing the agent in /mnt/local/opt/",
    ] {
        assert!(talk.contains(line), "no {line:?} in {talk}");
    }
}
