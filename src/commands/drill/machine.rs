//! The machine that stands in for the host: a decision from what was captured, and what it needs here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::anyhow;
use clap::ValueEnum;
use towline_contract::session::Hardware;
use towline_server::drills;

use crate::exit::{Exit, Failure, Outcome};

/// Memory of the machine unless it is chosen: of a host with more, in MiB.
const MEMORY_MIB_MAX: u64 = 2048;

/// Memory of the machine of a host that did not say, in MiB.
const MEMORY_MIB_DEFAULT: u64 = 1024;

/// Least memory that is tried, in MiB.
const MEMORY_MIB_MIN: u64 = 256;

/// Memory that QEMU, the server and the rest of this machine need beside the guest's, in MiB.
const HERE_MIB: u64 = 512;

/// Most disks: a machine of QEMU has 32 places, and some are taken.
const DISKS_MAX: usize = 20;

/// Largest disk: what ext4 can hold as one sparse file, in bytes.
const DISK_BYTES_MAX: u64 = 16 << 40;

/// Firmware of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Firmware {
    Bios,
    Uefi,
    SecureBoot,
}

impl Firmware {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::SecureBoot => "secure-boot",
        }
    }
}

impl From<Firmware> for towline_machine::Firmware {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios => Self::Bios,
            Firmware::Uefi => Self::Uefi,
            Firmware::SecureBoot => Self::SecureBoot,
        }
    }
}

/// What the machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) firmware: Firmware,
    pub(super) memory_mib: u32,
    /// Sizes of its empty disks, in bytes.
    pub(super) disks: Vec<u64>,
}

impl Plan {
    /// As a report says it.
    pub(super) fn in_report(&self) -> drills::Machine {
        drills::Machine {
            firmware: self.firmware.name().into(),
            memory_mib: self.memory_mib,
            disks: self.disks.clone(),
        }
    }
}

/// A machine as the host was.
///
/// # Errors
/// A sentence: QEMU cannot stand in for this host.
pub(super) fn plan(
    hardware: &Hardware,
    memory_mib: Option<u32>,
    firmware: Option<Firmware>,
    restore: bool,
) -> Result<Plan, String> {
    if hardware.architecture != "amd64" {
        return Err(format!(
            "the host is {}, and drills are for amd64 only",
            hardware.architecture
        ));
    }
    let disks: Vec<u64> = hardware.disks.iter().map(|it| it.bytes).collect();
    if disks.len() > DISKS_MAX {
        let found = disks.len();
        return Err(format!(
            "the host has {found} disks, and a drill's machine has {DISKS_MAX} at most"
        ));
    }
    if let Some(bytes) = disks.iter().find(|it| **it > DISK_BYTES_MAX) {
        return Err(format!(
            "the host has a disk of {bytes} bytes, and a drill's machine has {DISK_BYTES_MAX} at most"
        ));
    }
    if restore && disks.is_empty() {
        return Err("the session names no disks, so that nothing can be restored to any".into());
    }
    let as_captured = match (hardware.uefi, hardware.secure_boot) {
        (true, true) => Firmware::SecureBoot,
        (true, false) => Firmware::Uefi,
        _ => Firmware::Bios,
    };
    let captured = match hardware.memory_kib >> 10 {
        0 => MEMORY_MIB_DEFAULT,
        mib => mib.clamp(MEMORY_MIB_MIN, MEMORY_MIB_MAX),
    };
    Ok(Plan {
        firmware: firmware.unwrap_or(as_captured),
        memory_mib: memory_mib.unwrap_or(u32::try_from(captured).unwrap_or(u32::MAX)),
        disks,
    })
}

/// What this machine must have, before anything is begun.
pub(super) fn requirements(plan: &Plan) -> Outcome {
    let usage = |what: String| Failure::new(Exit::Usage, anyhow!(what));
    let qemu = Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if let Err(error) = qemu {
        return Err(usage(format!(
            "a drill needs QEMU, and qemu-system-x86_64 cannot be run: {error}"
        ))
        .next("apt-get install --no-install-recommends qemu-system-x86"));
    }
    let uefi = Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd");
    if plan.firmware != Firmware::Bios && !uefi.exists() {
        return Err(usage(format!(
            "the host started by UEFI, and there is no {}",
            uefi.display()
        ))
        .next("apt-get install ovmf"));
    }
    let need = u64::from(plan.memory_mib) + HERE_MIB;
    match available_mib() {
        Some(have) if have < need => Err(usage(format!(
            "{have} MiB of memory are free, and a machine of {} MiB needs {need}",
            plan.memory_mib
        ))
        .next("give the machine less: --memory MIB")),
        _ => Ok(()),
    }
}

/// `MemAvailable` of proc(5), in MiB.
fn available_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use towline_contract::session::Disk;

    fn hardware(disks: &[u64]) -> Hardware {
        let disk = |bytes: &u64| Disk {
            device: "/dev/sda".into(),
            bytes: *bytes,
            model: None,
            serial: None,
        };
        Hardware {
            architecture: "amd64".into(),
            uefi: false,
            secure_boot: false,
            memory_kib: 1_012_345,
            pci: vec![],
            modules: vec![],
            disks: disks.iter().map(disk).collect(),
            boot_loaders: vec![],
        }
    }

    #[test]
    fn the_machine_is_as_the_host_was_with_every_disk_in_its_size() {
        let found = plan(&hardware(&[10, 20]), None, None, true).unwrap();
        let expected = Plan {
            firmware: Firmware::Bios,
            memory_mib: 988,
            disks: vec![10, 20],
        };
        assert_eq!(found, expected);
        let mut large = hardware(&[]);
        (large.uefi, large.secure_boot, large.memory_kib) = (true, true, 1 << 28);
        let found = plan(&large, None, None, false).unwrap();
        assert_eq!(
            (found.firmware, found.memory_mib),
            (Firmware::SecureBoot, 2048)
        );
    }

    #[test]
    fn what_is_chosen_outweighs_what_was_captured() {
        let found = plan(&hardware(&[]), Some(512), Some(Firmware::Uefi), false).unwrap();
        assert_eq!((found.firmware, found.memory_mib), (Firmware::Uefi, 512));
    }

    #[test]
    fn a_host_that_no_machine_here_can_stand_in_for_is_refused_in_words() {
        let arm = Hardware {
            architecture: "arm64".into(),
            ..hardware(&[])
        };
        for (hardware, restore, word) in [
            (arm, false, "arm64"),
            (hardware(&[1; 21]), false, "21 disks"),
            (hardware(&[1 << 50]), false, "1125899906842624 bytes"),
            (hardware(&[]), true, "names no disks"),
        ] {
            let why = plan(&hardware, None, None, restore).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
