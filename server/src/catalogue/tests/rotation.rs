//! Keys that are replaced: what a medium with the first root makes of it, with keys that are elsewhere, lost, or both.

mod elsewhere;

use towline_contract::trust::metadata::{RoleName, Root};
use towline_contract::trust::{Envelope, KeyId, SigningKey, sign};

use super::*;
use crate::keys::{self, KeyError};

/// Every role with one key.
const ROLES: [&str; 6] = ["targets", "snapshot", "timestamp", "base", "hosts", "plan"];

impl World {
    /// Rotates with the root keys of these numbers that are here.
    fn rotate(&self, role: &str, change: Change, root_keys: &[u32]) -> Result<Rotated> {
        let read = |number| keys::read(&self.site.key_path(&format!("root-{number}"))).unwrap();
        let rotation = Rotation {
            roles: &[role],
            change,
            root_keys: root_keys.iter().map(|it| read(it).into()).collect(),
            new_keys: vec![],
            size: None,
            make_key: &mut |path| keys::create_offline(path, None),
        };
        rotate(&self.site, rotation, now())
    }

    fn new_key(&self, role: &str) -> Result<Rotated> {
        self.rotate(role, Change::Rotate(vec![]), &[1, 2])
    }

    fn public(&self, name: &str) -> KeyId {
        keys::read(&self.site.key_path(name)).unwrap().public().id()
    }

    /// What a machine reads, from the first root on, as its server composes it.
    fn machine(&self) -> SignedView {
        view_of(&self.site, None).unwrap()
    }

    /// Signs the one document that waits with the key of these bytes, as an officer does elsewhere.
    fn sign_elsewhere(&self, error: CatalogueError, key: &[u8]) {
        let CatalogueError::ToSign(waiting) = error else {
            panic!("{error}");
        };
        let path = &waiting[0].file;
        let bytes = fs::read(path).unwrap();
        let mut envelope = Envelope::parse(&bytes, "it", METADATA_BYTES_MAX).unwrap();
        envelope.add_signature(&read_bytes(self, key)).unwrap();
        fs::write(path, envelope.to_bytes()).unwrap();
    }

    fn waiting(&self) -> usize {
        let files = fs::read_dir(self.site.to_sign());
        let files = files
            .into_iter()
            .flatten()
            .map(|it| it.unwrap().file_name());
        let json = |it: &std::ffi::OsString| it.to_string_lossy().ends_with(".json");
        files.filter(json).count()
    }
}

fn read_bytes(world: &World, key: &[u8]) -> SigningKey {
    let path = world.folder.path().join("elsewhere.key");
    let _ = fs::remove_file(&path);
    keys::write_private(&path, key).unwrap();
    keys::read(&path).unwrap()
}

#[test]
fn after_every_key_was_replaced_a_medium_of_the_first_day_reads_the_catalogue() {
    let world = World::new();
    world.publish(&[world.base("1"), world.agent("1")]).unwrap();
    for role in ROLES.iter().chain(&["agent-restic"]) {
        let before = world.public(role);
        let done = world.new_key(role).unwrap();
        assert_eq!(done.keys, [world.site.key_path(role)], "{role}");
        assert!(!world.site.next_key_path(role).exists());
        assert_ne!(world.public(role), before, "{role}");
        assert_eq!(world.machine().layers().len(), 2, "{role}");
    }
    world
        .rotate("root", Change::Rotate(vec![]), &[1, 2])
        .unwrap();
    assert_eq!(newest_root(&world.site.store).unwrap().version(), 5);
    world.publish(&[world.base("2"), world.agent("2")]).unwrap();
    assert_eq!(world.machine().layers().len(), 4);
    assert!(refresh(&world.site, hours(20)).unwrap());
    assert_eq!(world.waiting(), 0);
}

#[test]
fn what_a_stolen_key_signs_is_refused_once_it_was_replaced() {
    for role in ["timestamp", "snapshot", "base", "targets", "hosts"] {
        let world = World::new();
        world.publish(&[world.base("1")]).unwrap();
        let stolen = world.without(role);
        keys::write_private(&world.site.key_path(role), &stolen).unwrap();
        world.new_key(role).unwrap();
        let store = &world.site.store;
        let current = world.view();
        // What the thief signs: the very document of now, so that nothing else is wrong with it.
        let name = match role {
            "timestamp" => TIMESTAMP_FILE.to_owned(),
            _ => {
                let documents = current.documents();
                let of = documents.iter().find(|(it, _)| *it == role).unwrap();
                format!("{}.{role}.json", of.1.version)
            }
        };
        let path = store.metadata_path(&name);
        let bytes = fs::read(&path).unwrap();
        let honest = Envelope::parse(&bytes, &name, METADATA_BYTES_MAX).unwrap();
        let forged = sign(&honest.signed, &[&read_bytes(&world, &stolen)]).unwrap();
        fs::write(&path, forged).unwrap();
        let refused = view(store).unwrap_err();
        assert!(matches!(refused, CatalogueError::Trust(_)), "{role}");
    }
}

#[test]
fn a_lost_root_key_is_replaced_by_the_others_and_a_majority_is_needed() {
    let world = World::new();
    let lost = world.public("root-1");
    world.without("root-1");
    let change = || Change::Rotate(vec![lost.clone()]);
    let few = world.rotate("root", change(), &[2]).unwrap_err();
    assert!(few.to_string().contains("1 of 2 signatures"), "{few}");
    assert_eq!(newest_root(&world.site.store).unwrap().version(), 1);
    // What was signed waits, with the key that was made for it.
    world.rotate("root", change(), &[3]).unwrap();
    let root = newest_root(&world.site.store).unwrap();
    let ids = &root.document().roles["root"].keyids;
    let wanted: Vec<_> = ["root-2", "root-3", "root-4"]
        .map(|it| world.public(it))
        .into();
    assert_eq!((root.version(), ids), (2, &wanted));
    let unknown = world.rotate("root", change(), &[2, 3]).unwrap_err();
    assert!(
        unknown.to_string().contains("is no key of root"),
        "{unknown}"
    );
}

#[test]
fn a_key_that_is_lost_and_not_only_stolen_is_replaced_too() {
    for role in ROLES {
        let world = World::new();
        world.publish(&[world.base("1")]).unwrap();
        world.without(role);
        world.new_key(role).unwrap();
        assert_eq!(world.machine().layers().len(), 1, "{role}");
        assert!(world.site.key_path(role).exists());
    }
}

#[test]
fn root_keys_sign_on_another_machine_and_the_same_command_goes_on() {
    for role in ["targets", "snapshot", "timestamp"] {
        let world = World::new();
        world.publish(&[world.agent("1")]).unwrap();
        let [first, second] = ["root-1", "root-2"].map(|name| world.without(name));
        let before = world.timestamp();
        let away = || world.rotate(role, Change::Rotate(vec![]), &[]);
        world.sign_elsewhere(away().unwrap_err(), &first);
        assert_eq!(world.timestamp(), before, "nothing has changed yet");
        // The server goes on meanwhile.
        assert!(refresh(&world.site, hours(13)).unwrap());
        assert_eq!(world.machine().layers().len(), 1);
        world.sign_elsewhere(away().unwrap_err(), &second);
        let done = away().unwrap();
        assert_eq!((done.root, world.waiting()), (2, 0), "{role}");
        assert_eq!(world.machine().layers().len(), 1);
    }
}

#[test]
fn layers_are_published_with_the_key_of_their_kind_on_another_machine() {
    let world = World::new();
    let (base, targets) = (world.without("base"), world.without("targets"));
    let first = world.publish(&[world.base("1")]).unwrap_err();
    world.sign_elsewhere(first, &base);
    world.publish(&[world.base("1")]).unwrap();
    assert_eq!(world.signs("base"), ["base/debian/1/amd64"]);
    // An agent's first layer: its key is made here, and the targets key, which is not, names it.
    let first = world.publish(&[world.agent("1")]).unwrap_err();
    world.sign_elsewhere(first, &targets);
    world.publish(&[world.agent("1")]).unwrap();
    assert_eq!(world.signs("agent-restic"), ["agent/restic/1/amd64"]);
    assert_eq!(world.waiting(), 0);
}

#[test]
fn a_signature_for_another_document_is_of_no_use() {
    let world = World::new();
    let base = world.without("base");
    let first = world.publish(&[world.base("1")]).unwrap_err();
    world.sign_elsewhere(first, &base);
    let other = world.publish(&[world.base("2")]).unwrap_err();
    let CatalogueError::Waits(path) = other else {
        panic!("{other}");
    };
    fs::remove_file(path).unwrap();
    let other = world.publish(&[world.base("2")]).unwrap_err();
    assert!(other.to_string().contains("0 of 1 signatures"), "{other}");
    let strangers = SigningKey::generate([9; 32]);
    world.sign_elsewhere(other, hex::encode(strangers.seed()).as_bytes());
    let refused = world.publish(&[world.base("2")]).unwrap_err();
    assert!(
        refused.to_string().contains("0 of 1 signatures"),
        "{refused}"
    );
}

#[test]
fn an_interrupted_rotation_goes_on_wherever_it_was_cut_off() {
    for role in ROLES {
        for lost in [false, true] {
            let world = World::new();
            world.publish(&[world.agent("1")]).unwrap();
            if lost {
                world.without(role);
            }
            // Each name is written once: what is taken away afterwards is as if the command had been cut off before it.
            let before = listing(&world);
            world.new_key(role).unwrap();
            let next = world.without(role);
            keys::write_private(&world.site.next_key_path(role), &next).unwrap();
            let done = world.new_key(role).unwrap();
            assert_eq!(done.keys, [world.site.key_path(role)], "{role}");
            assert_eq!(world.without(role), next, "the same key: {role}");
            assert_ne!(listing(&world), before);
            assert_eq!(newest_root(&world.site.store).unwrap().version(), done.root);
        }
    }
}

#[test]
fn a_rotation_of_a_lost_key_that_was_cut_off_before_the_new_root_goes_on() {
    for role in ["targets", "snapshot", "timestamp"] {
        let world = World::new();
        world.publish(&[world.agent("1")]).unwrap();
        world.without(role);
        world.new_key(role).unwrap();
        // As it was before the root was put into the store: signed by the new key, which no root names yet.
        let root = world.site.store.metadata_path("2.root.json");
        fs::rename(root, world.site.to_sign().join("2.root.json")).unwrap();
        let next = world.without(role);
        keys::write_private(&world.site.next_key_path(role), &next).unwrap();
        assert!(view(&world.site.store).is_err());
        world.new_key(role).unwrap();
        assert_eq!(world.machine().layers().len(), 1, "{role}");
        assert_eq!(world.without(role), next);
    }
}

fn listing(world: &World) -> Vec<std::ffi::OsString> {
    let folder = world.site.store.metadata_path("");
    let files = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = files.map(|it| it.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn five_roots_lead_a_medium_on_though_those_between_have_expired() {
    let world = World::new();
    for _ in 0..4 {
        world.rotate("root", Change::Renew, &[1, 3]).unwrap();
    }
    let later = hours(24 * 3660);
    let root = newest_root(&world.site.store).unwrap();
    assert_eq!(root.version(), 5);
    assert!(
        root.require_date(later).is_err(),
        "all of them have expired by then"
    );
    assert_eq!(world.machine().root().header.version, 5);
}

#[test]
fn documents_get_a_new_date_with_the_keys_they_have() {
    let world = World::new();
    world.publish(&[world.agent("1")]).unwrap();
    for role in [
        "targets",
        "snapshot",
        "timestamp",
        "base",
        "hosts",
        "agent-restic",
    ] {
        let before = world.public(role);
        world.rotate(role, Change::Renew, &[]).unwrap();
        assert_eq!(world.public(role), before, "{role}");
        assert_eq!(world.machine().layers().len(), 1);
    }
    for role in ["plan", "agent-none", "host-web1", "nothing"] {
        let refused = world.rotate(role, Change::Renew, &[]);
        assert!(matches!(refused, Err(CatalogueError::Role(_))), "{role}");
    }
}

/// A key that waits to be named signs nothing alone: while the base's and the targets' keys are away, layers wait too.
#[test]
fn a_key_that_nothing_names_yet_signs_nothing_by_itself() {
    let world = World::new();
    let (base, targets) = (world.without("base"), world.without("targets"));
    let waits = world.new_key("base").unwrap_err();
    assert!(matches!(waits, CatalogueError::ToSign(_)));
    let before = world.timestamp();
    let published = world.publish(&[world.base("1")]).unwrap_err();
    assert_eq!(world.timestamp(), before);
    world.sign_elsewhere(published, &base);
    world.publish(&[world.base("1")]).unwrap();
    world.sign_elsewhere(world.new_key("base").unwrap_err(), &targets);
    world.new_key("base").unwrap();
    assert_eq!(world.machine().layers().len(), 1);

    let world = World::new();
    let targets = world.without("targets");
    world.without("hosts");
    let waits = world.new_key("hosts").unwrap_err();
    // The server keeps the rest fresh meanwhile, and says what it cannot.
    let before = world.timestamp();
    assert!(matches!(
        refresh(&world.site, hours(24 * 4)),
        Err(CatalogueError::Key(_))
    ));
    assert_ne!(world.timestamp(), before);
    assert_eq!(world.view().layers().len(), 0);
    world.sign_elsewhere(waits, &targets);
    world.new_key("hosts").unwrap();
    assert!(refresh(&world.site, hours(24 * 4)).is_ok());
}

/// What somebody does to a root on its way.
type Edit<'a> = &'a dyn Fn(&mut Root, &SigningKey);

#[test]
fn a_root_that_comes_back_with_more_than_was_asked_for_is_refused() {
    let swapped = |edit: Edit<'_>| {
        let world = World::new();
        world
            .rotate("targets", Change::Rotate(vec![]), &[1])
            .unwrap_err();
        let path = world.site.to_sign().join("2.root.json");
        let bytes = fs::read(&path).unwrap();
        let envelope = Envelope::parse(&bytes, "it", METADATA_BYTES_MAX).unwrap();
        let mut root: Root = serde_json::from_value(envelope.signed).unwrap();
        let next = keys::read(&world.site.next_key_path("targets")).unwrap();
        edit(&mut root, &next);
        // One officer signs; the command would add the second signature.
        let officer = keys::read(&world.site.key_path("root-1")).unwrap();
        fs::write(&path, sign(&root, &[&officer]).unwrap()).unwrap();
        let found = world.rotate("targets", Change::Rotate(vec![]), &[2, 3]);
        assert_eq!(newest_root(&world.site.store).unwrap().version(), 1);
        found.unwrap_err()
    };
    let own = SigningKey::generate([66; 32]).public();
    let more = |root: &mut Root, next: &SigningKey| {
        root.set_role(RoleName::Targets, &[next.public(), own.clone()], 1);
    };
    let other = |root: &mut Root, _: &SigningKey| {
        root.set_role(RoleName::Targets, std::slice::from_ref(&own), 1);
    };
    let timestamp = |root: &mut Root, _: &SigningKey| {
        root.set_role(RoleName::Timestamp, std::slice::from_ref(&own), 1);
    };
    let few = |root: &mut Root, _: &SigningKey| {
        root.roles.get_mut("root").unwrap().threshold = 1;
    };
    let late = |root: &mut Root, _: &SigningKey| root.header.expires = Timestamp::MAX;
    let all: [Edit<'_>; 5] = [&more, &other, &timestamp, &few, &late];
    for edit in all {
        let found = swapped(edit);
        assert!(matches!(found, CatalogueError::Waits(_)), "{found}");
    }
}

#[test]
fn another_key_than_the_one_that_waits_is_not_replaced_in_its_name() {
    let world = World::new();
    let [first, second] = ["root-1", "root-2"].map(|it| world.public(it));
    world
        .rotate("root", Change::Rotate(vec![first]), &[3])
        .unwrap_err();
    let other = world.rotate("root", Change::Rotate(vec![second]), &[1, 3]);
    assert!(matches!(other, Err(CatalogueError::Waits(_))));
    assert_eq!(newest_root(&world.site.store).unwrap().version(), 1);
}

#[test]
fn a_waiting_root_whose_new_key_is_gone_is_refused() {
    let world = World::new();
    world
        .rotate("targets", Change::Rotate(vec![]), &[1])
        .unwrap_err();
    fs::remove_file(world.site.next_key_path("targets")).unwrap();
    let found = world.new_key("targets").unwrap_err().to_string();
    assert!(
        found.contains("targets.key.next, which is not there"),
        "{found}"
    );
    assert_eq!(world.machine().root().header.version, 1);
}

#[test]
fn what_a_finished_rotation_left_is_not_taken_for_the_next_one() {
    let world = World::new();
    world.rotate("root", Change::Renew, &[1, 2]).unwrap();
    // An officer brings a copy back after all is done.
    let stored = world.site.store.metadata_path("2.root.json");
    fs::copy(stored, world.site.to_sign().join("2.root.json")).unwrap();
    let stolen = world.public("root-1");
    world
        .rotate("root", Change::Rotate(vec![stolen.clone()]), &[2, 3])
        .unwrap();
    let root = newest_root(&world.site.store).unwrap();
    assert_eq!(root.version(), 3);
    assert!(!root.document().roles["root"].keyids.contains(&stolen));
}

#[test]
fn a_key_that_was_left_by_a_change_that_was_given_up_is_not_used() {
    for role in ["timestamp", "base"] {
        let world = World::new();
        let left = SigningKey::generate([5; 32]);
        let path = world.site.next_key_path(role);
        keys::write_private(&path, hex::encode(left.seed()).as_bytes()).unwrap();
        world.new_key(role).unwrap();
        assert_ne!(world.public(role), left.public().id(), "{role}");
    }
}

#[test]
fn the_servers_keys_are_replaced_together_when_its_disk_is_lost() {
    let world = World::new();
    world.publish(&[world.agent("1")]).unwrap();
    let roles = ["snapshot", "timestamp", "plan", "hosts"];
    for role in roles {
        world.without(role);
    }
    let read = |number| keys::read(&world.site.key_path(&format!("root-{number}"))).unwrap();
    let rotation = Rotation {
        roles: &roles,
        change: Change::Rotate(vec![]),
        root_keys: [1, 2].map(|it| read(it).into()).into(),
        new_keys: vec![],
        size: None,
        make_key: &mut |path| keys::create_offline(path, None),
    };
    let done = rotate(&world.site, rotation, now()).unwrap();
    assert_eq!((done.keys.len(), done.root), (4, 2));
    assert_eq!(world.machine().layers().len(), 1);
}

#[test]
fn two_changes_of_the_targets_do_not_overwrite_each_others_signatures() {
    let world = World::new();
    let targets = world.without("targets");
    world.sign_elsewhere(world.new_key("base").unwrap_err(), &targets);
    let other = world.new_key("plan");
    assert!(matches!(other, Err(CatalogueError::Waits(_))));
    world.new_key("base").unwrap();
}

#[test]
fn one_change_of_the_root_waits_at_a_time() {
    let world = World::new();
    world
        .rotate("targets", Change::Rotate(vec![]), &[1])
        .unwrap_err();
    let other = world.rotate("snapshot", Change::Rotate(vec![]), &[1, 2]);
    assert!(matches!(other, Err(CatalogueError::Waits(_))));
    world
        .rotate("targets", Change::Rotate(vec![]), &[2])
        .unwrap();
    world.new_key("snapshot").unwrap();
}

#[test]
fn a_key_that_cannot_be_made_changes_nothing() {
    let world = World::new();
    let before = (listing(&world), world.timestamp());
    let rotation = Rotation {
        roles: &["root"],
        change: Change::Rotate(vec![]),
        root_keys: vec![],
        new_keys: vec![],
        size: None,
        make_key: &mut |path| Err(KeyError::Format(path.into())),
    };
    assert!(matches!(
        rotate(&world.site, rotation, now()),
        Err(CatalogueError::Key(_))
    ));
    assert_eq!((listing(&world), world.timestamp()), before);
}
