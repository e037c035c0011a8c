//! The demonstration's protected host after its backup, and scenes in which a dead machine becomes that host again.
//!
//! `towline demo --keep` makes it all: the host's backups, the site that has its session, the medium. It is run once and used
//! again while the programs are the same. A scene works on copies, with servers of its own, so scenes do not meet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_machine::{Disk, Machine, MachineError, Running, Start, Writes};

use crate::service::{Service, free_port};

/// This machine, as QEMU's user network shows it to the guest.
pub const GUEST_SEES: &str = "10.0.2.2";

/// The host's name in the catalogue.
pub const HOST: &str = "alpha";

/// Longest from power-on to the question for the code.
pub const ASKED: Duration = Duration::from_secs(300);

/// Longest from the code to the end of the recovery.
pub const RECOVERY: Duration = Duration::from_secs(1800);

/// What stage 1 asks.
pub const ASKS_CODE: &str = "Recovery code";

/// What begins the report of a failure.
pub const FAILED: &str = "FAILED: ";

/// What the rescue system says last.
const RECOVERED: &str = "the host is recovered";

/// The host, backed up and captured.
pub struct Protected {
    towline: PathBuf,
    target: PathBuf,
    dir: PathBuf,
}

impl Protected {
    /// The host that `towline demo` leaves in `target/demo`, where `target` has the released programs as well.
    ///
    /// # Panics
    /// The programs are not built, or the demonstration fails.
    #[must_use]
    pub fn in_target(target: &Path) -> Self {
        let it = Self {
            towline: target.join("release/towline"),
            target: target.to_owned(),
            dir: target.join("demo"),
        };
        let (made_by, wanted) = (it.story().join("made-by"), it.programs().to_string());
        let same = fs::read_to_string(&made_by).is_ok_and(|text| text == wanted);
        // A demonstration that is interrupted removes the site first, then the story.
        if !same || !it.dir.join("site/towline.toml").exists() {
            fs::create_dir_all(&it.dir).expect("target/demo");
            let demo = Command::new(&it.towline)
                .args(["demo", "--keep", "--dir"])
                .arg(&it.dir)
                .output()
                .expect("towline runs");
            let talk = String::from_utf8_lossy(&demo.stderr);
            assert!(demo.status.success(), "towline demo: {talk}");
            fs::write(made_by, wanted).expect("the story's folder");
        }
        it
    }

    /// What the demonstration kept of its story: inventories, disks, backups.
    #[must_use]
    pub fn story(&self) -> PathBuf {
        self.dir.join("story")
    }

    /// Where the demonstration keeps what it makes.
    #[must_use]
    pub fn kept(&self) -> &Path {
        &self.dir
    }

    /// The recipe of one of the demonstration's layers.
    #[must_use]
    pub fn recipe(&self, name: &str) -> PathBuf {
        self.dir.join("recipes").join(format!("{name}.toml"))
    }

    /// Digest of the programs that made it.
    fn programs(&self) -> Digest {
        let stage1 = "x86_64-unknown-linux-gnu/stage1/towline-stage1";
        let mut hasher = Hasher::default();
        for program in [self.towline.clone(), self.target.join(stage1)] {
            let bytes = fs::read(&program)
                .unwrap_or_else(|error| panic!("{}: {error}: run make build", program.display()));
            hasher.update(Digest::of(&bytes).as_bytes());
        }
        hasher.finish()
    }

    /// A scene of its own, both of whose servers run; its consoles are named `name`.
    ///
    /// # Panics
    /// Something cannot be copied or started.
    #[must_use]
    pub fn scene(&self, name: &str) -> Scene {
        let folder = tempfile::Builder::new()
            .prefix("scene-")
            .tempdir_in(&self.target)
            .expect("a folder below target/");
        copy(&self.dir.join("site"), &folder.path().join("site"));
        copy(
            &self.story().join("backups"),
            &folder.path().join("backups"),
        );
        let mut scene = Scene {
            towline: self.towline.clone(),
            medium: folder.path().join("towline.iso"),
            consoles: self.target.join("e2e-consoles"),
            name: name.to_owned(),
            boots: AtomicU32::new(0),
            ports: [free_port(), free_port()],
            server: None,
            backups: None,
            folder,
        };
        fs::create_dir_all(&scene.consoles).expect("target/e2e-consoles");
        scene.tell_where_the_backups_are();
        scene.serve();
        scene.serve_backups();
        copy(&self.dir.join("medium/towline.iso"), &scene.medium);
        scene.stamp();
        scene
    }
}

/// A site, a backup server, a medium.
pub struct Scene {
    towline: PathBuf,
    medium: PathBuf,
    consoles: PathBuf,
    name: String,
    boots: AtomicU32,
    /// Of Towline's server and of the backup server.
    ports: [u16; 2],
    server: Option<Service>,
    backups: Option<Service>,
    folder: tempfile::TempDir,
}

/// What `towline recovery open --json` says.
#[derive(Deserialize)]
pub struct Opened {
    /// Its name.
    pub id: String,
    /// The code.
    pub code: String,
}

impl Scene {
    /// Where it happens; gone with the scene.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The site's folder.
    #[must_use]
    pub fn site(&self) -> PathBuf {
        self.folder().join("site")
    }

    /// The server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The backup server's port.
    #[must_use]
    pub fn backups_port(&self) -> u16 {
        self.ports[1]
    }

    /// Runs `towline` at the site; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn towline(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.towline)
            .args(arguments)
            .current_dir(self.site())
            .output()
            .expect("towline runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "towline {arguments:?}: {talk}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts Towline's server.
    pub fn serve(&mut self) {
        let mut command = Command::new(&self.towline);
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.ports[0])])
            .current_dir(self.site());
        self.server = Some(Service::start(&mut command, self.log("serve.log")));
    }

    /// Kills Towline's server.
    pub fn stop_serving(&mut self) {
        self.server = None;
    }

    /// Starts the backup server.
    pub fn serve_backups(&mut self) {
        let folder = self.folder().join("backups");
        let mut command = Command::new("rclone");
        command
            .args([
                "serve",
                "restic",
                "--cache-objects=false",
                "--config",
                "/dev/null",
            ])
            .args(["--addr", &format!("127.0.0.1:{}", self.ports[1])])
            .arg("--cert")
            .arg(folder.join("certificate.pem"))
            .arg("--key")
            .arg(folder.join("key.pem"))
            .arg(folder.join("repository"));
        self.backups = Some(Service::start(&mut command, self.log("rclone.log")));
    }

    /// Kills the backup server.
    pub fn stop_serving_backups(&mut self) {
        self.backups = None;
    }

    /// Opens a recovery of the host, for a machine that switches itself off at the end.
    ///
    /// # Panics
    /// It is refused.
    pub fn open(&self, more: &[&str]) -> Opened {
        let words = ["recovery", "open", HOST, "--then", "power-off", "--json"];
        let answer = self.towline(&[words.as_slice(), more].concat());
        serde_json::from_str(&answer).expect("JSON of recovery open")
    }

    /// `towline recovery show --json`.
    ///
    /// # Panics
    /// There is no such recovery.
    pub fn shown(&self, id: &str) -> serde_json::Value {
        let shown = self.towline(&["recovery", "show", id, "--json"]);
        serde_json::from_str(&shown).expect("JSON of recovery show")
    }

    /// An empty disk, sparse.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn disk(&self, name: &str, gib: u64) -> PathBuf {
        let path = self.folder().join(name);
        let made = File::create(&path).and_then(|file| file.set_len(gib << 30));
        made.expect("a disk");
        path
    }

    /// A machine with the medium and this disk.
    pub fn machine(&self, disk: &Path) -> Machine {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed) + 1;
        let log = self.consoles.join(format!("{}-{boot}.log", self.name));
        Machine {
            disk_gib: None,
            disks: vec![Disk {
                file: disk.to_owned(),
                writes: Writes::Kept,
            }],
            ..Machine::new(Start::Cd(self.medium.clone()), log)
        }
    }

    fn tell_where_the_backups_are(&self) {
        let path = self
            .site()
            .join("credentials")
            .join(HOST)
            .join("environment");
        let text = fs::read_to_string(&path).expect("the host's credentials");
        let here = format!(
            "RESTIC_REPOSITORY=rest:https://{GUEST_SEES}:{}/",
            self.ports[1]
        );
        let lines = text
            .lines()
            .map(|line| match line.starts_with("RESTIC_REPOSITORY=") {
                true => here.clone() + "\n",
                false => format!("{line}\n"),
            });
        // Its mode stays.
        fs::write(&path, lines.collect::<String>()).expect("the host's credentials");
    }

    fn stamp(&self) {
        let server = format!("https://{GUEST_SEES}:{}", self.ports[0]);
        let medium = self.medium.to_str().expect("UTF-8");
        let files = ["--root", "store/metadata/1.root.json", "--ca", "ca/ca.pem"];
        self.towline(
            &[
                &["media", "stamp", medium, "--server", &server],
                files.as_slice(),
            ]
            .concat(),
        );
    }

    fn log(&self, name: &str) -> File {
        let path = self.folder().join(name);
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("a log")
    }
}

/// Starts the machine and waits until it asks for a code.
///
/// # Errors
/// It does not.
pub fn asked(machine: &Machine) -> Result<Running, MachineError> {
    let mut running = machine.start()?;
    running.wait_for(ASKS_CODE, ASKED)?;
    Ok(running)
}

/// Starts the machine and types the code.
///
/// # Errors
/// It does not ask for one.
pub fn code_typed(machine: &Machine, code: &str) -> Result<Running, MachineError> {
    let mut running = asked(machine)?;
    running.send(&format!("{code}\n"))?;
    Ok(running)
}

/// Waits until the host is recovered and the machine off.
///
/// # Errors
/// What it says instead.
pub fn recovered(running: &mut Running) -> Result<(), String> {
    recovered_within(running, RECOVERY)
}

/// The same with another deadline.
///
/// # Errors
/// What it says instead.
pub fn recovered_within(running: &mut Running, limit: Duration) -> Result<(), String> {
    let failed = |line: &str| line.contains(FAILED);
    match running.wait_until("that it is off", limit, failed) {
        Ok(line) => Err(line),
        Err(MachineError::WentOff { .. })
            if running.seen().iter().any(|line| line.contains(RECOVERED)) =>
        {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Copies a file or a folder with all that is known of it, holes included.
///
/// # Panics
/// It cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always", "--reflink=auto"])
        .args([from, to])
        .status();
    assert!(
        copied.expect("cp").success(),
        "{} cannot be copied",
        from.display()
    );
}
