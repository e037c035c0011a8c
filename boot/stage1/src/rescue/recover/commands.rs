//! Runs small programs: no shell, no input, a bound on time and on what is kept of their output.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// Most of a program's output that is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ran {
    /// With status 0.
    pub(super) success: bool,
    /// The status, for people.
    pub(super) status: String,
    /// What it wrote, first to its output and then to its errors.
    pub(super) text: String,
}

impl Ran {
    /// The last lines of what it said, or its status if it said nothing.
    pub(super) fn said(&self) -> String {
        let said = last_lines(&self.text, 3);
        if said.is_empty() {
            return self.status.clone();
        }
        said
    }
}

/// The last `count` lines that are not blank, joined.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join(" | ")
}

/// A program with its arguments, in the environment that programs of the rescue system have, and `environment`.
pub(super) fn command(
    arguments: &[String],
    environment: &[(String, String)],
) -> io::Result<Command> {
    let (program, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env("PATH", crate::roles::PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, or does not end within `wait`.
pub(super) async fn run(
    arguments: &[String],
    environment: &[(String, String)],
    wait: Duration,
) -> io::Result<Ran> {
    let mut child = command(arguments, environment)?.spawn()?;
    let ended = async {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err, status) = tokio::join!(kept(out), kept(err), child.wait());
        let status = status?;
        Ok(Ran {
            success: status.success(),
            status: status.to_string(),
            text: out + &err,
        })
    };
    match tokio::time::timeout(wait, ended).await {
        Ok(ran) => ran,
        Err(_) => {
            let why = format!("it did not end within {} s", wait.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
    }
}

/// The same with plain words, for programs whose arguments are fixed.
pub(super) async fn run_words(words: &[&str], wait: Duration) -> io::Result<Ran> {
    let words: Vec<_> = words.iter().map(|it| (*it).to_owned()).collect();
    run(&words, &[], wait).await
}

/// The first bytes of a stream that is read to its end, so that its writer never fails.
async fn kept(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Ends a program and all that it started in its process group: kindly, and then for certain.
pub(super) async fn end_group(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else {
        return;
    };
    // What has ended already needs no signal.
    let _ = kill_process_group(pid, Signal::TERM);
    let _ = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_has_its_environment_and_no_input() {
        let command = ["sh", "-c", "cat; echo $NAME; echo why >&2; exit 3"];
        let environment = [("NAME".to_owned(), "value".to_owned())];
        let ran = run(
            &command.map(str::to_owned),
            &environment,
            Duration::from_secs(20),
        )
        .await
        .unwrap();
        assert!(!ran.success);
        assert_eq!(ran.said(), "value | why");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let error = run_words(&["sleep", "60"], Duration::from_millis(100))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
