//! The operator's command for credentials: run without a shell, with a limit on time and output.
//!
//! What it prints to stdout is secret and goes nowhere but into the credentials; its stderr goes to the log.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::Wanted;
use crate::log;

/// Longest that it may take: the machine waits for the answer.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Most bytes it may print.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// Most bytes of its stderr that the log has.
const TALK_BYTES_MAX: usize = 4 << 10;

/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why the command gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not start.
    #[error("cannot run {program:?}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It does not end.
    #[error("{program:?} has not ended after {} seconds", TIME_MAX.as_secs())]
    Slow {
        /// The program.
        program: String,
    },
    /// It printed too much.
    #[error("{program:?} printed more than {OUTPUT_BYTES_MAX} bytes")]
    Output {
        /// The program.
        program: String,
    },
    /// It failed.
    #[error("{program:?} ended with {status}: {talk}")]
    Status {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on stderr.
        talk: String,
    },
    /// An argument that begins with `-` could become an option.
    #[error("{0:?} is not given to the command for credentials: it looks like an option")]
    Argument(String),
}

/// Runs `command` with `{host}`, `{session}` and `{recovery}` replaced; what it printed.
pub(super) fn run(
    command: &[String],
    wanted: Wanted<'_>,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    run_within(command, wanted, TIME_MAX)
}

fn run_within(
    command: &[String],
    wanted: Wanted<'_>,
    time_max: Duration,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let (program, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let name = || program.to_owned();
    let arguments = arguments.iter().map(|it| filled(it, wanted));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let failed = |cause| CommandError::Start {
        program: name(),
        cause,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let output = gather(child.stdout.take(), OUTPUT_BYTES_MAX + 1);
    let talk = gather(child.stderr.take(), TALK_BYTES_MAX);
    let deadline = Instant::now() + time_max;
    let ended = wait(&mut child, deadline);
    // What it started and left running has its pipes: they end here.
    kill_group(&child);
    let Some(status) = ended.map_err(failed)? else {
        let _ = child.wait();
        return Err(CommandError::Slow { program: name() });
    };
    let slow = |_: RecvTimeoutError| CommandError::Slow { program: name() };
    let left = || {
        deadline
            .saturating_duration_since(Instant::now())
            .max(LOOK_EVERY)
    };
    let output = output.recv_timeout(left()).map_err(slow)?;
    let talk = talk.recv_timeout(left()).map_err(slow)?;
    if output.len() > OUTPUT_BYTES_MAX {
        return Err(CommandError::Output { program: name() });
    }
    if !status.success() {
        let talk = log::clean(String::from_utf8_lossy(&talk).trim_end());
        return Err(CommandError::Status {
            program: name(),
            status,
            talk,
        });
    }
    Ok(output)
}

/// The argument with its braces filled in. What a host calls its session must not become an option of the program.
fn filled(argument: &str, wanted: Wanted<'_>) -> Result<String, CommandError> {
    let values = [
        ("{host}", wanted.host),
        ("{session}", wanted.session),
        ("{recovery}", wanted.recovery),
    ];
    let mut text = String::new();
    let mut rest = argument;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                text.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    let became_option = text.starts_with('-') && !argument.starts_with('-');
    match became_option || text.contains('\0') {
        true => Err(CommandError::Argument(text)),
        false => Ok(text),
    }
}

/// How it ended; none when it has not.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn kill_group(child: &Child) {
    let id = i32::try_from(child.id()).ok();
    if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
        // Nobody is left in it, mostly.
        let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
    }
}

/// Reads a pipe in a thread of its own, up to `max` bytes.
fn gather(pipe: Option<impl Read + Send + 'static>, max: usize) -> Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        // All its room at once: what grows leaves copies behind.
        let mut all = Zeroizing::new(Vec::with_capacity(max));
        if let Some(pipe) = pipe {
            // What is cut off is shorter than it should be, and found by that or by the exit status.
            let _ = pipe.take(max as u64).read_to_end(&mut all);
        }
        let _ = sender.send(all);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted {
        host: "web1",
        session: "4bba301e",
        recovery: "r-0123456789abcdef",
    };

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script, "sh", "{host}", "{session}/{recovery}"]
            .map(Into::into)
            .into()
    }

    #[test]
    fn arguments_are_filled_in_and_no_shell_reads_them() {
        let found = run(&sh("printf '%s|%s' \"$1\" \"$2\""), WANTED).unwrap();
        assert_eq!(found.as_slice(), b"web1|4bba301e/r-0123456789abcdef");
        let evil = Wanted {
            session: "$(id); {host}",
            ..WANTED
        };
        let command = ["printf", "%s", "{other} {session} {"].map(String::from);
        let found = run(&command, evil).unwrap();
        assert_eq!(found.as_slice(), b"{other} $(id); {host} {");
    }

    #[test]
    fn a_session_that_would_become_an_option_is_not_given() {
        let evil = Wanted {
            session: "--output=/etc/passwd",
            ..WANTED
        };
        let command = ["printf", "{session}"].map(String::from);
        assert!(matches!(
            run(&command, evil),
            Err(CommandError::Argument(_))
        ));
    }

    #[test]
    fn a_command_that_fails_shows_its_talk_and_never_its_output() {
        let error = run(&sh("echo SECRET=x; echo no token >&2; exit 3"), WANTED).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no token") && text.contains('3'), "{text}");
        assert!(!format!("{error:?}").contains("SECRET"));
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_it_started() {
        let start = Instant::now();
        let command = sh("sleep 60 & echo A=1; sleep 60");
        let found = run_within(&command, WANTED, Duration::from_millis(300));
        assert!(matches!(found, Err(CommandError::Slow { .. })));
        let found = run_within(&sh("sleep 60 & echo A=1"), WANTED, Duration::from_secs(20));
        assert_eq!(found.unwrap().as_slice(), b"A=1\n");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn endless_output_and_programs_that_are_not_there_are_refused() {
        let endless = run(&sh("exec yes A=1"), WANTED);
        assert!(matches!(
            endless,
            Err(CommandError::Output { .. } | CommandError::Status { .. })
        ));
        let nothing = run(&["/nowhere/at-all".into()], WANTED);
        assert!(matches!(nothing, Err(CommandError::Start { .. })));
    }
}
