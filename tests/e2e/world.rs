//! What every boot needs: layers and a medium, built once; a site of its own with a running server; a stamped medium.
//!
//! Everything goes through the released `towline` program (`make build`), as an operator's would.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use towline_machine::{Machine, Running, Start};

/// Longest from power-on to a line of stage 1, two machines running at a time on two cores.
pub(crate) const BOOT: Duration = Duration::from_secs(300);

/// Longest from stage 1's start to the rescue system.
pub(crate) const RESCUE: Duration = Duration::from_secs(600);

/// What the rescue system says when it has reported in.
pub(crate) const READY: &str = "towline: rescue system ready";

/// Layers and the unstamped medium.
pub(crate) struct Built {
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) medium: PathBuf,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo and the demonstration build.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where they are built.
pub(crate) fn built_in() -> PathBuf {
    target().join("demo")
}

/// The released program.
pub(crate) fn towline() -> PathBuf {
    let program = root().join("target/release/towline");
    assert!(
        program.exists(),
        "{} is missing: run make build",
        program.display()
    );
    program
}

/// Runs `towline` in `dir`; fails the test when it fails.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(towline())
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "towline {arguments:?}: {}\n{talk}",
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The layers and the medium, built by `towline demo --build-only` once for all tests and kept between runs.
pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = built_in();
        fs::create_dir_all(&dir).expect("target/demo");
        run(
            root(),
            &[
                "demo",
                "--build-only",
                "--dir",
                dir.to_str().expect("UTF-8"),
            ],
        );
        let layer = |name: &str| {
            let files = fs::read_dir(dir.join("layers").join(name)).expect("a built layer");
            let mut layers = files.map(|file| file.expect("entry").path());
            layers
                .find(|path| path.extension().is_some_and(|e| e == "layer"))
                .expect("one layer")
        };
        Built {
            layers: [
                "kernel-debian",
                "base-debian",
                "agent-restic",
                "host-example",
            ]
            .map(layer)
            .into(),
            medium: dir.join("medium/towline.iso"),
        }
    })
}

/// A site with its server.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    server: Mutex<Option<Child>>,
    /// Ports of HTTPS and plain HTTP.
    pub(crate) https: u16,
    pub(crate) http: u16,
}

impl Site {
    /// A site with these layers published, served on free ports.
    pub(crate) fn serving(layers: &[PathBuf]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("towline-e2e-")
            .tempdir()
            .expect("a folder");
        let (https, http) = (free_port(), free_port());
        let listen = format!("127.0.0.1:{https}");
        let dir = folder.path().join("site");
        let dir_text = dir.to_str().expect("UTF-8");
        run(
            folder.path(),
            &[
                "init",
                dir_text,
                "--server-name",
                "10.0.2.2",
                "--listen",
                &listen,
                "--plain-root-keys",
            ],
        );
        let config = dir.join("towline.toml");
        let text = fs::read_to_string(&config).expect("towline.toml");
        fs::write(
            &config,
            format!("http_listen = \"127.0.0.1:{http}\"\n{text}"),
        )
        .expect("towline.toml");
        let layers: Vec<&str> = layers
            .iter()
            .map(|layer| layer.to_str().expect("UTF-8"))
            .collect();
        run(&dir, &[&["publish"], layers.as_slice()].concat());
        let site = Self {
            folder,
            server: Mutex::new(None),
            https,
            http,
        };
        site.start();
        site
    }

    /// The site's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn start(&self) {
        let mut child = Command::new(towline())
            .arg("serve")
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("towline serve");
        let log = BufReader::new(child.stderr.take().expect("a log"));
        let (ready, wait) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("listening on https://") {
                    let _ = ready.send(());
                }
            }
        });
        wait.recv_timeout(Duration::from_secs(30))
            .expect("the server listens");
        *self.server.lock().expect("lock") = Some(child);
    }

    /// Kills the server as a power cut would.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.server.lock().expect("lock").take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// A copy of the medium, stamped for `servers` (base URLs as the machine sees them) and the example host.
    pub(crate) fn medium(&self, servers: &[String], more: &[&str]) -> PathBuf {
        self.medium_of("example", servers, more)
    }

    /// The same for another host.
    pub(crate) fn medium_of(&self, host: &str, servers: &[String], more: &[&str]) -> PathBuf {
        let image = self.folder.path().join("towline.iso");
        fs::copy(&built().medium, &image).expect("a copy of the medium");
        let mut arguments = vec!["media", "stamp", image.to_str().expect("UTF-8")];
        for server in servers {
            arguments.extend(["--server", server]);
        }
        arguments.extend([
            "--root",
            "store/metadata/1.root.json",
            "--ca",
            "ca/ca.pem",
            "--host",
            host,
        ]);
        arguments.extend(more);
        run(&self.dir(), &arguments);
        image
    }

    /// The medium, stamped for this site's HTTPS server.
    pub(crate) fn https_medium(&self) -> PathBuf {
        self.medium(&[format!("https://10.0.2.2:{}", self.https)], &[])
    }

    /// A machine with `image` in its CD drive; its console goes to the test's folder under target/.
    pub(crate) fn machine(&self, name: &str, image: PathBuf) -> Machine {
        let logs = root().join("target/e2e-consoles");
        fs::create_dir_all(&logs).expect("target/e2e-consoles");
        Machine::new(Start::Cd(image), logs.join(format!("{name}.log")))
    }

    /// Changes the configuration, which must change, and starts the server again with it.
    pub(crate) fn configure(&self, change: impl FnOnce(&str) -> String) {
        let config = self.dir().join("towline.toml");
        let text = fs::read_to_string(&config).expect("towline.toml");
        let changed = change(&text);
        assert_ne!(text, changed, "the configuration has what is to be changed");
        fs::write(&config, changed).expect("towline.toml");
        self.kill();
        self.start();
    }

    /// The events that the server received, as text.
    pub(crate) fn events(&self) -> String {
        fs::read_to_string(self.dir().join("state/events.jsonl")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the rescue system and checks its report: every layer's checks passed.
pub(crate) fn expect_rescue(machine: &mut Running, site: &Site) {
    machine.wait_for(READY, RESCUE).expect("the rescue system");
    let events = site.events();
    let report = events
        .lines()
        .rfind(|line| line.contains("rescue-ready"))
        .expect("a report");
    for layer in ["base/", "agent/restic/", "host/example/"] {
        assert!(report.contains(layer), "no check of {layer} in {report}");
    }
    assert!(!report.contains("\"passed\":false"), "{report}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
