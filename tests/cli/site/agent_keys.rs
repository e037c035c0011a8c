//! Keys in a running ssh-agent, as `ssh-keygen` makes them: they sign documents, and their public halves are named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use towline_contract::trust::TrustedRoot;

use super::World;
use super::keys::text;
use super::offline_keys::init;

/// A running `ssh-agent`; ended when dropped.
struct Agent {
    folder: tempfile::TempDir,
    process: std::process::Child,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(folder.path().join("socket"))
            // Whoever is asked says no.
            .env("SSH_ASKPASS", "/bin/false")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("ssh-agent runs");
        let agent = Self { folder, process };
        for _ in 0..200 {
            if agent.socket().exists() {
                return agent;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the agent listens nowhere");
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .env("SSH_AUTH_SOCK", self.socket())
            .current_dir(self.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// A new key of this type, which the agent has and no file; its public half.
    fn key(&self, name: &str, of: &[&str]) -> String {
        let quiet = ["-q", "-N", "", "-C", name, "-f", name, "-t"];
        let made = self.run("ssh-keygen", &[&quiet[..], of].concat());
        assert!(made.status.success(), "{made:?}");
        let added = self.run("ssh-add", &["-q", name]);
        assert!(added.status.success(), "{added:?}");
        fs::remove_file(self.folder.path().join(name)).expect("the agent alone has it");
        let public = self.folder.path().join(format!("{name}.pub"));
        text(&public).to_owned()
    }

    /// `SHA256:…`, as ssh shows it.
    fn print(&self, public: &str) -> String {
        let shown = self.run("ssh-keygen", &["-l", "-f", public]);
        let shown = String::from_utf8(shown.stdout).expect("UTF-8");
        shown.split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    fn towline(&self, folder: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_towline"))
            .args(arguments)
            .env("SSH_AUTH_SOCK", self.socket())
            .current_dir(folder)
            .output()
            .expect("towline runs")
    }

    /// Signs the document that waits with keys of the agent.
    fn sign(&self, world: &World, document: &str, keys: &[&str]) -> Output {
        let mut arguments = vec!["key", "sign", document, "--yes"];
        for key in keys {
            arguments.extend(["--key", key]);
        }
        self.towline(&world.site().join("to-sign"), &arguments)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_root_of_keys_in_an_ssh_agent_is_signed_by_ed25519_and_by_ecdsa() {
    let agent = Agent::start();
    let ed25519 = agent.key("officer-1", &["ed25519"]);
    let ecdsa = agent.key("officer-2", &["ecdsa", "-b", "256"]);
    let options = ["--root-key", &ed25519, "--root-key", &ecdsa];
    let folder = tempfile::tempdir().expect("a folder");
    let (world, _) = init(folder, &options, 1);
    let print = format!("ssh-agent:{}", agent.print(&ed25519));
    let signed = agent.sign(&world, "1.root.json", &[&print, "ssh-agent:officer-2"]);
    assert!(signed.status.success(), "{signed:?}");
    let (world, _) = init(world.folder, &options, 0);
    // As a machine reads it.
    let root = fs::read(world.site().join("store/metadata/1.root.json")).expect("a root");
    let root = TrustedRoot::from_stamp(&root).expect("a root that two keys signed");
    let types = root.document().roles["root"].keyids.iter();
    let types: Vec<_> = types
        .map(|id| root.document().keys[id].keytype.as_str())
        .collect();
    assert_eq!(types, ["ed25519", "ecdsa"]);

    // The keys sign at once where the agent is: forwarded, or on one's own machine.
    let renew = ["key", "rotate", "root", "--renew", "--key", &print];
    let one = agent.towline(&world.site(), &renew);
    let talk = String::from_utf8_lossy(&one.stderr).into_owned();
    assert!(talk.contains("2.root.json has 1 of 2 signatures"), "{talk}");
    let both = [&renew[..], &["--key", "ssh-agent:officer-2"]].concat();
    let done = agent.towline(&world.site(), &both);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_base_key_in_an_ssh_agent_takes_the_place_of_the_one_on_the_server() {
    let agent = Agent::start();
    let public = agent.key("base", &["ecdsa", "-b", "256"]);
    let world = World::new();
    let rotate = ["key", "rotate", "base", "--new-key", &public];
    world.refuses(&rotate, 1, &["2.base.json has 0 of 1 signatures"]);
    // As often as one likes: ECDSA's parts are of different lengths.
    for _ in 0..16 {
        let signed = agent.sign(&world, "2.base.json", &["ssh-agent:base"]);
        assert!(signed.status.success(), "{signed:?}");
    }
    world.succeeds(&rotate);
    assert!(!world.site().join("keys/base.key").exists());
}

#[test]
fn a_key_that_the_agent_does_not_have_or_will_not_use_is_said_by_name() {
    let agent = Agent::start();
    agent.key("same", &["ed25519"]);
    agent.key("rsa", &["rsa", "-b", "2048"]);
    fs::remove_file(agent.folder.path().join("same.pub")).expect("it goes");
    agent.key("same", &["ed25519"]);
    let only = agent.key("only", &["ed25519"]);
    let world = World::new();
    let rotate = ["key", "rotate", "base", "--new-key", &only];
    world.refuses(&rotate, 1, &["2.base.json has 0 of 1"]);
    let refused = |key: &str, exit: i32, part: &str| {
        let refused = agent.sign(&world, "2.base.json", &[key]);
        let talk = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(exit), "{talk}");
        assert!(talk.contains(part), "{part}: {talk}");
    };
    refused(
        "ssh-agent:nobody",
        2,
        "has no Ed25519 or ECDSA P-256 key nobody",
    );
    refused("ssh-agent:rsa", 2, "has no Ed25519 or ECDSA P-256 key rsa");
    refused("ssh-agent:same", 2, "has several keys same");
    let without = world.run(&[
        "key",
        "sign",
        "to-sign/2.base.json",
        "--yes",
        "--key",
        "ssh-agent:only",
    ]);
    let talk = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(talk.contains("SSH_AUTH_SOCK"), "{talk}");
    let path = world.site().join("to-sign/2.base.json");
    let before = fs::read(&path).expect("it waits");
    is_not_signed_without_a_word(&agent, &world, &path, &before);
}

/// A key that is added with `ssh-add -c` signs nothing without its owner's word.
fn is_not_signed_without_a_word(agent: &Agent, world: &World, path: &Path, before: &[u8]) {
    let quiet = [
        "-q", "-N", "", "-C", "asked", "-f", "asked", "-t", "ed25519",
    ];
    assert!(agent.run("ssh-keygen", &quiet).status.success());
    assert!(
        agent
            .run("ssh-add", &["-q", "-c", "asked"])
            .status
            .success()
    );
    let refused = agent.sign(world, "2.base.json", &["ssh-agent:asked"]);
    let talk = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{talk}");
    assert!(talk.contains("did not sign with the key"), "{talk}");
    assert_eq!(fs::read(path).expect("it waits"), before);
}
