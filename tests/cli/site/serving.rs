//! What `towline serve` answers, refuses and logs, and how it starts and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use towline_contract::Digest;
use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::{layer, noise};

use super::{Server, World, chain};

pub(super) fn request(host: &str) -> String {
    let nonce = "00".repeat(32);
    format!(
        r#"{{"nonce": "{nonce}", "architecture": "amd64", "kernel_release": "6.1.0-test", "host": "{host}",
            "machine": {{"macs": [], "memory_kib": 1048576, "uefi": false}}}}"#
    )
}

#[test]
fn a_published_layer_is_served_whole_and_in_ranges() {
    let world = World::new();
    let [_, base, _] = chain();
    let path = world.written("base", &base);
    world.succeeds(&["publish", &path]);
    let server = Server::start(&world);
    let digest = base.manifest.digest.to_string();
    let there = format!("/v1/layers/{digest}");
    let bytes = base.stored.len();

    let whole = server.curl(&there, &[]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == base.stored, "the bytes are the layer's");
    assert_eq!(whole.header("etag"), Some(&*format!("\"{digest}\"")));

    let head = server.curl(&there, &["--head"]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(&*bytes.to_string()))
    );
    assert!(head.body.is_empty());

    let (from, to) = (1_048_000, 2_100_000);
    let part = server.curl(&there, &["--range", &format!("{from}-{to}")]);
    assert_eq!(part.status, 206);
    assert!(
        part.body == base.stored[from..=to],
        "the bytes are the range's"
    );
    let range = format!("bytes {from}-{to}/{bytes}");
    assert_eq!(part.header("content-range"), Some(&*range));

    let past = server.curl(&there, &["--range", &format!("{bytes}-")]);
    assert_eq!(past.status, 416);
    assert_eq!(
        past.header("content-range"),
        Some(&*format!("bytes */{bytes}"))
    );

    let known = format!("If-None-Match: \"{digest}\"");
    assert_eq!(server.curl(&there, &["--header", &known]).status, 304);
    let nothing = format!("/v1/layers/{}", Digest::of(b"nothing"));
    assert_eq!(server.curl(&nothing, &[]).status, 404);
    let outside = server.curl("/v1/layers/../../keys/plan.key", &["--path-as-is"]);
    assert_eq!(outside.status, 404);
}

#[test]
fn requests_that_are_wrong_are_refused_with_a_sentence() {
    let world = World::new();
    let paths: Vec<_> = chain()
        .iter()
        .enumerate()
        .map(|(number, layer)| world.written(&format!("layer-{number}"), layer))
        .collect();
    let server = Server::start(&world);

    let early = server.post("/v1/plan", &request("example"));
    assert_eq!(early.status, 409);
    assert!(early.refusal().contains("no kernel layer"), "{early:?}");

    // Published while the server runs: it sees it at once.
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    world.succeeds(&[&["publish"], &paths[..]].concat());
    let plan = server.post("/v1/plan", &request("example"));
    assert_eq!(plan.status, 200, "{}", String::from_utf8_lossy(&plan.body));

    let unknown = server.post("/v1/plan", &request("exmaple"));
    assert_eq!(unknown.status, 409);
    assert!(unknown.refusal().contains("exmaple") && unknown.refusal().contains("media show"));

    let bad = server.post("/v1/plan", "{\"nonce\": 7}");
    assert_eq!(bad.status, 400);
    assert!(bad.refusal().contains("line 1"), "{bad:?}");

    let method = server.curl("/v1/plan", &["--request", "PUT", "--data", "{}"]);
    assert_eq!((method.status, method.header("allow")), (405, Some("post")));
    let large = " ".repeat(70_000);
    let file = world.folder.path().join("large");
    fs::write(&file, large).unwrap();
    let large = server.post("/v1/plan", &format!("@{}", file.display()));
    assert_eq!(large.status, 413);
    assert_eq!(server.curl("/keys/plan.key", &[]).status, 404);
}

#[test]
fn the_servers_certificate_is_from_the_sites_authority_for_its_names() {
    let world = World::new();
    let server = Server::start(&world);
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", server.port),
            ])
            .args([
                "-verify_return_error",
                "-x509_strict",
                "-purpose",
                "sslserver",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        output.status.success()
    };
    let ca = server.ca.to_str().unwrap();
    assert!(openssl(&["-CAfile", ca, "-verify_hostname", "localhost"]));
    assert!(openssl(&["-CAfile", ca, "-verify_ip", "127.0.0.1"]));
    assert!(!openssl(&[
        "-CAfile",
        ca,
        "-verify_hostname",
        "other.example"
    ]));
    let stranger = World::new();
    let ca = stranger.site().join("ca/ca.pem");
    assert!(!openssl(&["-CAfile", ca.to_str().unwrap()]));
}

#[test]
fn events_are_kept_and_cannot_forge_the_log() {
    let world = World::new();
    let server = Server::start(&world);
    let failed = r#"{"recovery": "r-1", "uptime_seconds": 9, "event": "failed", "message": "a\nserve: forged\u001b[2J"}"#;
    assert_eq!(server.post("/v1/events", failed).status, 204);
    let line = server.line("r-1 at 9 s failed");
    assert!(line.contains(r"a\nserve: forged\u{1b}[2J"), "{line}");

    let file = world.site().join("state/events.jsonl");
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept["event"]["message"], "a\nserve: forged\u{1b}[2J");
    assert!(kept["received"].is_string());

    let bad = r#"{"recovery": "../x", "uptime_seconds": 9, "event": "plan-verified"}"#;
    assert_eq!(server.post("/v1/events", bad).status, 400);
    let unknown = r#"{"recovery": "r-1", "uptime_seconds": 9, "event": "exploded"}"#;
    assert_eq!(server.post("/v1/events", unknown).status, 400);
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.refuses(
        &["serve", "--listen", &address],
        2,
        &[&address, "--listen", "next:"],
    );
}

#[test]
fn a_site_has_one_server_at_a_time_however_the_one_before_has_ended() {
    let world = World::new();
    let mut first = Server::start(&world);
    let another = ["serve", "--listen", "127.0.0.1:0"];
    let parts = ["another `towline serve`", "state/serve/.lock", "next: stop"];
    world.refuses(&another, 2, &parts);
    assert_eq!(first.terminate(), Some(0));
    let second = Server::start(&world);
    world.refuses(&another, 2, &parts);
    // Killed.
    drop(second);
    Server::start(&world);
}

#[test]
fn a_quiet_server_does_not_say_where_it_listens() {
    let world = World::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["serve", "-q", "--listen", &port.to_string()])
        .current_dir(world.site())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(port).is_err() {
        assert!(Instant::now() < deadline, "the server starts");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let talk = child.wait_with_output().unwrap().stderr;
    let talk = String::from_utf8_lossy(&talk);
    assert!(!talk.contains("listening"), "{talk}");
}

#[test]
fn a_server_that_is_told_to_end_does_so_at_once_when_idle() {
    let world = World::new();
    let mut server = Server::start(&world);
    assert_eq!(server.curl("/v1/metadata/timestamp.json", &[]).status, 200);
    let start = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_answer_that_runs_ends_before_the_server_does() {
    let world = World::new();
    // More than the kernel's socket buffers take, so that the server is still sending when it is told to end.
    let big = noise(7, 24 << 20);
    let files = [("usr/bin/big", 0o755, big.as_slice())];
    let base = layer(Kind::Base, "debian", Compression::None, &files);
    let path = world.written("base", &base);
    world.succeeds(&["publish", &path]);
    let mut server = Server::start(&world);
    let url = server.url(&format!("/v1/layers/{}", base.manifest.digest));
    let mut curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--limit-rate",
            "10M",
            "--output",
            "got",
            "--cacert",
        ])
        .arg(&server.ca)
        .arg(url)
        .current_dir(world.folder.path())
        .spawn()
        .unwrap();
    let got = world.folder.path().join("got");
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&got).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "the download starts");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.terminate(), Some(0));
    assert!(curl.wait().unwrap().success());
    assert!(fs::read(&got).unwrap() == base.stored);
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let world = World::new();
    let key = world.site().join("keys/plan.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    world.refuses(&["serve"], 2, &["plan.key", "0644", "chmod 600"]);
}

#[test]
fn a_server_that_crashes_leaves_no_core_with_its_keys() {
    use std::os::unix::process::ExitStatusExt as _;
    let world = World::new();
    let mut server = Server::start(&world);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|it| it.starts_with("Max core file size"));
    let sizes: Vec<&str> = line.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(sizes, ["1", "1", "bytes"]);
    let id = server.child.id().to_string();
    let sent = Command::new("kill").args(["-ABRT", &id]).status();
    assert!(sent.expect("kill runs").success());
    let ended = server.child.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false));
}
