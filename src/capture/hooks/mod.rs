//! Hooks that are ready to be used: after a service that makes backups, after `rear mkbackup`, and a timer that sends later.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::{CaptureError, file};

/// First line of what is added to ReaR's settings, by which it is found again.
const REAR_MARK: &str = "# Added by towline:";

/// Which hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// After the service that runs restic
    Restic,
    /// After the service that runs borg
    Borg,
    /// After `rear mkbackup`
    Rear,
    /// A timer that sends what waits
    Timer,
}

/// What the hooks call.
#[derive(Clone, Debug)]
pub(crate) struct Hooks<'a> {
    /// Which.
    pub(crate) kind: Kind,
    /// The service that makes the backup.
    pub(crate) unit: Option<&'a str>,
    /// The agent, if not the kind's own.
    pub(crate) agent: Option<&'a str>,
    /// The session, or `newest`.
    pub(crate) session: Option<&'a str>,
    /// `/etc`.
    pub(crate) etc: &'a Path,
}

/// Installs hooks; gives the files and what is left to do. Files that are there already are written anew.
///
/// # Errors
/// A name is missing or would not be safe in a file, or a file cannot be written.
pub(crate) fn install(hooks: &Hooks<'_>) -> Result<(Vec<PathBuf>, &'static str), CaptureError> {
    let reload = "systemctl daemon-reload";
    match hooks.kind {
        Kind::Timer => {
            let units = hooks.etc.join("systemd/system");
            let service = include_str!("towline-capture.service");
            let timer = include_str!("towline-capture.timer");
            let files = [
                ("towline-capture.service", service),
                ("towline-capture.timer", timer),
            ];
            let files = files.map(|(name, text)| (units.join(name), text.to_owned()));
            let next = "systemctl daemon-reload && systemctl enable --now towline-capture.timer";
            Ok((write(&files)?, next))
        }
        Kind::Restic | Kind::Borg => {
            let unit = word(
                hooks.unit,
                None,
                "the service that makes the backup (--unit)",
            )?;
            let name = if unit.ends_with(".service") {
                unit
            } else {
                format!("{unit}.service")
            };
            let path = hooks
                .etc
                .join("systemd/system")
                .join(format!("{name}.d/towline.conf"));
            let own = if hooks.kind == Kind::Restic {
                "restic"
            } else {
                "borg"
            };
            let text = filled(include_str!("backup-service.conf"), hooks, Some(own))?;
            Ok((write(&[(path, text)])?, reload))
        }
        Kind::Rear => {
            let path = hooks.etc.join("rear/local.conf");
            let text = filled(include_str!("rear.conf"), hooks, None)?;
            let before = fs::read_to_string(&path).unwrap_or_default();
            if !before.contains(REAR_MARK) {
                append(&path, &text)?;
            }
            Ok((
                vec![path],
                "look at POST_BACKUP_SCRIPT in it; rear mkbackup does the rest",
            ))
        }
    }
}

fn filled(text: &str, hooks: &Hooks<'_>, agent: Option<&str>) -> Result<String, CaptureError> {
    let agent = word(
        hooks.agent,
        agent,
        "the agent that restores the sessions (--agent)",
    )?;
    let session = word(hooks.session, Some("newest"), "the session")?;
    Ok(text
        .replace("@AGENT@", &agent)
        .replace("@SESSION@", &session))
}

/// A word that means nothing to a shell or to systemd.
fn word(given: Option<&str>, or: Option<&str>, what: &str) -> Result<String, CaptureError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.@:+".contains(c);
    match given.or(or) {
        Some(word) if !word.is_empty() && word.chars().all(letter) => Ok(word.to_owned()),
        Some(word) => Err(CaptureError::Hook(format!(
            "{what} cannot be {word:?} in a hook"
        ))),
        None => Err(CaptureError::Hook(format!("a hook must name {what}"))),
    }
}

fn write(files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, CaptureError> {
    for (path, text) in files {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(file("make", folder))?;
        fs::write(path, text).map_err(file("write", path))?;
    }
    Ok(files.iter().map(|(path, _)| path.clone()).collect())
}

fn append(path: &Path, text: &str) -> Result<(), CaptureError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(file("make", folder))?;
    let opened = OpenOptions::new().create(true).append(true).open(path);
    let mut settings = opened.map_err(file("open", path))?;
    settings
        .write_all(format!("\n{text}").as_bytes())
        .map_err(file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(kind: Kind, etc: &Path) -> Hooks<'_> {
        Hooks {
            kind,
            unit: Some("backup"),
            agent: Some("restic"),
            session: None,
            etc,
        }
    }

    #[test]
    fn each_hook_is_written_with_its_words_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [Kind::Restic, Kind::Borg, Kind::Rear, Kind::Timer] {
            let (files, _) = install(&hooks(kind, dir.path())).unwrap();
            for path in files {
                let text = fs::read_to_string(&path).unwrap();
                assert!(
                    !text.contains("@AGENT@") && !text.contains("@SESSION@"),
                    "{text}"
                );
            }
        }
        let drop_in = dir
            .path()
            .join("systemd/system/backup.service.d/towline.conf");
        let text = fs::read_to_string(drop_in).unwrap();
        assert!(
            text.contains("ExecStartPost=-") && text.contains("--session newest"),
            "{text}"
        );
    }

    #[test]
    fn rears_settings_get_the_hook_once_and_it_keeps_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rear/local.conf");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "POST_BACKUP_SCRIPT='echo other'\n").unwrap();
        install(&hooks(Kind::Rear, dir.path())).unwrap();
        install(&hooks(Kind::Rear, dir.path())).unwrap();
        assert_eq!(
            fs::read_to_string(&path)
                .unwrap()
                .matches(REAR_MARK)
                .count(),
            1
        );
        let script = format!(". {} && echo \"$POST_BACKUP_SCRIPT\"", path.display());
        let ran = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            said.starts_with("echo other ; /usr/bin/towline capture --hook"),
            "{said}"
        );
        assert!(said.contains("\"$ROOTFS_DIR\""), "{said}");
    }

    #[test]
    fn a_word_that_a_shell_would_take_for_more_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut it = hooks(Kind::Rear, dir.path());
        it.agent = Some("restic; reboot");
        assert!(install(&it).is_err());
        it.agent = None;
        assert!(install(&it).is_err());
    }
}
