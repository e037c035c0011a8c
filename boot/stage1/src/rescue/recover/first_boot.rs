//! The first boot of the recovered host: this program, copied to it, reports once and removes itself.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::rand::GetRandomFlags;
use serde::{Deserialize, Serialize};
use towline_contract::event::{Event, Part, What};
use towline_contract::handover::HandOverNote;
use towline_contract::trust::SigningKey;
use towline_contract::{Secret, Timestamp};
use zeroize::Zeroizing;

use super::agent::TARGET;
use super::error::{RecoverError, file};
use super::reports::{Heard, Reports};
use crate::console::escape::escaped;
use crate::console::uptime;
use crate::{clock, machine};

/// The name under which it runs, of its folder and of its unit.
pub(crate) const FIRST_BOOT: &str = "towline-first-boot";

/// Its folder on the host.
const FOLDER: &str = "var/lib/towline-first-boot";

/// Its settings in the folder. They have the token that it signs by, so only root can read them.
const SETTINGS: &str = "settings.json";

/// Where its unit and the link that starts it lie.
const UNIT: &str = "etc/systemd/system/towline-first-boot.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/towline-first-boot.service";

/// What says that the host is enrolled, its key, and the key that follows it (`towline host enrol`).
const ENROLLED: &str = "etc/towline/host.toml";
const KEY: &str = "etc/towline/host.key";
const NEXT_KEY: &str = "etc/towline/host.key.next";

/// The file that says that the clock was set from the network (systemd-timesyncd.service(8)).
const CLOCK_IS_SET: &str = "run/systemd/timesync/synchronized";

/// How long one boot tries, and with what pause. Afterwards the next boot tries.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_secs(15);

/// After this, nobody waits for the report any more.
const VALID_SECONDS: i64 = 7 * 24 * 3600;

/// What it needs.
#[derive(Serialize, Deserialize)]
struct Settings {
    recovery: String,
    token: Secret,
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
        token: token.to_owned().into(),
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
    let text = serde_json::to_vec(settings)
        .map_err(io::Error::from)
        .map(Zeroizing::new);
    text.and_then(|text| write_secret(&path, &text))
        .map_err(file("write", &path))?;
    let (unit, wanted) = (target.join(UNIT), target.join(WANTED));
    fs::write(&unit, unit_text()).map_err(file("write", &unit))?;
    if let Some(parent) = wanted.parent() {
        fs::create_dir_all(parent).map_err(file("make", parent))?;
    }
    let _ = fs::remove_file(&wanted);
    symlink(format!("/{UNIT}"), &wanted).map_err(file("make", &wanted))?;
    Ok(true)
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
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
    let root = Path::new("/");
    let path = root.join(FOLDER).join(SETTINGS);
    let settings = fs::read(&path).map(Zeroizing::new);
    let settings = settings.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    let reported = match settings {
        Ok(settings) => report(root, &settings, clock::now, PAUSE).await,
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    match reported {
        Ok(()) => {
            println!("{FIRST_BOOT}: the server knows that this host has started");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{FIRST_BOOT}: {}", escaped(&why));
            ExitCode::FAILURE
        }
    }
}

/// Reports until a server has heard it, all refuse it, or this boot has tried long enough. The new key becomes the host's own
/// only when a server has heard of it; what was left for a later boot is removed then, or when nobody waits for it any more.
///
/// This starts with the network, and the clock may be set only after it: one that runs ahead is waited for as long as a server is,
/// and if nobody has set it by then, the next boot tries again.
async fn report(
    root: &Path,
    settings: &Settings,
    now: impl Fn() -> Timestamp,
    pause: Duration,
) -> Result<(), String> {
    let is_late = || now() > settings.until;
    let mut made = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
        }
        if is_late() {
            continue;
        }
        let (key, event) = made.get_or_insert_with(|| event(root, &settings.recovery));
        // Anew each time, for the clock: it may run behind too, and then no certificate is good yet.
        let reports = Reports::to(
            &settings.servers,
            &settings.ca,
            &settings.recovery,
            &settings.token,
        );
        match reports.send(event).await {
            Heard::Yes => {
                if key.is_some() {
                    fs::rename(root.join(NEXT_KEY), root.join(KEY))
                        .map_err(|error| format!("cannot rename /{NEXT_KEY}: {error}"))?;
                }
                remove(root);
                return Ok(());
            }
            Heard::Refused(error) => return Err(error.to_string()),
            Heard::Nobody => {}
        }
    }
    if is_late() {
        let (until, now) = (settings.until, now());
        if made.is_none() && !root.join(CLOCK_IS_SET).exists() {
            return Err(format!(
                "nobody waits for the report since {until}, and it is {now} by a clock that nobody has set: the next boot tries again"
            ));
        }
        remove(root);
        return Err(format!("nobody waits for the report since {until}"));
    }
    let servers = settings.servers.join(", ");
    Err(format!("no server takes the report: {servers}"))
}

/// What is reported, and the new key that it brings.
fn event(root: &Path, recovery: &str) -> (Option<SigningKey>, Event) {
    let key = new_key(root).unwrap_or_else(|error| {
        eprintln!("{FIRST_BOOT}: this host has no key, and none can be made: {error}");
        None
    });
    let what = What::FirstBoot {
        hostname: fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        kernel_release: machine::kernel_release(),
        key: key.as_ref().map(SigningKey::public),
    };
    let event = Event::new(recovery, Part::FirstBoot, uptime(), what);
    (key, event)
}

/// The key of a protected host whose own did not come back with its files: made once, and the host's own when the server has it.
fn new_key(root: &Path) -> io::Result<Option<SigningKey>> {
    let (key, next) = (root.join(KEY), root.join(NEXT_KEY));
    if !root.join(ENROLLED).exists() || key.exists() {
        return Ok(None);
    }
    if !next.exists() {
        let mut seed = Zeroizing::new([0; 32]);
        rustix::rand::getrandom(seed.as_mut_slice(), GetRandomFlags::empty())?;
        let text = Zeroizing::new(hex::encode(seed.as_slice()) + "\n");
        // Whole or not at all: what is half written makes another key.
        let part = root.join(NEXT_KEY).with_extension("part");
        write_secret(&part, text.as_bytes())?;
        fs::rename(&part, &next)?;
    }
    let mut seed = Zeroizing::new([0; 32]);
    let text = Zeroizing::new(fs::read_to_string(&next)?);
    hex::decode_to_slice(text.trim_end(), seed.as_mut_slice()).map_err(io::Error::other)?;
    Ok(Some(SigningKey::generate(*seed)))
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
    use crate::rescue::answering::{Answering, BARE};
    use std::os::unix::fs::PermissionsExt as _;

    fn settings() -> Settings {
        Settings {
            recovery: "r1".into(),
            token: "secret".to_owned().into(),
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
    fn a_host_whose_key_did_not_come_back_makes_one_and_no_other_host_does() {
        let host = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = host.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "it").unwrap();
        };
        assert!(
            new_key(host.path()).unwrap().is_none(),
            "it was never enrolled"
        );
        write(ENROLLED);
        let made = new_key(host.path()).unwrap().unwrap();
        let again = new_key(host.path()).unwrap().unwrap();
        assert_eq!(made.public(), again.public(), "after an interruption too");
        let next = host.path().join(NEXT_KEY);
        let mode = fs::metadata(&next).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(KEY);
        assert!(new_key(host.path()).unwrap().is_none(), "its own came back");
    }

    /// A recovered host that was enrolled, and whose key did not come back; its unit is there.
    fn recovered() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("etc/systemd/system")).unwrap();
        fs::create_dir_all(host.path().join("etc/towline")).unwrap();
        fs::write(host.path().join(ENROLLED), "it").unwrap();
        assert!(write_to(host.path(), &settings()).unwrap());
        host
    }

    /// Reports to servers that give these answers, one a request; how often they were asked.
    async fn reported(host: &Path, answers: &[&[u16]]) -> (Result<(), String>, Vec<usize>) {
        let servers: Vec<_> = answers.iter().map(|it| Answering::start(it)).collect();
        let settings = Settings {
            token: "05".repeat(32).into(),
            servers: servers.iter().map(|it| it.url.clone()).collect(),
            until: Timestamp::MAX,
            ..settings()
        };
        let done = report(host, &settings, clock::now, Duration::ZERO).await;
        (done, servers.iter().map(Answering::asked).collect())
    }

    #[tokio::test]
    async fn a_new_key_is_the_hosts_own_once_a_server_has_heard_of_it() {
        let host = recovered();
        let made = new_key(host.path()).unwrap().unwrap().public();
        let (done, asked) = reported(host.path(), &[&[503, 204]]).await;
        assert_eq!((done, asked), (Ok(()), vec![2]));
        assert!(!host.path().join(NEXT_KEY).exists() && !host.path().join(UNIT).exists());
        fs::rename(host.path().join(KEY), host.path().join(NEXT_KEY)).unwrap();
        assert_eq!(new_key(host.path()).unwrap().unwrap().public(), made);
    }

    #[tokio::test]
    async fn a_first_boot_that_is_refused_ends_at_once_and_its_key_is_not_the_hosts() {
        let host = recovered();
        let (done, asked) = reported(host.path(), &[&[409]]).await;
        assert!(done.unwrap_err().contains("409"));
        assert_eq!(asked, [1]);
        assert!(!host.path().join(KEY).exists() && host.path().join(NEXT_KEY).exists());
        assert!(host.path().join(UNIT).exists(), "the next boot tries again");
        // Nor is one refused by who stands before a server that is not there yet.
        let host = recovered();
        let (done, asked) = reported(host.path(), &[&[BARE + 404, 302, BARE + 403, 204]]).await;
        assert_eq!((done, asked), (Ok(()), vec![4]));
        let host = recovered();
        // One that was not reached might have taken it.
        let (done, asked) = reported(host.path(), &[&[403, 403], &[502, 204]]).await;
        assert_eq!((done, asked), (Ok(()), vec![2, 2]));
        assert!(host.path().join(KEY).exists());
    }

    /// Reports to a server that takes everything, by a clock that shows these times one after the other, and then the last; how
    /// often the server was asked.
    async fn reported_by(host: &Path, clock: &[&str]) -> (Result<(), String>, usize) {
        let server = Answering::start(&[204]);
        let settings = Settings {
            token: "05".repeat(32).into(),
            servers: vec![server.url.clone()],
            ..settings()
        };
        let looks = std::cell::Cell::new(0);
        let now = || {
            let look = looks.replace(looks.get() + 1);
            clock[look.min(clock.len() - 1)].parse().unwrap()
        };
        let done = report(host, &settings, now, Duration::ZERO).await;
        (done, server.asked())
    }

    #[tokio::test]
    async fn a_clock_that_runs_ahead_or_behind_until_it_is_set_keeps_no_first_boot_from_being_reported()
     {
        for wrong in ["2026-04-09T00:00:00Z", "1970-01-01T00:00:00Z"] {
            let host = recovered();
            let clock = [wrong, wrong, wrong, "2026-03-07T00:00:00Z"];
            assert_eq!(reported_by(host.path(), &clock).await, (Ok(()), 1));
            assert!(host.path().join(KEY).exists() && !host.path().join(UNIT).exists());
        }
    }

    #[tokio::test]
    async fn a_clock_that_nobody_sets_takes_no_first_boot_from_the_next_boot() {
        let host = recovered();
        let (done, asked) = reported_by(host.path(), &["2026-04-09T00:00:00Z"]).await;
        assert!(done.unwrap_err().contains("the next boot tries again"));
        assert_eq!(asked, 0);
        assert!(host.path().join(UNIT).exists());
        let clock = ["2026-03-07T00:00:00Z"];
        assert_eq!(reported_by(host.path(), &clock).await, (Ok(()), 1));
    }

    #[tokio::test]
    async fn nobody_is_told_of_a_first_boot_once_nobody_waits_for_it() {
        let host = recovered();
        let set = host.path().join(CLOCK_IS_SET);
        fs::create_dir_all(set.parent().unwrap()).unwrap();
        fs::write(set, "").unwrap();
        let (done, asked) = reported_by(host.path(), &["2026-03-08T00:00:01Z"]).await;
        assert!(done.unwrap_err().contains("2026-03-08"));
        assert_eq!(asked, 0);
        assert!(!host.path().join(UNIT).exists() && !host.path().join(NEXT_KEY).exists());
    }

    #[test]
    fn a_host_without_systemd_gets_nothing() {
        let host = tempfile::tempdir().unwrap();
        assert!(!write_to(host.path(), &settings()).unwrap());
        assert!(!host.path().join("var").exists());
    }
}
