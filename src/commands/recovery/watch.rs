//! `towline recovery watch`: follows a recovery live, by its journal, whether or not the server runs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use towline_contract::Timestamp;
use towline_server::Site;
use towline_server::recoveries::folder::entries;
use towline_server::recoveries::report::sentence;
use towline_server::recoveries::{Entry, RecoveriesError, Recovery, State};

use super::{failure, in_words, one_line};
use crate::exit::{Exit, Failure, Outcome};

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Follow a recovery until it ends: exit status 0 when the host was
/// recovered, 1 when the recovery failed, expired or was closed before
#[derive(Args)]
pub(super) struct WatchArgs {
    /// Its identifier, or a host for its newest one
    #[arg(value_name = "ID|HOST")]
    name: String,
    /// Go on after a failure: the machine may try again
    #[arg(long)]
    keep_going: bool,
    /// Print each entry of its journal as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Follows the recovery.
pub(super) fn run(site: &Site, args: &WatchArgs) -> Outcome {
    let recoveries = site.recoveries();
    let id = recoveries
        .find(&args.name, Timestamp::now())
        .map_err(failure)?
        .id;
    let mut tail = Tail::of(recoveries.journal_path(&id));
    loop {
        // The record first: what it says is in the journal by then.
        let found = recoveries.get(&id, Timestamp::now()).map_err(failure)?;
        let recovery = found.ok_or_else(|| failure(RecoveriesError::Unknown(id.clone())))?;
        for entry in tail.more().context("cannot read the recovery's journal")? {
            print(&entry, args.json)?;
        }
        if let Some(end) = end(&recovery, args.keep_going) {
            return end;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn print(entry: &Entry, json: bool) -> Outcome {
    if json {
        println!(
            "{}",
            serde_json::to_string(entry).map_err(anyhow::Error::from)?
        );
        return Ok(());
    }
    let time = entry.at.strftime("%Y-%m-%dT%H:%M:%SZ");
    println!("{time} {}", one_line(&sentence(&entry.what)));
    Ok(())
}

/// How it ends, if it does.
fn end(recovery: &Recovery, keep_going: bool) -> Option<Outcome> {
    let no = |next: &str| {
        let what = anyhow!("recovery {}: {}", recovery.id, in_words(recovery));
        Some(Err(Failure::new(Exit::No, what).next(next)))
    };
    match &recovery.state {
        State::Closed {
            recovered: true, ..
        } => Some(Ok(())),
        State::Closed { .. } | State::Expired => no("open another one: towline recovery open HOST"),
        State::Failed { .. } if !keep_going => {
            no("look at the machine's console; it may try again: watch with --keep-going")
        }
        _ => None,
    }
}

/// Reads what is appended to a file, whole lines at a time.
struct Tail {
    path: PathBuf,
    at: u64,
}

impl Tail {
    fn of(path: PathBuf) -> Self {
        Self { path, at: 0 }
    }

    /// The entries since the last time.
    fn more(&mut self) -> io::Result<Vec<Entry>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        self.at += complete as u64;
        Ok(entries(&bytes[..complete]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn lines_that_come_in_pieces_are_read_once_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.events.jsonl");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::of(path);
        let line = r#"{"at":"2026-11-23T22:00:00Z","entry":"opened","by":"alice"}"#;
        file.write_all(&line.as_bytes()[..20]).unwrap();
        assert_eq!(tail.more().unwrap(), []);
        file.write_all(&line.as_bytes()[20..]).unwrap();
        file.write_all(b"\n").unwrap();
        assert_eq!(tail.more().unwrap().len(), 1);
        assert_eq!(tail.more().unwrap(), []);
    }
}
