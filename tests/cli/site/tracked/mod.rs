//! Recipes that follow their packages: an archive moves, and machines get the new agent. The archive is a folder that apt copies
//! from; `dpkg-deb` makes its packages.

mod by_hand;
mod cut_off;
mod looks;
mod refused;
mod timer;
mod waiting;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use towline_contract::manifest::{Compression, Kind, Package};
use towline_contract::{Digest, Timestamp};
use towline_harness::layer::layer;

use super::World;
use super::follows::{DAY_1, Follows};

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

/// A site, and an archive that this machine's apt knows alone.
pub(super) struct Followed {
    world: World,
    archive: PathBuf,
    pub(super) config: PathBuf,
}

impl Follows for Followed {
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

    fn world(&self) -> &World {
        &self.world
    }

    fn towline(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
        command
            .args(arguments)
            .env("APT_CONFIG", &self.config)
            .current_dir(self.world.site());
        command
    }
}

impl Followed {
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
