//! Another disk than before: a larger one is taken and used whole; one with data of others is not touched unless allowed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use towline_contract::Digest;
use towline_harness::protected::{FAILED, RECOVERY, code_typed, recovered};

use super::host::{is_back, protected};

/// Of the disks that QEMU shows (UEFI Specification 2.10, 5.3.2, for what lies where).
const SECTOR_BYTES: u64 = 512;

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_host_comes_back_on_a_larger_disk_with_a_partition_table_that_fits_it() {
    let scene = protected().scene("larger-disk");
    let (disk, opened) = (scene.disk("disk.raw", 6), scene.open(&["--unattended"]));
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("/dev/vda (4.0 GiB) becomes /dev/vda (6.0 GiB)", RECOVERY)
        .expect("it says which disk takes the place of which");
    recovered(&mut running).expect("it recovers");
    let last = (6 << 30) / SECTOR_BYTES - 1;
    assert_eq!(
        second_header(&disk),
        last,
        "the second header is at the end"
    );
    is_back(&scene, &disk, &opened);
}

/// Where the first header of the GUID partition table says that the second is; it must be there.
fn second_header(disk: &Path) -> u64 {
    let disk = File::open(disk).expect("the disk");
    let read = |sector: u64| {
        let mut header = [0; 92];
        disk.read_exact_at(&mut header, sector * SECTOR_BYTES)
            .expect("a sector");
        assert_eq!(&header[..8], b"EFI PART", "at sector {sector}");
        u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"))
    };
    let second = read(1);
    assert_eq!(read(second), 1, "the second header names the first");
    second
}

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_disk_with_data_of_others_stays_as_it_is_until_the_operator_allows_to_overwrite_it() {
    let scene = protected().scene("foreign-data");
    let disk = scene.disk("disk.raw", 4);
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-L", "photos"])
        .arg(&disk)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status();
    assert!(made.expect("mkfs.ext4").success());
    let before = digest(&disk);
    let opened = scene.open(&["--unattended"]);
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    let refused = running.wait_for(FAILED, RECOVERY).expect("it refuses");
    for wanted in [
        "/dev/vda (4.0 GiB) holds something else",
        "ext4",
        "\"photos\"",
    ] {
        assert!(refused.contains(wanted), "no {wanted:?} in {refused}");
    }
    let next = running
        .wait_for("next: ", RECOVERY)
        .expect("it says what to do");
    assert!(next.contains("--overwrite"), "{next}");
    running
        .wait_for("tries again by itself", RECOVERY)
        .expect("the server has been told");
    drop(running);
    assert_eq!(digest(&disk), before, "not a byte of it has changed");
    let shown = scene.shown(&opened.id);
    assert_eq!(shown["state"]["is"], "failed", "{shown}");

    let opened = scene.open(&["--unattended", "--overwrite"]);
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    running
        .wait_for("the plan allows to overwrite /dev/vda", RECOVERY)
        .expect("it says that it may");
    recovered(&mut running).expect("it recovers");
    is_back(&scene, &disk, &opened);
}

fn digest(disk: &Path) -> Digest {
    Digest::of(&fs::read(disk).expect("the disk"))
}
