//! What is kept of drills: `state/drills/HOST/TIME.json`, and beside it the console of the machine, `TIME.console.log`.
//!
//! The console is there before the report that names it. Both are their owner's alone, and a bounded number is kept.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::event::CheckResult;
use towline_contract::trust::is_host_id;

use crate::doctor::LastDrill;
use crate::private::{self, Folder, Locked, PrivateError, failed};
use crate::recoveries::Chosen;
use crate::site::Site;

/// Version of the report that this program writes.
pub const DRILL_FORMAT: u32 = 1;

/// Drills of a host that are kept, and with them the last of each kind.
pub const KEPT: usize = 10;

/// Largest report, in bytes. A hundred checks make 40 KB.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// Largest console that is kept, in bytes: the end of a larger one tells why it failed.
const CONSOLE_BYTES_MAX: u64 = 4 << 20;

/// The report of one drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`DRILL_FORMAT`].
    pub format: u32,
    /// The host.
    pub host: String,
    /// The session.
    pub session: Chosen,
    /// Whether files were restored, and the host started from its disk.
    pub restore: bool,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: u64,
    /// Whether all went well.
    pub passed: bool,
    /// What happened, in a sentence.
    pub what: String,
    /// The machine that was recovered.
    pub machine: Machine,
    /// Target names of the layers that it placed.
    pub layers: Vec<String>,
    /// Memory in use when the rescue system was ready, in KiB.
    pub memory_used_kib: Option<u64>,
    /// What the rescue system, and the recovery, checked.
    pub checks: Vec<CheckResult>,
    /// The console, in the report's folder.
    pub console: String,
}

/// The machine of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `bios`, `uefi` or `secure-boot`.
    pub firmware: String,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// Its empty disks, in bytes.
    pub disks: Vec<u64>,
}

/// The drills of a host.
#[derive(Clone, Debug)]
pub struct Drills {
    folder: PathBuf,
}

impl Drills {
    /// The drills of `host`; none if nothing can have that name.
    #[must_use]
    pub fn of(site: &Site, host: &str) -> Option<Self> {
        is_host_id(host).then(|| Self {
            folder: site.state().join("drills").join(host),
        })
    }

    /// The last drill with and the last one without a restore, the newer one first, with the names of their reports.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn last(&self) -> Result<Vec<(String, Report)>, PrivateError> {
        let mut last: Vec<(String, Report)> = Vec::new();
        for name in self.names()?.into_iter().rev() {
            let Some(report) = private::read::<Report>(&self.report(&name), REPORT_BYTES_MAX)?
            else {
                continue;
            };
            if last.iter().all(|(_, it)| it.restore != report.restore) {
                last.push((name, report));
            }
            if last.len() == 2 {
                break;
            }
        }
        Ok(last)
    }

    /// Makes sure that a report can be kept, and that there is one drill of the host at a time, before one begins.
    ///
    /// # Errors
    /// The folder cannot be written in, or another drill of the host runs.
    pub fn begin(&self) -> Result<Begun<'_>, PrivateError> {
        let drills = self.folder.parent().unwrap_or(&self.folder);
        let host = self.folder.file_name().unwrap_or_default();
        let folder = Folder::make(drills)?.within(host)?.try_lock()?;
        Ok(Begun {
            drills: self,
            folder,
        })
    }

    /// Names of the reports, the oldest first.
    fn names(&self) -> Result<Vec<String>, PrivateError> {
        let mut names = private::names(&self.folder)?;
        names.sort();
        Ok(names)
    }

    fn report(&self, name: &str) -> PathBuf {
        self.folder.join(report_name(name))
    }
}

/// The one drill of a host.
pub struct Begun<'a> {
    drills: &'a Drills,
    folder: Locked,
}

impl Begun<'_> {
    /// Keeps a report with its console, and lets the oldest go. Gives the report's file and the console's.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn end(
        &self,
        report: &mut Report,
        console: &Path,
    ) -> Result<(PathBuf, PathBuf), PrivateError> {
        let name = name(report.started);
        report.console = console_name(&name);
        let mut source = end_of(console).map_err(failed("read", console))?;
        self.folder.write_from(&report.console, &mut source)?;
        self.folder
            .write(&report_name(&name), report, REPORT_BYTES_MAX)?;
        // However many rescue systems were started since, how the last restore went is not forgotten.
        let last = self.drills.last()?;
        let is_old = |name: &&String| last.iter().all(|(it, _)| it != *name);
        let names = self.drills.names()?;
        for old in names.iter().rev().skip(KEPT).filter(is_old) {
            self.folder.remove(&report_name(old))?;
            self.folder.remove(&console_name(old))?;
        }
        let of = |name: &str| self.folder.path(name);
        Ok((of(&report_name(&name)), of(&report.console)))
    }
}

impl Report {
    /// What a doctor needs of it.
    #[must_use]
    pub fn in_short(self) -> LastDrill {
        LastDrill {
            time: self.started,
            restore: self.restore,
            passed: self.passed,
            what: self.what,
        }
    }
}

/// The end of a console.
fn end_of(console: &Path) -> io::Result<impl io::Read> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut source = File::open(console)?;
    let bytes = source.metadata()?.len();
    source.seek(SeekFrom::Start(bytes.saturating_sub(CONSOLE_BYTES_MAX)))?;
    Ok(source.take(CONSOLE_BYTES_MAX))
}

fn report_name(name: &str) -> String {
    format!("{name}.json")
}

fn console_name(name: &str) -> String {
    format!("{name}.console.log")
}

/// Names sort as times do: `20260601t020000z`.
fn name(time: Timestamp) -> String {
    time.strftime("%Y%m%dt%H%M%Sz").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use towline_contract::Digest;

    fn report(started: Timestamp, passed: bool) -> Report {
        Report {
            format: DRILL_FORMAT,
            host: "web1".into(),
            session: Chosen {
                target: "host/web1/s1/all".into(),
                digest: Digest::of(b"s1"),
                time: started,
                captured: started,
                agent: "restic".into(),
                agent_session: "4bba301e".into(),
            },
            restore: false,
            started,
            seconds: 31,
            passed,
            what: "the rescue system is ready".into(),
            machine: Machine {
                firmware: "bios".into(),
                memory_mib: 1024,
                disks: vec![1 << 30],
            },
            layers: vec![],
            memory_used_kib: Some(1),
            checks: vec![],
            console: String::new(),
        }
    }

    #[test]
    fn the_newest_drill_is_found_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-06-01T02:00:00Z".parse().unwrap();
        let site = fixture::site(&dir.path().join("site"), start);
        let drills = Drills::of(&site, "web1").unwrap();
        assert_eq!(drills.last().unwrap(), []);
        let console = dir.path().join("console");
        let padding = vec![b'x'; usize::try_from(CONSOLE_BYTES_MAX).unwrap()];
        fs::write(&console, [b"begin".as_slice(), &padding, b"end"].concat()).unwrap();
        for day in 0..12 {
            let time = start + jiff::SignedDuration::from_hours(24 * day);
            let mut report = report(time, day % 2 == 1);
            let (_, kept) = drills.begin().unwrap().end(&mut report, &console).unwrap();
            assert_eq!(drills.last().unwrap()[0].1, report);
            let text = fs::read(&kept).unwrap();
            assert_eq!(text.len() as u64, CONSOLE_BYTES_MAX);
            assert!(text.ends_with(b"xend"));
            assert_eq!(
                fs::metadata(&kept).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let files = fs::read_dir(&drills.folder).unwrap();
        assert_eq!(
            files.count(),
            2 * KEPT + 1,
            "reports, consoles and the lock"
        );
        assert_eq!(drills.names().unwrap()[0], "20260603t020000z");
    }

    #[test]
    fn the_last_restore_is_kept_and_found_however_many_rescues_were_tried_since() {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-06-01T02:00:00Z".parse().unwrap();
        let site = fixture::site(&dir.path().join("site"), start);
        let drills = Drills::of(&site, "web1").unwrap();
        let console = dir.path().join("console");
        fs::write(&console, "console").unwrap();
        let add = |day: i64, restore, passed| {
            let time = start + jiff::SignedDuration::from_hours(24 * day);
            let mut report = report(time, passed);
            report.restore = restore;
            drills.begin().unwrap().end(&mut report, &console).unwrap();
        };
        add(0, true, false);
        for day in 1..=15 {
            add(day, false, true);
        }
        let last = drills.last().unwrap();
        let kinds = last.iter().map(|(_, it)| (it.restore, it.passed));
        assert_eq!(kinds.collect::<Vec<_>>(), [(false, true), (true, false)]);
        assert_eq!(drills.names().unwrap().len(), KEPT + 1);
    }

    #[test]
    fn a_second_drill_of_a_host_and_one_that_could_not_be_kept_do_not_begin() {
        let dir = tempfile::tempdir().unwrap();
        let site = fixture::site(&dir.path().join("site"), Timestamp::UNIX_EPOCH);
        let drills = Drills::of(&site, "web1").unwrap();
        let first = drills.begin().unwrap();
        assert!(drills.begin().is_err());
        drop(first);
        drills.begin().unwrap();
        fs::remove_dir_all(&drills.folder).unwrap();
        std::os::unix::fs::symlink(dir.path(), &drills.folder).unwrap();
        assert!(drills.begin().is_err());
    }

    #[test]
    fn a_host_cannot_be_named_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let site = fixture::site(&dir.path().join("site"), Timestamp::UNIX_EPOCH);
        assert!(Drills::of(&site, "../hosts").is_none());
    }
}
