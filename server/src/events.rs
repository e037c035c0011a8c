//! Events of booting machines: one JSON line each, appended to a file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::event::{Event, What};

use crate::private;

/// Largest file of events, in bytes. Then it becomes `events.old.jsonl` in place of the one before: nobody who floods the
/// server with events can fill its disk, or make it refuse new ones.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Longest name of a recovery.
const RECOVERY_BYTES_MAX: usize = 128;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// When the server received it.
    pub received: Timestamp,
    /// Who sent it.
    pub peer: IpAddr,
    /// What they sent.
    pub event: Event,
}

/// What is wrong with an event that could be read.
#[must_use]
pub fn mistake(event: &Event) -> Option<&'static str> {
    let name = &event.recovery;
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-.+~:_".contains(&b);
    let good = (1..=RECOVERY_BYTES_MAX).contains(&name.len()) && name.bytes().all(letter);
    (!good).then_some("the event's recovery is not of 1 to 128 letters, digits and - . + ~ : _")
}

/// The event for people, on one line; its text is the machine's own.
#[must_use]
pub fn sentence(event: &Event) -> String {
    let what = words(&event.what);
    format!("{} at {} s {what}", event.recovery, event.uptime_seconds)
}

/// What happened, for people; its text is the machine's own.
#[must_use]
pub fn words(what: &What) -> String {
    match what {
        What::PlanVerified => "verified its plan".into(),
        What::LayerPlaced {
            target,
            bytes,
            milliseconds,
        } => format!("placed {target}, {bytes} bytes in {milliseconds} ms"),
        What::HandOver { how } => format!("hands over: {how:?}"),
        What::RescueReady {
            checks,
            memory_used_kib,
        } => {
            let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
            let names: Vec<_> = failed.iter().map(|check| &*check.name).collect();
            let failed = match names.as_slice() {
                [] => String::new(),
                names => format!("; failed: {}", names.join(", ")),
            };
            format!(
                "is ready: {} of {} checks passed, {} MiB in use{failed}",
                checks.len() - names.len(),
                checks.len(),
                memory_used_kib / 1024
            )
        }
        What::RecoveryStarted { session } => format!("recovers session {session}"),
        What::LayoutRecreated { seconds } => format!("recreated the layout after {seconds} s"),
        What::Restoring {
            bytes,
            total: Some(total),
        } => format!("restored {bytes} of {total} bytes"),
        What::Restoring { bytes, total: None } => format!("restored {bytes} bytes"),
        What::Restored { bytes, seconds } => {
            format!("restored everything, {bytes} bytes in {seconds} s")
        }
        What::Recovered { seconds, checks } => {
            let passed = checks.iter().filter(|check| check.passed).count();
            let all = checks.len();
            format!("is recovered after {seconds} s: {passed} of {all} checks passed")
        }
        What::FirstBoot {
            hostname,
            kernel_release,
            key,
        } => {
            let key = key.as_ref().map(|it| it.id().fingerprint());
            let key = key.map_or_else(String::new, |it| format!(", with the new key {it}"));
            format!("started from its own disk: {hostname}, kernel {kernel_release}{key}")
        }
        What::Failed { message } => format!("failed: {message}"),
    }
}

/// Appends to the file of events.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    bytes_max: u64,
    writing: Mutex<()>,
}

impl Log {
    /// The log in `path`, which is made with mode 0640 when the first event comes.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: FILE_BYTES_MAX,
            writing: Mutex::new(()),
        }
    }

    /// Appends one line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |file: fs::Metadata| file.len() + text.len() as u64 > self.bytes_max;
        if fs::metadata(&self.path).is_ok_and(is_full) {
            fs::rename(&self.path, self.path.with_extension("old.jsonl"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        if private::ends_within_a_line(&file, file.metadata()?.len())? {
            text.insert(0, b'\n');
        }
        file.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(recovery: &str, message: &str) -> Event {
        Event {
            recovery: recovery.into(),
            number: 0,
            uptime_seconds: 7,
            what: What::Failed {
                message: message.into(),
            },
        }
    }

    #[test]
    fn an_event_whose_recovery_could_be_anything_is_refused() {
        assert_eq!(mistake(&failed("r-0123456789abcdef", "x")), None);
        for bad in ["", "../x", "a b", "a\nb", "é", &"a".repeat(129)] {
            assert!(mistake(&failed(bad, "x")).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn half_a_line_of_a_full_disk_takes_no_other_event_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = Log::new(path.clone());
        let append = |message: &str| {
            let line = Line {
                received: Timestamp::UNIX_EPOCH,
                peer: IpAddr::from([127, 0, 0, 1]),
                event: failed("r-1", message),
            };
            log.append(&line).unwrap();
        };
        append("one");
        let bytes = fs::metadata(&path).unwrap().len();
        append("two");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(bytes + 9).unwrap();
        append("two");
        append("three");
        let text = fs::read_to_string(&path).unwrap();
        let whole: Vec<Option<Line>> = text
            .lines()
            .map(|it| serde_json::from_str(it).ok())
            .collect();
        let whole: Vec<_> = whole.iter().map(Option::is_some).collect();
        assert_eq!(whole, [true, false, true, true]);
    }

    #[test]
    fn a_flood_of_events_takes_two_files_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log {
            bytes_max: 1000,
            ..Log::new(dir.path().join("events.jsonl"))
        };
        for number in 0..100 {
            let line = Line {
                received: Timestamp::UNIX_EPOCH,
                peer: IpAddr::from([127, 0, 0, 1]),
                event: failed("r-1", &format!("number {number}")),
            };
            log.append(&line).unwrap();
        }
        let files = fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
        let sizes: Vec<_> = files.map(|file| file.metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        let newest = fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
        assert!(newest.contains("number 99"));
    }

    #[test]
    fn a_sentence_says_which_checks_failed() {
        let check = |name: &str, passed| towline_contract::event::CheckResult {
            layer: "base/debian/12/amd64".into(),
            name: name.into(),
            passed,
            output: String::new(),
        };
        let event = Event {
            what: What::RescueReady {
                checks: vec![check("ReaR runs", true), check("LVM runs", false)],
                memory_used_kib: 2048,
            },
            ..failed("r-1", "")
        };
        assert_eq!(
            sentence(&event),
            "r-1 at 7 s is ready: 1 of 2 checks passed, 2 MiB in use; failed: LVM runs"
        );
    }
}
