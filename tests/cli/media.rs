//! `towline media stamp`, `show` and `clear` on a small image that has a stamp area, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use towline_contract::stamp::cleared;

const ROOT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/boot/contract/tests/golden/v1/1.root.json"
);

fn media(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_towline"))
        .arg("media")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("towline runs")
}

/// An image with bytes around its cleared area, and its bytes.
fn image(folder: &Path) -> (PathBuf, Vec<u8>) {
    let mut bytes = vec![7; 5000];
    bytes.extend(cleared());
    bytes.extend(vec![9; 3000]);
    let path = folder.join("towline.iso");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key);
    certificate.unwrap().pem()
}

/// `towline media stamp towline.iso` with a server, the golden root, and `more`.
fn stamp<'a>(server: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let start = ["stamp", "towline.iso", "--server", server, "--root", ROOT];
    [&start[..], more].concat()
}

fn shown(folder: &Path) -> serde_json::Value {
    let output = media(folder, &["show", "towline.iso", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], exit: i32, says: &str) {
    let before = fs::read(folder.join("towline.iso")).unwrap();
    let output = media(folder, arguments);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{talk}");
    assert!(talk.contains(says), "{talk}");
    assert!(
        fs::read(folder.join("towline.iso")).unwrap() == before,
        "a refused command leaves the image alone"
    );
}

#[test]
fn a_stamp_is_shown_without_its_token_and_clearing_gives_the_built_image_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, built) = image(folder.path());
    assert_eq!(shown(folder.path())["stamped"], false);
    let token = folder.path().join("token");
    fs::write(&token, "K7QF-2M9X-TR4P\n").unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.path().join("ca.pem"), certificate()).unwrap();
    let stamp = [
        "stamp",
        "towline.iso",
        "--server",
        "https://a.example",
        "--server",
        "https://b.example:8443/",
    ];
    let more = [
        "--root",
        ROOT,
        "--ca",
        "ca.pem",
        "--host",
        "db1",
        "--token-file",
        "token",
        "--shell",
        "--expired",
        "accept",
    ];
    let network = [
        "--network",
        "address=192.0.2.7/24,gateway=192.0.2.1,dns=192.0.2.53",
    ];
    let output = media(folder.path(), &[&stamp[..], &more, &network].concat());
    assert!(output.status.success(), "{output:?}");

    let document = shown(folder.path());
    let settings = &document["settings"];
    assert_eq!(
        settings["servers"],
        serde_json::json!(["https://a.example", "https://b.example:8443"])
    );
    assert_eq!(
        settings["root"].as_str().unwrap(),
        fs::read_to_string(ROOT).unwrap()
    );
    assert_eq!(settings["network"]["gateway"], "192.0.2.1");
    assert_eq!(
        (&settings["host"], &settings["shell"]),
        (&"db1".into(), &true.into())
    );
    assert_eq!(settings["expired"], "accept");
    assert_eq!(settings["token"], "(hidden)");
    assert!(settings["stamped"].is_string());
    let text = String::from_utf8(media(folder.path(), &["show", "towline.iso"]).stdout).unwrap();
    assert!(
        text.contains("version 1") && text.contains("192.0.2.7/24"),
        "{text}"
    );
    assert!(!text.contains("K7QF"), "{text}");

    assert!(
        media(folder.path(), &["clear", "towline.iso"])
            .status
            .success()
    );
    assert!(
        fs::read(path).unwrap() == built,
        "a cleared image is the built one"
    );
}

#[test]
fn a_stamp_replaces_all_earlier_settings() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path());
    let first = stamp("http://a.example", &["--host", "db1", "--shell"]);
    for arguments in [first, stamp("http://b.example", &[])] {
        let output = media(folder.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let settings = &shown(folder.path())["settings"];
    assert_eq!(
        (settings.get("host"), &settings["shell"]),
        (None, &false.into())
    );
}

#[test]
fn settings_that_could_not_work_are_refused_before_the_image_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path());
    let folder = folder.path();
    let here = "http://a.example";
    refused(folder, &stamp("ftp://a.example", &[]), 2, "https");
    refused(
        folder,
        &stamp(here, &["--network", "address=192.0.2.7"]),
        2,
        "CIDR",
    );
    refused(folder, &stamp(here, &["--host", "../etc"]), 2, "host name");
    refused(folder, &stamp(here, &["--expired", "never"]), 2, "never");
    fs::write(folder.join("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    refused(folder, &stamp(here, &["--ca", "key.pem"]), 2, "private key");
    refused(
        folder,
        &[
            "stamp",
            "towline.iso",
            "--server",
            here,
            "--root",
            "no.json",
        ],
        2,
        "no.json",
    );
}

#[test]
fn a_stamp_that_no_machine_could_boot_with_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path());
    let folder = folder.path();
    let usable = media(folder, &stamp("http://a.example", &[]));
    assert!(usable.status.success(), "{usable:?}");
    refused(folder, &["stamp", "towline.iso"], 2, "--server");
    refused(
        folder,
        &["stamp", "towline.iso", "--root", ROOT],
        2,
        "--server",
    );
    refused(
        folder,
        &["stamp", "towline.iso", "--server", "http://a.example"],
        2,
        "--root",
    );
    refused(folder, &stamp("https://a.example", &[]), 2, "add --ca");
    fs::write(folder.join("token"), "s3cret-token\n").unwrap();
    let token = stamp("http://a.example", &["--token-file", "token"]);
    let mode = |mode| fs::set_permissions(folder.join("token"), Permissions::from_mode(mode));
    mode(0o640).unwrap();
    refused(folder, &token, 2, "chmod 600 token");
    mode(0o600).unwrap();
    refused(folder, &token, 2, "no recovery code");
    let talk = media(folder, &token).stderr;
    assert!(!String::from_utf8_lossy(&talk).contains("s3cret"));
}

#[test]
fn a_root_that_was_changed_after_signing_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path());
    let root = fs::read_to_string(ROOT).unwrap();
    fs::write(
        folder.path().join("root.json"),
        root.replace("\"version\": 1", "\"version\": 2"),
    )
    .unwrap();
    refused(
        folder.path(),
        &[
            "stamp",
            "towline.iso",
            "--server",
            "http://a.example",
            "--root",
            "root.json",
        ],
        3,
        "not trusted",
    );
}

#[test]
fn files_that_are_no_medium_or_have_two_areas_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, built) = image(folder.path());
    fs::write(&path, vec![7; 9000]).unwrap();
    refused(
        folder.path(),
        &stamp("http://a.example", &[]),
        2,
        "no Towline medium",
    );
    refused(
        folder.path(),
        &["show", "towline.iso"],
        2,
        "no Towline medium",
    );
    fs::write(&path, [built.clone(), built].concat()).unwrap();
    refused(
        folder.path(),
        &["clear", "towline.iso"],
        2,
        "more than one stamp area",
    );
}

#[test]
fn a_damaged_stamp_is_said_and_never_shown_as_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut bytes) = image(folder.path());
    bytes[5200] = 1;
    fs::write(path, bytes).unwrap();
    refused(folder.path(), &["show", "towline.iso"], 2, "damaged");
}
