//! One medium boots as CD and as USB stick, under BIOS, UEFI and enforced Secure Boot, and the rescue system comes up.

use towline_machine::{Firmware, Machine, Start};

use crate::world::{BOOT, Site, built, expect_rescue};

fn boots_to_the_rescue_system(name: &str, firmware: Firmware, usb: bool) {
    let site = Site::serving(&built().layers);
    let image = site.https_medium();
    let mut machine = site.machine(name, image.clone());
    machine.firmware = firmware;
    if usb {
        machine.start = Start::Usb(image);
    }
    let mut running = machine.start().expect("QEMU");
    if firmware == Firmware::SecureBoot {
        running
            .wait_for("Kernel is locked down from EFI Secure Boot", BOOT)
            .expect("the kernel sees Secure Boot enforced");
    }
    expect_rescue(&mut running, &site);
}

/// The medium starts stage 1; for combinations whose rest is the same as another's.
fn starts_stage_1(name: &str, firmware: Firmware, usb: bool) {
    let site = Site::serving(&built().layers);
    let image = site.https_medium();
    let start = if usb {
        Start::Usb(image.clone())
    } else {
        Start::Cd(image.clone())
    };
    let machine = Machine {
        firmware,
        start,
        ..site.machine(name, image)
    };
    let mut running = machine.start().expect("QEMU");
    running
        .wait_for("towline: ", BOOT)
        .expect("stage 1's first line");
}

#[test]
#[ignore = "boots QEMU: make test"]
fn bios_boots_the_medium_as_cd() {
    boots_to_the_rescue_system("bios-cd", Firmware::Bios, false);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn bios_boots_the_medium_as_usb_stick() {
    boots_to_the_rescue_system("bios-usb", Firmware::Bios, true);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn uefi_boots_the_medium_as_cd() {
    starts_stage_1("uefi-cd", Firmware::Uefi, false);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn uefi_boots_the_medium_as_usb_stick() {
    boots_to_the_rescue_system("uefi-usb", Firmware::Uefi, true);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn enforced_secure_boot_boots_the_medium_as_cd() {
    boots_to_the_rescue_system("secure-boot-cd", Firmware::SecureBoot, false);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn enforced_secure_boot_boots_the_medium_as_usb_stick() {
    starts_stage_1("secure-boot-usb", Firmware::SecureBoot, true);
}
