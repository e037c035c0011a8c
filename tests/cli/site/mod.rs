//! `towline init`, `publish`, `catalogue`, `host`, `session` and `serve` as an operator runs them; curl and openssl are the
//! clients.

mod agent_keys;
mod doctor;
mod follows;
mod hosts;
mod keys;
mod offline_keys;
mod policy;
mod publishing;
mod recoveries;
mod released;
mod serving;
mod tracked;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::seal::SealTo;
use towline_harness::layer::{Layer, layer, noise};

/// A folder with a site in it.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// A new site for the names by which the tests reach it, on a free port.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let names = ["--server-name", "localhost", "--server-name", "127.0.0.1"];
        let listen = ["--listen", "127.0.0.1:0"];
        let output = towline(
            folder.path(),
            &[&["init", "site"], &names[..], &listen].concat(),
        );
        assert!(output.status.success(), "{output:?}");
        Self { folder }
    }

    fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// Runs `towline` in the site's folder.
    fn run(&self, arguments: &[&str]) -> Output {
        towline(&self.site(), arguments)
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], exit: i32, says: &[&str]) {
        let output = self.run(arguments);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {talk}");
        for part in says {
            assert!(talk.contains(part), "{part:?} is not in: {talk}");
        }
    }

    /// Writes the layer and its manifest as `towline layer build` does; returns the layer's path.
    fn written(&self, name: &str, layer: &Layer) -> String {
        let path = self.folder.path().join(format!("{name}.layer"));
        fs::write(&path, &layer.stored).expect("a layer");
        fs::write(
            path.with_extension("manifest.json"),
            layer.manifest.to_bytes(),
        )
        .expect("a manifest");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn timestamp(&self) -> Vec<u8> {
        fs::read(self.site().join("store/metadata/timestamp.json")).expect("a timestamp")
    }
}

fn towline(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("towline runs")
}

fn host() -> Layer {
    let files = [("etc/hostname", 0o644, &b"example\n"[..])];
    layer(Kind::Host, "example", Compression::Zstd, &files)
}

/// Layers that make a chain, with a base of several chunks.
fn chain() -> [Layer; 3] {
    let big = noise(7, 3 << 20);
    [
        layer(
            Kind::Kernel,
            "debian",
            Compression::None,
            &[("boot/vmlinuz", 0o644, b"kernel")],
        ),
        layer(
            Kind::Base,
            "debian",
            Compression::Zstd,
            &[("usr/bin/big", 0o755, &big)],
        ),
        host(),
    ]
}

/// A running `towline serve`; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    log: Mutex<mpsc::Receiver<String>>,
    ca: PathBuf,
    /// What its plans named last.
    seal_to: Mutex<Option<SealTo>>,
}

impl Server {
    fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    /// With these variables in its environment.
    fn start_with(world: &World, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_towline"))
            .arg("serve")
            .envs(variables.iter().copied())
            .current_dir(world.site())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("towline runs");
        let lines = BufReader::new(child.stderr.take().expect("a log")).lines();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let ca = world.site().join("ca/ca.pem");
        let mut server = Self {
            child,
            port: 0,
            log: Mutex::new(log),
            ca,
            seal_to: Mutex::default(),
        };
        let line = server.line("listening on https://127.0.0.1:");
        server.port = line
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        server
    }

    /// The next line of the log that has `part`.
    fn line(&self, part: &str) -> String {
        self.line_within(Duration::from_secs(20), part)
    }

    /// The same, of what takes longer.
    fn line_within(&self, most: Duration, part: &str) -> String {
        let deadline = Instant::now() + most;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.lock().expect("no panic").recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("the server's log has no {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// What curl says of `path`; it trusts the site's authority alone.
    fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "20"])
            .args(["--header", "Expect:", "--cacert"])
            .arg(&self.ca)
            .args(arguments)
            .arg(self.url(path))
            .output()
            .expect("curl runs");
        assert!(output.status.success(), "{output:?}");
        Answer::of(&output.stdout)
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.curl(path, &["--data-binary", body])
    }

    /// Asks it to end as systemd does.
    fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.expect("an answer has a head") + 4);
        let head = String::from_utf8_lossy(head).to_lowercase();
        Self {
            status: head[9..12].parse().expect("a status"),
            head,
            body: body.to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| -> bool { line.starts_with(&format!("{name}: ")) };
        let line = self.head.lines().find(|found| line(found))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    /// The message of a refusal, with its next step.
    fn refusal(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).expect("a refusal is JSON");
        format!("{} | {}", body["message"], body["next"])
    }
}
