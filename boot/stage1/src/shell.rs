//! A shell on a console, for the person who needs one.
//!
//! A shell wants a terminal of its own for job control and `Ctrl-C`. This program starts itself under another name, which
//! makes the console the terminal of a new session and then becomes the shell.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::fs::{Mode, OFlags};
use rustix::process::{ioctl_tiocsctty, setsid};

use crate::console::Device;

/// The name under which this program gives a console to a shell.
pub(crate) const TERMINAL: &str = "towline-tty";

/// Shells, in order of preference.
const SHELLS: &[&str] = &["/bin/bash", "/bin/sh"];

/// The shell of this system, if it has one.
#[must_use]
pub fn available() -> Option<&'static str> {
    SHELLS.iter().copied().find(|it| Path::new(it).exists())
}

/// Runs a shell on `console` (a name below `/dev`) until it ends.
///
/// # Errors
/// It cannot be started.
pub async fn run(console: &str) -> io::Result<()> {
    let mut shell = tokio::process::Command::new("/proc/self/exe");
    shell.arg0(TERMINAL).arg(console).kill_on_drop(false);
    let settings = Device::open(console)?.settings();
    let ended = shell.status().await;
    // A shell that died in raw mode leaves a terminal that nobody can use. Opened again: its end has hung it up.
    Device::open(console)?.restore(settings);
    ended.map(|_| ())
}

/// Becomes a shell on the console named by the first argument.
pub(crate) fn become_shell(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let console = arguments.next().unwrap_or_else(|| "console".into());
    match take_terminal(&console) {
        Ok(shell) => {
            let error = Command::new(shell)
                .arg("-l")
                .env("PATH", crate::roles::PATH)
                .env("HOME", "/root")
                .env(
                    "TERM",
                    if console.starts_with("tty") && !console.starts_with("ttyS") {
                        "linux"
                    } else {
                        "vt102"
                    },
                )
                .env("PS1", "towline# ")
                .exec();
            eprintln!("towline: cannot start {shell}: {error}");
        }
        Err(error) => eprintln!("towline: cannot give /dev/{console} to a shell: {error}"),
    }
    ExitCode::FAILURE
}

fn take_terminal(console: &str) -> io::Result<&'static str> {
    let shell = available().ok_or(io::ErrorKind::NotFound)?;
    // Fails only for a session's leader, which needs no new session.
    let _ = setsid();
    let terminal = rustix::fs::open(
        format!("/dev/{console}"),
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // `/dev/console` cannot be one; the shell then does without job control.
    let _ = ioctl_tiocsctty(&terminal);
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    rustix::stdio::dup2_stderr(&terminal)?;
    Ok(shell)
}
