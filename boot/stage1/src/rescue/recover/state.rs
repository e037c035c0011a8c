//! What the runner and the restore helper, two processes, tell each other; and how far a recovery came.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{RecoverError, file};
use crate::console::uptime;

/// Folder of a recovery's own files, in memory.
pub(super) const DIRECTORY: &str = "/run/towline/recovery";

/// How far ReaR came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Partitions and file systems are recreated.
    Layout,
    /// The agent restores.
    Restore,
    /// The restored system is made to start.
    Finalize,
}

impl Phase {
    /// Its name in messages and in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layout => "layout",
            Self::Restore => "restore",
            Self::Finalize => "finalize",
        }
    }

    /// Longest that it may take; nothing here for a restore, which watches itself.
    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            // Wiping nothing, thousands of file systems at worst; minutes on emulated machines.
            Self::Layout => Some(Duration::from_secs(45 * 60)),
            Self::Restore => None,
            // ReaR makes the host's initramfs again when its drivers changed.
            Self::Finalize => Some(Duration::from_secs(60 * 60)),
        }
    }
}

/// The folder with these files.
#[derive(Clone, Debug)]
pub(super) struct State(PathBuf);

impl State {
    /// The one of this machine.
    pub(super) fn here() -> Self {
        Self(DIRECTORY.into())
    }

    /// Begins a recovery: now is its beginning, and nothing has failed.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(super) fn begin(&self) -> Result<(), RecoverError> {
        fs::create_dir_all(&self.0).map_err(file("make", &self.0))?;
        self.write("started", &uptime().as_secs().to_string())?;
        self.write("why", "")?;
        self.enter(Phase::Layout)
    }

    /// Seconds since the recovery began.
    pub(super) fn seconds(&self) -> u64 {
        let started = self.read("started").parse().unwrap_or(u64::MAX);
        uptime().as_secs().saturating_sub(started)
    }

    /// The phase begins.
    pub(super) fn enter(&self, phase: Phase) -> Result<(), RecoverError> {
        self.write("phase", phase.name())
    }

    /// The phase that was entered last.
    pub(super) fn phase(&self) -> Phase {
        match self.read("phase").as_str() {
            "restore" => Phase::Restore,
            "finalize" => Phase::Finalize,
            _ => Phase::Layout,
        }
    }

    /// Keeps why the helper failed, which ReaR does not know.
    pub(super) fn failed(&self, why: &str) {
        // Then ReaR's own words have to do.
        let _ = self.write("why", why);
    }

    /// Why the helper failed; nothing, if it did not.
    pub(super) fn why(&self) -> String {
        self.read("why")
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), RecoverError> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(file("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_reasons_outlive_the_process_that_wrote_them() {
        let dir = tempfile::tempdir().unwrap();
        let state = State(dir.path().join("recovery"));
        state.begin().unwrap();
        assert_eq!((state.phase(), state.why()), (Phase::Layout, String::new()));
        for phase in [Phase::Restore, Phase::Finalize, Phase::Layout] {
            state.enter(phase).unwrap();
            assert_eq!(State(state.path().to_owned()).phase(), phase);
        }
        state.failed("no space");
        assert_eq!(state.why(), "no space");
        assert!(state.seconds() < 60);
    }
}
