//! The demonstration's site: made by `towline init`, served by `towline serve`, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use towline_contract::plan::HandOver;

use super::served::{Process, https_port};
use super::steps::{self, Steps, arguments};
use crate::exit::{Exit, Failure};

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

    /// Creates the site.
    pub(super) fn init(&self, steps: &mut Steps) -> Result<(), Failure> {
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
        )
    }

    /// Publishes the layers.
    pub(super) fn publish(&self, steps: &mut Steps, layers: &[PathBuf]) -> Result<(), Failure> {
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
    _process: Process,
    port: u16,
}

impl Server {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let command = steps::towline(dir, &arguments([&"serve"]))?;
        let log = dir.join("serve.log");
        let (process, port) = Process::start(command, "the server", &log, https_port)?;
        Ok(Self {
            _process: process,
            port,
        })
    }

    /// The port that the server listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}
