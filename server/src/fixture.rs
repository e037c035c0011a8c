//! Manifests for the tests of pure decisions, and a site.

use std::path::Path;

use towline_contract::lanes::Bounds;
use towline_contract::manifest::{Compression, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement};
use towline_contract::newc::{Entry, mode, padding, trailer};
use towline_contract::session::{Backup, Hardware, Session};
use towline_contract::{Digest, Timestamp};

use crate::catalogue::Published;
use crate::site::{NewKeys, NewSite, Site};

/// A layer's manifest; its digest is made of its name.
pub(crate) fn manifest(kind: Kind, name: &str, version: &str) -> Manifest {
    let digest = Digest::of(format!("{kind}/{name}/{version}").as_bytes());
    Manifest {
        format: MANIFEST_FORMAT,
        kind,
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        created: Timestamp::UNIX_EPOCH,
        digest,
        stored_bytes: 4,
        unpacked_bytes: 512,
        entries: 1,
        compression: Compression::Zstd,
        chunks: vec![digest],
        placement: Placement::Ram,
        image: None,
        kernel_release: (kind == Kind::Kernel).then(|| "6.1.0-1-amd64".into()),
        provides: Needs::default(),
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
        agent: None,
        session: None,
        bounds: Bounds::default(),
    }
}

/// The same as a layer of the catalogue.
pub(crate) fn published(kind: Kind, name: &str, version: &str) -> Published {
    let manifest = manifest(kind, name, version);
    Published {
        target: manifest.target_name().parse().unwrap(),
        manifest,
    }
}

/// A session of an amd64 machine by restic.
pub(crate) fn session(time: Timestamp, captured: Timestamp) -> Session {
    Session {
        time,
        captured,
        hostname: "web1".into(),
        backup: Backup {
            agent: "restic".into(),
            version: "0.14.0".into(),
            session: format!("of {time}"),
            bytes: None,
        },
        rear: "2.7".into(),
        hardware: Hardware {
            architecture: "amd64".into(),
            uefi: false,
            secure_boot: false,
            memory_kib: 2 << 20,
            pci: vec![],
            modules: vec![],
            disks: vec![],
            boot_loaders: vec![],
        },
    }
}

/// A host's layer with these files, `etc` before them; its manifest has a session of `time`.
pub(crate) fn host_layer(
    host: &str,
    version: &str,
    time: Timestamp,
    files: &[(&str, &[u8])],
) -> (Manifest, Vec<u8>) {
    let entry = |name: &str, mode, body: &[u8]| {
        let entry = Entry {
            name: name.as_bytes().to_vec(),
            mode,
            links: 1,
            bytes: u32::try_from(body.len()).unwrap(),
            ..Entry::default()
        };
        let padding = padding(body.len() as u64);
        [&entry.encode().unwrap(), body, padding].concat()
    };
    let mut stored = Vec::new();
    let mut folders = std::collections::BTreeSet::new();
    for (path, body) in files {
        for (at, _) in path.match_indices('/') {
            if folders.insert(&path[..at]) {
                stored.extend(entry(&path[..at], mode::S_IFDIR | 0o755, b""));
            }
        }
        stored.extend(entry(path, mode::S_IFREG | 0o644, body));
    }
    stored.extend(trailer());
    let mut manifest = manifest(Kind::Host, host, version);
    manifest.architecture = "all".into();
    manifest.compression = Compression::None;
    manifest.digest = Digest::of(&stored);
    manifest.chunks = vec![manifest.digest];
    manifest.stored_bytes = stored.len() as u64;
    manifest.unpacked_bytes = manifest.stored_bytes;
    manifest.entries = (folders.len() + files.len()) as u64;
    manifest.session = Some(session(time, time));
    (manifest, stored)
}

/// A new site in `dir`.
pub(crate) fn site(dir: &Path, now: Timestamp) -> Site {
    let config = "listen = \"127.0.0.1:0\"\nserver_names = [\"localhost\"]";
    let new = NewSite {
        name: "test".into(),
        config: toml::from_str(config).unwrap(),
        root: NewKeys::plain(3, 2),
        targets: NewKeys::plain(1, 1),
        base_key: None,
        recipes: vec![("host.toml".into(), b"# a recipe\n".to_vec())],
    };
    Site::create(dir, &new, now).unwrap()
}
