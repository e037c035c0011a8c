//! Restarting and switching off, without losing what a recovery has just written.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

/// What is done with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start again.
    Reboot,
    /// Switch off.
    PowerOff,
    /// Stop.
    Halt,
}

impl Command {
    /// The command of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "reboot" => Some(Self::Reboot),
            "poweroff" | "shutdown" => Some(Self::PowerOff),
            "halt" => Some(Self::Halt),
            _ => None,
        }
    }
}

/// Unmounts what is on disks, and does it. Comes back only when it is not allowed.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    rustix::fs::sync();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts_on_disks(&mounts).into_iter().rev() {
        // Something may be open there; sync has written it.
        let _ = unmount(&path, UnmountFlags::DETACH);
    }
    rustix::fs::sync();
    let command = match command {
        Command::Reboot => RebootCommand::Restart,
        Command::PowerOff => RebootCommand::PowerOff,
        Command::Halt => RebootCommand::Halt,
    };
    if let Err(errno) = reboot(command) {
        eprintln!("towline: the kernel refuses: {errno}");
    }
    ExitCode::FAILURE
}

/// Mount points of file systems on block devices, but loop devices, in the order in which they were mounted.
fn mounts_on_disks(mounts: &str) -> Vec<OsString> {
    let on_disk = |line: &&str| line.starts_with("/dev/") && !line.starts_with("/dev/loop");
    let points = mounts
        .lines()
        .filter(on_disk)
        .filter_map(|line| line.split(' ').nth(1));
    points
        .map(|point| OsString::from(point.replace("\\040", " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_are_unmounted() {
        let mounts = "proc /proc proc rw 0 0\n/dev/loop0 /x squashfs ro 0 0\n/dev/sda2 /mnt/local ext4 rw 0 0\n\
                      /dev/mapper/vg-home /mnt/local/my\\040home xfs rw 0 0\n";
        assert_eq!(
            mounts_on_disks(mounts),
            ["/mnt/local", "/mnt/local/my home"]
        );
    }
}
