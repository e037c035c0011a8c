//! Layers for the target: onto a folder that stands for the recreated file systems, from a real server, and away again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use towline_contract::Timestamp;
use towline_contract::handover::{HandOverLayer, HandOverNote};
use towline_contract::lanes::{Bounds, Rule};
use towline_contract::manifest::{Manifest, Placement};
use towline_contract::stamp::Network;
use towline_harness::layer::{Item, noise};
use towline_harness::proxy::{Fault, Proxy};
use towline_stage1::fetch::{FetchError, Mirrors, Patience, Server};
use towline_stage1::place::PlaceError;
use towline_stage1::rescue::on_target::{OnTarget, OnTargetError};

use crate::placing::{agent_of, base_of};
use crate::world::{CHUNK, Lines, Ready, kernel, patience, plain, run};

const RECOVERY: &str = "r-0123456789abcdef";

/// A rescue system's tree with a host's recreated file systems in it, and a site with an agent for them.
struct World {
    dir: tempfile::TempDir,
    ready: Ready,
    lines: Lines,
}

impl World {
    fn with(agent: Vec<Item>) -> Self {
        let mut agent = agent_of(agent);
        agent.manifest.placement = Placement::Target;
        let ready = Ready::serving(&[kernel(), base_of(vec![]), agent]);
        let dir = tempfile::tempdir().unwrap();
        let it = Self {
            dir,
            ready,
            lines: Lines::default(),
        };
        it.write("usr/bin/sh", "the base's");
        it.write("etc/ssl/ca.crt", "the base's");
        symlink("usr/bin", it.root().join("bin")).unwrap();
        it.write("mnt/local/etc/hostname", "web1");
        // A host may have a folder of this name.
        it.write("mnt/local/.towline/own", "the host's");
        symlink("/etc/hostname", it.target().join("etc/link")).unwrap();
        it
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("rescue")
    }

    fn target(&self) -> PathBuf {
        self.root().join("mnt/local")
    }

    fn folder(&self) -> PathBuf {
        self.target().join(format!(".towline-layers-{RECOVERY}"))
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn note(&self) -> HandOverNote {
        let layer = |it: &Manifest| HandOverLayer {
            target: it.target_name(),
            image: None,
            checks: vec![],
            agent: None,
            session: None,
            on_target: (it.placement == Placement::Target).then(|| it.clone()),
            bounds: Bounds::default(),
        };
        HandOverNote {
            recovery: RECOVERY.into(),
            host: None,
            time: Timestamp::UNIX_EPOCH,
            servers: vec![],
            ca: vec![],
            mirrors: vec![format!("http://{}", self.ready.site.http)],
            replaceable: vec!["etc/ssl/ca.crt".into()],
            network: Network::default(),
            shell: false,
            layers: self.ready.manifests.iter().map(|it| layer(it)).collect(),
            order: None,
        }
    }

    fn on_target(&self) -> OnTarget {
        OnTarget::of(&self.note(), &self.root(), &self.target()).unwrap()
    }

    /// Places from the mirrors of the note; nothing is removed after a failure, as when the power fails.
    fn place(&self) -> Result<(), OnTargetError> {
        let mirrors = Mirrors::named(
            plain().with_patience(patience()),
            &self.note().mirrors,
            &self.lines,
        );
        self.place_from(&mirrors)
    }

    fn place_from(&self, mirrors: &Mirrors) -> Result<(), OnTargetError> {
        let mut placed = Vec::new();
        let mut remember = |it: &Manifest, _| placed.push(it.target_name());
        let on_target = self.on_target();
        let done = run(on_target.place(mirrors, &self.lines, &mut remember));
        let wanted = if done.is_ok() {
            vec![AGENT.to_owned()]
        } else {
            vec![]
        };
        assert_eq!(placed, wanted);
        done
    }

    /// A mirror that does this to the first request for the agent's layer, and that to each later one.
    fn bad_mirror(&self, first: Fault, later: Fault) -> (Proxy, Mirrors) {
        let agent = self.ready.manifests.last().unwrap();
        let path = format!("/v1/layers/{}", agent.digest);
        let asked_before = AtomicBool::new(false);
        let script = move |asked: &str, _| match asked == path {
            true if asked_before.swap(true, Ordering::Relaxed) => later.clone(),
            true => first.clone(),
            false => Fault::None,
        };
        let proxy = Proxy::start(self.ready.site.http, Box::new(script));
        let little = Patience {
            progress: std::time::Duration::from_millis(300),
            ..patience()
        };
        let servers = vec![Server::parse(&proxy.url()).unwrap()];
        (proxy, Mirrors::new(plain().with_patience(little), servers))
    }

    /// All that is on the target, but for what a recovery puts there.
    fn hosts_own(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        survey(&self.target(), &self.folder(), &mut found);
        found
    }
}

const AGENT: &str = "agent/restic/1/amd64";

/// Every path below `dir` with its type, mode, time of change of its content, and content.
fn survey(dir: &Path, but: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if path == but {
            continue;
        }
        let content = match meta.file_type() {
            it if it.is_dir() => String::new(),
            it if it.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            _ => format!("{} {:?}", meta.mtime(), fs::read(&path).unwrap()),
        };
        found.insert(path.clone(), format!("{:o} {content}", meta.mode()));
        if meta.is_dir() {
            survey(&path, but, found);
        }
    }
}

/// A program, a library with a second name and a link, more than one chunk of data, and a newer file of the base with a second name.
fn agent() -> Vec<Item> {
    vec![
        Item::file(
            "usr/bin/restic",
            0o755,
            b"#!/bin/sh\necho restored \"$1\"\n",
        ),
        Item::hard("usr/lib/libagent.so.1.2", 7, b"library"),
        Item::hard("usr/lib/libagent.so.1", 7, b""),
        Item::link("usr/lib/libagent.so", "libagent.so.1.2"),
        Item::file("usr/share/restic/data", 0o640, &noise(5, CHUNK + 99)),
        Item::hard("etc/ssl/ca.crt", 8, b"newer"),
        Item::hard("usr/share/restic/ca.crt", 8, b""),
    ]
}

/// The agent is there, and works where programs look for it.
#[track_caller]
fn assert_works(world: &World) {
    let ran = Command::new(world.root().join("usr/bin/restic"))
        .arg("4af3")
        .output()
        .unwrap();
    assert_eq!(ran.stdout, b"restored 4af3\n");
    for name in ["libagent.so.1.2", "libagent.so.1", "libagent.so"] {
        assert_eq!(world.read(&format!("usr/lib/{name}")), b"library", "{name}");
    }
    assert!(world.read("usr/share/restic/data") == noise(5, CHUNK + 99));
    assert_eq!(world.read("etc/ssl/ca.crt"), b"newer");
    let second = fs::read_link(world.root().join("usr/share/restic/ca.crt"));
    assert_eq!(second.unwrap(), Path::new("/etc/ssl/ca.crt"));
}

#[test]
fn a_layer_for_the_target_works_during_the_restore_and_leaves_the_host_as_it_is() {
    let world = World::with(agent());
    let before = world.hosts_own();
    world.place().unwrap();
    assert_works(&world);
    assert_eq!(world.hosts_own(), before);
    let data = world.root().join("usr/share/restic/data");
    let real = data.canonicalize().unwrap();
    assert!(real.starts_with(world.folder().canonicalize().unwrap()));
    let meta = fs::metadata(&real).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!(meta.mtime(), 1_700_000_000);

    world.on_target().remove().unwrap();
    assert!(!world.folder().exists());
    assert_eq!(world.hosts_own(), before);
    assert!(!data.exists(), "its content was on the target only");
    assert_eq!(world.read("etc/ssl/ca.crt"), b"newer");
    assert_eq!(world.read("usr/bin/sh"), b"the base's");
    world.on_target().remove().unwrap();
}

/// The line by which the ready recipe of restic clears the way before each try.
fn clear_as_restic_does(target: &Path) {
    let recipe = include_str!("../../../../initramfs/recipes/agent-restic.toml");
    let line = recipe
        .lines()
        .find(|it| it.starts_with("find \"$2\""))
        .unwrap();
    let script = line.replace("\\\\", "\\");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "restore", "4af3"]).arg(target);
    assert!(command.status().unwrap().success(), "{script}");
}

#[test]
fn a_restore_that_clears_links_away_before_each_try_leaves_the_layer_whole() {
    let world = World::with(agent());
    world.place().unwrap();
    fs::hard_link(
        world.target().join("etc/hostname"),
        world.target().join("etc/second"),
    )
    .unwrap();
    for _ in 0..2 {
        clear_as_restic_does(&world.target());
        assert_works(&world);
    }
    for gone in ["etc/link", "etc/hostname", "etc/second"] {
        assert!(
            fs::symlink_metadata(world.target().join(gone)).is_err(),
            "{gone}: the line does nothing"
        );
    }
}

#[test]
fn what_an_interrupted_recovery_left_is_replaced_when_it_is_done_again() {
    let world = World::with(agent());
    let before = world.hosts_own();
    let (_proxy, breaking) = world.bad_mirror(Fault::CutAfter(CHUNK + 20), Fault::Status(503));
    let broken = world.place_from(&breaking).unwrap_err();
    assert!(
        matches!(&broken, OnTargetError::Layer { layer, cause } if layer == AGENT
            && matches!(**cause, FetchError::GaveUp { got, .. } if got == CHUNK as u64)),
        "{broken:?}"
    );
    let half = world.root().join("usr/share/restic/data");
    assert!(half.exists(), "the first chunk was placed");
    fs::write(world.folder().join("02-restic/usr/bin/restic"), "half").unwrap();

    world.place().unwrap();
    assert_works(&world);
    // As after a try whose file systems were recreated: links that lead nowhere are there already.
    world.on_target().remove().unwrap();
    world.place().unwrap();
    assert_works(&world);
    assert_eq!(world.hosts_own(), before);
}

/// Why an entry cannot be placed.
#[track_caller]
fn placing(error: &OnTargetError) -> &PlaceError {
    match error {
        OnTargetError::Layer { cause, .. } => match &**cause {
            FetchError::Place(cause) => cause,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Refused for this entry by these words; the rescue system has what it had, and the target after the clean-up too.
#[track_caller]
fn assert_over(items: Vec<Item>, entry: &str, words: &str) {
    let world = World::with(items);
    let before = world.hosts_own();
    let error = world.place().unwrap_err();
    assert!(error.next().contains("publishes"), "{}", error.next());
    let cause = placing(&error);
    let PlaceError::Over { path, rule, .. } = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(path, entry);
    assert!(rule.contains(words), "{rule}");
    assert_eq!(world.read("usr/bin/sh"), b"the base's");
    assert_eq!(world.read("etc/ssl/ca.crt"), b"the base's");
    world.on_target().remove().unwrap();
    assert!(!world.folder().exists());
    assert_eq!(world.hosts_own(), before);
}

#[test]
fn a_layer_for_the_target_takes_the_place_of_nothing_in_the_rescue_system() {
    let file = |path: &str| vec![Item::file(path, 0o755, b"evil")];
    assert_over(
        file("usr/bin/sh"),
        "usr/bin/sh",
        "takes the place of a file",
    );
    assert_over(file("usr/bin"), "usr/bin", "takes the place of a directory");
    assert_over(file("bin/ls"), "bin", "is a directory where");
    let link = vec![Item::link("usr/bin/sh", "restic")];
    assert_over(link, "usr/bin/sh", "takes the place of a file");
    let second = vec![
        Item::hard("usr/bin/a", 7, b"evil"),
        Item::hard("etc/ssl/ca.crt", 7, b""),
    ];
    assert_over(second, "etc/ssl/ca.crt", "second name");
}

#[test]
fn a_layer_for_the_target_brings_nothing_among_the_hosts_own_files() {
    let file = |path: &str| vec![Item::file(path, 0o644, b"evil")];
    for path in ["mnt/local/new", "mnt/local/etc/hostname"] {
        let refused = path.strip_suffix("/hostname").unwrap_or(path);
        assert_over(file(path), refused, "recreated file systems are mounted");
    }
    let link = vec![Item::link("mnt/local/new", "/etc")];
    assert_over(link, "mnt/local/new", "recreated file systems are mounted");
}

#[test]
fn a_layer_for_the_target_is_held_to_its_kinds_rules() {
    for (item, wanted) in [
        (Item::file("usr/bin/su", 0o4755, b"evil"), "set-id"),
        (Item::file("etc/rear/os.conf", 0o644, b"evil"), "outside"),
        (Item::file("../evil", 0o644, b"evil"), "name"),
    ] {
        let world = World::with(vec![item]);
        let error = world.place().unwrap_err();
        let cause = placing(&error);
        let PlaceError::Lane(refused) = cause else {
            panic!("{cause:?}")
        };
        let found = match refused.rule {
            Rule::Outside(_) => "outside",
            Rule::Name => "name",
            Rule::SetId(_) => "set-id",
            _ => "another rule",
        };
        assert_eq!(found, wanted, "{refused}");
        assert!(!world.dir.path().join("evil").exists());
    }
}

#[test]
fn a_link_of_the_target_never_leads_a_layer_elsewhere() {
    let world = World::with(agent());
    let elsewhere = world.dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("02-restic/keep")).unwrap();
    symlink(&elsewhere, world.folder()).unwrap();
    let error = world.place().unwrap_err();
    assert!(matches!(error, OnTargetError::Occupied(_)), "{error:?}");
    assert!(world.on_target().remove().is_err());
    assert!(elsewhere.join("02-restic/keep").is_dir());
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 1);
    assert!(world.folder().is_symlink(), "it is not ours to remove");
}

#[test]
fn a_mirror_that_lies_about_a_layer_for_the_target_is_not_believed() {
    let world = World::with(agent());
    let before = world.hosts_own();
    let (_proxy, lying) = world.bad_mirror(Fault::Flip(5), Fault::Flip(5));
    let error = world.place_from(&lying).unwrap_err();
    assert!(
        matches!(&error, OnTargetError::Layer { cause, .. }
            if matches!(**cause, FetchError::EveryMirrorLies { .. })),
        "{error:?}"
    );
    assert!(
        !world.root().join("usr/bin/restic").is_symlink(),
        "nothing of a chunk is used before it is verified"
    );
    world.on_target().remove().unwrap();
    assert_eq!(world.hosts_own(), before);
}

#[test]
fn mirrors_that_lack_a_layer_for_the_target_or_lie_about_it_are_found_out_before_the_disks_are_written()
 {
    let world = World::with(agent());
    let before = world.hosts_own();
    let asked = |mirrors: &Mirrors| run(world.on_target().are_there(mirrors, &world.lines));
    let (_honest, honest) = world.bad_mirror(Fault::None, Fault::None);
    asked(&honest).unwrap();
    let (_lying, lying) = world.bad_mirror(Fault::Flip(5), Fault::Flip(5));
    let (_lacking, lacking) = world.bad_mirror(Fault::Status(404), Fault::Status(404));
    for mirrors in [lying, lacking] {
        let error = asked(&mirrors).unwrap_err();
        assert!(error.next().contains("mirrors"), "{error:?}");
        assert!(matches!(error, OnTargetError::Layer { layer, .. } if layer == AGENT));
    }
    assert_eq!(world.hosts_own(), before);
    assert!(!world.folder().exists());
}

#[test]
fn a_recovery_whose_name_is_a_path_is_refused() {
    let world = World::with(agent());
    for name in ["", "../etc", "a/b", "."] {
        let mut note = world.note();
        note.recovery = name.into();
        let refused = OnTarget::of(&note, &world.root(), &world.target());
        assert!(matches!(refused, Err(OnTargetError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_chain_without_such_layers_touches_no_target() {
    let world = World::with(agent());
    let mut note = world.note();
    note.layers.pop();
    let nothing = OnTarget::of(&note, &world.root(), &world.target()).unwrap();
    assert!(nothing.is_empty());
    let mirrors = Mirrors::new(plain(), vec![]);
    run(nothing.place(&mirrors, &world.lines, &mut |_, _| panic!("none"))).unwrap();
    assert!(!world.folder().exists());
}
