//! Keys that never are on the server: made elsewhere, named by their public halves, and used where they are.

use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::layer;

use super::keys::{carried, of, private, shown, text};
use super::{World, towline};

/// Where an officer keeps keys.
pub(super) struct Away {
    pub(super) folder: PathBuf,
    passphrase: PathBuf,
}

impl Away {
    pub(super) fn of(world: &World) -> Self {
        let folder = world.folder.path().join("officer");
        fs::create_dir_all(&folder).expect("a folder");
        let passphrase = folder.join("passphrase");
        private(&passphrase, "a long one of their own\n");
        Self { folder, passphrase }
    }

    /// Makes the key NAME.key; its public half.
    fn new_key(&self, name: &str) -> String {
        let key = format!("{name}.key");
        let with = ["--passphrase-file", text(&self.passphrase)];
        let output = towline(
            &self.folder,
            &[&["key", "new", &key, "--quiet"][..], &with].concat(),
        );
        assert!(output.status.success(), "{output:?}");
        let public = self.folder.join(format!("{name}.pub"));
        text(&public).to_owned()
    }

    /// Signs a document of the site as it would be done with a stick.
    pub(super) fn sign(&self, world: &World, document: &str, keys: &[&str]) {
        let there = world.site().join("to-sign").join(document);
        let here = self.folder.join(document);
        fs::rename(&there, &here).expect("the document waits");
        let mut arguments = vec!["key", "sign", document, "--yes"];
        for key in keys {
            arguments.extend(["--key", key]);
        }
        arguments.extend(["--passphrase-file", text(&self.passphrase)]);
        let output = towline(&self.folder, &arguments);
        assert!(output.status.success(), "{output:?}");
        fs::rename(&here, &there).expect("it comes back");
    }
}

/// Names of files in the site's `keys/` that end so.
fn in_keys(world: &World, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(world.site().join("keys")).expect("a folder");
    let names = entries.map(|it| it.expect("a file").file_name());
    let names = names.map(|it| it.into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.filter(|it| it.ends_with(ending)).collect();
    names.sort();
    names
}

/// A site with these options of `init`, which is expected to end so.
pub(super) fn init(folder: tempfile::TempDir, options: &[&str], exit: i32) -> (World, String) {
    let fixed = ["init", "site", "--server-name", "localhost"];
    let listen = ["--listen", "127.0.0.1:0"];
    let output = towline(folder.path(), &[&fixed[..], &listen, options].concat());
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{talk}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &talk;
    (World { folder }, said)
}

fn base_layer(world: &World, version: &str) -> String {
    let files = [("etc/it", 0o644, version.as_bytes())];
    let mut layer = layer(Kind::Base, "debian", Compression::Zstd, &files);
    layer.manifest.version = version.into();
    world.written(&format!("base-{version}"), &layer)
}

fn agent_layer(world: &World) -> String {
    let files = [("usr/bin/restic", 0o755, &b"agent"[..])];
    let layer = layer(Kind::Agent, "restic", Compression::Zstd, &files);
    world.written("agent", &layer)
}

#[test]
fn a_new_key_is_encrypted_is_its_owners_alone_and_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| towline(folder.path(), arguments);
    let output = run(&["key", "new", "root-a.key"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("root-a.key: passphrase "), "{said}");
    assert!(
        said.contains("root-a.pub: the public half of key "),
        "{said}"
    );
    let key = fs::read_to_string(folder.path().join("root-a.key")).expect("a key");
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let again = run(&["key", "new", "root-a.key"]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert_eq!(run(&["key", "new", "root-b"]).status.code(), Some(2));
    // Its public half alone is reason enough.
    fs::remove_file(folder.path().join("root-a.key")).expect("it goes");
    let again = run(&["key", "new", "root-a.key"]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
}

#[test]
fn a_new_root_key_is_named_by_its_public_half_and_never_is_on_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, _) = init(folder, &["--plain-root-keys"], 0);
    let away = Away::of(&world);
    let public = away.new_key("officer");
    let rotate = [
        "key",
        "rotate",
        "root",
        "--replace",
        "root-1",
        "--new-key",
        &public,
    ];
    // The site's own root keys sign; the new one must, too, where it is.
    let few = ["key", "rotate", "root", "--new-key", &public];
    world.refuses(&few, 2, &["root has 3 keys", "it would have 1"]);
    for key in ["keys/root-2.key", "keys/root-3.key"] {
        carried(&world, key);
    }
    let others = ["root-2.key", "root-3.key"].map(|it| world.folder.path().join("away").join(it));
    let before = world.timestamp();
    world.refuses(&rotate, 1, &["2.root.json has 1 of 2 signatures"]);
    away.sign(&world, "2.root.json", &["officer.key"]);
    world.refuses(&rotate, 1, &["2.root.json has 1 of 2 signatures"]);
    away.sign(&world, "2.root.json", &[text(&others[0])]);
    assert_eq!(world.timestamp(), before);
    let said = world.succeeds(&rotate);
    assert!(said.contains("the root is version 2 now"), "{said}");
    assert!(said.contains(" is elsewhere"), "{said}");
    let rows = shown(&world);
    let root = of(&rows, "root");
    assert_eq!(root["threshold"], 2);
    let files = root["keys"].as_array().expect("keys").iter();
    let files: Vec<_> = files
        .map(|it| it["file"].as_str().expect("a name"))
        .collect();
    assert_eq!(files, ["root-2.key", "root-3.key", "root-4.key"]);
    assert_eq!(in_keys(&world, "root-4.key"), [""; 0]);
    // Run once more it is done, and no third root is made.
    let again = ["key", "rotate", "root", "--new-key", &public];
    assert!(world.succeeds(&again).contains("the root is version 2 now"));
    // The new officer signs the next one.
    world.refuses(
        &["key", "rotate", "root", "--renew"],
        1,
        &["3.root.json has 0 of 2"],
    );
    away.sign(&world, "3.root.json", &["officer.key", text(&others[1])]);
    world.succeeds(&["key", "rotate", "root", "--renew"]);
}

#[test]
fn a_site_is_made_with_keys_that_never_were_on_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World { folder };
    let away = Away::of(&world);
    let mut options = vec![];
    let public = ["a", "b", "c"].map(|it| away.new_key(it));
    for it in &public {
        options.extend(["--root-key", it]);
    }
    let (targets, base) = (away.new_key("targets"), away.new_key("base"));
    options.extend(["--targets-key", &targets, "--base-key", &base]);
    let (world, talk) = init(world.folder, &options, 1);
    for part in [
        "1.root.json has 0 of 2",
        "1.targets.json has 0 of 1",
        "1.base.json has 0 of 1",
    ] {
        assert!(talk.contains(part), "{part}: {talk}");
    }
    let online = ["hosts.key", "plan.key", "snapshot.key", "timestamp.key"];
    assert_eq!(in_keys(&world, ".key"), online);
    let unfinished = ["first catalogue waits", "towline init again"];
    for command in [&["serve"][..], &["doctor"], &["catalogue", "list"]] {
        world.refuses(command, 1, &unfinished);
    }
    away.sign(&world, "1.root.json", &["a.key", "c.key"]);
    away.sign(&world, "1.targets.json", &["targets.key"]);
    // Other options than those that were signed are refused.
    let fewer = [&options[..], &["--root-threshold", "1"]].concat();
    let (world, talk) = init(world.folder, &fewer, 2);
    assert!(talk.contains("another change waits"), "{talk}");
    let (world, talk) = init(world.folder, &options, 1);
    assert!(!talk.contains("root.json"), "{talk}");
    away.sign(&world, "1.base.json", &["base.key"]);
    let (world, _) = init(world.folder, &options, 0);
    let (world, talk) = init(world.folder, &options, 2);
    assert!(talk.contains("exists already"), "{talk}");

    let layer = base_layer(&world, "1");
    world.refuses(
        &["publish", &layer],
        1,
        &["2.base.json has 0 of 1 signatures"],
    );
    away.sign(&world, "2.base.json", &["base.key"]);
    world.succeeds(&["publish", &layer]);
    assert!(world.succeeds(&["catalogue", "list"]).contains("debian"));
    assert!(!world.site().join("to-sign/2.base.json").exists());
}

#[test]
fn a_first_root_that_comes_back_with_other_keys_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World { folder };
    let away = Away::of(&world);
    let (own, thiefs) = (away.new_key("own"), away.new_key("thief"));
    let options = |key| ["--root-key", key, "--root-threshold", "1"];
    let (world, _) = init(world.folder, &options(&own), 1);
    // A site of the thief's own has a root that is signed as it should be.
    let elsewhere = world.folder.path().join("theirs");
    fs::create_dir(&elsewhere).expect("a folder");
    let fixed = ["init", "site", "--server-name", "localhost"];
    towline(&elsewhere, &[&fixed[..], &options(&thiefs)].concat());
    let root = |folder: &Path| folder.join("site/to-sign/1.root.json");
    fs::rename(root(&elsewhere), root(world.folder.path())).expect("it is swapped");
    away.sign(&world, "1.root.json", &["thief.key"]);
    let (world, talk) = init(world.folder, &options(&own), 2);
    assert!(talk.contains("another change waits"), "{talk}");
    assert!(!world.site().join("store/metadata/1.root.json").exists());
}

#[test]
fn two_of_three_targets_keys_sign_and_one_alone_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let several = [
        "--targets-keys",
        "3",
        "--targets-threshold",
        "2",
        "--plain-root-keys",
    ];
    let (world, said) = init(folder, &several, 0);
    assert!(said.contains("2 of 3 targets keys must sign"), "{said}");
    let away = Away::of(&world);
    let keys = [1, 2, 3].map(|it| carried(&world, &format!("keys/targets-{it}.key")));
    let layer = agent_layer(&world);
    let publish = ["publish", &layer, "--accept-missing"];
    world.refuses(&publish, 1, &["2.targets.json has 0 of 2 signatures"]);
    away.sign(&world, "2.targets.json", &[text(&keys[0])]);
    world.refuses(&publish, 1, &["2.targets.json has 1 of 2 signatures"]);
    away.sign(&world, "2.targets.json", &[text(&keys[0])]);
    world.refuses(&publish, 1, &["2.targets.json has 1 of 2 signatures"]);
    away.sign(&world, "2.targets.json", &[text(&keys[2])]);
    world.succeeds(&publish);

    // A stolen one is replaced by a key that is made elsewhere; how many there are and must sign stays.
    let public = away.new_key("next");
    let rotate = [
        "key",
        "rotate",
        "targets",
        "--replace",
        "targets-2",
        "--new-key",
        &public,
    ];
    let said = world.succeeds(&rotate);
    assert!(said.contains("the root is version 2 now"), "{said}");
    let rows = shown(&world);
    let targets = of(&rows, "targets");
    assert_eq!(targets["threshold"], 2);
    let files = targets["keys"].as_array().expect("keys").iter();
    let files: Vec<_> = files
        .map(|it| it["file"].as_str().expect("a name"))
        .collect();
    assert_eq!(files, ["targets-1.key", "targets-3.key", "targets-4.key"]);
    // The stolen key counts no more; the new one does.
    let renew = ["key", "rotate", "targets", "--renew"];
    world.refuses(&renew, 1, &["3.targets.json has 0 of 2 signatures"]);
    away.sign(&world, "3.targets.json", &[text(&keys[0]), text(&keys[1])]);
    world.refuses(&renew, 1, &["3.targets.json has 1 of 2 signatures"]);
    away.sign(&world, "3.targets.json", &["next.key"]);
    world.succeeds(&renew);
}

#[test]
fn all_targets_keys_are_replaced_at_once_and_the_new_ones_sign_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let several = [
        "--targets-keys",
        "3",
        "--targets-threshold",
        "2",
        "--plain-root-keys",
    ];
    let (world, _) = init(folder, &several, 0);
    let said = world.succeeds(&["key", "rotate", "targets"]);
    for number in 4..=6 {
        let made = format!("keys/targets-{number}.key: passphrase ");
        assert!(said.contains(&made), "{said}");
    }
    let rows = shown(&world);
    let targets = of(&rows, "targets");
    assert_eq!(
        (&targets["threshold"], &targets["version"]),
        (&2.into(), &2.into())
    );
    // Elsewhere: root and targets wait together, and one way suffices.
    let away = Away::of(&world);
    let public = ["x", "y", "z"].map(|it| away.new_key(it));
    let mut rotate = vec!["key", "rotate", "targets"];
    for it in &public {
        rotate.extend(["--new-key", it]);
    }
    let root = carried(&world, "keys/root-1.key");
    carried(&world, "keys/root-2.key");
    let waits = [
        "3.root.json has 1 of 2 signatures",
        "3.targets.json has 0 of 2 signatures",
    ];
    world.refuses(&rotate, 1, &waits);
    away.sign(&world, "3.root.json", &[text(&root)]);
    away.sign(&world, "3.targets.json", &["x.key", "z.key"]);
    world.succeeds(&rotate);
    let rows = shown(&world);
    assert_eq!(of(&rows, "targets")["version"], 3);
    assert_eq!(of(&rows, "targets")["keys"][0]["here"], false);
}

#[test]
fn a_site_with_one_targets_key_gets_three_of_which_two_must_sign() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, _) = init(folder, &["--plain-root-keys"], 0);
    let rotate = ["key", "rotate", "targets", "--threshold", "2"];
    world.refuses(
        &rotate,
        2,
        &["targets cannot have 1 keys of which 2 must sign"],
    );
    let said = world.succeeds(&[&rotate[..], &["--count", "3"]].concat());
    assert!(said.contains("keys/targets-4.key: passphrase "), "{said}");
    assert_eq!(in_keys(&world, "targets.key"), [""; 0]);
    let targets = |threshold: u32, keys: usize| {
        let rows = shown(&world);
        let row = of(&rows, "targets");
        assert_eq!(row["threshold"], threshold);
        assert_eq!(row["keys"].as_array().map(Vec::len), Some(keys));
    };
    targets(2, 3);
    // And keys that were made elsewhere, as many as are given.
    let away = Away::of(&world);
    let public = ["x", "y"].map(|it| away.new_key(it));
    let given = ["--new-key", &public[0], "--new-key", &public[1]];
    let rotate = ["key", "rotate", "targets", "--threshold", "1"];
    let rotate = [&rotate[..], &given].concat();
    world.refuses(&rotate, 1, &["3.targets.json has 0 of 1 signatures"]);
    // The threshold is a part of what was asked for.
    let other = ["key", "rotate", "targets", "--threshold", "2"];
    world.refuses(&[&other[..], &given].concat(), 2, &["another change waits"]);
    away.sign(&world, "3.targets.json", &["y.key"]);
    world.succeeds(&rotate);
    targets(1, 2);
    world.refuses(
        &["key", "rotate", "base", "--threshold", "1"],
        2,
        &["of root alone, or of targets alone"],
    );
}

#[test]
fn one_targets_key_goes_elsewhere_and_the_one_that_was_here_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, _) = init(folder, &["--plain-root-keys"], 0);
    let away = Away::of(&world);
    let public = away.new_key("targets");
    let rotate = ["key", "rotate", "targets", "--new-key", &public];
    // The root's keys are here, and so is the old key: the new one's signature is all that lacks.
    world.refuses(&rotate, 1, &["2.targets.json has 0 of 1 signatures"]);
    away.sign(&world, "2.targets.json", &["targets.key"]);
    world.succeeds(&rotate);
    assert_eq!(in_keys(&world, "targets.key"), [""; 0]);
    let layer = agent_layer(&world);
    let publish = ["publish", &layer, "--accept-missing"];
    world.refuses(&publish, 1, &["3.targets.json has 0 of 1 signatures"]);
    away.sign(&world, "3.targets.json", &["targets.key"]);
    world.succeeds(&publish);
}

#[test]
fn a_base_key_made_elsewhere_signs_in_the_place_of_the_one_on_the_server() {
    let world = World::new();
    world.succeeds(&["publish", &base_layer(&world, "1")]);
    let away = Away::of(&world);
    let public = away.new_key("base");
    let rotate = ["key", "rotate", "base", "--new-key", &public];
    world.refuses(&rotate, 1, &["3.base.json has 0 of 1 signatures"]);
    away.sign(&world, "3.base.json", &["base.key"]);
    world.succeeds(&rotate);
    assert_eq!(in_keys(&world, "base.key"), [""; 0]);
    let layer = base_layer(&world, "2");
    world.refuses(
        &["publish", &layer],
        1,
        &["4.base.json has 0 of 1 signatures"],
    );
    away.sign(&world, "4.base.json", &["base.key"]);
    world.succeeds(&["publish", &layer]);
    // And back: a key that is made here is the role's again.
    world.succeeds(&["key", "rotate", "base"]);
    assert_eq!(of(&shown(&world), "base")["keys"][0]["here"], true);
    assert_eq!(in_keys(&world, "base.pub"), [""; 0]);
}

#[test]
fn an_agents_first_layer_waits_for_the_key_whose_public_half_is_there() {
    let world = World::new();
    let away = Away::of(&world);
    let public = away.new_key("agent-restic");
    fs::copy(public, world.site().join("keys/agent-restic.pub")).expect("it is brought");
    let layer = agent_layer(&world);
    let publish = ["publish", &layer, "--accept-missing"];
    world.refuses(&publish, 1, &["1.agent-restic.json has 0 of 1 signatures"]);
    away.sign(&world, "1.agent-restic.json", &["agent-restic.key"]);
    world.succeeds(&publish);
    assert_eq!(in_keys(&world, "agent-restic.key"), [""; 0]);
}

#[test]
fn what_is_no_public_half_and_whom_the_server_signs_for_are_refused() {
    let world = World::new();
    let away = Away::of(&world);
    let public = away.new_key("next");
    let secret = away.folder.join("next.key");
    let before = world.timestamp();
    for role in ["plan", "hosts", "snapshot", "timestamp"] {
        let rotate = ["key", "rotate", role, "--new-key", &public];
        world.refuses(&rotate, 2, &["its new key is made there"]);
    }
    let secret = ["key", "rotate", "base", "--new-key", text(&secret)];
    world.refuses(&secret, 2, &["is no public key that machines believe"]);
    let two = [
        "key",
        "rotate",
        "base",
        "--new-key",
        &public,
        "--new-key",
        &public,
    ];
    world.refuses(&two, 2, &["base has one key, and 2 were given"]);
    let twice = [&["--root-key", &public][..], &["--root-key", &public]].concat();
    let folder = tempfile::tempdir().expect("a folder");
    let (_, talk) = init(folder, &twice, 2);
    assert!(talk.contains("one root key was given twice"), "{talk}");
    let folder = tempfile::tempdir().expect("a folder");
    let (_, talk) = init(folder, &["--root-key", &public], 2);
    assert!(
        talk.contains("2 of 1 root keys cannot be required"),
        "{talk}"
    );
    assert_eq!(world.timestamp(), before);
    assert!(!world.site().join("to-sign").exists());
}
