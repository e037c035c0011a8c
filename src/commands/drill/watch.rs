//! The machine of a drill: started, and watched until it is where it should be, fails, or takes too long.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use towline_contract::Timestamp;
use towline_contract::event::What;
use towline_machine::{Disk, Machine, MachineError, Reach, Running, Start, Writes};
use towline_server::events::Line;
use towline_server::recoveries::State;

use super::Drill;
use super::console::{FAILED, OUR_LINES, last_warning, message};
use super::report::verdict;
use super::server::Server;
use crate::commands::recovery::failure;
use crate::exit::{Exit, Failure};
use crate::printable;

/// What the rescue system says when it has reported in.
const READY: &str = "towline: rescue system ready";

/// How long the rest of such a message is waited for.
const MESSAGE_WAIT: Duration = Duration::from_secs(2);

/// How often is looked whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Largest file of events that is read, in bytes: a day of restoring, with an event every 10 seconds, is 2 MB.
const EVENTS_BYTES_MAX: u64 = 16 << 20;

/// How a drill ended.
pub(super) struct Ended {
    /// What went wrong; nothing if all went well.
    pub(super) wrong: Option<String>,
    /// What its machine reported.
    pub(super) events: Vec<What>,
    /// Its consoles, in order.
    pub(super) consoles: Vec<PathBuf>,
}

/// What was seen of a machine.
enum Seen {
    Wanted,
    Failed(String),
    Off,
    /// With its last warning, if there was one: what it waited for.
    Late(Option<String>),
    Interrupted,
}

/// Boots to the rescue system, which reaches nothing but the drill's server.
pub(super) fn rescue(drill: &Drill<'_>, image: &Path, server: &Server) -> Result<Ended, Failure> {
    let console = drill.scratch.join("console.log");
    let mut running = start(&Machine {
        reach: only(server)?,
        ..machine(drill, Start::Cd(image.to_owned()), &console)?
    })?;
    let until = Instant::now() + drill.limit;
    let seen = follow(
        drill,
        &mut running,
        server,
        until,
        |line| line.contains(READY),
        || Ok(false),
    )?;
    let wrong = match seen {
        Seen::Wanted => None,
        other => Some(in_words(other, drill, "its rescue system was ready")?),
    };
    ended(drill, wrong, vec![console])
}

/// Recovers, and starts the host from its disks. While its files are restored the machine reaches what this machine does;
/// the host itself reaches nothing but the drill's server: it is a double of one that may be alive.
pub(super) fn recovery(
    drill: &Drill<'_>,
    image: &Path,
    server: &Server,
    recovery: &str,
) -> Result<Ended, Failure> {
    let until = Instant::now() + drill.limit;
    let (first, second) = (
        drill.scratch.join("console.log"),
        drill.scratch.join("first-boot.log"),
    );
    let state = || {
        let found = drill.site.recoveries().get(recovery, Timestamp::now());
        let found = found.map_err(failure)?;
        Ok::<_, Failure>(found.map(|it| it.state))
    };
    let mut running = start(&machine(drill, Start::Cd(image.to_owned()), &first)?)?;
    let seen = follow(drill, &mut running, server, until, |_| false, || Ok(false))?;
    drop(running);
    let is_recovered = matches!(state()?, Some(State::Recovered { .. }));
    let wrong = match seen {
        Seen::Off if is_recovered => None,
        other => Some(in_words(other, drill, "it was recovered")?),
    };
    if wrong.is_some() {
        return ended(drill, wrong, vec![first]);
    }
    let mut running = start(&Machine {
        reach: only(server)?,
        ..machine(drill, Start::Disk, &second)?
    })?;
    let reported = || {
        Ok(matches!(
            state()?,
            Some(State::Closed {
                recovered: true,
                ..
            })
        ))
    };
    let seen = follow(drill, &mut running, server, until, |_| false, reported)?;
    let wrong = match seen {
        Seen::Wanted => None,
        other => Some(in_words(
            other,
            drill,
            "it reported its first start from its disk",
        )?),
    };
    ended(drill, wrong, vec![first, second])
}

/// The machine with the drill's disks.
fn machine(drill: &Drill<'_>, start: Start, console: &Path) -> Result<Machine, Failure> {
    let mut machine = Machine::new(start, console.to_owned());
    machine.firmware = drill.plan.firmware.into();
    machine.memory_mib = drill.plan.memory_mib;
    machine.disk_gib = None;
    machine.efi_variables = Some(drill.scratch.join("efi-variables.fd"));
    for (number, bytes) in drill.plan.disks.iter().enumerate() {
        let file = drill.scratch.join(format!("disk-{number}.raw"));
        if !file.exists() {
            let made = std::fs::File::create(&file).and_then(|it| it.set_len(*bytes));
            made.with_context(|| {
                format!("cannot make a disk of {bytes} bytes, {}", file.display())
            })?;
        }
        machine.disks.push(Disk {
            file,
            writes: Writes::Kept,
        });
    }
    Ok(machine)
}

/// Nothing but the drill's server, by this program.
fn only(server: &Server) -> Result<Reach, Failure> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.display().to_string();
    if program.contains(|it: char| it.is_whitespace() || "'\"\\".contains(it)) {
        let error = anyhow!("QEMU cannot start a program of this name: {program:?}");
        return Err(
            Failure::new(Exit::Usage, error).next("call it by a path without blanks and quotes")
        );
    }
    Ok(Reach::Only {
        port: server.port,
        command: format!("{program} drill-pipe 127.0.0.1:{}", server.port),
    })
}

fn start(machine: &Machine) -> Result<Running, Failure> {
    machine.start().map_err(|error| match error {
        MachineError::Qemu(_) => Failure::new(Exit::Usage, error)
            .next("apt-get install --no-install-recommends qemu-system-x86"),
        error => Failure::new(Exit::Internal, error),
    })
}

/// Follows the machine's console until a wanted line, a failure, or something that is done elsewhere.
fn follow(
    drill: &Drill<'_>,
    running: &mut Running,
    server: &Server,
    until: Instant,
    wanted: impl Fn(&str) -> bool,
    done: impl Fn() -> Result<bool, Failure>,
) -> Result<Seen, Failure> {
    loop {
        if server.is_interrupted() {
            return Ok(Seen::Interrupted);
        }
        if done()? {
            return Ok(Seen::Wanted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Seen::Late(last_warning(running.seen())));
        }
        let line = running.wait_until("a line", LOOK_EVERY.min(left), |line| {
            show(drill, line);
            wanted(line) || line.contains(FAILED)
        });
        match line {
            Ok(line) if line.contains(FAILED) => {
                let _ = running.wait_until("the rest", MESSAGE_WAIT, |line| {
                    show(drill, line);
                    false
                });
                return Ok(Seen::Failed(message(running.seen())));
            }
            Ok(_) => return Ok(Seen::Wanted),
            Err(MachineError::Deadline { .. }) => {}
            Err(_) => {
                // A signal to the terminal's whole group ends QEMU too, perhaps before it is remembered here.
                std::thread::sleep(LOOK_EVERY);
                return Ok(match server.is_interrupted() {
                    true => Seen::Interrupted,
                    false => Seen::Off,
                });
            }
        }
    }
}

fn show(drill: &Drill<'_>, line: &str) {
    if !drill.quiet && line.contains(OUR_LINES) {
        eprintln!("    | {}", printable(line));
    }
}

/// What kept the machine from being where `wanted` says.
fn in_words(seen: Seen, drill: &Drill<'_>, wanted: &str) -> Result<String, Failure> {
    Ok(match seen {
        Seen::Failed(message) => message,
        Seen::Off | Seen::Wanted => format!("the machine went off before {wanted}"),
        Seen::Late(warning) => {
            let minutes = drill.limit.as_secs() / 60;
            let warning = warning.map(|it| format!("; its last warning: {it}"));
            format!(
                "{minutes} minutes went by before {wanted}{}",
                warning.unwrap_or_default()
            )
        }
        Seen::Interrupted => {
            let error = anyhow!("the drill was interrupted; no report of it is kept");
            return Err(Failure::new(Exit::No, error));
        }
    })
}

/// The machine is where it should be, or not; what it reported decides as well.
fn ended(
    drill: &Drill<'_>,
    wrong: Option<String>,
    consoles: Vec<PathBuf>,
) -> Result<Ended, Failure> {
    let events = events(&drill.scratch.join("events.jsonl"))?;
    Ok(Ended {
        wrong: wrong.or_else(|| verdict(&events, drill.restore)),
        events,
        consoles,
    })
}

fn events(path: &Path) -> Result<Vec<What>, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file
            .and_then(|file| file.take(EVENTS_BYTES_MAX).read_to_string(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?,
    };
    // The last line may be cut off.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.map(|line| line.event.what).collect())
}
