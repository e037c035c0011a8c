mod roles;

use std::fs;
use std::path::Path;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::newc::{Entry, mode, trailer};

use super::*;
use crate::fixture;
use crate::site::Site;

fn now() -> Timestamp {
    "2026-11-23T22:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> Timestamp {
    now()
        .saturating_add(SignedDuration::from_hours(hours))
        .unwrap()
}

/// A layer of these bytes; what they hold is looked at elsewhere.
fn layer(dir: &Path, version: &str, bytes: &[u8]) -> NewLayer {
    let mut manifest = fixture::manifest(Kind::Agent, "restic", version);
    manifest.digest = Digest::of(bytes);
    manifest.stored_bytes = bytes.len() as u64;
    manifest.chunks = vec![manifest.digest];
    let path = dir.join(manifest.digest.to_string());
    fs::write(&path, bytes).unwrap();
    NewLayer {
        path,
        manifest_bytes: manifest.to_bytes(),
        manifest,
    }
}

/// A plain archive of one file, which is called by its name.
fn archive(name: &[u8]) -> Vec<u8> {
    let entry = Entry {
        name: name.to_vec(),
        mode: mode::S_IFREG | 0o644,
        links: 1,
        ..Entry::default()
    };
    [entry.encode().unwrap(), trailer()].concat()
}

struct World {
    folder: tempfile::TempDir,
    site: Site,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = fixture::site(&folder.path().join("site"), now());
        Self { folder, site }
    }

    fn layer(&self, version: &str, bytes: &[u8]) -> NewLayer {
        layer(self.folder.path(), version, bytes)
    }

    fn publish(&self, new: &[NewLayer]) -> Result<Outcome> {
        publish(&self.site, new, Missing::Refuse, now())
    }

    fn timestamp(&self) -> Vec<u8> {
        fs::read(self.site.store.metadata_path(TIMESTAMP_FILE)).unwrap()
    }

    fn targets(&self) -> Vec<String> {
        view(&self.site.store)
            .unwrap()
            .layers()
            .keys()
            .cloned()
            .collect()
    }
}

#[test]
fn what_is_published_is_in_the_view_and_its_bytes_are_in_the_store() {
    let world = World::new();
    let new = world.layer("1", b"the layer");
    let done = world.publish(std::slice::from_ref(&new)).unwrap();
    assert_eq!(done.added, ["agent/restic/1/amd64"]);
    assert_eq!(world.targets(), ["agent/restic/1/amd64"]);
    let store = &world.site.store;
    let stored = fs::read(store.layer_path(&Digest::of(b"the layer"))).unwrap();
    assert_eq!(stored, b"the layer");
    let published = layers(store, &view(store).unwrap()).unwrap();
    assert_eq!(published[0].manifest, new.manifest);
}

#[test]
fn publishing_the_same_again_changes_nothing() {
    let world = World::new();
    let new = [world.layer("1", b"the layer")];
    world.publish(&new).unwrap();
    let before = world.timestamp();
    let done = world.publish(&new).unwrap();
    assert_eq!(done.unchanged, ["agent/restic/1/amd64"]);
    assert!(done.added.is_empty());
    assert_eq!(world.timestamp(), before);
}

#[test]
fn another_layer_under_a_published_version_is_refused_with_both_digests() {
    let world = World::new();
    world.publish(&[world.layer("1", b"one")]).unwrap();
    let before = world.timestamp();
    let new = [world.layer("2", b"fine"), world.layer("1", b"other")];
    let text = world.publish(&new).unwrap_err().to_string();
    assert!(text.contains(&Digest::of(b"one").to_string()));
    assert!(text.contains(&Digest::of(b"other").to_string()));
    assert_eq!(world.timestamp(), before, "none of the two was published");
}

#[test]
fn two_layers_of_one_version_in_one_command_are_refused() {
    let world = World::new();
    let new = [world.layer("1", b"one"), world.layer("1", b"other")];
    assert!(matches!(
        world.publish(&new),
        Err(CatalogueError::Taken { .. })
    ));
    assert!(world.targets().is_empty());
}

#[test]
fn the_same_bytes_with_another_manifest_are_refused() {
    let world = World::new();
    let mut new = world.layer("1", b"one");
    world.publish(std::slice::from_ref(&new)).unwrap();
    new.manifest.requires.programs = vec!["/bin/sh".into()];
    new.manifest_bytes = new.manifest.to_bytes();
    assert!(matches!(
        world.publish(&[new]),
        Err(CatalogueError::OtherManifest { .. })
    ));
}

#[test]
fn a_layer_that_would_lack_a_library_is_published_only_when_asked_to() {
    let world = World::new();
    let mut base = world.layer("1", &archive(b"base"));
    base.manifest.kind = Kind::Base;
    let mut agent = world.layer("1", &archive(b"agent"));
    agent.manifest.requires.libraries = vec!["libgone.so.1".into()];
    let new = [base, agent].map(|mut layer| {
        layer.manifest.compression = Compression::None;
        layer.manifest.unpacked_bytes = layer.manifest.stored_bytes;
        layer.manifest_bytes = layer.manifest.to_bytes();
        layer
    });
    let text = world.publish(&new).unwrap_err().to_string();
    assert!(text.contains("libgone.so.1"), "{text}");
    assert!(world.targets().is_empty());
    let done = publish(&world.site, &new, Missing::Accept, now()).unwrap();
    assert_eq!(done.added.len(), 2);
}

#[test]
fn a_number_left_over_from_an_interrupted_change_is_skipped() {
    let world = World::new();
    let store = &world.site.store;
    fs::write(store.metadata_path("2.targets.json"), b"half").unwrap();
    fs::write(store.metadata_path("2.snapshot.json"), b"half").unwrap();
    world.publish(&[world.layer("1", b"one")]).unwrap();
    assert_eq!(world.targets().len(), 1);
    assert_eq!(
        fs::read(store.metadata_path("2.targets.json")).unwrap(),
        b"half"
    );
    world.publish(&[world.layer("2", b"two")]).unwrap();
    assert_eq!(world.targets().len(), 2);
}

#[test]
fn retiring_takes_out_one_version_and_leaves_its_bytes() {
    let world = World::new();
    world
        .publish(&[world.layer("1", b"one"), world.layer("2", b"two")])
        .unwrap();
    let gone = retire(&world.site, Some(Kind::Agent), "restic", "1", now()).unwrap();
    assert_eq!(gone, ["agent/restic/1/amd64"]);
    assert_eq!(world.targets(), ["agent/restic/2/amd64"]);
    assert!(world.site.store.layer_path(&Digest::of(b"one")).exists());
}

#[test]
fn what_is_not_published_cannot_be_retired() {
    let world = World::new();
    world.publish(&[world.layer("1", b"one")]).unwrap();
    for (kind, name, version) in [
        (None, "restic", "9"),
        (None, "cove", "1"),
        (Some(Kind::Host), "restic", "1"),
    ] {
        let found = retire(&world.site, kind, name, version, now());
        assert!(matches!(found, Err(CatalogueError::Unknown { .. })));
    }
}

#[test]
fn snapshot_and_timestamp_are_signed_again_when_half_of_their_time_is_over() {
    let world = World::new();
    world.publish(&[world.layer("1", b"one")]).unwrap();
    assert!(!refresh(&world.site, hours(11)).unwrap());
    assert!(refresh(&world.site, hours(13)).unwrap());
    let fresh = view(&world.site.store).unwrap();
    assert!(fresh.check_expiry(hours(36)).is_empty());
    assert_eq!(world.targets().len(), 1, "the layers are the same");
}

#[test]
fn a_server_that_was_off_for_weeks_signs_again_when_it_starts() {
    let world = World::new();
    let weeks = hours(24 * 30);
    let old = view(&world.site.store).unwrap();
    assert_eq!(old.check_expiry(weeks).len(), 3);
    assert!(refresh(&world.site, weeks).unwrap());
    let fresh = view(&world.site.store).unwrap();
    assert!(fresh.check_expiry(weeks).is_empty());
}

#[test]
fn keeping_fresh_needs_neither_the_root_keys_nor_the_targets_key() {
    let world = World::new();
    for name in ["root-1", "root-2", "root-3", "targets"] {
        fs::remove_file(world.site.key_path(name)).unwrap();
    }
    assert!(refresh(&world.site, hours(20)).unwrap());
    let without_key = world.publish(&[world.layer("1", b"one")]);
    let text = without_key.unwrap_err().to_string();
    assert!(text.contains("targets.key"), "{text}");
}

#[test]
fn a_catalogue_changed_by_hand_is_not_trusted() {
    let world = World::new();
    world.publish(&[world.layer("1", b"one")]).unwrap();
    let path = world.site.store.metadata_path("1.agent-restic.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("restic", "rustic")).unwrap();
    let found = view(&world.site.store);
    assert!(matches!(found, Err(CatalogueError::Trust(_))));
}
