//! Starts a machine in QEMU and reads its serial console line by line.
//!
//! The demonstration, drills, end-to-end tests and benchmarks use the same machine: Q35 or PC without KVM, its medium as CD
//! or USB stick, an empty disk, one network card in QEMU's user network (this machine's loopback is 10.0.2.2 there), and the
//! serial port as the way to watch and type. Nothing sleeps: waiting is for a line, with a deadline.

mod arguments;
mod console;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use console::Console;

/// Firmware of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// OVMF without Secure Boot.
    Uefi,
    /// OVMF with Microsoft's keys, enforcing Secure Boot.
    SecureBoot,
}

/// What the machine starts from.
#[derive(Clone, Debug)]
pub enum Start {
    /// An image in a CD drive.
    Cd(PathBuf),
    /// An image on a USB stick.
    Usb(PathBuf),
    /// The first of its disks.
    Disk,
    /// A kernel and an initramfs, loaded by QEMU itself.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initramfs; none for a kernel that is a boot loader (iPXE).
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        command_line: String,
    },
}

/// A disk that is a file of this machine, byte for byte.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The file.
    pub file: PathBuf,
    /// What happens to what is written.
    pub writes: Writes,
}

/// What happens to what a machine writes to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It goes to the file.
    Kept,
    /// It is gone with the machine.
    Forgotten,
    /// The machine cannot write.
    Refused,
}

/// What a machine reaches by its network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What this machine reaches.
    Everything,
    /// Nothing but one port of [`GUEST_SEES`].
    Only {
        /// The port.
        port: u16,
        /// A command, words split at blanks, that is started for each connection: its standard input and output are the
        /// connection.
        command: String,
    },
}

/// The address of this machine as the guest sees it.
pub const GUEST_SEES: &str = "10.0.2.2";

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its firmware.
    pub firmware: Firmware,
    /// What it starts from.
    pub start: Start,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Its processors; each is a thread of QEMU.
    pub processors: u32,
    /// Size of its empty disk, in GiB; it is sparse, and gone with the machine.
    pub disk_gib: Option<u32>,
    /// Disks with files of their own, after the empty one, as virtio devices: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<Disk>,
    /// Model of the network card, as QEMU names it.
    pub network_card: String,
    /// What it reaches.
    pub reach: Reach,
    /// File of the UEFI variables, made when it is not there; gone with the machine when absent.
    pub efi_variables: Option<PathBuf>,
    /// What the real-time clock says at the start (`2012-01-01T00:00:00`, UTC); this machine's time when absent.
    pub rtc: Option<String>,
    /// Where the whole console is recorded.
    pub console_log: PathBuf,
    /// More arguments for QEMU.
    pub more: Vec<String>,
}

/// Why a machine could not be started or watched.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// QEMU is not installed, or not allowed.
    #[error("cannot run qemu-system-x86_64 (Debian package qemu-system-x86)")]
    Qemu(#[source] io::Error),
    /// A file of the machine cannot be made.
    #[error("cannot prepare {path}")]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The line did not come in time.
    #[error("the machine did not say {wanted} within {seconds} s; its last lines:\n{tail}")]
    Deadline {
        /// What was waited for.
        wanted: String,
        /// How long.
        seconds: u64,
        /// The end of its console.
        tail: String,
    },
    /// The machine went off before the line came.
    #[error("the machine went off before it said {wanted}; its last lines:\n{tail}")]
    WentOff {
        /// What was waited for.
        wanted: String,
        /// The end of its console.
        tail: String,
    },
    /// Typing failed.
    #[error("cannot type on the machine's console")]
    Type(#[source] io::Error),
}

impl Machine {
    /// A machine with 1 GiB of memory, one processor, an empty disk of 8 GiB and a virtio network card.
    #[must_use]
    pub fn new(start: Start, console_log: PathBuf) -> Self {
        Self {
            firmware: Firmware::Bios,
            start,
            memory_mib: 1024,
            processors: 1,
            disk_gib: Some(8),
            disks: Vec::new(),
            network_card: "virtio-net-pci".into(),
            reach: Reach::Everything,
            efi_variables: None,
            rtc: None,
            console_log,
            more: Vec::new(),
        }
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub fn start(&self) -> Result<Running, MachineError> {
        let folder = tempfile::tempdir().map_err(|cause| MachineError::Prepare {
            path: std::env::temp_dir(),
            cause,
        })?;
        let arguments = self.arguments(folder.path())?;
        let log = fs::File::create(&self.console_log).map_err(|cause| MachineError::Prepare {
            path: self.console_log.clone(),
            cause,
        })?;
        let mut child = Command::new("qemu-system-x86_64")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(MachineError::Qemu)?;
        let keyboard = child.stdin.take();
        let console = child.stdout.take().map(|out| Console::follow(out, log));
        Ok(Running {
            child,
            keyboard,
            console: console.unwrap_or_default(),
            _folder: folder,
        })
    }
}

/// A machine that runs; switched off when dropped.
pub struct Running {
    child: Child,
    keyboard: Option<ChildStdin>,
    console: Console,
    _folder: tempfile::TempDir,
}

impl Running {
    /// The next line that contains `text`, without control sequences.
    ///
    /// # Errors
    /// It did not come within `limit`, or the machine went off.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, MachineError> {
        self.wait_until(&format!("{text:?}"), limit, |line| line.contains(text))
    }

    /// The next line that `wanted` accepts; `what` names it in errors.
    ///
    /// # Errors
    /// It did not come within `limit`, or the machine went off.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, MachineError> {
        let deadline = Instant::now() + limit;
        loop {
            match self.console.next(deadline) {
                console::Next::Line(line) if wanted(&line) => return Ok(line),
                console::Next::Line(_) => {}
                console::Next::Deadline => {
                    return Err(MachineError::Deadline {
                        wanted: what.to_owned(),
                        seconds: limit.as_secs(),
                        tail: self.console.tail(),
                    });
                }
                console::Next::End => {
                    return Err(MachineError::WentOff {
                        wanted: what.to_owned(),
                        tail: self.console.tail(),
                    });
                }
            }
        }
    }

    /// Waits until the machine switches itself off.
    ///
    /// # Errors
    /// It did not within `limit`.
    pub fn wait_until_off(&mut self, limit: Duration) -> Result<(), MachineError> {
        match self.wait_until("that it is off", limit, |_| false) {
            Err(MachineError::WentOff { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Every line seen so far.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        self.console.seen()
    }

    /// Types `text` on the serial console.
    ///
    /// # Errors
    /// The machine went off.
    pub fn send(&mut self, text: &str) -> Result<(), MachineError> {
        let keyboard = self
            .keyboard
            .as_mut()
            .ok_or_else(|| MachineError::Type(io::ErrorKind::BrokenPipe.into()))?;
        io::Write::write_all(keyboard, text.as_bytes())
            .and_then(|()| io::Write::flush(keyboard))
            .map_err(MachineError::Type)
    }

    /// User and system time that QEMU has used so far, in seconds (fields 14 and 15 of proc_pid_stat(5)).
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let after_name = stat.rsplit_once(')')?.1;
        let mut fields = after_name.split_whitespace().skip(11);
        let ticks = fields
            .next()?
            .parse::<u32>()
            .ok()?
            .checked_add(fields.next()?.parse().ok()?)?;
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        Some(f64::from(ticks) / f64::from(per_second))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
