//! New keys that were made elsewhere: what is here is their public half.

use super::*;

impl World {
    fn named(&self, role: &str, new_keys: &[&SigningKey]) -> Result<Rotated> {
        let read = |number| keys::read(&self.site.key_path(&format!("root-{number}"))).unwrap();
        let rotation = Rotation {
            roles: &[role],
            change: Change::Rotate(vec![]),
            new_keys: new_keys.iter().map(|it| it.public()).collect(),
            size: None,
            root_keys: [1, 2].map(|it| read(it).into()).into(),
            make_key: &mut |path| panic!("no key is made here: {path:?}"),
        };
        rotate(&self.site, rotation, now())
    }

    /// Rotates to this key, which signs elsewhere what waits for it.
    fn hand_over(&self, role: &str, key: &SigningKey) {
        let waits = self.named(role, &[key]).unwrap_err();
        self.sign_elsewhere(waits, hex::encode(key.seed()).as_bytes());
        self.named(role, &[key]).unwrap();
    }
}

#[test]
fn a_rotation_to_a_key_elsewhere_that_was_cut_off_needs_no_second_signature() {
    let key = SigningKey::generate([7; 32]);
    let world = World::new();
    world.publish(&[world.agent("1")]).unwrap();
    let before = fs::read(world.site.key_path("targets")).unwrap();
    world.hand_over("targets", &key);
    // As it was before the root was put into the store: the targets are signed by both keys already.
    let root = world.site.store.metadata_path("2.root.json");
    fs::rename(root, world.site.to_sign().join("2.root.json")).unwrap();
    keys::write_private(&world.site.key_path("targets"), &before).unwrap();
    assert_eq!(world.machine().layers().len(), 1);
    assert_eq!(world.named("targets", &[&key]).unwrap().root, 2);
    assert_eq!(world.machine().layers().len(), 1);
    assert!(!world.site.key_path("targets").exists());

    let world = World::new();
    world.publish(&[world.base("1")]).unwrap();
    let before = fs::read(world.site.key_path("base")).unwrap();
    world.hand_over("base", &key);
    // As it was before the key of before was removed.
    keys::write_private(&world.site.key_path("base"), &before).unwrap();
    let public = keys::public_path(&world.site.key_path("base"));
    fs::remove_file(&public).unwrap();
    let timestamp = world.timestamp();
    world.named("base", &[&key]).unwrap();
    assert!(!world.site.key_path("base").exists() && public.exists());
    assert_eq!(world.timestamp(), timestamp);
}

#[test]
fn a_lost_key_is_replaced_by_one_that_is_elsewhere() {
    let key = SigningKey::generate([7; 32]);
    for role in ["targets", "base"] {
        let world = World::new();
        world.publish(&[world.base("1")]).unwrap();
        world.without(role);
        world.hand_over(role, &key);
        assert_eq!(world.machine().layers().len(), 1, "{role}");
        assert_eq!(world.waiting(), 0, "{role}");
    }
}

#[test]
fn another_new_key_than_the_one_that_waits_is_not_named_in_its_place() {
    let [own, other] = [7, 8].map(|it| SigningKey::generate([it; 32]));
    for role in ["targets", "base"] {
        let world = World::new();
        world.publish(&[world.base("1")]).unwrap();
        let waits = world.named(role, &[&own]).unwrap_err();
        world.sign_elsewhere(waits, hex::encode(own.seed()).as_bytes());
        let found = world.named(role, &[&other]).unwrap_err();
        match role {
            // The root that waits is signed, and names another.
            "targets" => assert!(matches!(found, CatalogueError::Waits(_)), "{found}"),
            // It signs the same layers, whoever signs: the other key's signature is asked for.
            _ => assert!(found.to_string().contains("0 of 1 signatures"), "{found}"),
        }
        let named = world.machine();
        assert!(!named.root().keys.values().any(|it| *it == other.public()));
    }
}

#[test]
fn what_the_server_publishes_meanwhile_is_signed_by_the_key_of_before() {
    let key = SigningKey::generate([7; 32]);
    let world = World::new();
    world.publish(&[world.base("1")]).unwrap();
    world.named("base", &[&key]).unwrap_err();
    world.publish(&[world.base("2")]).unwrap();
    assert_eq!(world.machine().layers().len(), 2);
    // What waited is of before; what waits now has both layers.
    world.hand_over("base", &key);
    assert_eq!(world.machine().layers().len(), 2);
    assert_eq!(world.signs("base").len(), 2);
}

/// One trip to the keys: all that waits is signed by each of them that it wants.
fn trip(world: &World, error: CatalogueError, keys: &[&[u8]]) {
    let CatalogueError::ToSign(waiting) = error else {
        panic!("{error}");
    };
    for file in waiting.into_iter().map(|it| it.file) {
        let bytes = fs::read(&file).unwrap();
        let mut envelope = Envelope::parse(&bytes, "it", METADATA_BYTES_MAX).unwrap();
        for key in keys {
            envelope.add_signature(&read_bytes(world, key)).unwrap();
        }
        fs::write(file, envelope.to_bytes()).unwrap();
    }
}

/// Does it again after each trip; how many there were.
fn trips(world: &World, roles: &[&str], change: &Change, keys: &[&[u8]]) -> usize {
    for number in 0..4 {
        let rotation = Rotation {
            roles,
            change: change.clone(),
            root_keys: vec![],
            new_keys: vec![],
            size: None,
            make_key: &mut |path| keys::create_offline(path, None),
        };
        match rotate(&world.site, rotation, now()) {
            Ok(_) => return number,
            Err(error) => trip(world, error, keys),
        }
    }
    panic!("it never ends");
}

#[test]
fn keys_of_several_roles_are_replaced_in_two_trips_and_none_twice() {
    let world = World::new();
    world.publish(&[world.agent("1")]).unwrap();
    let away = ["root-1", "root-2", "targets"].map(|name| world.without(name));
    let away: Vec<_> = away.iter().map(Vec::as_slice).collect();
    let roles = ["snapshot", "timestamp", "plan", "hosts"];
    let before = roles.map(|it| world.public(it));
    let change = Change::Rotate(vec![]);
    // The root's, and the targets', which names the keys of plan and hosts.
    assert_eq!(trips(&world, &roles, &change, &away), 2);
    assert_eq!(newest_root(&world.site.store).unwrap().version(), 2);
    let after = roles.map(|it| world.public(it));
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after)
    );
    assert_eq!((world.machine().layers().len(), world.waiting()), (1, 0));
    assert!(
        roles
            .iter()
            .all(|it| !world.site.next_key_path(it).exists())
    );
    // Asked for again, it begins again.
    assert_eq!(trips(&world, &roles, &change, &away), 2);
    assert_eq!(newest_root(&world.site.store).unwrap().version(), 3);
}

#[test]
fn documents_of_several_roles_get_a_new_date_by_keys_that_are_elsewhere() {
    let world = World::new();
    world.publish(&[world.base("1")]).unwrap();
    let away = ["targets", "base"].map(|name| world.without(name));
    let away: Vec<_> = away.iter().map(Vec::as_slice).collect();
    assert!(trips(&world, &["targets", "base"], &Change::Renew, &away) <= 2);
    assert_eq!(world.waiting(), 0);
    assert_eq!(world.machine().layers().len(), 1);
}
