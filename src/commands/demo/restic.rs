//! The backup server: `rclone serve restic` over TLS, with a certificate of the site's authority.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::secret::write_secret;
use super::site::follow;
use crate::exit::{Exit, Failure};

/// Longest until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// A running server; stopped when dropped.
pub(super) struct ResticServer {
    child: Child,
    port: u16,
}

impl ResticServer {
    /// Starts a server for a repository in `folder`, named `name` in its certificate by the authority in `ca`.
    pub(super) fn start(folder: &Path, ca: &Path, name: &str) -> Result<Self, Failure> {
        let repository = folder.join("repository");
        fs::create_dir_all(&repository)
            .with_context(|| format!("cannot make {}", repository.display()))?;
        let (certificate, key) = towline_server::tls::server_files(
            ca,
            &[name.to_owned()],
            time::OffsetDateTime::now_utc(),
        )
        .map_err(|error| Failure::new(Exit::Internal, error))?;
        let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate_file, certificate)
            .context("cannot write the backup server's certificate")?;
        write_secret(&key_file, key.as_bytes()).context("cannot write the backup server's key")?;
        let mut child = Command::new("rclone")
            .args([
                "serve",
                "restic",
                "--cache-objects=false",
                "--config",
                "/dev/null",
            ])
            .args(["--addr", "127.0.0.1:0", "--cert"])
            .arg(&certificate_file)
            .arg("--key")
            .arg(&key_file)
            .arg(&repository)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start rclone (Debian package rclone)")?;
        let log = child
            .stderr
            .take()
            .context("the backup server has no log")?;
        let (ready, wait) = std::sync::mpsc::channel();
        let log_file = folder.join("rclone.log");
        let copy = log_file.clone();
        std::thread::spawn(move || follow(BufReader::new(log), &copy, &ready));
        let mut server = Self { child, port: 0 };
        match wait.recv_timeout(START_MAX) {
            Ok(port) => {
                server.port = port;
                Ok(server)
            }
            Err(_) => Err(
                Failure::new(Exit::Internal, anyhow!("the backup server did not start"))
                    .next(format!("read {}", log_file.display())),
            ),
        }
    }

    /// The port that it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ResticServer {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
