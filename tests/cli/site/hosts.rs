//! Hosts enrol, are approved, describe themselves after each backup, and speak for nobody else.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use towline_contract::Timestamp;
use towline_contract::api::{NEW_SESSION_BYTES_MAX, NewSession, sessions_path};
use towline_contract::manifest::{Compression, Kind};
use towline_contract::session::{Backup, Hardware, Session};
use towline_contract::trust::metadata::{TargetFile, Targets};
use towline_contract::trust::{SigningKey, next_sessions, sign};
use towline_harness::layer::{File, layer, noise};

use super::serving::request;
use super::{Answer, Server, World, chain, towline};

const LAYOUT: &str = include_str!("../../../initramfs/recipes/host-example/disklayout.conf");

/// A protected host: its settings and spool, and what ReaR described.
struct Host<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Host<'a> {
    fn new(world: &'a World) -> Self {
        let folder = world.folder.path().join("host");
        for (name, text) in [
            ("etc/rear/os.conf", "OS_VENDOR=Debian\n"),
            ("etc/rear/local.conf", "OUTPUT=ISO\n"),
            ("var/lib/rear/layout/disklayout.conf", LAYOUT),
            ("var/lib/rear/layout/lvm/vg0.cfg", "vg0 {}\n"),
            ("var/lib/rear/layout/xfs/vg0-data.xfs", "meta-data=\n"),
            ("var/lib/rear/recovery/bootloader", "GRUB\n"),
        ] {
            let path = folder.join("rear").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { world, folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let homes = ["--config-dir", "etc", "--state-dir", "state"];
        towline(&self.folder, &[arguments, &homes].concat())
    }

    /// Enrols as web1; gives the fingerprint.
    fn enrol(&self, server: &Server) -> String {
        let ca = self.world.site().join("ca/ca.pem");
        let ca = ca.to_str().unwrap();
        let url = server.url("");
        let enrol = [
            "host", "enrol", &url, "--host", "web1", "--ca", ca, "--json",
        ];
        let output = self.run(&enrol);
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        said["fingerprint"].as_str().unwrap().to_owned()
    }

    /// Captures after the agent's backup of that name.
    fn capture(&self, session: &str) -> Output {
        // A session's name is the second of its capture.
        std::thread::sleep(Duration::from_millis(1100));
        let agent = ["--agent", "restic", "--agent-version", "0.14.0"];
        let capture = ["capture", "--session", session, "--from", "rear"];
        self.run(&[&capture[..], &agent].concat())
    }

    #[track_caller]
    fn captures(&self, session: &str) {
        let output = self.capture(session);
        assert!(output.status.success(), "{output:?}");
    }
}

/// The agent's names of web1's sessions, newest first.
fn backups(world: &World) -> Vec<String> {
    let list = world.succeeds(&["session", "list", "web1", "--json"]);
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let name = |row: &Value| {
        row["session"]["backup"]["session"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    list.iter().map(name).collect()
}

/// Versions of web1's sessions, newest first.
fn versions(world: &World) -> Vec<String> {
    let list = world.succeeds(&["session", "list", "web1", "--json"]);
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let version = |row: &Value| row["version"].as_str().unwrap().to_owned();
    list.iter().map(version).collect()
}

#[test]
fn a_host_enrols_is_approved_and_adds_a_session_after_each_backup() {
    let world = World::new();
    let paths = chain()
        .each_ref()
        .map(|it| world.written(it.manifest.kind.as_str(), it));
    world.succeeds(&["publish", &paths[0], &paths[1], &paths[2]]);
    let server = Server::start(&world);
    let host = Host::new(&world);
    let fingerprint = host.enrol(&server);
    assert_eq!(
        host.enrol(&server),
        fingerprint,
        "enrolling again changes nothing"
    );
    let listed = world.succeeds(&["host", "list"]);
    assert!(
        listed.contains("waiting") && listed.contains(&fingerprint),
        "{listed}"
    );
    let record = world.site().join("state/hosts/web1.json");
    let mode = fs::metadata(record).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let early = host.capture("first");
    assert_eq!(early.status.code(), Some(5), "{early:?}");
    let talk = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(talk.contains("host approve web1"), "{talk}");
    assert!(host.folder.join("state/spool").read_dir().unwrap().count() > 0);

    let approved = ["host", "approve", "web1", "--fingerprint", &fingerprint];
    assert_eq!(world.succeeds(&approved).trim(), "approved web1");
    assert_eq!(world.succeeds(&approved).trim(), "unchanged web1");
    let retried = host.run(&["capture", "--retry"]);
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(backups(&world), ["first"]);
    host.captures("second");
    assert_eq!(backups(&world), ["second", "first"]);
    assert_eq!(
        host.folder.join("state/spool").read_dir().unwrap().count(),
        0
    );

    let version = &versions(&world)[0];
    let shown = world.succeeds(&["session", "show", "web1", version]);
    for part in [
        "restic 0.14.0, session second",
        "the host itself",
        "/dev/sda, 10737418240",
    ] {
        assert!(shown.contains(part), "{part:?} is not in: {shown}");
    }
    let shown = world.succeeds(&["host", "show", "web1", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["sessions"], &shown["state"]),
        (&json!(2), &json!("approved"))
    );
    assert_eq!(&shown["newest"]["version"], version);

    // A machine that is to become web1 boots the newest session.
    let plan = server.post("/v1/plan", &request("web1"));
    assert_eq!(plan.status, 200, "{plan:?}");
    let plan: Value = serde_json::from_slice(&plan.body).unwrap();
    let target = &plan["signed"]["chain"][2]["target"];
    assert_eq!(*target, json!(format!("host/web1/{version}/all")));
    assert_eq!(
        server.curl("/v1/metadata/2.host-web1.json", &[]).status,
        200
    );
    let operators = server.post("/v1/plan", &request("example"));
    assert_eq!(operators.status, 200, "{operators:?}");
}

#[test]
fn a_session_that_is_refused_is_put_aside_and_neither_sent_again_nor_in_the_way() {
    let world = World::new();
    let server = Server::start(&world);
    let host = Host::new(&world);
    let fingerprint = host.enrol(&server);
    host.capture("first");
    // The layer of the first one rots on the host's disk.
    let spool = host.folder.join("state/spool");
    // Of ten sessions that were put aside before, the oldest go.
    let refused = spool.join("refused");
    fs::create_dir(&refused).unwrap();
    for file in files(&spool) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&file).unwrap();
        for number in 0..10 {
            let mut bytes = bytes.clone();
            if name.ends_with(".json") {
                let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
                manifest["version"] = format!("19990101t00000{number}z").into();
                bytes = manifest.to_string().into_bytes();
            }
            fs::write(refused.join(format!("{number}-{name}")), bytes).unwrap();
        }
    }
    let files_now = files(&spool).into_iter();
    let rotten = files_now.filter(|it| it.extension().is_some_and(|it| it == "layer"));
    let rotten = rotten.collect::<Vec<_>>().pop().unwrap();
    let mut bytes = fs::read(&rotten).unwrap();
    bytes[100] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    world.succeeds(&["host", "approve", "web1", "--fingerprint", &fingerprint]);
    let output = host.capture("second");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("the layer has SHA-256"), "{talk}");
    assert_eq!(backups(&world), ["second"]);
    let aside = spool.join("refused").join(rotten.file_name().unwrap());
    assert!(aside.exists() && files(&spool).is_empty());
    assert_eq!(files(&spool.join("refused")).len(), 2 * 8);
    let output = host.run(&["capture", "--retry"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = folder.read_dir().unwrap().map(|it| it.unwrap().path());
    entries.filter(|it| it.is_file()).collect()
}

#[test]
fn a_wrong_fingerprint_or_none_approves_nobody() {
    let world = World::new();
    let server = Server::start(&world);
    let fingerprint = Host::new(&world).enrol(&server);
    let before = world.timestamp();
    let wrong = "0000-0000-0000-0000";
    world.refuses(
        &["host", "approve", "web1", "--fingerprint", wrong],
        3,
        &[wrong, &fingerprint, "host forget web1"],
    );
    world.refuses(&["host", "approve", "web1"], 2, &["--fingerprint"]);
    world.refuses(&["host", "approve", "web2"], 1, &["host list"]);
    assert_eq!(world.timestamp(), before);

    world.succeeds(&["host", "forget", "web1"]);
    world.refuses(&["host", "show", "web1"], 1, &["web1"]);
    assert_eq!(server.curl("/v1/hosts/web1", &[]).status, 404);
}

#[test]
fn sessions_go_by_the_rules_but_for_those_that_are_kept_by_hand() {
    let world = World::new();
    let path = world.site().join("towline.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("[retention]").unwrap();
    let rules = "[retention]\nkeep_last = 1\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\n";
    fs::write(&path, format!("{before}{rules}")).unwrap();
    let server = Server::start(&world);
    let host = Host::new(&world);
    let fingerprint = host.enrol(&server);
    world.succeeds(&["host", "approve", "web1", "--fingerprint", &fingerprint]);

    for session in ["a", "b", "c"] {
        host.captures(session);
    }
    assert_eq!(backups(&world), ["c", "b"]);
    let b = &versions(&world)[1];
    world.refuses(
        &["session", "retain", "web1", "19990101t000000z"],
        1,
        &["session list web1"],
    );
    assert_eq!(
        world.succeeds(&["session", "retain", "web1", b]).trim(),
        format!("kept {b}")
    );
    host.captures("d");
    host.captures("e");
    assert_eq!(backups(&world), ["e", "d", "b"]);
    world.succeeds(&["session", "retain", "web1", b, "--release"]);
    host.captures("f");
    assert_eq!(backups(&world), ["f", "e"]);
}

/// A host that is played by the test, so that it can lie.
struct Liar {
    key: SigningKey,
    list: Targets,
}

impl Liar {
    fn new(seed: u8) -> Self {
        Self {
            key: SigningKey::generate([seed; 32]),
            list: next_sessions(None),
        }
    }

    /// Asks to be known under this name.
    fn enrol(&self, server: &Server, host: &str) -> Answer {
        let machine = json!({"macs": [], "memory_kib": 1_048_576, "uefi": false});
        let key = self.key.public();
        let enrolment = json!({"host": host, "hostname": host, "key": key, "machine": machine});
        server.post("/v1/hosts", &enrolment.to_string())
    }

    fn fingerprint(&self) -> String {
        self.key.public().id().fingerprint()
    }

    /// A signed session of `host`, with these files.
    fn session(&mut self, host: &str, version: &str, files: &[File<'_>]) -> String {
        let mut layer = layer(Kind::Host, host, Compression::Zstd, files);
        layer.manifest.version = version.into();
        layer.manifest.session = Some(session());
        let manifest = layer.manifest.to_bytes();
        let file = TargetFile::of_layer(&layer.manifest, &manifest);
        self.list.targets.insert(layer.manifest.target_name(), file);
        let signed = sign(&self.list, &[&self.key]).unwrap();
        let body = NewSession {
            sessions: String::from_utf8(signed).unwrap(),
            manifest: String::from_utf8(manifest).unwrap(),
            layer: BASE64.encode(&layer.stored),
        };
        serde_json::to_string(&body).unwrap()
    }
}

fn session() -> Session {
    let time = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    Session {
        time,
        captured: time,
        hostname: "web1".into(),
        backup: Backup {
            agent: "restic".into(),
            version: "0.14.0".into(),
            session: "4bba301e".into(),
            bytes: None,
        },
        rear: "2.7".into(),
        hardware: Hardware {
            architecture: "amd64".into(),
            uefi: false,
            secure_boot: false,
            memory_kib: 1 << 20,
            pci: vec![],
            modules: vec![],
            disks: vec![],
            boot_loaders: vec![],
        },
    }
}

const FILES: &[File<'static>] = &[("etc/hostname", 0o644, b"web1\n")];

/// Sends a session from a file, as it may be large.
fn send(world: &World, server: &Server, host: &str, body: &str) -> Answer {
    let path = world.folder.path().join("body");
    fs::write(&path, body).unwrap();
    server.post(&sessions_path(host), &format!("@{}", path.display()))
}

#[test]
fn a_host_speaks_for_itself_alone_and_cannot_take_back_what_it_said() {
    let world = World::new();
    let server = Server::start(&world);
    let (mut web1, mut web2) = (Liar::new(1), Liar::new(2));
    for (liar, host) in [(&web1, "web1"), (&web2, "web2")] {
        assert_eq!(liar.enrol(&server, host).status, 200);
        world.succeeds(&[
            "host",
            "approve",
            host,
            "--fingerprint",
            &liar.fingerprint(),
        ]);
    }
    let first = web1.session("web1", "s1", FILES);
    assert_eq!(send(&world, &server, "web1", &first).status, 201);
    assert_eq!(
        send(&world, &server, "web1", &first).status,
        201,
        "the same again"
    );
    web1.list = next_sessions(Some(web1.list));
    let second = web1.session("web1", "s2", FILES);
    assert_eq!(send(&world, &server, "web1", &second).status, 201);

    let before = world.timestamp();
    web2.list = next_sessions(Some(web1.list.clone()));
    let forged = web2.session("web1", "s3", FILES);
    for (host, body, status, says) in [
        ("web1", &forged, 403, "0 of 1 required signatures"),
        ("web2", &forged, 403, "host layers of its own only"),
        ("web1", &first, 409, "is version 1, but 3 is required"),
    ] {
        let answer = send(&world, &server, host, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.refusal().contains(says), "{answer:?}");
    }
    // Nor does it get another one's name.
    let answer = web2.enrol(&server, "web1");
    assert_eq!(answer.status, 409);
    for liar in [&web1, &web2] {
        assert!(answer.refusal().contains(&liar.fingerprint()), "{answer:?}");
    }
    assert_eq!(world.timestamp(), before);
    assert_eq!(versions(&world), ["s2", "s1"]);
}

#[test]
fn a_program_in_a_hosts_layer_is_refused_by_its_name() {
    let world = World::new();
    let server = Server::start(&world);
    let mut web1 = Liar::new(1);
    web1.enrol(&server, "web1");
    world.succeeds(&[
        "host",
        "approve",
        "web1",
        "--fingerprint",
        &web1.fingerprint(),
    ]);
    let before = world.timestamp();
    let files: &[File<'_>] = &[FILES[0], ("usr/bin/bash", 0o755, b"#!")];
    let evil = web1.session("web1", "s1", files);
    let answer = send(&world, &server, "web1", &evil);
    assert_eq!(answer.status, 400);
    assert!(answer.refusal().contains("usr/bin"), "{answer:?}");
    assert_eq!(world.timestamp(), before);
    assert!(
        world
            .site()
            .join("store/layers")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn megabytes_of_strangers_are_not_received() {
    let world = World::new();
    let server = Server::start(&world);
    let mut web1 = Liar::new(1);
    let noise = noise(7, NEW_SESSION_BYTES_MAX);
    let large = web1.session("web1", "s1", &[("etc/rear/local.conf", 0o644, &noise)]);
    let unknown = send(&world, &server, "web1", &large);
    assert_eq!(unknown.status, 404, "{unknown:?}");
    web1.enrol(&server, "web1");
    let waiting = send(&world, &server, "web1", &large);
    assert_eq!(waiting.status, 409, "{waiting:?}");
    assert!(
        waiting.refusal().contains(&web1.fingerprint()),
        "{waiting:?}"
    );
    world.succeeds(&[
        "host",
        "approve",
        "web1",
        "--fingerprint",
        &web1.fingerprint(),
    ]);
    let too_large = send(&world, &server, "web1", &large);
    assert_eq!(too_large.status, 413, "{too_large:?}");

    let mut enrolment = json!({"host": "web2", "hostname": "web2", "key": web1.key.public()});
    enrolment["machine"] = json!({"macs": ["x".repeat(20_000)], "memory_kib": 1, "uefi": false});
    let body = enrolment.to_string();
    assert_eq!(server.post("/v1/hosts", &body).status, 413);
    assert_eq!(server.post("/v1/hosts", "{}").status, 400);
}

#[test]
fn what_a_host_says_of_itself_does_not_drive_the_operators_terminal() {
    let world = World::new();
    let server = Server::start(&world);
    let key = SigningKey::generate([1; 32]).public();
    let machine =
        json!({"macs": [], "model": "a\u{1b}[2J\nstate approved", "memory_kib": 1, "uefi": false});
    let enrolment =
        json!({"host": "web1", "hostname": "x\u{1b}]0;", "key": key, "machine": machine});
    assert_eq!(server.post("/v1/hosts", &enrolment.to_string()).status, 200);
    let shown = world.succeeds(&["host", "show", "web1"]);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(
        !shown.lines().any(|line| line.starts_with("state approved")),
        "{shown}"
    );
}

#[test]
fn a_stolen_host_key_is_revoked_and_the_host_goes_on_with_a_new_one() {
    let world = World::new();
    let server = Server::start(&world);
    let host = Host::new(&world);
    let old = host.enrol(&server);
    world.succeeds(&["host", "approve", "web1", "--fingerprint", &old]);
    host.captures("one");
    let said = world.succeeds(&["host", "revoke", "web1"]);
    assert_eq!(
        said,
        "revoked the key of web1; its sessions can be recovered\n"
    );
    assert!(
        world
            .succeeds(&["host", "list"])
            .contains("web1                     revoked")
    );
    let refused = host.capture("by the thief");
    let talk = String::from_utf8_lossy(&refused.stderr);
    assert!(
        talk.contains("the key of host web1 was revoked at"),
        "{talk}"
    );
    assert_eq!(backups(&world), ["one"]);

    // What the thief's copy captured is not what the host sends later.
    fs::remove_dir_all(host.folder.join("state")).unwrap();
    fs::remove_file(host.folder.join("etc/host.key")).unwrap();
    let new = host.enrol(&server);
    assert_ne!(new, old);
    world.refuses(
        &["host", "approve", "web1", "--fingerprint", &old],
        3,
        &[&new],
    );
    world.succeeds(&["host", "approve", "web1", "--fingerprint", &new]);
    assert_eq!(backups(&world), ["one"], "still recoverable");
    host.captures("two");
    host.captures("three");
    assert_eq!(backups(&world), ["three", "two", "one"]);
    let said = world.succeeds(&["host", "revoke", "web1", "--sessions", "drop"]);
    assert_eq!(said, "revoked the key of web1; its sessions are gone\n");
    world.refuses(&["host", "show", "web1"], 1, &["no host called \"web1\""]);
}
