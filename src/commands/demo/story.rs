//! The whole story: a protected host backs itself up, loses its disk, and comes back from the generic medium by one code.
//!
//! The host is a machine in QEMU with a disk of its own, the backup server is the agent's, everything else is `towline` as an
//! operator or the host would type it. At the end every file of the host is compared with what it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use towline_machine::Writes;

use super::backups::Backups;
use super::cache::{Built, the_layer};
use super::inventory::Inventory;
use super::machine::{self, Dead};
use super::protected::errand::Errand;
use super::secret::{self, write_secret};
use super::site::{GUEST_SEES, Server, Site};
use super::steps::{self, Steps, arguments};
use super::{DemoArgs, HOST, protected};
use crate::exit::{Exit, Failure, Outcome};
use crate::printable;

/// Differences between before and after that are shown.
const DIFFERENCES_SHOWN: usize = 40;

/// What the story happens with.
struct Story<'a> {
    steps: &'a mut Steps,
    args: &'a DemoArgs,
    site: &'a Site,
    server: Server,
    backups: Backups,
    /// Disks, consoles and inventories.
    folder: PathBuf,
}

/// Tells it; `original` are the host's disks before it begins, and stay as they are.
pub(super) fn tell(
    steps: &mut Steps,
    args: &DemoArgs,
    built: &Built,
    original: &[PathBuf],
    site: &Site,
    folder: &Path,
) -> Outcome {
    start_afresh(folder)?;
    site.init(steps)?;
    let what = format!(
        "start the backup server: {}",
        Backups::described(args.agent)
    );
    let backups = steps.step(&what, || {
        let store = folder.join("backups");
        fs::create_dir(&store).with_context(|| format!("cannot make {}", store.display()))?;
        Backups::start(args.agent, &store, &site.dir().join("ca"), GUEST_SEES)
    })?;
    let agent = agent(steps, built, &backups, folder)?;
    site.publish(steps, &[built.kernel.clone(), built.base.clone(), agent])?;
    let server = site.serve(steps)?;
    let mut story = Story {
        steps,
        args,
        site,
        server,
        backups,
        folder: folder.to_owned(),
    };
    let disks = story.host_with_disks(original)?;
    let before = story.back_up(&disks)?;
    let disks = story.lose(&disks)?;
    let opened = story.open_recovery()?;
    story.recover(built, &disks, &opened.code)?;
    let after = story.look(&disks)?;
    story.end(&opened.id, &before, &after)
}

/// The layer of the agent: from the cache, or made for this backup server.
fn agent(
    steps: &mut Steps,
    built: &Built,
    backups: &Backups,
    folder: &Path,
) -> Result<PathBuf, Failure> {
    let Some(text) = &backups.recipe else {
        let built = built.agent.clone();
        return Ok(built.context("the agent's layer was not built")?);
    };
    steps.step("build the layer of this server's agent", || {
        let (recipe, out) = (folder.join("agent.toml"), folder.join("agent"));
        fs::write(&recipe, text).with_context(|| format!("cannot write {}", recipe.display()))?;
        steps::run(
            folder,
            &arguments([&"layer", &"build", &recipe, &"-o", &out]),
        )?;
        the_layer(&out)
    })
}

/// What `towline recovery open --json` says.
#[derive(Deserialize)]
struct Opened {
    id: String,
    code: String,
}

impl Story<'_> {
    /// Disks for this run, with the host on them.
    fn host_with_disks(&mut self, original: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let folder = &self.folder;
        let copied = |original: &PathBuf| {
            let disk = folder.join(original.file_name().unwrap_or_default());
            // Keeps the holes.
            let copied = Command::new("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .args([original, &disk])
                .status();
            match copied.context("cannot run cp")?.success() {
                true => Ok(disk),
                false => Err(Failure::new(
                    Exit::Internal,
                    anyhow!("{} cannot be copied", original.display()),
                )),
            }
        };
        let what = "the protected host, as it was installed";
        self.steps
            .step(what, || original.iter().map(copied).collect())
    }

    /// The host is enrolled, looks at itself, backs itself up and is captured.
    fn back_up(&mut self, disks: &[PathBuf]) -> Result<Inventory, Failure> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let settings = format!(
            "HOST={HOST}\nSERVER=https://{GUEST_SEES}:{}\nAGENT={}\n{}",
            self.server.port(),
            self.args.agent.name(),
            self.backups.variables
        );
        let files = vec![
            ("run", 0o755, protected::BACK_UP.into()),
            ("agent.sh", 0o644, self.backups.script.into()),
            ("inventory.sh", 0o755, protected::INVENTORY.into()),
            ("settings", 0o600, settings.into()),
            ("ca.pem", 0o644, read(&self.site.dir().join("ca/ca.pem"))?),
            ("towline", 0o755, read(&program)?),
        ];
        let own = self.backups.host.iter().cloned();
        let errand = Errand {
            firmware: self.args.firmware,
            efi_variables: &self.efi_variables(),
            disks,
            writes: Writes::Kept,
            memory_mib: self.args.memory,
            files: files.into_iter().chain(own).collect(),
            folder: &self.folder,
            name: "before",
        };
        let site = self.site.dir();
        let what = format!(
            "the host: it is enrolled, backs itself up with {}, and is captured",
            self.args.agent.name()
        );
        let results = self.steps.step(&what, || {
            errand.run(|said| {
                eprintln!("    | {}", printable(said));
                match said.strip_prefix("fingerprint ") {
                    None => Ok(()),
                    Some(fingerprint) => approve(site, fingerprint.trim()),
                }
            })
        })?;
        inventory(&results)
    }

    /// The firmware is the same before and after: what it keeps is not on the disk.
    fn efi_variables(&self) -> PathBuf {
        self.folder.join("efi-variables.fd")
    }

    /// The disks are gone, all of them; new ones, empty, are there.
    fn lose(&mut self, disks: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let lost = |disk: &PathBuf| {
            let name = disk.file_name().unwrap_or_default().to_string_lossy();
            let new = disk.with_file_name(format!("new-{name}"));
            let bytes = fs::metadata(disk).context("the host's disk")?.len();
            fs::remove_file(disk).context("cannot remove the host's disk")?;
            let made = fs::File::create(&new).and_then(|it| it.set_len(bytes));
            made.with_context(|| format!("cannot make {}", new.display()))?;
            Ok(new)
        };
        let what = match disks.len() {
            1 => "the host's disk is lost; a new one is empty".to_owned(),
            count => format!("the host's {count} disks are lost; new ones are empty"),
        };
        self.steps.step(&what, || disks.iter().map(lost).collect())
    }

    /// The operator puts what the agent needs where the recovery finds it, and opens the recovery.
    fn open_recovery(&mut self) -> Result<Opened, Failure> {
        let site = self.site.dir();
        let backups = &self.backups;
        self.steps.step(
            "the operator opens a recovery of the newest session",
            || {
                let folder = site.join("credentials").join(HOST);
                let more = backups.credentials.iter();
                let more = more.map(|(name, content)| (*name, content));
                for (name, content) in more.chain([("environment", &backups.variables)]) {
                    let path = folder.join(name);
                    write_secret(&path, content.as_bytes())
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    eprintln!("    # {} is there for the agent", path.display());
                }
                let command = arguments([
                    &"recovery",
                    &"open",
                    &HOST,
                    &"--unattended",
                    &"--then",
                    &"power-off",
                    &"--json",
                ]);
                let answer = steps::run(site, &command)?;
                let opened = serde_json::from_str(&answer);
                Ok(opened.context("the answer of towline recovery open")?)
            },
        )
    }

    /// The dead machine: the medium, the empty disks, and somebody who types the code.
    fn recover(&mut self, built: &Built, disks: &[PathBuf], code: &str) -> Outcome {
        let port = self.server.port();
        let medium = self.site.stamp(self.steps, &built.medium, port, None)?;
        machine::recover(
            self.steps,
            self.args,
            &Dead {
                medium: &medium,
                disks,
                efi_variables: &self.efi_variables(),
                code,
                log: &self.folder.join("recovery-console.log"),
            },
        )
    }

    /// The host starts from its new disks, reports in, and looks at itself.
    fn look(&mut self, disks: &[PathBuf]) -> Result<Inventory, Failure> {
        let errand = Errand {
            firmware: self.args.firmware,
            efi_variables: &self.efi_variables(),
            disks,
            writes: Writes::Kept,
            memory_mib: self.args.memory,
            files: vec![
                ("run", 0o755, protected::LOOK.into()),
                ("inventory.sh", 0o755, protected::INVENTORY.into()),
            ],
            folder: &self.folder,
            name: "after",
        };
        let what = "the host starts from its new disk, and reports in";
        let results = self.steps.step(what, || {
            errand.run(|said| {
                eprintln!("    | {}", printable(said));
                Ok(())
            })
        })?;
        inventory(&results)
    }

    /// The report, the comparison, the times.
    fn end(self, recovery: &str, before: &Inventory, after: &Inventory) -> Outcome {
        let report = steps::run(
            self.site.dir(),
            &arguments([&"recovery", &"show", &recovery]),
        )?;
        println!("\n{report}");
        // Status 1 says that the recovery did not end well.
        steps::run(
            self.site.dir(),
            &arguments([&"--quiet", &"recovery", &"watch", &recovery]),
        )?;
        let port = self.server.port();
        drop(self.server);
        self.backups.stop();
        let differences = before.differences(after, self.args.firmware);
        self.steps.summary();
        if differences.is_empty() {
            if !self.args.keep {
                let _ = fs::remove_dir_all(&self.folder);
            }
            self.site.leave(port);
            println!(
                "the host is back: {} files and folders are what they were before",
                before.len()
            );
            return Ok(());
        }
        for line in differences.iter().take(DIFFERENCES_SHOWN) {
            println!("  different: {line}");
        }
        Err(Failure::new(
            Exit::No,
            anyhow!(
                "{} of {} files and folders are not what they were before",
                differences.len(),
                before.len()
            ),
        )
        .next(format!("look at {}", self.folder.display())))
    }
}

/// The operator compares the fingerprint and approves.
fn approve(site: &Path, fingerprint: &str) -> Outcome {
    let command = arguments([&"host", &"approve", &HOST, &"--fingerprint", &fingerprint]);
    steps::run(site, &command).map(drop)
}

fn inventory(results: &Path) -> Result<Inventory, Failure> {
    let read = Inventory::read(results);
    Ok(read.with_context(|| format!("the inventory in {}", results.display()))?)
}

fn start_afresh(folder: &Path) -> Result<(), Failure> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    secret::folder(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(())
}
