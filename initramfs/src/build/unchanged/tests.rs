//! What makes a build, and what does not.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;

/// What is done to a site, in words.
type Change = (&'static str, fn(&Site));

/// A folder with a recipe of a directory and a file, and a cache.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/agent.conf"), "server = one\n").unwrap();
        symlink("agent.conf", tree.join("etc/link")).unwrap();
        fs::write(dir.path().join("note"), "a note\n").unwrap();
        let site = Self { dir };
        site.recipe("[[source]]\ntype = \"directory\"\npath = \"tree\"\n\n[[source]]\ntype = \"file\"\npath = \"note\"\nfrom = \"note\"\n");
        site
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn recipe(&self, sources: &str) {
        let head = "kind = \"agent\"\nname = \"own\"\nversion = \"1\"\n[agent]\nrestore = [\"/bin/true\"]\n\n";
        fs::write(self.path("recipe.toml"), format!("{head}{sources}")).unwrap();
    }

    /// Builds long after every change; says whether it was a build.
    fn builds(&self) -> bool {
        self.builds_at(SystemTime::now() + Duration::from_secs(60))
    }

    fn builds_at(&self, now: SystemTime) -> bool {
        let recipe = Recipe::read(&self.path("recipe.toml"), &BTreeMap::new()).unwrap();
        let options = Options {
            out: self.path("out"),
            cache: self.path("cache"),
            fetch_wait: None,
        };
        let (built, was_built) = build_if_changed(&recipe, &options, now, &mut |_| {}).unwrap();
        // What is said is so.
        let layer = fs::read(&built.layer).unwrap();
        assert_eq!(Digest::of(&layer), built.manifest.digest);
        was_built
    }
}

#[test]
fn a_layer_whose_sources_are_as_they_were_is_not_built_again() {
    let site = Site::new();
    assert!(site.builds());
    assert!(!site.builds());
    assert!(!site.builds());
}

#[test]
fn a_layer_stays_as_it_was_when_it_is_built_again_aside() {
    let site = Site::new();
    let text = fs::read_to_string(site.path("recipe.toml")).unwrap();
    let (_, sources) = text.split_once("\n\n").unwrap();
    let head = "kind = \"base\"\nname = \"own\"\nversion = \"1\"\nform = \"image\"\n\n";
    fs::write(site.path("recipe.toml"), format!("{head}{sources}")).unwrap();
    assert!(site.builds());
    assert!(!site.builds());
    let recipe = Recipe::read(&site.path("recipe.toml"), &BTreeMap::new()).unwrap();
    let options = Options {
        out: site.path("aside"),
        cache: site.path("cache"),
        fetch_wait: None,
    };
    super::super::build(&recipe, &options, &mut |_| {}).unwrap();
    assert!(!site.builds(), "what is kept of it is of use still");
}

#[test]
fn whatever_is_changed_is_built_in() {
    let site = Site::new();
    let changes: [Change; 10] = [
        ("a file's content", |site| {
            fs::write(site.path("tree/etc/agent.conf"), "server = two\n").unwrap();
        }),
        ("a mode", |site| {
            let mode = PermissionsExt::from_mode(0o755);
            fs::set_permissions(site.path("tree/etc/agent.conf"), mode).unwrap();
        }),
        ("a new file", |site| {
            fs::write(site.path("tree/etc/new"), "").unwrap();
        }),
        ("a file less", |site| {
            fs::remove_file(site.path("tree/etc/new")).unwrap();
        }),
        ("a link", |site| {
            fs::remove_file(site.path("tree/etc/link")).unwrap();
            symlink("elsewhere", site.path("tree/etc/link")).unwrap();
        }),
        ("a file of its own", |site| {
            fs::write(site.path("note"), "b note\n").unwrap();
        }),
        ("a folder that is a link, and what it leads to", |site| {
            fs::rename(site.path("tree"), site.path("release")).unwrap();
            symlink("release", site.path("tree")).unwrap();
            site.builds();
            assert!(!site.builds(), "the link is there");
            fs::write(site.path("release/etc/agent.conf"), "server = three\n").unwrap();
        }),
        ("the recipe", |site| {
            site.recipe("[[source]]\ntype = \"directory\"\npath = \"tree\"\nkeep-modes = true\n");
        }),
        ("a layer that is touched", |site| {
            let layer = site.path("out/agent-own-1-amd64.layer");
            let bytes = fs::read(&layer).unwrap();
            fs::write(layer, bytes).unwrap();
        }),
        ("a manifest that is gone", |site| {
            fs::remove_file(site.path("out/agent-own-1-amd64.manifest.json")).unwrap();
        }),
    ];
    site.builds();
    for (what, change) in changes {
        assert!(!site.builds(), "before {what}");
        change(&site);
        assert!(site.builds(), "{what}");
    }
}

#[test]
fn a_change_that_was_just_made_is_not_relied_on() {
    let site = Site::new();
    let now = SystemTime::now();
    assert!(site.builds_at(now));
    assert!(
        site.builds_at(now),
        "another change in the same tick would not show"
    );
}

#[test]
fn a_record_that_is_damaged_or_gone_makes_a_build() {
    let site = Site::new();
    site.builds();
    for damage in ["", "{}", "no JSON"] {
        fs::write(site.path("cache/built/agent-own-amd64"), damage).unwrap();
        assert!(site.builds(), "{damage:?}");
        assert!(!site.builds());
    }
    fs::remove_dir_all(site.path("cache")).unwrap();
    assert!(site.builds());
}

#[test]
fn a_record_that_cannot_be_kept_stops_no_build() {
    let site = Site::new();
    fs::create_dir_all(site.path("cache")).unwrap();
    fs::write(site.path("cache/built"), "in the way").unwrap();
    assert!(site.builds());
    assert!(site.builds());
}

#[test]
fn a_record_is_of_the_files_that_this_very_build_made() {
    let site = Site::new();
    site.builds();
    let record = site.path("cache/built/agent-own-amd64");
    let recipe = Recipe::read(&site.path("recipe.toml"), &BTreeMap::new()).unwrap();
    let options = Options {
        out: site.path("out"),
        cache: site.path("cache"),
        fetch_wait: None,
    };
    let state = State::of(&recipe, &options.cache, &mut Listings::new()).unwrap();
    let (built, files) = build_files(&recipe, &options, Listings::new(), &mut |_| {}).unwrap();
    // Another build of other sources puts its layer there, before this one notes its own.
    let other = site.path("out/other");
    fs::write(&other, "another layer").unwrap();
    fs::rename(&other, &built.layer).unwrap();
    note(&record, &state, &built, &files).unwrap();
    assert!(site.builds());
}

#[test]
fn programs_of_this_machine_are_always_looked_at() {
    let site = Site::new();
    site.recipe("[[source]]\ntype = \"program\"\nprograms = [\"/bin/true\"]\n");
    assert!(site.builds());
    assert!(site.builds());
}

#[test]
fn another_configuration_of_the_kernel_that_a_layer_is_for_is_another_layer() {
    let site = Site::new();
    let text = fs::read_to_string(site.path("recipe.toml")).unwrap();
    let text = format!("for-kernel = \"config\"\n{text}");
    fs::write(site.path("recipe.toml"), text).unwrap();
    let old = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n";
    fs::write(site.path("config"), old).unwrap();
    assert!(site.builds());
    assert!(!site.builds());
    fs::write(site.path("config"), format!("{old}CONFIG_RD_ZSTD=y\n")).unwrap();
    assert!(site.builds());
    assert!(!site.builds());
}
