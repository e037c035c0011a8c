//! The few services of a rescue system: host name, udev, and sshd when somebody may log in.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::clock::Held;
use crate::console::Console;
use crate::progress::Progress as _;

/// systemd's udev daemon, as Debian and Fedora have it.
const UDEV_DAEMONS: &[&str] = &[
    "/lib/systemd/systemd-udevd",
    "/usr/lib/systemd/systemd-udevd",
];

/// Where a public key lets root in.
const AUTHORIZED_KEYS: &[&str] = &["/root/.ssh/authorized_keys", "/root/.ssh/authorized_keys2"];

/// The key of this boot by which its sshd is known.
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// Longest that udev may take to settle; ReaR waits again where it matters.
const SETTLE_SECONDS: u32 = 30;

/// Longest that any other step of a service may take. Host keys take seconds on a slow machine.
const STEP_WAIT: Duration = Duration::from_secs(60);

/// Takes the name in `/etc/hostname`; the host's layer brings it.
pub(super) fn set_host_name(console: &Console) {
    let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = Some(name.trim())
        .filter(|it| !it.is_empty())
        .unwrap_or("towline-rescue");
    if let Err(errno) = rustix::system::sethostname(name.as_bytes()) {
        console.warn(format_args!("the host name {name} cannot be set: {errno}"));
    }
}

/// Starts udev, which makes the links in `/dev/disk` and loads what appears later.
pub(super) async fn start_udev(console: &Console) {
    let Some(daemon) = UDEV_DAEMONS.iter().find(|it| Path::new(it).exists()) else {
        return console.note(format_args!("no udev in this rescue system"));
    };
    console.step(format_args!("starting udev"));
    mask_rules();
    let time = Held::take();
    let settle = format!("--timeout={SETTLE_SECONDS}");
    for command in [
        &[daemon, "--daemon"][..],
        &["udevadm", "trigger", "--type=subsystems", "--action=add"],
        &["udevadm", "trigger", "--type=devices", "--action=add"],
        &["udevadm", "settle", &settle],
    ] {
        if let Err(error) = run(command).await {
            console.warn(format_args!("{}: {error}", command.join(" ")));
        }
    }
    match time.put_back() {
        Ok(true) => console.note(format_args!("udev moved the clock; it is put back")),
        Ok(false) => {}
        Err(error) => console.warn(format_args!("udev moved the clock: {error}")),
    }
}

/// Rules of the distribution that would undo what stage 1 has done: a card that is in use cannot be renamed, and after kexec
/// it must not be called differently either; and the hardware clock may be years off.
const MASKED_RULES: &[&str] = &["80-net-setup-link.rules", "85-hwclock.rules"];

fn mask_rules() {
    let rules = Path::new("/run/udev/rules.d");
    let _ = fs::create_dir_all(rules);
    for rule in MASKED_RULES {
        // Done before, or the kernel and the held clock undo it.
        let _ = symlink("/dev/null", rules.join(rule));
    }
}

/// Starts sshd if a key of somebody lies there: a rescue system without keys has no open port.
pub(super) async fn start_sshd(console: &Console) {
    let sshd = "/usr/sbin/sshd";
    if !Path::new(sshd).exists() || !AUTHORIZED_KEYS.iter().any(|it| has_keys(Path::new(it))) {
        return;
    }
    console.step(format_args!("starting sshd"));
    let started = async {
        fs::create_dir_all("/run/sshd")?;
        // Of one kind: an RSA key takes a slow machine a quarter of a minute.
        if !Path::new(HOST_KEY).exists() {
            let made = [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                HOST_KEY,
            ];
            run(&made).await?;
        }
        run(&[sshd]).await
    };
    if let Err(error) = started.await {
        console.warn(format_args!("no sshd: {error}"));
    }
}

fn has_keys(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.len() > 0)
}

async fn run(command: &[&str]) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", crate::roles::PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    match tokio::time::timeout(STEP_WAIT, child.wait()).await {
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(status.to_string())),
        },
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
