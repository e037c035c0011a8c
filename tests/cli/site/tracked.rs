//! Recipes that follow their packages: an archive moves, and machines get the new agent. The archive is a folder that apt copies
//! from; `dpkg-deb` makes its packages.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use towline_contract::Digest;

use super::serving::request;
use super::{Server, World, chain, towline};

const RECIPE: &str = "kind = \"agent\"\nname = \"tool\"\nversion = \"${package.tool}\"\n\
                      [track]\nkeep = 2\n\
                      [[source]]\ntype = \"apt\"\npackages = [\"tool\"]\n";

/// The day on which the files of version 1 were made, in seconds since 1970.
const DAY_1: u64 = 1_760_000_000;
const DAY: u64 = 86_400;

/// A site, and an archive that this machine's apt knows alone.
struct Followed {
    world: World,
    archive: PathBuf,
    config: PathBuf,
}

impl Followed {
    /// With `tool` 1, which needs `library` 1, in the archive, and the recipe in the site.
    fn new() -> Self {
        let world = World::new();
        let archive = world.folder.path().join("archive");
        let config = world.folder.path().join("apt.conf");
        fs::create_dir(&archive).expect("a folder");
        let followed = Self {
            world,
            archive,
            config,
        };
        followed.trust("[trusted=yes]");
        followed.package("tool", "1", DAY_1);
        followed.package("library", "1", DAY_1);
        followed.write("recipes/tool.toml", RECIPE);
        followed
    }

    /// With version 1 published.
    fn published() -> Self {
        let followed = Self::new();
        let said = followed.succeeds(&["recipes/tool.toml"]);
        assert_eq!(said, "published agent/tool/1/amd64\n");
        followed
    }

    fn trust(&self, how: &str) {
        self.trust_and(how, "");
    }

    /// The same, with more of the machine's own configuration.
    fn trust_and(&self, how: &str, more: &str) {
        let sources = self.world.folder.path().join("sources.list");
        let archive = self.archive.display();
        fs::write(&sources, format!("deb {how} copy:{archive} ./\n")).expect("a file");
        let config = format!(
            "Dir::Etc::sourcelist \"{}\"; Dir::Etc::sourceparts \"/dev/null\";\n{more}\n",
            sources.display()
        );
        fs::write(&self.config, config).expect("a file");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.world.site().join(name), text).expect("a file");
    }

    /// Puts a package into the archive, in place of one of that name.
    fn package(&self, name: &str, version: &str, time: u64) {
        let tree = self.world.folder.path().join("tree");
        let share = tree.join("usr/share").join(name);
        fs::create_dir_all(&share).expect("a folder");
        fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
        let file = share.join("version");
        fs::write(&file, format!("{name} {version}\n")).expect("a file");
        for path in [
            file,
            share,
            tree.join("usr/share"),
            tree.join("usr"),
            tree.clone(),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            let opened = File::open(path).expect("it is there");
            opened.set_modified(time).expect("a time");
        }
        let depends = if name == "tool" {
            "Depends: library\n"
        } else {
            ""
        };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{depends}\
             Maintainer: nobody <nobody@example.org>\nDescription: of a test\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).expect("a file");
        let package = self.archive.join(format!("{name}.deb"));
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&tree, &package])
            .output()
            .expect("dpkg-deb runs");
        assert!(built.status.success(), "{built:?}");
        fs::remove_dir_all(&tree).expect("it goes");
        self.index();
    }

    /// Writes the lists of the archive.
    fn index(&self) {
        let mut packages = String::new();
        for entry in fs::read_dir(&self.archive).expect("the archive") {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|it| it == "deb") {
                packages += &listed(&path);
            }
        }
        fs::write(self.archive.join("Packages"), &packages).expect("a list");
        let (digest, bytes) = (Digest::of(packages.as_bytes()), packages.len());
        let release = format!(
            "Origin: test\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n {digest} {bytes} Packages\n"
        );
        fs::write(self.archive.join("Release"), release).expect("a list");
    }

    fn refresh(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_towline"))
            .args(["-q", "catalogue", "refresh"])
            .args(more)
            .env("APT_CONFIG", &self.config)
            .current_dir(self.world.site())
            .output()
            .expect("towline runs")
    }

    #[track_caller]
    fn succeeds(&self, more: &[&str]) -> String {
        let output = self.refresh(more);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// It ends so, says this, and leaves the catalogue as it is.
    #[track_caller]
    fn changes_nothing(&self, exit: i32, says: &[&str]) {
        let before = self.world.timestamp();
        let output = self.refresh(&[]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{talk}");
        for part in says {
            assert!(talk.contains(part), "{part:?} is not in: {talk}");
        }
        assert!(self.world.timestamp() == before, "nothing was signed");
    }

    /// The lists alone are left, there and here: from now on nothing can be built.
    fn without_packages(&self) {
        let here = self.world.site().join("state/tracked/packages");
        for folder in [&self.archive, &here] {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("a file").path();
                if path.extension().is_some_and(|it| it == "deb") {
                    fs::remove_file(path).expect("it goes");
                }
            }
        }
    }

    /// Targets of the agent's layers.
    fn agents(&self) -> Vec<String> {
        let list = self.world.succeeds(&["catalogue", "list", "--json"]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let targets = list.as_array().expect("a list").iter();
        let targets = targets.filter_map(|it| it["target"].as_str());
        let agents = targets.filter(|it| it.starts_with("agent/"));
        agents.map(str::to_owned).collect()
    }

    /// What is known of the recipe.
    fn record(&self) -> Value {
        let path = self.world.site().join("state/tracked/tool.json");
        serde_json::from_slice(&fs::read(path).expect("a record")).expect("JSON")
    }
}

/// What the archive's list says of a package, by its own control file.
fn listed(package: &Path) -> String {
    let shown = Command::new("dpkg-deb")
        .arg("--field")
        .arg(package)
        .output();
    let control = String::from_utf8(shown.expect("dpkg-deb runs").stdout).expect("UTF-8");
    let bytes = fs::read(package).expect("the package");
    let name = package.file_name().expect("a name").to_string_lossy();
    let (digest, size) = (Digest::of(&bytes), bytes.len());
    format!("{control}Filename: ./{name}\nSize: {size}\nSHA256: {digest}\n\n")
}

#[test]
fn machines_get_the_new_agent_when_the_archive_has_one_and_old_ones_go() {
    let followed = Followed::new();
    let layers = chain();
    let paths: Vec<_> = ["kernel", "base", "host"]
        .iter()
        .zip(&layers)
        .map(|(name, layer)| followed.world.written(name, layer))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    followed
        .world
        .succeeds(&[&["publish"], &paths[..]].concat());
    let said = followed.succeeds(&["recipes/tool.toml"]);
    assert_eq!(said, "published agent/tool/1/amd64\n");
    let server = Server::start(&followed.world);
    let planned = || {
        let plan = server.post("/v1/plan", &request("example"));
        String::from_utf8(plan.body).expect("UTF-8")
    };
    assert!(planned().contains("agent/tool/1/amd64"));

    followed.package("tool", "2", DAY_1 + DAY);
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert!(planned().contains("agent/tool/2/amd64"));
    followed.package("tool", "3", DAY_1 + 2 * DAY);
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/3/amd64 (tool 2 is 3 now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        followed.agents(),
        ["agent/tool/2/amd64", "agent/tool/3/amd64"]
    );
    assert!(planned().contains("agent/tool/3/amd64"));

    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    let age = "towline_agent_age_seconds{agent=\"tool\",version=\"3\",architecture=\"amd64\"} ";
    let age = metrics.lines().find_map(|it| it.strip_prefix(age));
    let age: u64 = age.expect("an age").parse().expect("seconds");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let wanted = now.as_secs() - DAY_1 - 2 * DAY;
    assert!(age <= wanted && wanted - age < 600, "{age}, not {wanted}");
    assert!(metrics.contains("\ntowline_recipe_failures{recipe=\"tool\"} 0\n"));
    assert!(metrics.contains("\ntowline_recipe_current_timestamp_seconds{recipe=\"tool\"} 1"));
}

#[test]
fn when_nothing_has_changed_nothing_is_built_or_signed() {
    let followed = Followed::published();
    let before = followed.world.timestamp();
    followed.without_packages();
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert!(followed.world.timestamp() == before);
    assert!(
        !followed
            .world
            .site()
            .join("state/tracked/layers/tool")
            .exists()
    );
}

#[test]
fn another_library_or_recipe_makes_another_layer_of_the_same_version() {
    let followed = Followed::published();
    // As old as the newest file was before: only the version can say which is newer.
    followed.package("library", "2", DAY_1);
    let said = followed.succeeds(&[]);
    assert_eq!(
        said,
        "published agent/tool/1again2/amd64 (library 1 is 2 now)\n"
    );
    followed.write(
        "recipes/tool.toml",
        &RECIPE.replace("[track]", "exclude = [\"usr/share/library\"]\n[track]"),
    );
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/1again3/amd64 (the recipe is another one now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        followed.succeeds(&[]),
        "unchanged agent/tool/1again3/amd64\n"
    );
}

#[test]
fn an_archive_that_is_away_or_not_signed_changes_nothing() {
    let followed = Followed::published();
    let away = followed.world.folder.path().join("away");
    fs::rename(&followed.archive, &away).expect("it goes");
    followed.changes_nothing(
        4,
        &[
            "recipe tool is not current",
            "newest package lists",
            "next: check the network",
        ],
    );
    followed.changes_nothing(4, &[]);
    let record = followed.record();
    assert_eq!(
        (&record["state"], &record["failures"]),
        (&"failed".into(), &2.into())
    );
    assert_eq!(record["target"], "agent/tool/1/amd64");
    let output = followed.world.run(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("WARNING site: the last look at recipe tool"),
        "{text}"
    );
    assert!(
        text.contains("failed, as the 1 before: cannot get"),
        "{text}"
    );

    fs::rename(&away, &followed.archive).expect("it comes back");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.trust("");
    followed.changes_nothing(3, &["is not signed", "Signed-By"]);
    followed.trust("[trusted=yes]");
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert_eq!(followed.record()["failures"], 0);
}

#[test]
fn what_this_machine_lets_apt_do_is_not_done_for_layers() {
    let followed = Followed::published();
    let ran = followed.world.folder.path().join("ran");
    let hook = |when: &str| format!("{when} {{ \"touch {}\"; }};", ran.display());
    let more = [
        "Acquire::AllowInsecureRepositories \"true\";".into(),
        "Acquire::AllowDowngradeToInsecureRepositories \"true\";".into(),
        hook("APT::Update::Pre-Invoke"),
        hook("APT::Update::Post-Invoke"),
        hook("APT::Update::Post-Invoke-Success"),
    ];
    followed.package("tool", "2", DAY_1 + DAY);
    followed.trust_and("", &more.join("\n"));
    followed.changes_nothing(3, &["is not signed"]);
    followed.trust_and("[trusted=yes]", &more.join("\n"));
    followed.succeeds(&[]);
    assert!(!ran.exists(), "the machine's own programs were run");
}

#[test]
fn an_archive_that_has_gone_back_does_not_take_machines_back() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    followed.package("library", "1.10", DAY_1);
    followed.succeeds(&[]);
    followed.package("tool", "1", DAY_1);
    let says = [
        "tool 2 of agent/tool/2/amd64 is 1 now",
        "catalogue retire agent/tool 2",
    ];
    followed.changes_nothing(1, &says);
    // Whatever the dates: the package that has gone back is one of several, and the newest file is newer.
    followed.package("tool", "3", DAY_1 + 2 * DAY);
    followed.package("library", "1.9", DAY_1 + 2 * DAY);
    followed.changes_nothing(1, &["library 1.10 of agent/tool/2/amd64 is 1.9 now"]);
    // Somebody decides that this is right. The name that was taken out is of its layer for good.
    followed.package("tool", "2", DAY_1 + 2 * DAY);
    followed
        .world
        .succeeds(&["catalogue", "retire", "agent/tool", "2"]);
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/2again2/amd64 (library 1 is 1.9 now, tool 1 is 2 now)\n";
    assert_eq!(said, wanted);
}

#[test]
fn a_security_update_of_one_day_with_a_numbered_layer_is_published() {
    let followed = Followed::published();
    followed.package("library", "2", DAY_1);
    followed.succeeds(&[]);
    assert!(
        followed
            .agents()
            .contains(&"agent/tool/1again2/amd64".into())
    );
    followed.package("tool", "1+deb12u1", DAY_1);
    let said = followed.succeeds(&[]);
    assert!(
        said.starts_with("published agent/tool/1+deb12u1/amd64 (tool 1 is 1+deb12u1 now)\n"),
        "{said}"
    );
}

#[test]
fn a_layer_without_the_package_that_had_the_newest_file_takes_the_place_of_the_one_with_it() {
    let followed = Followed::new();
    followed.package("library", "1", DAY_1 + DAY);
    followed.succeeds(&["recipes/tool.toml"]);
    let without = RECIPE.replace(
        "packages = [\"tool\"]",
        "packages = [\"tool\"]\nwithout = [\"library\"]",
    );
    followed.write("recipes/tool.toml", &without);
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/1again2/amd64 (library 1 is not needed any more, the recipe is another one now)\n\
                  retired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(followed.agents(), ["agent/tool/1again2/amd64"]);
}

#[test]
fn a_layer_whose_key_is_elsewhere_waits_for_it_and_is_published_by_the_next_look() {
    let followed = Followed::published();
    let site = followed.world.site();
    let officer = followed.world.folder.path().join("agent-tool.key");
    fs::rename(site.join("keys/agent-tool.key"), &officer).expect("it goes");
    followed.package("tool", "2", DAY_1 + DAY);
    let says = [
        "agent/tool/2/amd64 is built, and waits",
        "to-sign/2.agent-tool.json",
        "towline key sign FILE --key KEY",
    ];
    followed.changes_nothing(1, &says);
    assert_eq!(followed.record()["state"], "waits");
    // The officer takes the document away. Meanwhile upstream moves again, and looks go on.
    let document = site.join("to-sign/2.agent-tool.json");
    let taken = followed.world.folder.path().join("2.agent-tool.json");
    fs::rename(&document, &taken).expect("it goes");
    followed.package("tool", "3", DAY_1 + 2 * DAY);
    followed.changes_nothing(1, &["agent/tool/2/amd64 is built, and waits"]);

    let (officer, taken) = (officer.to_str(), taken.to_str());
    let (officer, taken) = (officer.expect("UTF-8"), taken.expect("UTF-8"));
    let signed = ["key", "sign", taken, "--key", officer, "--yes"];
    let signed = towline(&site, &signed);
    assert!(signed.status.success(), "{signed:?}");
    fs::rename(taken, &document).expect("it comes back");
    // What was signed is published first, and what is newer by now waits next.
    let output = followed.refresh(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "published agent/tool/2/amd64 (tool 1 is 2 now)\n"
    );
    assert_eq!(
        followed.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
    let document = site.join("to-sign/3.agent-tool.json");
    let text = fs::read_to_string(&document).expect("it waits");
    assert!(text.contains("agent/tool/3/amd64"), "{text}");
}

#[test]
fn a_layer_that_waits_is_not_forgotten_by_a_look_that_cannot_read_it() {
    let followed = Followed::published();
    let key = followed.world.site().join("keys/agent-tool.key");
    let officer = followed.world.folder.path().join("agent-tool.key");
    fs::rename(&key, &officer).expect("it goes");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.changes_nothing(1, &["agent/tool/2/amd64 is built, and waits"]);
    let name = "agent-tool-2-amd64.manifest.json";
    let manifest = followed
        .world
        .site()
        .join("state/tracked/layers/tool")
        .join(name);
    let away = followed.world.folder.path().join(name);
    fs::rename(&manifest, &away).expect("it goes");
    followed.changes_nothing(2, &["cannot read the manifest"]);
    fs::rename(&away, &manifest).expect("it comes back");
    fs::rename(&officer, &key).expect("it comes back");
    followed.without_packages();
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn a_refresh_that_was_cut_off_before_it_published_goes_on_with_what_it_had_built() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    // As far as it got: nothing signs without this key, and it is back for the next run.
    let key = followed.world.site().join("keys/snapshot.key");
    let away = followed.world.folder.path().join("snapshot.key");
    fs::rename(&key, &away).expect("it goes");
    followed.changes_nothing(2, &["snapshot.key"]);
    fs::rename(&away, &key).expect("it comes back");
    followed.without_packages();
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
}

#[test]
fn a_second_look_does_not_wait_for_the_first() {
    let followed = Followed::published();
    let lock = followed.world.site().join("state/tracked/.lock");
    let held = File::open(lock).expect("the lock");
    held.lock().expect("it is free");
    followed.changes_nothing(1, &["another look is at work", "next: run this again"]);
}

#[test]
#[ignore = "needs root: make test"]
fn root_builds_nothing_in_the_state_of_another_user() {
    let followed = Followed::new();
    let state = followed.world.site().join("state");
    fs::create_dir_all(&state).expect("a folder");
    chown(&state, Some(4242), Some(4242)).expect("this needs root");
    let output = followed.refresh(&["recipes/tool.toml"]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(
        talk.contains("not root's but of user 4242") && talk.contains("sudo -u '#4242'"),
        "{talk}"
    );
    assert!(!state.join("tracked").exists(), "nothing was made");
}

#[test]
fn recipes_that_are_not_tracked_or_whose_layers_nobody_published_are_left_alone() {
    let followed = Followed::new();
    // The ready recipes have [track], too, and none of their layers is published.
    assert_eq!(followed.succeeds(&[]), "");
    followed.write(
        "recipes/tool.toml",
        &RECIPE.replace("[track]\nkeep = 2\n", ""),
    );
    let output = followed.refresh(&["recipes/tool.toml"]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("has no [track]"), "{talk}");
    assert_eq!(followed.agents(), Vec::<String>::new());
}

#[test]
fn the_server_looks_by_its_timer() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    // The last look was long ago.
    let path = followed.world.site().join("state/tracked/tool.json");
    let mut record = followed.record();
    record["looked"] = "2025-01-01T00:00:00Z".into();
    fs::write(&path, record.to_string()).expect("a record");
    let config = followed.world.site().join("towline.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + "\n[track]\nhours = 24\n").expect("a configuration");
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    // apt, a build, and signatures, on a machine that may be busy.
    server.line_within(Duration::from_secs(120), "published agent/tool/2/amd64");
    assert_eq!(server.curl("/metrics", &[]).status, 200);
    assert_eq!(
        followed.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}
