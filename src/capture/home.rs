//! Where a protected host keeps its key, its settings and what is not sent yet.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::trust::SigningKey;
use towline_server::keys;

use super::error::{CaptureError, file};

/// Largest log, in bytes, before the older half of it goes.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Settings and state of a protected host.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Home {
    /// Folder of the host's key and settings. ReaR 2.8 and later want it below /etc
    #[arg(
        long = "config-dir",
        value_name = "DIR",
        default_value = "/etc/towline"
    )]
    config: PathBuf,
    /// Folder of what is not sent yet
    #[arg(
        long = "state-dir",
        value_name = "DIR",
        default_value = "/var/lib/towline"
    )]
    state: PathBuf,
}

/// `host.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostConfig {
    /// The server, by `https://`.
    pub(crate) server: String,
    /// The host's identifier.
    pub(crate) id: String,
    /// The authority that signed the server's certificate; the system's authorities when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ca: Option<PathBuf>,
}

/// No other capture runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a program that another thread is just starting may still have the file open.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Home {
    /// The folder of the settings.
    pub(crate) fn config_dir(&self) -> &Path {
        &self.config
    }

    /// Settings of the host.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.config.join("host.toml")
    }

    /// The host's key.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.config.join("host.key")
    }

    /// What waits to be sent.
    pub(crate) fn spool_path(&self) -> PathBuf {
        self.state.join("spool")
    }

    /// What the server refused: the newest of it, for people to look at.
    pub(crate) fn refused_path(&self) -> PathBuf {
        self.spool_path().join("refused")
    }

    /// What was done and what failed, a line each.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.state.join("capture.log")
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// The host is not enrolled, or the file is not right.
    pub(crate) fn read_config(&self) -> Result<HostConfig, CaptureError> {
        let path = self.config_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(CaptureError::NotEnrolled(path));
            }
            Err(cause) => return Err(file("read", &path)(cause)),
        };
        toml::from_str(&text).map_err(|cause| CaptureError::Settings {
            path,
            why: cause.message().to_owned(),
        })
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_config(&self, config: &HostConfig) -> Result<(), CaptureError> {
        let path = self.config_path();
        let text = toml::to_string(config).map_err(|cause| CaptureError::Settings {
            path: path.clone(),
            why: cause.to_string(),
        })?;
        replace(&path, text.as_bytes()).map_err(file("write", &path))
    }

    /// Reads the host's key.
    ///
    /// # Errors
    /// There is none, or others may read it.
    pub(crate) fn key(&self) -> Result<SigningKey, CaptureError> {
        Ok(keys::read(&self.key_path())?)
    }

    /// The host's key; made when there is none.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub(crate) fn key_or_new(&self) -> Result<SigningKey, CaptureError> {
        make_private(&self.config).map_err(file("make", &self.config))?;
        match self.key_path().exists() {
            true => self.key(),
            false => Ok(keys::create(&self.key_path())?),
        }
    }

    /// A folder for one run, on the file system of the state; removed when dropped.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn staging(&self) -> Result<tempfile::TempDir, CaptureError> {
        make_private(&self.state).map_err(file("make", &self.state))?;
        let prefix = tempfile::Builder::new().prefix("capture-").to_owned();
        prefix
            .tempdir_in(&self.state)
            .map_err(file("make a folder in", &self.state))
    }

    /// Waits until no other capture runs, at most for `patience`. What captures that were killed have left is removed.
    ///
    /// # Errors
    /// Another one runs for longer.
    pub(crate) fn lock(&self, patience: Duration) -> Result<Lock, CaptureError> {
        make_private(&self.state).map_err(file("make", &self.state))?;
        let path = self.state.join("lock");
        let lock = File::create(&path).map_err(file("make", &path))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(cause)) => return Err(file("lock", &path)(cause)),
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CaptureError::Busy(patience.as_secs()));
                }
            }
        }
        for entry in fs::read_dir(&self.state).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("capture-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Lock(lock))
    }

    /// Adds a line to the log. A log that cannot be written is no reason to fail.
    pub(crate) fn log(&self, line: &str) {
        let path = self.log_path();
        if fs::metadata(&path).is_ok_and(|it| it.len() > LOG_BYTES_MAX) {
            let text = fs::read(&path).unwrap_or_default();
            let _ = replace(&path, &text[text.len() / 2..]);
        }
        let mut options = File::options();
        let opened = options.create(true).append(true).mode(0o600).open(&path);
        if let Ok(mut log) = opened {
            let time = super::seconds(Timestamp::now());
            let _ = writeln!(log, "{time} {}", line.replace('\n', " | "));
        }
    }
}

pub(super) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file of mode 0600 whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            config: dir.path().join("etc"),
            state: dir.path().join("state"),
        };
        (dir, home)
    }

    #[test]
    fn the_key_is_made_once_and_stays() {
        let (_dir, home) = home();
        let first = home.key_or_new().unwrap();
        let again = home.key_or_new().unwrap();
        assert_eq!(first.public(), again.public());
        let print = first.public().id().fingerprint();
        assert_eq!((print.len(), print.matches('-').count()), (19, 3));
    }

    #[test]
    fn settings_with_a_wrong_field_are_refused_by_name() {
        let (_dir, home) = home();
        assert!(matches!(
            home.read_config(),
            Err(CaptureError::NotEnrolled(_))
        ));
        home.key_or_new().unwrap();
        let config = HostConfig {
            server: "https://a.example".into(),
            id: "web1".into(),
            ca: None,
        };
        home.write_config(&config).unwrap();
        assert_eq!(home.read_config().unwrap(), config);
        fs::write(home.config_path(), "server = 'x'\nid = 'y'\ncolour = 1\n").unwrap();
        let found = home.read_config().unwrap_err().to_string();
        assert!(found.contains("colour"), "{found}");
    }

    #[test]
    fn two_captures_do_not_run_at_once_and_what_a_killed_one_left_is_removed() {
        let (_dir, home) = home();
        let left = home.staging().unwrap().keep();
        let lock = home.lock(Duration::ZERO).unwrap();
        assert!(!left.exists());
        assert!(matches!(
            home.lock(Duration::ZERO),
            Err(CaptureError::Busy(0))
        ));
        drop(lock);
        home.lock(Duration::ZERO).unwrap();
    }
}
