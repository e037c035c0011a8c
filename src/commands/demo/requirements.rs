//! What the demonstration needs of this machine, checked before anything is built.

use std::path::Path;

use anyhow::anyhow;

use super::{Agent, DemoArgs, Disks, Firmware};
use crate::exit::{Exit, Failure, Outcome};

/// Programs and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("depmod", "kmod"),
    ("xorriso", "xorriso"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("grub-mkimage", "grub-common"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("rclone", "rclone"),
];

/// The same for one agent.
fn programs_of(agent: Agent) -> &'static [(&'static str, &'static str)] {
    match agent {
        Agent::Restic => &[],
        Agent::Borg => &[
            ("borg", "borgbackup"),
            ("sshd", "openssh-server"),
            ("ssh-keygen", "openssh-client"),
        ],
        Agent::Run => &[("makeself", "makeself")],
    }
}

/// Memory beside the guest's that QEMU and the server need, in MiB.
const HOST_MEMORY_MIB: u64 = 512;

/// Checks what is asked for, programs, firmware and memory.
pub(super) fn check(args: &DemoArgs) -> Outcome {
    if args.disks == Disks::Raid1 && args.firmware != Firmware::Bios {
        // A firmware reads its ESP from one disk: mirroring that is another story.
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("the host on mirrored disks starts by BIOS only"),
        )
        .next("towline demo --disks raid1 --firmware bios"));
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .chain(programs_of(args.agent))
        .filter(|(program, _)| !found(program))
        .collect();
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("not found on this machine: {}", programs.join(", ")),
        )
        .next(format!(
            "apt-get install --no-install-recommends {}",
            packages.join(" ")
        )));
    }
    if args.firmware != Firmware::Bios && !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("no UEFI firmware for QEMU on this machine"),
        )
        .next("apt-get install ovmf"));
    }
    if args.build_only {
        return Ok(());
    }
    let need = u64::from(args.memory) + HOST_MEMORY_MIB;
    match available_mib() {
        Some(available) if available < need => Err(Failure::new(
            Exit::Usage,
            anyhow!(
                "{available} MiB of memory are available, and a machine of {} MiB needs {need}",
                args.memory
            ),
        )
        .next("close programs, or give the machine less: towline demo --memory 512")),
        _ => Ok(()),
    }
}

/// Whether `program` is in `PATH` or where Debian keeps administrators' programs.
fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// `MemAvailable` of proc(5), in MiB.
fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn a_mirrored_host_with_uefi_is_refused_before_anything_is_built() {
        for firmware in ["uefi", "secure-boot"] {
            let words = ["demo", "--disks", "raid1", "--firmware", firmware];
            let refused = check(&Line::parse_from(words).demo).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            let text = refused.error.to_string();
            assert!(text.contains("starts by BIOS only"), "{text}");
        }
    }
}
