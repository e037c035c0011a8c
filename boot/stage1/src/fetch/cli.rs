//! `towline-stage1 fetch`: plan, layers and placing by an ordinary process, into a folder.
//!
//! ```text
//! towline-stage1 fetch --stamp FILE --root DIR [--no-mounts] [--kexec] [--floor TIME] [--kernel-release RELEASE]
//! ```
//! Does what stage 1 does between network and hand-over, with the same code and the same lines, which go to stderr. For
//! tests without a machine, and for operators who want to know what a medium would boot. Placing with mounts needs root;
//! with `--no-mounts` images are written and not stacked. Exit status: 0 done, 2 usage, 3 not trusted, 4 not reachable or
//! not placed, 5 refused by the server.

use std::fmt::Arguments;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use towline_contract::Timestamp;
use towline_contract::api::PlanRequest;
use towline_contract::manifest::Placement;
use towline_contract::plan::HandOver;
use towline_contract::stamp::{self, Settings};

use super::plan::chain as causes;
use super::{Ask, FetchError, Mirrors, Planned, plan};
use crate::console::escape::escaped;
use crate::console::meter::Meter;
use crate::console::uptime;
use crate::machine;
use crate::place::{KexecPlacing, Mounting, PlaceError, Root};
use crate::progress::Progress;

const USAGE: &str = "usage: towline-stage1 fetch --stamp FILE --root DIR \
    [--no-mounts] [--kexec] [--floor TIME] [--kernel-release RELEASE]";

const EXIT_USAGE: u8 = 2;
const EXIT_NOT_TRUSTED: u8 = 3;
const EXIT_NOT_REACHABLE: u8 = 4;
const EXIT_REFUSED: u8 = 5;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// A file that is a stamp area.
    stamp: PathBuf,
    root: PathBuf,
    mounting: Mounting,
    hand_over: HandOver,
    floor: Option<Timestamp>,
    kernel_release: Option<String>,
}

/// Runs `fetch` with the arguments after it; gives the exit status.
#[must_use]
pub fn run(arguments: &[String]) -> u8 {
    let talk = Talk::default();
    let arguments = match parse(arguments) {
        Ok(arguments) => arguments,
        Err(what) => {
            talk.warn(format_args!("{what}; {USAGE}"));
            return EXIT_USAGE;
        }
    };
    let settings = match settings(&arguments.stamp) {
        Ok(settings) => settings,
        Err(what) => {
            talk.warn(format_args!("{}: {what}", arguments.stamp.display()));
            return EXIT_USAGE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let fetched = match runtime {
        Ok(runtime) => runtime.block_on(fetch(&settings, &arguments, &talk)),
        Err(error) => {
            talk.warn(format_args!("cannot start: {error}"));
            return EXIT_NOT_REACHABLE;
        }
    };
    match fetched {
        Ok(()) => 0,
        Err(error) => {
            talk.step(format_args!("FAILED: {}", causes(&error)));
            status(&error)
        }
    }
}

fn status(error: &FetchError) -> u8 {
    match error {
        FetchError::Trust { .. } | FetchError::EveryMirrorLies { .. } | FetchError::Tls { .. } => {
            EXIT_NOT_TRUSTED
        }
        FetchError::Place(cause) => match **cause {
            PlaceError::Mount { .. } | PlaceError::Write { .. } => EXIT_NOT_REACHABLE,
            _ => EXIT_NOT_TRUSTED,
        },
        FetchError::Status { .. } => EXIT_REFUSED,
        FetchError::GaveUp { cause, .. } => status(cause),
        FetchError::NoRoot
        | FetchError::NoServer
        | FetchError::Url { .. }
        | FetchError::Authority(_) => EXIT_USAGE,
        _ => EXIT_NOT_REACHABLE,
    }
}

fn parse(arguments: &[String]) -> Result<Wanted, String> {
    let (mut stamp, mut root, mut floor, mut kernel_release) = (None, None, None, None);
    let (mut mounting, mut hand_over) = (Mounting::Real, HandOver::InPlace);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .cloned()
                .ok_or_else(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--stamp" => stamp = Some(value()?.into()),
            "--root" => root = Some(value()?.into()),
            "--no-mounts" => mounting = Mounting::None,
            "--kexec" => hand_over = HandOver::Kexec,
            "--kernel-release" => kernel_release = Some(value()?),
            "--floor" => {
                let time = value()?;
                let time: Timestamp = time
                    .parse()
                    .map_err(|error| format!("--floor {time}: {error}"))?;
                floor = Some(time);
            }
            _ => return Err(format!("{word:?} is unknown")),
        }
    }
    Ok(Wanted {
        stamp: stamp.ok_or("--stamp is missing")?,
        root: root.ok_or("--root is missing")?,
        mounting,
        hand_over,
        floor,
        kernel_release,
    })
}

/// The settings in a file that is a stamp area.
fn settings(path: &Path) -> Result<Settings, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    match stamp::decode(&bytes) {
        Ok(Some(settings)) => Ok(settings),
        Ok(None) => Err("the stamp is empty".into()),
        Err(error) => Err(causes(&error)),
    }
}

async fn fetch(settings: &Settings, arguments: &Wanted, talk: &Talk) -> Result<(), FetchError> {
    let release = arguments.kernel_release.clone();
    let ask = Ask {
        request: PlanRequest {
            nonce: [0; 32].into(),
            architecture: machine::architecture().to_owned(),
            kernel_release: release.unwrap_or_else(machine::kernel_release),
            host: settings.host.clone(),
            hand_over: Some(arguments.hand_over),
            machine: machine::identity(),
        },
        floor: arguments
            .floor
            .or(settings.stamped)
            .unwrap_or(Timestamp::UNIX_EPOCH),
        versions: settings.versions.clone(),
        expiry: settings.expired.into(),
    };
    let planned = plan::plan(settings, &ask, talk).await?;
    let recovery = &planned.chain.plan.recovery;
    talk.step(format_args!(
        "plan {recovery} is trusted; the time is {}",
        planned.chain.time()
    ));
    match planned.chain.plan.hand_over {
        HandOver::InPlace => in_place(&planned, arguments, talk).await,
        HandOver::Kexec => for_kexec(&planned, arguments, talk).await,
    }
}

async fn in_place(planned: &Planned, arguments: &Wanted, talk: &Talk) -> Result<(), FetchError> {
    let mirrors = Mirrors::of(planned, talk);
    let mut root = Root::create(&arguments.root, arguments.mounting)?;
    for (index, layer) in planned.chain.layers.iter().enumerate() {
        let manifest = mirrors.manifest(&planned.chain, index, talk).await?;
        if manifest.placement == Placement::Target {
            talk.note(format_args!("{} is for the target", layer.target));
            continue;
        }
        talk.step(format_args!("fetching {}", layer.target));
        let mut sink = root.layer(&manifest)?;
        mirrors
            .layer(&manifest, &mut |chunk| sink.chunk(chunk), talk)
            .await?;
        sink.finish()?;
    }
    let placed = root.finish()?;
    talk.step(format_args!(
        "every layer is placed in {}",
        placed.path.display()
    ));
    Ok(())
}

async fn for_kexec(planned: &Planned, arguments: &Wanted, talk: &Talk) -> Result<(), FetchError> {
    let mirrors = Mirrors::of(planned, talk);
    let mut placing = KexecPlacing::create(&arguments.root, arguments.mounting)?;
    for (index, layer) in planned.chain.layers.iter().enumerate() {
        let manifest = mirrors.manifest(&planned.chain, index, talk).await?;
        if manifest.placement == Placement::Target {
            talk.note(format_args!("{} is for the target", layer.target));
            continue;
        }
        talk.step(format_args!("fetching {}", layer.target));
        let mut sink = placing.layer(&manifest)?;
        mirrors
            .layer(&manifest, &mut |chunk| sink.chunk(chunk), talk)
            .await?;
        sink.finish()?;
    }
    let chain = placing.finish()?;
    talk.step(format_args!(
        "kernel {} and {} layers are ready",
        chain.kernel.display(),
        chain.layers.len()
    ));
    Ok(())
}

/// Lines on stderr, as the consoles of a machine show them.
#[derive(Default)]
struct Talk(Mutex<Option<Meter>>);

impl Talk {
    fn line(indent: &str, text: Arguments<'_>) {
        eprintln!("towline: {indent}{}", escaped(&text.to_string()));
    }
}

impl Progress for Talk {
    fn step(&self, text: Arguments<'_>) {
        Self::line("", text);
    }

    fn transfer(&self, what: &str, done: u64, total: u64) {
        let now = uptime();
        let line = {
            let mut meter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let current = match meter.take() {
                Some(meter) if meter.is_of(what, done) => meter,
                _ => Meter::new(what, done, now),
            };
            meter.insert(current).report(done, total, now)
        };
        if let Some(line) = line {
            self.note(format_args!("{line}"));
        }
    }

    fn note(&self, text: Arguments<'_>) {
        Self::line("  ", text);
    }

    fn warn(&self, text: Arguments<'_>) {
        Self::line("warning: ", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_option_is_read_and_an_unknown_one_refused() {
        let all = "--stamp s --root r --no-mounts --kexec --floor 2026-01-02T03:04:05Z --kernel-release 6.1.0";
        let found = parse(&words(all)).unwrap();
        assert_eq!(found.mounting, Mounting::None);
        assert_eq!(found.hand_over, HandOver::Kexec);
        assert_eq!(found.floor.map(Timestamp::as_second), Some(1_767_323_045));
        for bad in [
            "--stamp s",
            "--root r",
            "--stamp s --root",
            "--stamp s --root r --clock now",
            "--stamp s --root r --floor now",
        ] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_no_stamp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamp");
        fs::write(&path, b"no stamp").unwrap();
        assert!(settings(&path).is_err());
        fs::write(&path, stamp::cleared()).unwrap();
        assert_eq!(settings(&path), Err("the stamp is empty".into()));
    }
}
