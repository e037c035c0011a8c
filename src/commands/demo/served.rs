//! Servers of the demonstration: processes that say on their errors which port they listen on.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::secret::write_secret;
use crate::exit::{Exit, Failure};

/// Longest a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; stopped when dropped.
pub(super) struct Process(Child);

impl Process {
    /// Starts `command`, called `what`, with its errors copied to `log`, and waits until a line of them has the port.
    pub(super) fn start(
        mut command: Command,
        what: &str,
        log: &Path,
        port: fn(&str) -> Option<u16>,
    ) -> Result<(Self, u16), Failure> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let said = child.stderr.take();
        // From here on it is stopped, whatever happens.
        let process = Self(child);
        let said = said.with_context(|| format!("{what} has no log"))?;
        let (ready, wait) = std::sync::mpsc::channel();
        let copy = log.to_owned();
        std::thread::spawn(move || follow(BufReader::new(said), &copy, port, &ready));
        match wait.recv_timeout(START_MAX) {
            Ok(port) => Ok((process, port)),
            Err(_) => Err(
                Failure::new(Exit::Internal, anyhow!("{what} did not start"))
                    .next(format!("read {}", log.display())),
            ),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first, so that it can end its connections; it may be gone already.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// `rclone serve` over TLS.
pub(super) struct Rclone<'a> {
    /// What is spoken: `restic`, `webdav`, `http`.
    pub(super) protocol: &'a str,
    /// More arguments.
    pub(super) words: &'a [OsString],
    /// Settings that are nobody's business.
    pub(super) environment: &'a [(&'a str, &'a str)],
}

impl Rclone<'_> {
    /// Serves `folder/repository`, as `name` in its certificate by the authority in `ca`; its port.
    pub(super) fn serve(
        &self,
        folder: &Path,
        ca: &Path,
        name: &str,
    ) -> Result<(Process, u16), Failure> {
        let repository = folder.join("repository");
        fs::create_dir_all(&repository)
            .with_context(|| format!("cannot make {}", repository.display()))?;
        let now = time::OffsetDateTime::now_utc();
        let (certificate, key) = towline_server::tls::server_files(ca, &[name.to_owned()], now)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate_file, certificate)
            .context("cannot write the backup server's certificate")?;
        write_secret(&key_file, key.as_bytes()).context("cannot write the backup server's key")?;
        let mut command = Command::new("rclone");
        command
            .args(["serve", self.protocol, "--config", "/dev/null"])
            .args(["--addr", "127.0.0.1:0", "--cert"])
            .arg(&certificate_file)
            .arg("--key")
            .arg(&key_file)
            .args(self.words)
            .arg(&repository)
            .envs(self.environment.iter().copied());
        let what = format!("rclone serve {} (Debian package rclone)", self.protocol);
        Process::start(command, &what, &folder.join("rclone.log"), https_port)
    }
}

/// The port of an address in a line, such as `listening on https://127.0.0.1:8443`.
pub(super) fn https_port(line: &str) -> Option<u16> {
    let (_, address) = line.split_once(" on ")?;
    let address = address.trim_start_matches('[').strip_prefix("https://")?;
    let address = address.split([' ', '/', ',']).next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// Copies a server's log to a file and sends the port it names once it listens.
fn follow(log: impl BufRead, file: &Path, port: fn(&str) -> Option<u16>, ready: &Sender<u16>) {
    let mut copy = fs::File::create(file).ok();
    for line in log.lines().map_while(Result::ok) {
        if let Some(copy) = &mut copy {
            let _ = std::io::Write::write_all(copy, format!("{line}\n").as_bytes());
        }
        if let Some(port) = port(&line) {
            let _ = ready.send(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_a_servers_line() {
        for line in [
            "towline: listening on https://127.0.0.1:8443, site demo",
            "NOTICE: Serving restic REST API on https://127.0.0.1:8443/",
            "NOTICE: WebDav Server started on [https://127.0.0.1:8443/]",
        ] {
            assert_eq!(https_port(line), Some(8443), "{line}");
        }
        assert_eq!(https_port("listening on https://[::1]:8443/"), Some(8443));
        assert_eq!(https_port("listening on http://127.0.0.1:80"), None);
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room >&2; exit 1"]);
        let refused = Process::start(command, "the server", &log, https_port);
        let error = refused.err().unwrap();
        assert!(error.error.to_string().contains("did not start"));
        assert_eq!(fs::read_to_string(log).unwrap(), "no room\n");
    }
}
