//! The demonstration's site: made by `towline init`, served by `towline serve`, removed at the end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use towline_contract::plan::HandOver;

use super::steps::{self, Steps, arguments};
use crate::exit::{Exit, Failure};

/// Longest the server may take until it listens.
const SERVER_START_MAX: Duration = Duration::from_secs(20);

/// The address of this machine as QEMU's user network shows it to the guest.
pub(super) const GUEST_SEES: &str = "10.0.2.2";

/// A site in a folder of its own.
pub(super) struct Site {
    dir: PathBuf,
    keep: bool,
    hand_over: HandOver,
}

impl Site {
    /// Makes a new site in `dir`; one left there by an earlier run is removed.
    pub(super) fn create(dir: &Path, keep: bool, hand_over: HandOver) -> Result<Self, Failure> {
        if dir.exists() {
            fs::remove_dir_all(dir)
                .with_context(|| format!("cannot remove the old site {}", dir.display()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            keep,
            hand_over,
        })
    }

    /// Creates the site and publishes the layers.
    pub(super) fn publish(&self, steps: &mut Steps, layers: &[PathBuf]) -> Result<(), Failure> {
        steps.step(
            "create a site: keys, certificate authority, catalogue",
            || {
                let parent = self.dir.parent().unwrap_or(&self.dir);
                let name = ["--server-name", GUEST_SEES, "--listen", "127.0.0.1:0"];
                steps::run(
                    parent,
                    &arguments([&"init", &self.dir, &name[0], &name[1], &name[2], &name[3]]),
                )?;
                self.choose_hand_over()
            },
        )?;
        steps.step(
            "publish the layers: check the chain, sign the catalogue",
            || {
                let mut command = arguments([&"publish"]);
                command.extend(layers.iter().map(|layer| layer.clone().into_os_string()));
                print!("{}", steps::run(&self.dir, &command)?);
                Ok(())
            },
        )
    }

    /// Says in the configuration that machines start the layers' own kernel, when that is asked for.
    fn choose_hand_over(&self) -> Result<(), Failure> {
        if self.hand_over == HandOver::InPlace {
            return Ok(());
        }
        let config = self.dir.join("towline.toml");
        let failed = || format!("cannot change {}", config.display());
        let text = fs::read_to_string(&config).with_context(failed)?;
        let changed = text.replace("hand_over = \"auto\"", "hand_over = \"kexec\"");
        if changed == text {
            return Err(Failure::new(
                Exit::Internal,
                anyhow!("{} does not say how to hand over", config.display()),
            ));
        }
        eprintln!("    # towline.toml: hand_over = \"kexec\"");
        fs::write(&config, changed).with_context(failed)?;
        Ok(())
    }

    /// Starts the server and waits until it listens.
    pub(super) fn serve(&self, steps: &mut Steps) -> Result<Server, Failure> {
        steps.step("start the server", || Server::start(&self.dir))
    }

    /// Copies the medium and stamps the copy with this site.
    pub(super) fn stamp(
        &self,
        steps: &mut Steps,
        medium: &Path,
        port: u16,
        host: Option<&str>,
    ) -> Result<PathBuf, Failure> {
        let stamped = self.dir.join("towline.iso");
        steps.step("stamp the medium with this site", || {
            fs::copy(medium, &stamped)
                .with_context(|| format!("cannot copy {}", medium.display()))?;
            let server = format!("https://{GUEST_SEES}:{port}");
            let mut command = arguments([
                &"media",
                &"stamp",
                &stamped,
                &"--server",
                &server,
                &"--root",
                &"store/metadata/1.root.json",
                &"--ca",
                &"ca/ca.pem",
                &"--shell",
            ]);
            if let Some(host) = host {
                command.extend(arguments([&"--host", &host]));
            }
            steps::run(&self.dir, &command)
        })?;
        Ok(stamped)
    }

    /// The site's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that the server appends events to.
    pub(super) fn events(&self) -> PathBuf {
        self.dir.join("state/events.jsonl")
    }

    /// Where the machine's console is recorded.
    pub(super) fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Ends the site: left with a word on how to go on, at the port that is stamped on its medium, or removed.
    pub(super) fn leave(&self, port: u16) {
        if self.keep {
            println!("\nThe site is left in {}. To go on:", self.dir.display());
            println!(
                "  cd {} && towline serve --listen 127.0.0.1:{port}",
                self.dir.display()
            );
            println!("  towline catalogue list");
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("towline: cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// A running `towline serve`; stopped when dropped.
pub(super) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let mut child = steps::towline(dir, &arguments([&"serve"]))?
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let log = child.stderr.take().context("the server has no log")?;
        let (ready, wait) = std::sync::mpsc::channel();
        let log_file = dir.join("serve.log");
        std::thread::spawn(move || follow(BufReader::new(log), &log_file, &ready));
        let mut server = Self { child, port: 0 };
        match wait.recv_timeout(SERVER_START_MAX) {
            Ok(port) => {
                server.port = port;
                Ok(server)
            }
            Err(_) => Err(
                Failure::new(Exit::Internal, anyhow!("the server did not start"))
                    .next(format!("read {}", dir.join("serve.log").display())),
            ),
        }
    }

    /// The port that the server listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, so that it can end its connections; it may be gone already.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Copies the server's log to a file and sends the port it names once it listens.
pub(super) fn follow(log: impl BufRead, file: &Path, ready: &std::sync::mpsc::Sender<u16>) {
    let mut copy = fs::File::create(file).ok();
    for line in log.lines().map_while(Result::ok) {
        if let Some(copy) = &mut copy {
            let _ = std::io::Write::write_all(copy, format!("{line}\n").as_bytes());
        }
        if let Some(port) = line
            .split_once(" on https://")
            .and_then(|(_, rest)| port_of(rest))
        {
            let _ = ready.send(port);
        }
    }
}

/// The port of `HOST:PORT`, whatever follows.
fn port_of(address: &str) -> Option<u16> {
    let address = address.split([' ', '/', ',']).next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_the_servers_line() {
        assert_eq!(port_of("127.0.0.1:8443"), Some(8443));
        assert_eq!(port_of("[::1]:8443/ ready"), Some(8443));
        assert_eq!(port_of("backup.example"), None);
    }
}
