//! A program that serves until it is dropped: `towline serve`, `rclone serve restic`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Longest until it listens, on a machine that is busy with others.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; killed when dropped, as by a power cut.
pub struct Service(Child);

impl Service {
    /// Starts `command`, whose stderr goes on to `log`, and waits until it says that it listens on `https://`.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(command: &mut Command, log: File) -> Self {
        let program = format!("{:?}", command.get_program());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let said = BufReader::new(child.stderr.take().expect("a log"));
        let (ready, wait) = channel();
        std::thread::spawn(move || follow(said, log, &ready));
        let service = Self(child);
        wait.recv_timeout(START_MAX)
            .unwrap_or_else(|_| panic!("{program} does not listen"));
        service
    }
}

fn follow(said: impl BufRead, mut log: File, ready: &Sender<()>) {
    for line in said.lines().map_while(Result::ok) {
        // The log is for people.
        let _ = writeln!(log, "{line}");
        if line.contains("https://") {
            let _ = ready.send(());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
