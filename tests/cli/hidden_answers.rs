//! A terminal shows again what is typed, however a question that hides it ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

const CTRL_C: &[u8] = b"\x03";

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn ctrl_c_at_a_passphrase_leaves_a_terminal_that_shows_what_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let towline = env!("CARGO_BIN_EXE_towline");
    let made = Command::new(towline)
        .args(["init", "site", "--server-name", "127.0.0.1", "-q"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");

    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let shows = || {
        tcgetattr(&terminal)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    };
    assert!(shows());
    let end = || Stdio::from(terminal.try_clone().unwrap());
    let mut asking = Command::new("setsid")
        .args(["--ctty", towline, "key", "rotate", "root"])
        .current_dir(folder.path().join("site"))
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut controller = File::from(controller);
    let mut said = String::new();
    while !said.contains("Passphrase of") {
        let mut some = [0; 512];
        let read = controller.read(&mut some).unwrap();
        said.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    // The question is there a moment before what is typed is hidden.
    let asked = Instant::now();
    while shows() {
        assert!(asked.elapsed() < PATIENCE, "{said}");
        thread::yield_now();
    }
    controller.write_all(CTRL_C).unwrap();
    let status = asking.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{status} {said}");
    assert!(shows(), "{said}");
}
