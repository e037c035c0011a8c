//! The first boot of the recovered host: this program, copied to it, reports once and removes itself.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::event::What;
use towline_contract::handover::HandOverNote;

use super::agent::TARGET;
use super::error::{RecoverError, file};
use super::reports::Reports;
use crate::{clock, machine};

/// The name under which it runs, of its folder and of its unit.
pub(crate) const FIRST_BOOT: &str = "towline-first-boot";

/// Its folder on the host.
const FOLDER: &str = "var/lib/towline-first-boot";

/// Its settings in the folder. They have the token, so only root can read them.
const SETTINGS: &str = "settings.json";

/// Where its unit and the link that starts it lie.
const UNIT: &str = "etc/systemd/system/towline-first-boot.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/towline-first-boot.service";

/// How long one boot tries, and with what pause. Afterwards the next boot tries.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_secs(15);

/// After this, nobody waits for the report any more.
const VALID_SECONDS: i64 = 7 * 24 * 3600;

/// What it needs.
#[derive(Serialize, Deserialize)]
struct Settings {
    recovery: String,
    token: String,
    servers: Vec<String>,
    ca: Vec<String>,
    until: Timestamp,
}

/// Puts program, settings and unit on the target; false if the host has no systemd.
///
/// # Errors
/// A file cannot be written.
pub(super) fn prepare(note: &HandOverNote, token: &str) -> Result<bool, RecoverError> {
    let now = clock::now();
    let until = now.checked_add(Duration::from_secs(VALID_SECONDS.unsigned_abs()));
    let settings = Settings {
        recovery: note.recovery.clone(),
        token: token.to_owned(),
        servers: note.servers.clone(),
        ca: note.ca.clone(),
        until: until.unwrap_or(now),
    };
    write_to(Path::new(TARGET), &settings)
}

fn write_to(target: &Path, settings: &Settings) -> Result<bool, RecoverError> {
    if !target.join("etc/systemd/system").is_dir() {
        return Ok(false);
    }
    let folder = target.join(FOLDER);
    fs::create_dir_all(&folder).map_err(file("make", &folder))?;
    let program = folder.join(FIRST_BOOT);
    // In memory or on a read-only image, it is the same file.
    fs::copy("/proc/self/exe", &program).map_err(file("write", &program))?;
    let path = folder.join(SETTINGS);
    write_secret(&path, settings).map_err(file("write", &path))?;
    let (unit, wanted) = (target.join(UNIT), target.join(WANTED));
    fs::write(&unit, unit_text()).map_err(file("write", &unit))?;
    if let Some(parent) = wanted.parent() {
        fs::create_dir_all(parent).map_err(file("make", parent))?;
    }
    let _ = fs::remove_file(&wanted);
    symlink(format!("/{UNIT}"), &wanted).map_err(file("make", &wanted))?;
    Ok(true)
}

fn write_secret(path: &Path, settings: &Settings) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&serde_json::to_vec(settings)?)
}

fn unit_text() -> String {
    format!(
        "# Left by the recovery of this host; removes itself.\n[Unit]\nDescription=Report the first start after a recovery\n\
         Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=exec\nExecStart=/{FOLDER}/{FIRST_BOOT}\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

/// Reports the first boot, and removes what [`prepare`] has left.
pub(crate) async fn run() -> ExitCode {
    let path = Path::new("/").join(FOLDER).join(SETTINGS);
    let settings = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    let settings: Settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{FIRST_BOOT}: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let what = What::FirstBoot {
        hostname: fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        kernel_release: machine::kernel_release(),
    };
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        // Anew each time: the clock may have been set meanwhile.
        let reports = Reports::to(
            &settings.servers,
            &settings.ca,
            &settings.recovery,
            &settings.token,
        );
        if reports.try_once(&what).await {
            println!("{FIRST_BOOT}: the server knows that this host has started");
            remove(Path::new("/"));
            return ExitCode::SUCCESS;
        }
    }
    if clock::now() > settings.until {
        remove(Path::new("/"));
    }
    eprintln!(
        "{FIRST_BOOT}: no server takes the report: {}",
        settings.servers.join(", ")
    );
    ExitCode::FAILURE
}

/// What is left after this stays in the host's own files only as a line of its journal.
fn remove(root: &Path) {
    let paths: [PathBuf; 2] = [root.join(WANTED), root.join(UNIT)];
    for path in paths {
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir_all(root.join(FOLDER));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings() -> Settings {
        Settings {
            recovery: "r1".into(),
            token: "secret".into(),
            servers: vec!["https://backup.example".into()],
            ca: vec![],
            until: "2026-03-08T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_left_on_the_host_is_secret_and_removes_itself() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("etc/systemd/system")).unwrap();
        // A second attempt finds what the first has left.
        for _ in 0..2 {
            assert!(write_to(host.path(), &settings()).unwrap());
        }
        let secret = host.path().join(FOLDER).join(SETTINGS);
        let mode = fs::metadata(&secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let unit = fs::read_to_string(host.path().join(UNIT)).unwrap();
        assert!(unit.contains("ExecStart=/var/lib/towline-first-boot/towline-first-boot\n"));
        assert!(
            fs::symlink_metadata(host.path().join(WANTED))
                .unwrap()
                .is_symlink()
        );
        remove(host.path());
        assert!(!host.path().join(FOLDER).exists() && !host.path().join(UNIT).exists());
        assert!(fs::symlink_metadata(host.path().join(WANTED)).is_err());
    }

    #[test]
    fn a_host_without_systemd_gets_nothing() {
        let host = tempfile::tempdir().unwrap();
        assert!(!write_to(host.path(), &settings()).unwrap());
        assert!(!host.path().join("var").exists());
    }
}
