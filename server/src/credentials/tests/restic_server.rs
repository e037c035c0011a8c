//! A restic REST server that asks for client certificates, as an operator would run it: `rclone serve restic --client-ca`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::site::offset;
use crate::tls;

/// A server for the repository in a folder; ends when dropped.
struct Server {
    child: Child,
    address: String,
    authority: PathBuf,
    repository: PathBuf,
    log: Receiver<String>,
}

impl Server {
    /// A server that lets in whom the site's client authority has signed.
    fn start(site: &Path, folder: &Path) -> Self {
        let authority = site.join("ca/ca.pem");
        let names = ["127.0.0.1".to_owned()];
        let now = offset(Timestamp::now());
        let (certificate, key) = tls::server_files(&site.join("ca"), &names, now).unwrap();
        let file = |name: &str| folder.join(name);
        fs::write(file("certificate.pem"), certificate).unwrap();
        fs::write(file("key.pem"), key.as_bytes()).unwrap();
        let mut child = Command::new("rclone")
            .args(["serve", "restic", "--cache-objects=false"])
            .args(["--config", "/dev/null", "--addr", "127.0.0.1:0", "--cert"])
            .args([file("certificate.pem"), "--key".into(), file("key.pem")])
            .arg("--client-ca")
            .arg(site.join("ca/client-ca.pem"))
            .arg(file("repository"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rclone runs (tests/install-tools)");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            child,
            address: String::new(),
            authority,
            repository: file("repository"),
            log: lines,
        };
        let line = server.says(" on https://");
        let (_, address) = line.split_once(" on https://").unwrap();
        server.address = address.trim_end_matches('/').to_owned();
        server
    }

    /// The next line of its log that has `text`.
    fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("the server does not say {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// What `restic` with this client certificate, or without one, makes of `words`.
    fn restic(&self, client: Option<&Path>, words: &[&str]) -> Output {
        let mut command = Command::new("restic");
        command
            .env(
                "RESTIC_REPOSITORY",
                format!("rest:https://{}/", self.address),
            )
            .env("RESTIC_PASSWORD", "only-a-test")
            .args(["--no-cache", "--cacert"])
            .arg(&self.authority);
        if let Some(client) = client {
            command.arg("--tls-client-cert").arg(client);
        }
        let output = command.args(words).output();
        output.expect("restic runs (tests/install-tools)")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client certificate of a boot at `now`, in a file as on the machine.
fn boot(world: &World, now: Timestamp, file: &Path) {
    let made = make(&world.site, WANTED, now).unwrap();
    let files = unpacked(&made);
    let found = files.into_iter().find(|(name, _)| name == CLIENT_FILE);
    fs::write(file, found.unwrap().1).unwrap();
}

#[test]
fn a_restic_server_lets_in_todays_boot_and_not_yesterdays_nor_anybodys() {
    let world = World::new();
    let folder = world.folder.path();
    let server = Server::start(&world.dir(), folder);
    let now = Timestamp::now();
    let [today, yesterday, stranger] =
        ["today.pem", "yesterday.pem", "stranger.pem"].map(|it| folder.join(it));
    boot(&world, now, &today);
    boot(&world, now - SignedDuration::from_hours(24), &yesterday);
    boot(&World::new(), now, &stranger);

    for words in [
        &["init"][..],
        &["--quiet", "backup", "/etc/hostname"],
        &["--no-lock", "snapshots"],
    ] {
        let output = server.restic(Some(&today), words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    assert!(server.repository.join("config").exists());
    // What its client sees depends on who is faster; the server knows why.
    for (client, why) in [
        (Some(&*yesterday), "expired"),
        (Some(&*stranger), "unknown authority"),
        (None, "didn't provide a certificate"),
    ] {
        let output = server.restic(client, &["--no-lock", "snapshots"]);
        assert!(!output.status.success(), "{client:?}: {output:?}");
        // It may try again, and be refused again.
        let said = server.says(why);
        assert!(said.contains("TLS handshake error"), "{client:?}: {said}");
    }
}
