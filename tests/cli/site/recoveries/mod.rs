//! A recovery as an operator and a machine see it: opened, its code used, followed, closed; and who is refused.

mod codes;
mod first_boots;
mod following;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towline_contract::manifest::{Compression, Kind};
use towline_contract::newc::{Decoder, Item};
use towline_contract::recovery::Order;
use towline_contract::seal::{SealKey, SealTo, Sealed};
use towline_contract::session::Session;
use towline_contract::trust::{
    Asked, Chain, Credentials, EventSigner, ExpiryPolicy, FreshNonce, SigningKey, Verified,
};
use towline_contract::{Digest, Timestamp};
use towline_harness::layer::{Layer, layer};
use towline_server::{Site, catalogue};
use zeroize::Zeroizing;

use super::{Answer, Server, World, chain};

pub(super) const HOST: &str = "web1";

/// A session of an amd64 host by restic, an hour old.
fn session(id: &str, hours_ago: i64) -> Session {
    let now = Timestamp::now().as_second();
    let time = Timestamp::from_second(now - 3600 * hours_ago).expect("a time");
    let session = json!({
        "time": time, "captured": time, "hostname": HOST, "rear": "2.7",
        "backup": {"agent": "restic", "version": "0.14.0", "session": id},
        "hardware": {"architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 1048576,
            "pci": [], "modules": [], "disks": [], "boot_loaders": []},
    });
    serde_json::from_value(session).expect("a session")
}

pub(super) fn host(version: &str, id: &str, hours_ago: i64) -> Layer {
    let name = format!("{HOST} {version}\n");
    let files = [("etc/hostname", 0o644, name.as_bytes())];
    let mut host = layer(Kind::Host, HOST, Compression::Zstd, &files);
    host.manifest.version = version.into();
    host.manifest.session = Some(session(id, hours_ago));
    host
}

pub(super) fn agent() -> Layer {
    let files = [("usr/bin/restic", 0o755, b"restic".as_slice())];
    let mut agent = layer(Kind::Agent, "restic", Compression::Zstd, &files);
    let restore = json!({"restore": ["restic", "restore", "{session}"]});
    agent.manifest.agent = Some(serde_json::from_value(restore).expect("an agent"));
    agent
}

/// A site whose catalogue has two sessions of a host, and all that its recovery needs.
pub(super) fn world() -> World {
    let world = World::new();
    let [kernel, base, _] = chain();
    let layers = [
        ("kernel", kernel),
        ("base", base),
        ("agent", agent()),
        ("s1", host("s1", "aaaa1111", 30)),
        ("s2", host("s2", "bbbb2222", 2)),
    ];
    let paths: Vec<_> = layers
        .iter()
        .map(|(name, layer)| world.written(name, layer))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    world.succeeds(&[&["publish"], &paths[..]].concat());
    world
}

/// Writes a file of the operator's for the host.
pub(super) fn put_credentials(world: &World, name: &str, content: &str) -> PathBuf {
    let folder = world.site().join("credentials").join(HOST);
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .expect("a folder");
    let path = folder.join(name);
    fs::write(&path, content).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

pub(super) fn open(world: &World, more: &[&str]) -> Value {
    let arguments = [&["recovery", "open", HOST, "--json"], more].concat();
    serde_json::from_str(&world.succeeds(&arguments)).expect("JSON")
}

pub(super) fn state(world: &World, id: &Value) -> Value {
    let shown = world.succeeds(&["recovery", "show", id.as_str().expect("an id"), "--json"]);
    serde_json::from_str(&shown).expect("JSON")
}

/// A machine that asks.
struct Machine {
    mac: &'static str,
    host: Option<&'static str>,
    /// Where it asks from.
    address: &'static str,
}

const MACHINE: Machine = Machine {
    mac: "52:54:00:00:00:01",
    host: None,
    address: "127.0.0.1",
};

const OTHER: Machine = Machine {
    mac: "52:54:00:00:00:02",
    ..MACHINE
};

const NONCE: [u8; 32] = [7; 32];

impl Machine {
    fn request(&self) -> Value {
        let mut request = json!({
            "nonce": Digest::from(NONCE), "architecture": "amd64", "kernel_release": "6.1.0-test",
            "machine": {"macs": [self.mac], "memory_kib": 1048576, "uefi": false},
        });
        if let Some(host) = self.host {
            request["host"] = host.into();
        }
        request
    }

    fn post(&self, server: &Server, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        server.curl(path, &["--interface", self.address, "--data-binary", &body])
    }

    fn plan(&self, server: &Server) -> Answer {
        self.post(server, "/v1/plan", &self.request())
    }

    fn code(&self, server: &Server, code: &str) -> Answer {
        self.send_sealed(server, &self.code_sealed(server, code))
    }

    /// A try of a code, as it is sent.
    fn code_sealed(&self, server: &Server, code: &str) -> Vec<u8> {
        let key = own_key();
        let body = json!({"code": code, "seal_to": key.public(), "request": self.request()});
        seal(&seal_to(server), body.to_string().as_bytes())
    }

    /// Sends this sealed, and opens the answer by its [`own_key`].
    fn sealed(&self, server: &Server, to: &SealTo, body: &[u8]) -> Answer {
        self.send_sealed(server, &seal(to, body))
    }

    /// Sends what is sealed, by whomever, and opens the answer.
    fn send_sealed(&self, server: &Server, body: &[u8]) -> Answer {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(body).expect("written");
        let from = format!("@{}", file.path().display());
        let arguments = ["--interface", self.address, "--data-binary", &from];
        let mut answer = server.curl("/v1/recovery", &arguments);
        if answer.status == 200 {
            let what = Sealed::RecoveryAnswer(Digest::of(body));
            let opened = own_key().open(what, &answer.body);
            answer.body = opened.expect("sealed to this machine").to_vec();
        }
        answer
    }
}

/// Seals a request, anew each time.
fn seal(to: &SealTo, body: &[u8]) -> Vec<u8> {
    static TRIES: AtomicU64 = AtomicU64::new(0);
    let mut random = Zeroizing::new([2; 32]);
    random[..8].copy_from_slice(&TRIES.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let sealed = to.seal(Sealed::RecoveryRequest, body, random);
    sealed.expect("sealed")
}

/// The machine's key for answers.
fn own_key() -> SealKey {
    SealKey::generate(&Zeroizing::new([3; 32]))
}

/// The server's key, as its plans name it now while a recovery is open for the machine that asks; or the last that they named.
fn seal_to(server: &Server) -> SealTo {
    let strange = Machine {
        mac: "52:54:00:00:00:99",
        ..MACHINE
    };
    let order = |machine: Machine| {
        let plan: Value = serde_json::from_slice(&machine.plan(server).body).expect("JSON");
        serde_json::from_value(plan["signed"]["order"]["seal_to"].clone()).ok()
    };
    let mut last = server.seal_to.lock().expect("no panic");
    let named = order(strange).or_else(|| order(MACHINE));
    *last = named.or(*last);
    last.expect("a plan asks for a code")
}

/// Verifies plan and credentials as a machine does.
fn verified(world: &World, answer: &Answer) -> (Verified<Chain>, Credentials) {
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["host"], HOST);
    let chain = chain_of(world, body["plan"].as_str().expect("a plan").as_bytes());
    let text = body["credentials"].as_str().expect("credentials");
    let bytes = Command::new("base64").arg("-d").stdin(piped(text)).output();
    let bytes = bytes.expect("base64 runs").stdout;
    let credentials = chain
        .credentials(Some(bytes.into()))
        .expect("the plan's credentials");
    (chain, credentials.expect("credentials"))
}

fn chain_of(world: &World, plan: &[u8]) -> Verified<Chain> {
    let site = Site::open(&world.site()).expect("a site");
    let said: Value = serde_json::from_slice(plan).expect("JSON");
    let view = catalogue::view_of(&site, said["signed"]["host"].as_str()).expect("a catalogue");
    let nonce = FreshNonce::new(NONCE);
    let asked = Asked {
        host: None,
        architecture: "amd64",
        floor: Timestamp::UNIX_EPOCH,
        versions: &BTreeMap::new(),
        expiry: ExpiryPolicy::Refuse,
    };
    view.plan(plan, nonce, &asked)
        .expect("a plan that verifies")
}

fn piped(text: &str) -> Stdio {
    use std::io::Seek as _;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.rewind().expect("rewound");
    file.into()
}

/// The content of a file of the credentials.
fn file(credentials: &Credentials, name: &str) -> Option<String> {
    let path = format!("run/towline/credentials/{name}");
    let (mut decoder, mut input) = (Decoder::new(), credentials.chunk.as_slice());
    let mut found = None;
    while let Some(item) = decoder.next(&mut input).expect("newc") {
        match item {
            Item::Entry(entry) if entry.name == path.as_bytes() => found = Some(Vec::new()),
            Item::Data(data) => found
                .iter_mut()
                .for_each(|it: &mut Vec<u8>| it.extend_from_slice(data)),
            Item::EntryEnd if found.is_some() => break,
            _ => {}
        }
    }
    found.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
}

fn token(credentials: &Credentials) -> String {
    credentials.report_token().expect("a token").to_string()
}

/// What no machine was given.
const WRONG_TOKEN: &str = "0606060606060606060606060606060606060606060606060606060606060606";

/// Sends an event that is later than all before, signed by `token` if there is one.
fn event(server: &Server, id: &Value, token: Option<&str>, what: &Value) -> u16 {
    static NUMBER: AtomicU64 = AtomicU64::new(1000);
    let body = event_body(id, NUMBER.fetch_add(1, Ordering::Relaxed), what);
    send(server, &body, token.map(|it| signed(id, it, &body))).status
}

fn event_body(id: &Value, number: u64, what: &Value) -> String {
    let mut event = json!({"recovery": id, "number": number, "uptime_seconds": 9});
    let fields = event.as_object_mut().expect("an object");
    fields.extend(what.as_object().expect("an object").clone());
    event.to_string()
}

/// The header by which an event is its machine's.
fn signed(id: &Value, token: &str, body: &str) -> String {
    let id = id.as_str().expect("an id");
    let signer = EventSigner::new(id, token).expect("a seed");
    signer.header(body.as_bytes())
}

fn send(server: &Server, body: &str, signature: Option<String>) -> Answer {
    let header = signature.map(|it| format!("towline-signature: {it}"));
    let header: Vec<_> = header
        .iter()
        .flat_map(|it| ["--header", it.as_str()])
        .collect();
    server.curl(
        "/v1/events",
        &[&header[..], &["--data-binary", body]].concat(),
    )
}

fn watch(world: &World, id: &Value) -> Child {
    Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["recovery", "watch", id.as_str().expect("an id")])
        .current_dir(world.site())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("towline runs")
}

/// Exit status and output of a watch, which ends within seconds.
fn watched(mut child: Child) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() >= deadline {
            child.kill().expect("killed");
            panic!("the watch does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("an output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}
