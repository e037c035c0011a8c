//! Pinned bytes: what version 1 of the formats looks like is read for ever, and written the same by every build.
//!
//! `TOWLINE_GOLDEN=write cargo test -p towline-contract --test trust golden` writes them anew; a change to a file under
//! `tests/golden` is a change of the format.

use std::path::PathBuf;

use towline_contract::Digest;
use towline_contract::manifest::Manifest;
use towline_contract::trust::{FreshNonce, TrustedRoot, sign};

use crate::roles::ByKind;
use crate::site::{Files, NONCE, Site, asked, key};

fn golden(name: &str, current: &[u8]) -> Vec<u8> {
    golden_in("v1", name, current)
}

fn golden_in(folder: &str, name: &str, current: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder)
        .join(name);
    if std::env::var_os("TOWLINE_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, current).unwrap();
    }
    let pinned = std::fs::read(&path).unwrap();
    assert!(
        pinned == current,
        "what is written today differs from {}",
        path.display()
    );
    pinned
}

#[test]
fn version_1_is_written_as_it_was_and_still_read() {
    let site = Site::new();
    let now = site.files();
    let files = Files {
        root: golden("1.root.json", &now.root),
        timestamp: golden("timestamp.json", &now.timestamp),
        snapshot: golden("5.snapshot.json", &now.snapshot),
        targets: golden("3.targets.json", &now.targets),
    };
    let plan = golden("plan.json", &sign(&site.boot_plan(), &[&key(8)]).unwrap());
    let manifest = golden("base.manifest.json", &site.layers[1].manifest_bytes);

    let view = files.view().unwrap();
    let chain = view.plan(&plan, FreshNonce::new(NONCE), &asked()).unwrap();
    assert_eq!(
        *chain.manifest(1, &manifest).unwrap(),
        Manifest::parse(&manifest).unwrap()
    );
}

#[test]
fn roles_by_kind_are_written_as_they_were_and_still_read() {
    let by_kind = ByKind::new();
    let mut signed = by_kind.signed();
    let golden = |name: &str, current: &[u8]| golden_in("by-kind", name, current);
    let files = &mut signed.files;
    files.root = golden("1.root.json", &files.root);
    files.timestamp = golden("timestamp.json", &files.timestamp);
    files.snapshot = golden("5.snapshot.json", &files.snapshot);
    files.targets = golden("3.targets.json", &files.targets);
    let names = ["6.agent-restic.json", "2.base.json", "8.hosts.json"];
    for ((_, bytes), name) in signed.roles.iter_mut().zip(names) {
        *bytes = golden(name, bytes);
    }
    signed.host = golden("1.host-web1.json", &signed.host);
    assert_eq!(signed.view().unwrap().layers().len(), 4);
}

#[test]
fn key_identifiers_are_those_of_securesystemslib() {
    // Test key 1 of RFC 8032. `tests/interop/python_tuf.py` compares identifiers with the library's own.
    let seed =
        hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let key = towline_contract::trust::SigningKey::generate(seed.try_into().unwrap());
    let canonical = r#"{"keytype":"ed25519","keyval":{"public":"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},"scheme":"ed25519"}"#;
    assert_eq!(
        key.public().id().as_str(),
        Digest::of(canonical.as_bytes()).to_string()
    );
}

#[test]
fn what_python_tuf_writes_is_read_through_a_rotation() {
    let read = |name: &str| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/python-tuf");
        std::fs::read(folder.join(name)).unwrap()
    };
    let root = TrustedRoot::from_stamp(&read("1.root.json")).unwrap();
    let root = root.rotate(&read("2.root.json")).unwrap();
    let timestamp = root.timestamp(&read("timestamp.json")).unwrap();
    let snapshot = timestamp.snapshot(&read("5.snapshot.json")).unwrap();
    let view = snapshot.targets(&read("3.targets.json")).unwrap();
    assert!(view.layers().contains_key("agent/restic/1/amd64"));
    assert!(view.layers().contains_key("not/Zoe\u{308}/a layer"));
}

#[test]
fn a_signing_key_shows_nothing_of_its_secret() {
    let shown = format!("{:?}", key(1));
    assert!(!shown.contains("0101"), "{shown}");
    assert!(shown.contains(key(1).public().id().as_str()));
}
