//! Pinned bytes of formats that are not signed documents: the stamp area, and the archive of a layer.
//!
//! `TOWLINE_GOLDEN=write cargo test -p towline-contract --test golden` writes them anew; a change to a file under
//! `tests/golden/v1` is a change of the format, and what is there now is read for ever.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use towline_contract::lanes::{LayerItem, LayerReader};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::newc::{Entry, mode, padding, trailer};
use towline_contract::stamp::{self, Expired, Network, STAMP_BYTES, Settings};

fn golden(name: &str, current: &[u8]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let path = folder.join(name);
    if std::env::var_os("TOWLINE_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, current).unwrap();
    }
    let pinned = std::fs::read(&path).unwrap();
    assert!(
        pinned == current,
        "what is written today differs from {name}"
    );
    pinned
}

#[test]
fn a_stamp_of_version_1_is_written_as_it_was_and_still_read() {
    let settings = Settings {
        servers: vec![
            "https://backup.example:8443".into(),
            "https://192.0.2.9".into(),
        ],
        root: Some("{\"signatures\":[],\"signed\":{}}\n".into()),
        ca: vec!["-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".into()],
        network: Network {
            address: Some("192.0.2.7/24".into()),
            gateway: Some("192.0.2.1".into()),
            name_servers: vec!["192.0.2.53".into()],
            interface: Some("eth0".into()),
        },
        host: Some("web1".into()),
        token: Some("K7QF-2M9X-TR4P".to_owned().into()),
        shell: true,
        expired: Expired::Accept,
        stamped: Some("2026-11-23T22:30:00Z".parse().unwrap()),
        versions: BTreeMap::new(),
    };
    let area = stamp::encode(&settings).unwrap();
    // The zeros behind the payload are not kept.
    let end = area.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut pinned = golden("stamp.area", &area[..end]);
    pinned.resize(STAMP_BYTES, 0);
    assert_eq!(stamp::decode(&pinned).unwrap(), Some(settings));
}

/// Directories, files with one name and with two, one without content, and a link.
fn archive() -> Vec<u8> {
    let rows: [(&str, u32, &[u8], u32); 7] = [
        ("etc", mode::S_IFDIR | 0o755, b"", 1),
        ("etc/hostname", mode::S_IFREG | 0o644, b"web1\n", 1),
        ("etc/rear", mode::S_IFDIR | 0o755, b"", 1),
        ("etc/rear/empty", mode::S_IFREG | 0o600, b"", 1),
        (
            "etc/rear/local.conf",
            mode::S_IFREG | 0o644,
            b"OUTPUT=ISO\n",
            2,
        ),
        ("etc/rear/site.conf", mode::S_IFREG | 0o644, b"", 2),
        ("etc/rear/state", mode::S_IFLNK | 0o777, b"/var/lib/rear", 1),
    ];
    let mut out = Vec::new();
    for (name, mode, body, links) in rows {
        let entry = Entry {
            name: name.into(),
            inode: 5,
            mode,
            links,
            mtime: 1_764_000_000,
            bytes: body.len().try_into().unwrap(),
            ..Entry::default()
        };
        out.extend(entry.encode().unwrap());
        out.extend_from_slice(body);
        out.extend_from_slice(padding(body.len() as u64));
    }
    out.extend(trailer());
    out
}

#[test]
fn an_archive_of_version_1_is_written_as_it_was_and_still_read() {
    let pinned = golden("host.cpio", &archive());
    let manifest = golden_manifest(pinned.len() as u64);
    let mut reader = LayerReader::new(&manifest, &[]);
    let (mut input, mut found) = (pinned.as_slice(), Vec::new());
    while let Some(item) = reader.next(&mut input).unwrap() {
        match item {
            LayerItem::Directory { path, .. } | LayerItem::FileStart { path, .. } => {
                found.push(path.to_string());
            }
            LayerItem::FileData(bytes) => found.push(bytes.escape_ascii().to_string()),
            LayerItem::Hardlink { path, target } => found.push(format!("{path} = {target}")),
            LayerItem::Symlink { path, target, .. } => {
                found.push(format!("{path} -> {}", target.escape_ascii()));
            }
            LayerItem::FileEnd | LayerItem::Node { .. } => {}
        }
    }
    reader.finish().unwrap();
    assert_eq!(
        found,
        [
            "etc",
            "etc/hostname",
            "web1\\n",
            "etc/rear",
            "etc/rear/empty",
            "etc/rear/local.conf",
            "OUTPUT=ISO\\n",
            "etc/rear/site.conf = etc/rear/local.conf",
            "etc/rear/state -> /var/lib/rear",
        ]
    );
}

/// A host layer's manifest about the archive.
fn golden_manifest(unpacked_bytes: u64) -> Manifest {
    let pinned = include_bytes!("golden/v1/base.manifest.json");
    Manifest {
        kind: Kind::Host,
        unpacked_bytes,
        entries: 7,
        ..Manifest::parse(pinned).unwrap()
    }
}
