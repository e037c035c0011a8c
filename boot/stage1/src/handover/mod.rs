//! From stage 1 into the rescue system: in the running kernel, or by starting the chain's own.

mod kexec;
pub mod switch_root;
mod system_call;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::Path;

use towline_contract::handover::{HANDOVER_PATH, HandOverNote};

use crate::network::Network;
use crate::place::{KexecChain, PlacedRoot};

/// Where stage 1's lines are kept for the rescue system, without the leading slash.
pub const LOG_PATH: &str = "run/towline/stage1.log";

/// Why the rescue system cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The chain is larger than the memory.
    #[error("this chain needs {need_mib} MiB of memory, and {have_mib} MiB are free")]
    Memory {
        /// What its layers need, in MiB.
        need_mib: u64,
        /// What is free, in MiB.
        have_mib: u64,
    },
    /// A file of the hand-over cannot be written.
    #[error("cannot {what} {path}")]
    File {
        /// What was done.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The new root cannot be entered.
    #[error("cannot {what} the new root")]
    SwitchRoot {
        /// What was done.
        what: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The kernel does not take the chain's kernel.
    #[error("the running kernel does not start the chain's kernel: {why}")]
    KexecRefused {
        /// What its answer means.
        why: &'static str,
        /// Its answer.
        #[source]
        cause: io::Error,
    },
    /// It was loaded, and then not started.
    #[error("the chain's kernel is loaded but does not start")]
    KexecStart(#[source] io::Error),
}

impl HandOverError {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "give the machine more memory, or publish smaller layers",
            Self::KexecRefused { .. } | Self::KexecStart(_) => {
                "start in place instead (menu, or towline.handover=in-place at the boot loader)"
            }
            Self::File { .. } | Self::SwitchRoot { .. } => {
                "try again; if it happens again, give the machine more memory"
            }
        }
    }
}

/// What is ready to be started.
#[derive(Debug)]
pub enum Ready {
    /// A root file system.
    InPlace(PlacedRoot),
    /// A kernel and its initramfs.
    Kexec {
        /// The kernel and the stored layers.
        chain: KexecChain,
        /// The kernel's command line.
        command_line: String,
    },
}

/// Starts the rescue system. Does not come back but with an error.
///
/// # Errors
/// See [`HandOverError`]. After the interfaces are down for kexec, `network` is gone.
pub async fn start(
    ready: Ready,
    note: &HandOverNote,
    log: &str,
    network: &mut Option<Network>,
) -> Result<Infallible, HandOverError> {
    match ready {
        Ready::InPlace(root) => {
            let inside = root.path.join("run");
            crate::mounts::carry_over(&inside, Path::new("/run")).map_err(|cause| {
                HandOverError::File {
                    what: "carry over",
                    path: inside.display().to_string(),
                    cause,
                }
            })?;
            write(HANDOVER_PATH, &note_bytes(note))?;
            write(LOG_PATH, log.as_bytes())?;
            switch_root::enter(&root.path)
        }
        Ready::Kexec {
            chain,
            command_line,
        } => {
            kexec::load(&chain, &command_line, &note_bytes(note), log.as_bytes())?;
            if let Some(network) = network.take() {
                network.quiesce().await;
            }
            kexec::start()
        }
    }
}

fn note_bytes(note: &HandOverNote) -> Vec<u8> {
    // A struct of strings and numbers always serialises.
    serde_json::to_vec_pretty(note).unwrap_or_default()
}

fn write(path: &str, bytes: &[u8]) -> Result<(), HandOverError> {
    let path = Path::new("/").join(path);
    let parent = path.parent().unwrap_or(&path);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes));
    written.map_err(|cause| HandOverError::File {
        what: "write",
        path: path.display().to_string(),
        cause,
    })
}

/// Reads what stage 1 left for the rescue system; `None` when a boot loader put the chain together.
///
/// # Errors
/// The note is there and cannot be read.
pub fn read_note() -> io::Result<Option<HandOverNote>> {
    match fs::read(Path::new("/").join(HANDOVER_PATH)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
