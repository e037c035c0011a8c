//! The rescue system's init.
//!
//! PID 1 only collects dead processes and keeps one other process alive, the worker: a program that must never end does as
//! little as possible. The worker brings up devices and network, runs the layers' checks, reports, and offers a menu.

#[cfg(test)]
mod answering;
mod checks;
pub mod on_target;
pub(crate) mod recover;
mod services;
mod work;

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};

use crate::console::Console;
use crate::progress::Progress as _;
pub use work::work;

/// The name under which PID 1 starts the worker.
pub(crate) const WORKER: &str = "towline-rescue";

/// Pause before a worker that ended is started again.
const PAUSE: Duration = Duration::from_secs(5);

/// PID 1 of the rescue system.
pub(crate) fn reap_for_ever() -> ExitCode {
    let console = Console::open();
    let mut worker = None;
    loop {
        if worker.is_none() {
            worker = start_worker(&console);
        }
        let ended = match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) => Some(pid),
            Ok(None) | Err(Errno::INTR) => None,
            // No child at all: the worker could not be started.
            Err(_) => {
                std::thread::sleep(PAUSE);
                None
            }
        };
        if ended.is_some() && ended == worker {
            console.warn(format_args!(
                "the rescue system's own program ended; starting it again"
            ));
            std::thread::sleep(PAUSE);
            worker = None;
        }
    }
}

fn start_worker(console: &Console) -> Option<Pid> {
    // Before anything else: `/proc/self/exe` is in one of them.
    if let Err(error) = crate::mounts::mount_all() {
        console.warn(format_args!("{}", crate::failure::joined(&error)));
    }
    match Command::new("/proc/self/exe").arg0(WORKER).spawn() {
        Ok(child) => i32::try_from(child.id()).ok().and_then(Pid::from_raw),
        Err(error) => {
            console.warn(format_args!(
                "cannot start the rescue system's own program: {error}"
            ));
            None
        }
    }
}

/// Never: the worker's end is its process's.
type Never = Infallible;
