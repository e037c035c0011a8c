//! Which key signs what: roles by kind, and sites of before there were any.

use towline_contract::trust::metadata::{FileRef, Snapshot, Timestamp as TimestampFile};
use towline_contract::trust::{BASE_ROLE, HOSTS_ROLE, SigningKey, sign};

use super::*;
use crate::keys;

impl World {
    /// Takes a key away; it can be brought back by writing what is returned.
    pub(super) fn without(&self, name: &str) -> Vec<u8> {
        let path = self.site.key_path(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        bytes
    }

    pub(super) fn base(&self, version: &str) -> NewLayer {
        let mut base = self.layer(version, &archive(format!("base{version}").as_bytes()));
        base.manifest.kind = Kind::Base;
        base.manifest.name = "debian".into();
        base.manifest.compression = Compression::None;
        base.manifest.unpacked_bytes = base.manifest.stored_bytes;
        base.manifest_bytes = base.manifest.to_bytes();
        base
    }

    pub(super) fn agent(&self, version: &str) -> NewLayer {
        let mut agent = self.layer(version, &archive(format!("agent{version}").as_bytes()));
        agent.manifest.compression = Compression::None;
        agent.manifest.unpacked_bytes = agent.manifest.stored_bytes;
        agent.manifest_bytes = agent.manifest.to_bytes();
        agent
    }

    pub(super) fn view(&self) -> SignedView {
        view(&self.site.store).unwrap()
    }

    pub(super) fn signs(&self, role: &str) -> Vec<String> {
        let view = self.view();
        let document = view.role(role).unwrap_or(view.targets());
        document.targets.keys().cloned().collect()
    }
}

fn host() -> SigningKey {
    SigningKey::generate([77; 32])
}

#[test]
fn each_kind_is_signed_by_its_own_role_and_the_targets_sign_none() {
    let world = World::new();
    world.publish(&[world.base("1"), world.agent("1")]).unwrap();
    assert_eq!(world.signs("base"), ["base/debian/1/amd64"]);
    assert_eq!(world.signs("agent-restic"), ["agent/restic/1/amd64"]);
    assert!(world.view().targets().targets.is_empty());
    assert_eq!(world.targets().len(), 2);
}

#[test]
fn a_kinds_key_publishes_without_the_targets_key_but_for_an_agents_first_time() {
    let world = World::new();
    let targets = world.without("targets");
    world.publish(&[world.base("1")]).unwrap();
    let first = world.publish(&[world.agent("1")]).unwrap_err();
    let wanted = "2.targets.json has 0 of 1 signatures";
    assert!(first.to_string().contains(wanted), "{first}");
    // What waits may never be signed: the store has no use for it yet.
    let layer = world.agent("1").manifest.digest;
    assert!(!world.site.store.layer_path(&layer).exists());
    keys::write_private(&world.site.key_path("targets"), &targets).unwrap();
    world.publish(&[world.agent("1")]).unwrap();
    world.without("targets");
    world.without("base");
    world.publish(&[world.agent("2")]).unwrap();
    assert_eq!(world.signs("agent-restic").len(), 2);
    let text = world.publish(&[world.base("2")]).unwrap_err().to_string();
    assert!(text.contains("3.base.json has 0 of 1 signatures"), "{text}");
}

#[test]
fn nothing_is_signed_when_one_of_the_keys_is_away() {
    let world = World::new();
    world.publish(&[world.agent("1")]).unwrap();
    world.without("base");
    let before = world.timestamp();
    world
        .publish(&[world.agent("2"), world.base("1")])
        .unwrap_err();
    assert_eq!(world.timestamp(), before);
    assert_eq!(world.targets().len(), 1);
}

#[test]
fn layers_of_several_roles_are_retired_at_once() {
    let world = World::new();
    world
        .publish(&[world.base("1"), world.agent("1"), world.agent("2")])
        .unwrap();
    world.without("targets");
    let gone = retire(&world.site, Some(Kind::Agent), "restic", "1", now()).unwrap();
    assert_eq!(gone, ["agent/restic/1/amd64"]);
    assert_eq!(world.signs("agent-restic"), ["agent/restic/2/amd64"]);
    retire(&world.site, None, "debian", "1", now()).unwrap();
    assert!(world.signs("base").is_empty());
}

#[test]
fn approving_a_host_needs_the_registrars_key_and_no_operators() {
    let world = World::new();
    for name in ["root-1", "targets", "base"] {
        world.without(name);
    }
    let before = world.view().targets().header.version;
    assert!(approve(&world.site, "web1", &host().public(), Succession::No, now()).unwrap());
    let view = world.view();
    assert_eq!(view.host_key("web1"), Some(&host().public()));
    assert_eq!(view.targets().header.version, before);
    let other = approve(
        &world.site,
        "web1",
        &SigningKey::generate([78; 32]).public(),
        Succession::No,
        now(),
    );
    assert!(matches!(other, Err(CatalogueError::OtherKey { .. })));
    world.without("hosts");
    let found = approve(&world.site, "web2", &host().public(), Succession::No, now());
    assert!(found.unwrap_err().to_string().contains("hosts.key"));
}

#[test]
fn what_names_the_hosts_is_kept_fresh_with_the_snapshot() {
    let world = World::new();
    approve(&world.site, "web1", &host().public(), Succession::No, now()).unwrap();
    let version = |world: &World| world.view().role(HOSTS_ROLE).unwrap().header.version;
    let before = version(&world);
    assert!(refresh(&world.site, hours(13)).unwrap());
    assert_eq!(version(&world), before, "half of its time is not over");
    assert!(refresh(&world.site, hours(24 * 4)).unwrap());
    assert_eq!(version(&world), before + 1);
    let view = world.view();
    assert_eq!(view.host_key("web1"), Some(&host().public()));
    assert!(view.check_expiry(hours(24 * 5 - 1)).is_empty());
}

/// A site as it was made before there were roles by kind.
fn older() -> World {
    let world = World::new();
    let view = world.view();
    let store = &world.site.store;
    let key = |name: &str| keys::read(&world.site.key_path(name)).unwrap();
    let mut targets = view.targets().clone();
    targets.header.version = 2;
    let roles = &mut targets.delegations.as_mut().unwrap().roles;
    roles.retain(|it| it.name == "plan");
    let put = |name: &str, bytes: &[u8]| fs::write(store.metadata_path(name), bytes).unwrap();
    let bytes = sign(&targets, &[&key("targets")]).unwrap();
    put("2.targets.json", &bytes);
    let snapshot = Snapshot::new(2, hours(100), FileRef::of(2, &bytes));
    let bytes = sign(&snapshot, &[&key("snapshot")]).unwrap();
    put("2.snapshot.json", &bytes);
    let timestamp = TimestampFile::new(2, hours(20), FileRef::of(2, &bytes));
    put(
        TIMESTAMP_FILE,
        &sign(&timestamp, &[&key("timestamp")]).unwrap(),
    );
    for name in ["base", "hosts"] {
        world.without(name);
    }
    world
}

#[test]
fn a_site_of_before_roles_by_kind_goes_on_as_it_was() {
    let world = older();
    world.publish(&[world.base("1"), world.agent("1")]).unwrap();
    assert_eq!(world.view().targets().targets.len(), 2);
    assert!(approve(&world.site, "web1", &host().public(), Succession::No, now()).unwrap());
    assert_eq!(world.view().host_key("web1"), Some(&host().public()));
    retire(&world.site, None, "restic", "1", now()).unwrap();
    assert!(refresh(&world.site, hours(19)).unwrap());
    assert_eq!(world.targets(), ["base/debian/1/amd64"]);
    assert!(!world.view().delegates_to(BASE_ROLE));
}

/// What a machine that is `host`, or none, reads of the catalogue, and how many bytes that is, but for layers' roles.
fn read(world: &World, host: Option<&str>) -> (SignedView, usize) {
    let composed = host_view(&world.site, &world.view(), host).unwrap();
    let view = view_of(&world.site, host).unwrap();
    assert_eq!(*view.timestamp_digest(), composed.timestamp.digest);
    (view, composed.files.values().map(Vec::len).sum())
}

/// Approves hosts, and has the snapshot name sessions of each.
fn fleet(world: &World, numbers: std::ops::Range<u32>) {
    let mut files = world.view().files().clone();
    for number in numbers {
        let host = format!("web{number}");
        approve(
            &world.site,
            &host,
            &host_key(number).public(),
            Succession::No,
            now(),
        )
        .unwrap();
        let sessions = FileRef::of(1, host.as_bytes());
        files.insert(format!("host-{host}.json"), sessions);
    }
    let current = world.view();
    files.extend(
        current
            .files()
            .iter()
            .map(|(name, file)| (name.clone(), file.clone())),
    );
    let signing = crate::catalogue::change::Signing::now(&world.site).unwrap();
    signing.put_online(&current, files, now()).unwrap();
}

fn host_key(number: u32) -> SigningKey {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    SigningKey::generate(seed)
}

#[test]
fn the_view_of_one_host_is_as_large_in_a_fleet_of_a_hundred_as_alone() {
    let world = World::new();
    fleet(&world, 0..1);
    let (_, alone) = read(&world, Some("web0"));
    let (_, nobody) = read(&world, None);
    fleet(&world, 1..100);
    let (view, among_many) = read(&world, Some("web0"));
    // Versions have more digits by now.
    assert!(among_many <= alone + 24, "{alone} {among_many}");
    assert!(read(&world, None).1 <= nobody + 24);
    assert!(among_many < 16 << 10, "{among_many} bytes");
    let whole = world.view().hosts().count();
    assert_eq!((view.hosts().count(), whole), (1, 100));
}

#[test]
fn the_view_of_one_host_has_its_key_and_sessions_and_nothing_of_others() {
    let world = World::new();
    fleet(&world, 0..3);
    let (view, _) = read(&world, Some("web1"));
    assert_eq!(view.host_key("web1"), Some(&host_key(1).public()));
    assert_eq!(view.host_file("web1").unwrap().0, "1.host-web1.json");
    for other in ["web0", "web2"] {
        assert_eq!(view.host_key(other), None);
        assert!(!view.files().contains_key(&format!("host-{other}.json")));
    }
    let (view, _) = read(&world, None);
    assert_eq!(view.hosts().count(), 0);
}

#[test]
fn a_view_composed_twice_is_the_same_to_the_byte() {
    let world = World::new();
    fleet(&world, 0..2);
    let compose = || host_view(&world.site, &world.view(), Some("web1")).unwrap();
    assert_eq!(compose().files, compose().files);
}
