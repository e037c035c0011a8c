//! The medium starts as CD and as USB stick, on BIOS, UEFI and enforced Secure Boot, and hands over drivers and stamp.
//! It is the same, byte for byte, when it is built again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use towline_contract::stamp::Settings;
use towline_machine::{Firmware, Machine, Start};
use towline_media::area::Image;
use towline_media::build;

const BOOT: Duration = Duration::from_secs(240);

/// A static program from `pid1/init.rs`.
fn static_init(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("init");
    let status = Command::new("rustc")
        .args([
            "--edition=2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=static",
            "-o",
        ])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pid1/init.rs"))
        .status()
        .expect("rustc");
    assert!(status.success());
    program
}

#[test]
#[ignore = "needs QEMU, OVMF, apt's package lists and some minutes"]
fn one_medium_starts_six_ways_with_its_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let init = static_init(folder.path());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (image, again) = (
        folder.path().join("towline.iso"),
        folder.path().join("again.iso"),
    );
    let built = build::build(&init, &target.join("packages"), &image, &|line| {
        println!("{line}");
    })
    .unwrap();
    build::build(&init, &target.join("packages"), &again, &|_| {}).unwrap();
    println!("{built:?}");
    assert!(
        std::fs::read(&image).unwrap() == std::fs::read(&again).unwrap(),
        "built again, it is another image"
    );

    let settings = Settings {
        servers: vec!["https://stamped.example".into()],
        ..Settings::default()
    };
    Image::open_to_stamp(&image)
        .unwrap()
        .stamp(&settings)
        .unwrap();
    for firmware in [Firmware::Bios, Firmware::Uefi, Firmware::SecureBoot] {
        for start in [Start::Cd(image.clone()), Start::Usb(image.clone())] {
            let name = format!(
                "{firmware:?} {}",
                if matches!(start, Start::Cd(_)) {
                    "CD"
                } else {
                    "USB"
                }
            );
            let machine = Machine {
                disk_gib: None,
                ..Machine::new(start, target.join(format!("{name}.log")))
            };
            let machine = Machine {
                firmware,
                ..machine
            };
            let started = std::time::Instant::now();
            let mut running = machine.start().unwrap();
            let wait = |error| panic!("{name}: {error}");
            let build = running
                .wait_for("medium-test: build", BOOT)
                .unwrap_or_else(wait);
            println!("{name}: {} s to PID 1", started.elapsed().as_secs());
            assert!(build.contains(&built.kernel_release), "{name}: {build}");
            let stamp = running.wait_for("medium-test: stamp", BOOT).unwrap();
            assert!(
                stamp.contains("65536 bytes {\"servers\":[\"https://stamped.example\"]"),
                "{name}: {stamp}"
            );
            let modules = running.wait_for("medium-test: modules", BOOT).unwrap();
            assert!(
                modules.contains(&format!("{0} of {0}", built.modules)),
                "{name}: {modules}"
            );
            let secure = running.wait_for("medium-test: secure-boot", BOOT).unwrap();
            assert!(
                secure.ends_with(&(firmware == Firmware::SecureBoot).to_string()),
                "{name}: {secure}"
            );
        }
    }
}
