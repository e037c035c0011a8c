//! Recipes that follow their packages: an archive moves, and machines get the new agent. The archive is a folder that apt copies
//! from; `dpkg-deb` makes its packages.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use towline_contract::manifest::{Compression, Kind, Package};
use towline_contract::{Digest, Timestamp};
use towline_harness::layer::layer;

use super::serving::request;
use super::{Server, World, chain};

const RECIPE: &str = "kind = \"agent\"\nname = \"tool\"\nversion = \"${package.tool}\"\n\
                      [track]\nkeep = 2\n\
                      [[source]]\ntype = \"apt\"\npackages = [\"tool\"]\n";

/// A recipe of a base with this package alone.
fn base(name: &str, package: &str) -> String {
    format!(
        "kind = \"base\"\nname = \"{name}\"\nversion = \"${{package.{package}}}\"\n[track]\n\
         [[source]]\ntype = \"apt\"\npackages = [\"{package}\"]\nwithout = [{}]\n",
        if package == "tool" { "\"library\"" } else { "" }
    )
}

/// The day on which the files of version 1 were made, in seconds since 1970.
const DAY_1: u64 = 1_760_000_000;
const DAY: u64 = 86_400;

/// A site, and an archive that this machine's apt knows alone.
pub(super) struct Followed {
    world: World,
    archive: PathBuf,
    pub(super) config: PathBuf,
}

impl Followed {
    /// With `tool` 1, which needs `library` 1, in the archive, and the recipe in the site.
    pub(super) fn new() -> Self {
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
    pub(super) fn package(&self, name: &str, version: &str, time: u64) {
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

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
        command
            .args(["-q", "catalogue", "refresh"])
            .args(more)
            .env("APT_CONFIG", &self.config)
            .current_dir(self.world.site());
        command
    }

    fn refresh(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("towline runs")
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

    /// The server looks, and the last look was long ago.
    fn is_due(&self) {
        let path = self.world.site().join("state/tracked/tool.json");
        let mut record = self.record();
        record["looked"] = "2025-01-01T00:00:00Z".into();
        fs::write(&path, record.to_string()).expect("a record");
        let config = self.world.site().join("towline.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        fs::write(&config, text + "\n[track]\nhours = 24\n").expect("a configuration");
    }

    /// Takes a key away; gives where it is.
    fn without_key(&self, role: &str) -> PathBuf {
        let key = format!("{role}.key");
        let away = self.world.folder.path().join(&key);
        fs::rename(self.world.site().join("keys").join(&key), &away).expect("it goes");
        away
    }

    /// The only document that waits for signatures.
    fn document(&self) -> PathBuf {
        let folder = fs::read_dir(self.world.site().join("to-sign")).expect("a folder");
        let paths = folder.map(|it| it.expect("a file").path());
        let mut paths: Vec<_> = paths
            .filter(|it| it.extension().is_some_and(|it| it == "json"))
            .collect();
        assert_eq!(paths.len(), 1, "{paths:?}");
        paths.remove(0)
    }

    /// Whoever has the key signs the document.
    fn sign(&self, document: &Path, key: &Path) {
        let [document, key] = [document, key].map(|it| it.to_str().expect("UTF-8"));
        self.world
            .succeeds(&["key", "sign", document, "--key", key, "--yes"]);
    }

    /// Targets of the agent's layers.
    fn agents(&self) -> Vec<String> {
        self.layers("agent/")
    }

    fn layers(&self, of: &str) -> Vec<String> {
        let list = self.world.succeeds(&["catalogue", "list", "--json"]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let targets = list.as_array().expect("a list").iter();
        let targets = targets.filter_map(|it| it["target"].as_str());
        let found = targets.filter(|it| it.starts_with(of));
        found.map(str::to_owned).collect()
    }

    /// Publishes a version of the agent that is no recipe's, by hand.
    fn by_hand(&self, version: &str, time: u64, packages: &[(&str, &str)]) {
        let file = ("usr/share/by-hand", 0o644, version.as_bytes());
        let mut layer = layer(Kind::Agent, "tool", Compression::Zstd, &[file]);
        let time = i64::try_from(time).expect("a time");
        layer.manifest.created = Timestamp::from_second(time).expect("a time");
        layer.manifest.version = version.into();
        let package = |(name, version): &(&str, &str)| Package {
            name: (*name).into(),
            version: (*version).into(),
            architecture: "amd64".into(),
        };
        layer.manifest.packages = packages.iter().map(package).collect();
        let path = self.world.written("by-hand", &layer);
        self.world.succeeds(&["publish", &path]);
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
    let packages = followed.world.site().join("state/tracked/packages");
    let has = |name: &str| packages.join(name).exists();
    assert!(has("tool_3_amd64.deb") && has("library_1_amd64.deb"));
    assert!(!has("tool_1_amd64.deb") && !has("tool_2_amd64.deb"));

    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    let info = "towline_agent_info{agent=\"tool\",architecture=\"amd64\",version=\"3\"} 1\n";
    assert!(metrics.contains(info), "{metrics}");
    let age = "towline_agent_age_seconds{agent=\"tool\",architecture=\"amd64\"} ";
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
fn what_a_build_says_is_said_with_the_recipes_name() {
    let followed = Followed::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
    let output = command
        .args(["catalogue", "refresh", "recipes/tool.toml"])
        .env("APT_CONFIG", &followed.config)
        .current_dir(followed.world.site())
        .output()
        .expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    let said = talk.contains("towline: recipe tool: writing the archive");
    assert!(output.status.success() && said, "{talk}");
}

#[test]
fn when_nothing_has_changed_nothing_is_built_or_signed() {
    let followed = Followed::published();
    let before = followed.world.timestamp();
    followed.without_packages();
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert!(followed.world.timestamp() == before);
    // As new as the archive says that it is, and not as the look is.
    assert_eq!(followed.record()["current"], "2025-11-01T00:00:00Z");
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
    // A mirror that stands still says itself how long its lists are good.
    let more = [&more[..], &["Acquire::Check-Valid-Until \"false\";".into()]].concat();
    let release = followed.archive.join("Release");
    let list = fs::read_to_string(&release).expect("a list");
    let expired = list.replace(
        "SHA256:",
        "Valid-Until: Sat, 08 Nov 2025 00:00:00 UTC\nSHA256:",
    );
    fs::write(&release, expired).expect("a list");
    followed.trust_and("[trusted=yes]", &more.join("\n"));
    followed.changes_nothing(3, &["is expired", "next: see why the mirror stands still"]);
    followed.trust_and("[trusted=yes check-valid-until=no]", &more.join("\n"));
    followed.succeeds(&[]);
    followed.package("tool", "3", DAY_1 + 2 * DAY);
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
fn a_newer_layer_that_somebody_published_by_hand_stays_and_the_look_says_so() {
    let followed = Followed::published();
    followed.by_hand("9", DAY_1 + 9 * DAY, &[]);
    followed.package("tool", "2", DAY_1 + DAY);
    let before = followed.world.timestamp();
    for _ in 0..2 {
        let said = followed.succeeds(&[]);
        let wanted =
            "stays agent/tool/9/amd64 (published by hand, and newer than what the recipe makes)\n";
        assert_eq!(said, wanted);
    }
    assert!(followed.world.timestamp() == before, "nothing was signed");
    let record = followed.record();
    assert_eq!(
        (&record["state"], &record["target"], &record["current"]),
        (
            &"current".into(),
            &"agent/tool/9/amd64".into(),
            &Value::Null
        )
    );
    // The recipe makes a newer one, or somebody takes out the other.
    followed.package("tool", "3", DAY_1 + 10 * DAY);
    let said = followed.succeeds(&[]);
    assert!(
        said.starts_with("published agent/tool/3/amd64") && !said.contains("retired"),
        "{said}"
    );
}

#[test]
fn a_newer_layer_by_hand_with_older_packages_stays_and_is_a_failure() {
    let followed = Followed::published();
    followed.by_hand("9", DAY_1 + 9 * DAY, &[("tool", "1")]);
    followed.package("tool", "2", DAY_1 + DAY);
    let says = [
        "machines take agent/tool/9/amd64, which was published by hand",
        "it has tool 1, 2 by now",
        "towline catalogue retire agent/tool 9",
    ];
    followed.changes_nothing(1, &says);
    followed
        .world
        .succeeds(&["catalogue", "retire", "agent/tool", "9"]);
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn older_layers_that_somebody_published_by_hand_are_not_taken_out_and_do_not_count() {
    let followed = Followed::new();
    followed.by_hand("0.8", DAY_1, &[("tool", "0.8")]);
    followed.by_hand("0.9", DAY_1, &[("tool", "0.9")]);
    followed.succeeds(&["recipes/tool.toml"]);
    for version in ["2", "3"] {
        followed.package("tool", version, DAY_1 + DAY);
        followed.succeeds(&[]);
    }
    let wanted = ["0.8", "0.9", "2", "3"].map(|it| format!("agent/tool/{it}/amd64"));
    assert_eq!(followed.agents(), wanted);
}

#[test]
fn a_layer_whose_key_is_elsewhere_waits_for_it_and_is_published_by_the_next_look() {
    let followed = Followed::published();
    let site = followed.world.site();
    let officer = followed.without_key("agent-tool");
    followed.package("tool", "2", DAY_1 + DAY);
    let says = [
        "agent/tool/2/amd64 is built and waits",
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
    followed.changes_nothing(1, &["agent/tool/2/amd64 is built and waits"]);

    followed.sign(&taken, &officer);
    fs::rename(&taken, &document).expect("it comes back");
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
    let officer = followed.without_key("agent-tool");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.changes_nothing(1, &["agent/tool/2/amd64 is built and waits"]);
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
fn a_layer_that_waits_is_not_forgotten_by_a_look_that_has_no_room_for_temporary_files() {
    let followed = Followed::new();
    followed.write("recipes/tool.toml", &base("system", "tool"));
    followed.succeeds(&["recipes/tool.toml"]);
    let key = followed.world.site().join("keys/base.key");
    let officer = followed.without_key("base");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.changes_nothing(1, &["base/system/2/amd64 is built and waits"]);
    let output = followed.command(&[]).env("TMPDIR", "/dev/null").output();
    let output = output.expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("cannot write a temporary file"), "{talk}");
    fs::rename(&officer, &key).expect("it comes back");
    followed.without_packages();
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published base/system/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn layers_of_one_role_wait_in_one_document_and_are_published_together() {
    let followed = Followed::new();
    followed.write("recipes/tool.toml", &base("system", "tool"));
    followed.write("recipes/other.toml", &base("other", "library"));
    followed.succeeds(&["recipes/tool.toml", "recipes/other.toml"]);
    let officer = followed.without_key("base");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.package("library", "2", DAY_1 + DAY);
    followed.changes_nothing(1, &["base/system/2/amd64 is", "base/other/2/amd64 is"]);
    let document = followed.document();
    let before = fs::read(&document).expect("a document");
    let text = String::from_utf8_lossy(&before);
    assert!(
        text.contains("base/system/2/amd64") && text.contains("base/other/2/amd64"),
        "{text}"
    );
    // Whichever recipe is looked at next, and whatever has come since.
    followed.package("library", "3", DAY_1 + 2 * DAY);
    followed.changes_nothing(1, &["base/other/2/amd64 is"]);
    assert!(fs::read(followed.document()).expect("a document") == before);
    followed.sign(&document, &officer);
    let output = followed.refresh(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("published base/system/2/amd64")
            && said.contains("published base/other/2/amd64"),
        "{output:?}"
    );
}

#[test]
fn of_layers_of_one_role_one_that_machines_could_not_use_does_not_hold_the_other() {
    let followed = Followed::new();
    followed.write("recipes/tool.toml", &base("system", "tool"));
    followed.write("recipes/other.toml", &base("other", "library"));
    followed.succeeds(&["recipes/tool.toml", "recipes/other.toml"]);
    followed.without_key("base");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.package("library", "0", DAY_1 + DAY);
    followed.changes_nothing(
        1,
        &[
            "base/system/2/amd64 is built and waits",
            "library 1 of base/other/1/amd64 is 0 now",
        ],
    );
}

#[test]
fn a_document_that_is_signed_elsewhere_is_not_made_anew_without_a_layer_whose_recipe_is_broken() {
    let followed = Followed::new();
    let site = followed.world.site();
    followed.write("recipes/tool.toml", &base("system", "tool"));
    let other = base("other", "library");
    followed.write("recipes/other.toml", &other);
    followed.succeeds(&["recipes/tool.toml", "recipes/other.toml"]);
    let officer = followed.without_key("base");
    followed.package("tool", "2", DAY_1 + DAY);
    followed.package("library", "2", DAY_1 + DAY);
    followed.changes_nothing(1, &["base/system/2/amd64 is", "base/other/2/amd64 is"]);
    // The officer takes the document away. One recipe is named alone, or broken, or not there any more.
    let document = followed.document();
    let taken = followed.world.folder.path().join("taken.json");
    fs::rename(&document, &taken).expect("it goes");
    let waits = || {
        let output = followed.refresh(&["recipes/tool.toml"]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        let says = "base/other/2/amd64, by recipe other, goes first";
        assert!(talk.contains(says), "{talk}");
        assert!(!document.exists(), "another document was made");
    };
    waits();
    followed.write("recipes/other.toml", "[track]\nkeep =");
    followed.changes_nothing(2, &["by recipe other, goes first"]);
    assert!(!document.exists(), "another document was made");
    fs::remove_file(site.join("recipes/other.toml")).expect("it goes");
    waits();
    // A third recipe of the role builds nothing meanwhile.
    followed.write("recipes/third.toml", &base("third", "library"));
    let output = followed.refresh(&["recipes/third.toml"]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("goes first"), "{talk}");
    assert!(!document.exists(), "another document was made");

    followed.write("recipes/other.toml", &other);
    followed.sign(&taken, &officer);
    fs::rename(&taken, &document).expect("it comes back");
    let said = followed.succeeds(&["recipes/tool.toml", "recipes/other.toml"]);
    assert!(
        said.contains("published base/system/2/amd64")
            && said.contains("published base/other/2/amd64"),
        "{said}"
    );
}

#[test]
fn two_recipes_that_make_the_same_layers_are_refused_before_anything_is_built() {
    let followed = Followed::published();
    followed.write("recipes/own.toml", &RECIPE.replace("keep = 2", "keep = 1"));
    followed.package("tool", "2", DAY_1 + DAY);
    let says = [
        "recipes/own.toml and ",
        "recipes/tool.toml and ",
        "both make agent/tool for amd64",
        "next: take [track] out of one of them",
    ];
    followed.changes_nothing(2, &says);
    let layers = followed.world.site().join("state/tracked/layers");
    let is_empty = fs::read_dir(layers).expect("a folder").next().is_none();
    assert!(is_empty, "nothing was built");
    // One of them alone, too: the timer looks at both.
    for recipe in ["recipes/own.toml", "./recipes/tool.toml"] {
        let output = followed.refresh(&[recipe]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{talk}");
        for part in ["own.toml", "tool.toml", "both make agent/tool"] {
            assert!(talk.contains(part), "{part:?} is not in: {talk}");
        }
    }
    followed.write(
        "recipes/own.toml",
        &RECIPE.replace("[track]\nkeep = 2\n", ""),
    );
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn a_document_that_somebody_else_has_made_goes_first() {
    let followed = Followed::new();
    followed.write("recipes/tool.toml", &base("system", "tool"));
    followed.succeeds(&["recipes/tool.toml"]);
    let officer = followed.without_key("base");
    let key = followed.world.site().join("keys/base.key");
    let layer = followed.world.written("base", &chain()[1]);
    followed
        .world
        .refuses(&["publish", &layer], 1, &["signatures are missing"]);
    let document = followed.document();
    let before = fs::read(&document).expect("a document");
    followed.package("tool", "2", DAY_1 + DAY);
    let says = ["another change waits for signatures in", "base.json"];
    followed.changes_nothing(1, &says);
    assert!(fs::read(&document).expect("a document") == before);
    // Also when the key is here: what was made for that number would be in vain.
    fs::copy(&officer, &key).expect("it comes back");
    followed.changes_nothing(1, &says);
    followed.world.succeeds(&["publish", &layer]);
    followed.without_packages();
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published base/system/2/amd64 (tool 1 is 2 now)\n");
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
fn a_refresh_that_is_killed_anywhere_is_run_again_and_publishes_once() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    for wait in 0..20 {
        let mut command = followed.command(&[]);
        let child = command.process_group(0).stdout(Stdio::null()).spawn();
        let mut child = child.expect("towline runs");
        std::thread::sleep(Duration::from_millis(wait * 50));
        let group = i32::try_from(child.id()).expect("a number");
        // It may have ended by itself.
        let _ = kill_process_group(Pid::from_raw(group).expect("a group"), Signal::KILL);
        child.wait().expect("it has ended");
    }
    followed.succeeds(&[]);
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
    assert_eq!(
        followed.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
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
    let is_refused = || {
        let output = followed.refresh(&["recipes/tool.toml"]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{talk}");
        assert!(
            talk.contains("not root's but of user 4242") && talk.contains("sudo -u '#4242'"),
            "{talk}"
        );
        assert!(!state.join("tracked").exists(), "nothing was made");
    };
    fs::create_dir_all(&state).expect("a folder");
    chown(&state, Some(4242), Some(4242)).expect("this needs root");
    is_refused();
    // Where there is no state yet, the site's owner is whose it would be.
    fs::remove_dir(&state).expect("it is empty");
    chown(followed.world.site(), Some(4242), Some(4242)).expect("this needs root");
    is_refused();
    assert!(!state.exists(), "nothing was made");
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
fn one_bad_recipe_or_record_keeps_no_other_from_being_looked_at() {
    let followed = Followed::published();
    followed.package("more", "1", DAY_1);
    for name in ["b", "c", "d"] {
        let path = format!("recipes/{name}-bad.toml");
        followed.write(&path, &base(name, "more"));
        followed.succeeds(&[&path]);
    }
    followed.write("recipes/a-bad.toml", "[track]\nkeep =");
    let recipes = followed.world.site().join("recipes");
    let renamed = recipes.join("b-bad name.toml");
    fs::rename(recipes.join("b-bad.toml"), renamed).expect("another name");
    followed.write("state/tracked/c-bad.json", "{}");
    followed.write("state/tracked/\"} 1.json", "{}");
    followed.write(
        "recipes/d-bad.toml",
        &base("d", "more").replace("\"more\"]", "\"none\"]"),
    );
    followed.package("tool", "2", DAY_1 + DAY);
    let server = Server::start(&followed.world);
    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    assert!(
        metrics.contains("towline_recipe_failures{recipe=\"tool\"} 0\n")
            && metrics.contains("towline_recipe_records_unreadable 1\n"),
        "{metrics}"
    );
    let output = followed.refresh(&[]);
    let (said, talk) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert!(!output.status.success());
    for part in [
        "recipe a-bad is not current",
        "b-bad name.toml is no name",
        "recipe c-bad is not current",
        "state/tracked/c-bad.json",
        "recipe d-bad is not current",
    ] {
        assert!(talk.contains(part), "{part:?} is not in: {talk}");
    }
}

#[test]
fn a_layer_that_is_not_known_to_be_of_this_recipe_is_built_and_compared() {
    let followed = Followed::published();
    let record = followed.world.site().join("state/tracked/tool.json");
    fs::remove_file(&record).expect("it goes");
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(followed.record()["target"], "agent/tool/1/amd64");
    fs::remove_file(&record).expect("it goes");
    followed.write(
        "recipes/tool.toml",
        &RECIPE.replace("[track]", "exclude = [\"usr/share/library\"]\n[track]"),
    );
    assert_eq!(
        followed.succeeds(&[]),
        "published agent/tool/1again2/amd64 (the recipe, or a file that it names, is another one now)\n"
    );
}

#[test]
fn another_file_of_this_machine_makes_another_layer() {
    let followed = Followed::new();
    followed.write("recipes/motto", "one\n");
    let file = "[[source]]\ntype = \"file\"\npath = \"usr/share/motto\"\nfrom = \"motto\"\n";
    followed.write("recipes/tool.toml", &format!("{RECIPE}{file}"));
    followed.succeeds(&["recipes/tool.toml"]);
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    followed.write("recipes/motto", "two\n");
    assert_eq!(
        followed.succeeds(&[]),
        "published agent/tool/1again2/amd64 (files of this machine are others now)\n"
    );
}

#[test]
fn the_server_does_not_look_before_it_is_time() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    let config = followed.world.site().join("towline.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + "\n[track]\nhours = 24\n").expect("a configuration");
    let before = followed.record();
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    // Longer than a server waits that has to look.
    std::thread::sleep(Duration::from_secs(10));
    drop(server);
    assert_eq!(followed.record(), before);
}

/// The first connection, when somebody makes one.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket");
    for _ in 0..1200 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a socket");
            return stream;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("nobody has asked");
}

#[test]
fn a_server_that_is_killed_ends_its_look_with_all_that_it_has_started() {
    let followed = Followed::published();
    followed.is_due();
    // An archive that takes what is asked, and answers nothing.
    let archive = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = archive.local_addr().expect("an address");
    let sources = followed.world.folder.path().join("sources.list");
    fs::write(sources, format!("deb [trusted=yes] http://{address}/ ./\n")).expect("a file");
    let config = fs::read_to_string(&followed.config).expect("a configuration");
    let direct = "Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\nAcquire::http::Timeout \"600\";\n";
    fs::write(&followed.config, config + direct).expect("a configuration");
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    let mut asked = accepted(&archive);
    drop(server); // by a signal that it cannot handle
    asked
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let end = asked.read_to_end(&mut Vec::new());
    end.expect("apt has ended, and with it its connection");
}

#[test]
fn the_server_looks_by_its_timer() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    followed.is_due();
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
