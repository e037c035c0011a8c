//! Devices that nothing drives: what to tell the person whose network card does not appear.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A network device without driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driverless {
    /// Where it is: `0000:02:00.0`.
    pub slot: String,
    /// Vendor and device, in hex: `8086:15f3`.
    pub id: String,
}

/// PCI devices of the network class that no driver has taken.
#[must_use]
pub fn driverless_network_devices() -> Vec<Driverless> {
    let mut devices = driverless_in(Path::new("/sys/bus/pci/devices"));
    devices.sort_by(|a, b| a.slot.cmp(&b.slot));
    devices
}

fn driverless_in(directory: &Path) -> Vec<Driverless> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| {
        let path = entry.path();
        let hex = |name: &str| {
            let text = fs::read_to_string(path.join(name)).ok()?;
            Some(text.trim().trim_start_matches("0x").to_owned())
        };
        // Class 02: network controllers (PCI Code and ID Assignment Specification).
        let network = hex("class")?.starts_with("02") && !path.join("driver").exists();
        network.then_some(Driverless {
            slot: entry.file_name().to_string_lossy().into_owned(),
            id: format!("{}:{}", hex("vendor")?, hex("device")?),
        })
    };
    entries.filter_map(of_entry).collect()
}

/// Firmware files that drivers asked for and the medium does not have, as the kernel's log names them.
#[must_use]
pub fn missing_firmware() -> BTreeSet<String> {
    /// `O_NONBLOCK`: the end of the log is an error instead of a wait.
    const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut missing = BTreeSet::new();
    let log = fs::File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open("/dev/kmsg");
    let Ok(mut log) = log else { return missing };
    // Each read gives one record, at most CONSOLE_EXT_LOG_MAX bytes (Linux, Documentation/ABI/testing/dev-kmsg).
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(read) => missing.extend(firmware_in(&String::from_utf8_lossy(&record[..read]))),
            // The record was overwritten before it was read; the next one is there.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    missing
}

/// The file in `Direct firmware load for NAME failed with error -2` (Linux, drivers/base/firmware_loader/main.c).
fn firmware_in(record: &str) -> Option<String> {
    let (_, rest) = record.split_once("firmware load for ")?;
    let (name, _) = rest.split_once(" failed with error")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_card_without_driver_is_named_by_its_id() {
        let bus = tempfile::tempdir().unwrap();
        let device = |slot: &str, class: &str, driver: bool| {
            let path = bus.path().join(slot);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("class"), class).unwrap();
            fs::write(path.join("vendor"), "0x8086\n").unwrap();
            fs::write(path.join("device"), "0x15f3\n").unwrap();
            if driver {
                fs::create_dir(path.join("driver")).unwrap();
            }
        };
        device("0000:00:02.0", "0x030000\n", false);
        device("0000:00:03.0", "0x020000\n", true);
        device("0000:00:04.0", "0x020000\n", false);
        let found = driverless_in(bus.path());
        assert_eq!(
            found,
            [Driverless {
                slot: "0000:00:04.0".into(),
                id: "8086:15f3".into()
            }]
        );
    }

    #[test]
    fn missing_firmware_is_read_from_the_kernels_log() {
        let record = "4,812,123456,-;bnx2 0000:01:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2\n SUBSYSTEM=pci\n";
        assert_eq!(
            firmware_in(record).as_deref(),
            Some("bnx2/bnx2-mips-09-6.2.1b.fw")
        );
        assert_eq!(firmware_in("6,1,0,-;Linux version 6.1\n"), None);
    }
}
