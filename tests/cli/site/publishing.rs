//! A site is made, layers are published, listed, retired, and refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use towline_contract::Digest;
use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::{Layer, image_layer, layer, squashfs};

use super::{World, chain, host, towline};

#[test]
fn a_site_is_made_once_with_its_secrets_for_the_owner_alone() {
    let world = World::new();
    let mode = |name: &str| {
        let path = world.site().join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("keys"), 0o700);
    for name in [
        "root-1",
        "root-2",
        "root-3",
        "targets",
        "base",
        "hosts",
        "plan",
        "snapshot",
        "timestamp",
    ] {
        assert_eq!(mode(&format!("keys/{name}.key")), 0o600, "{name}");
    }
    assert_eq!(mode("ca/ca.key"), 0o600);
    assert!(world.site().join("recipes/base-debian.toml").exists());

    let key = fs::read(world.site().join("keys/plan.key")).unwrap();
    let again = towline(world.folder.path(), &["init", "site"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    assert_eq!(
        fs::read(world.site().join("keys/plan.key")).unwrap(),
        key,
        "the keys are the first ones"
    );
}

#[test]
fn quiet_commands_print_results_alone() {
    let folder = tempfile::tempdir().unwrap();
    let made = towline(folder.path(), &["-q", "init", "site", "--plain-root-keys"]);
    let text = String::from_utf8_lossy(&made.stdout);
    assert_eq!((&*text, &*made.stderr), ("site made in site\n", &b""[..]));
    let listed = towline(&folder.path().join("site"), &["catalogue", "list", "-q"]);
    assert_eq!((&*listed.stdout, &*listed.stderr), (&b""[..], &b""[..]));
}

#[test]
fn commands_outside_of_a_site_say_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["serve"][..], &["catalogue", "list"], &["publish", "x"]] {
        let output = towline(folder.path(), command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(talk.contains("towline init"), "{talk}");
    }
}

#[test]
fn a_layer_whose_bytes_in_the_store_are_gone_or_damaged_is_stored_again() {
    let world = World::new();
    let path = world.written("host", &host());
    world.succeeds(&["publish", &path]);
    let stored = fs::read_dir(world.site().join("store/layers")).unwrap();
    let stored = stored.map(|it| it.unwrap().path()).next().unwrap();
    let good = fs::read(&stored).unwrap();
    let again = "stored again host/example/1/amd64";
    fs::write(&stored, b"damaged").unwrap();
    assert_eq!(world.succeeds(&["publish", &path]).trim(), again);
    assert_eq!(fs::read(&stored).unwrap(), good);
    fs::remove_file(&stored).unwrap();
    assert_eq!(world.succeeds(&["publish", &path]).trim(), again);
    assert_eq!(fs::read(&stored).unwrap(), good);
}

#[test]
fn layers_are_published_listed_and_retired() {
    let world = World::new();
    let path = world.written("host", &host());
    let target = "host/example/1/amd64";
    let published = world.succeeds(&["publish", &path]);
    assert_eq!(published.trim(), format!("published {target}"));
    let before = world.timestamp();
    let again = world.succeeds(&["publish", &path]);
    assert_eq!(again.trim(), format!("unchanged {target}"));
    assert_eq!(
        world.timestamp(),
        before,
        "publishing again signs nothing new"
    );

    let list: Value =
        serde_json::from_str(&world.succeeds(&["catalogue", "list", "--json"])).unwrap();
    assert_eq!(list[0]["target"], target);
    assert_eq!(list[0]["digest"], host().manifest.digest.to_string());

    world.refuses(
        &["catalogue", "retire", "agent/example", "1"],
        1,
        &["catalogue list"],
    );
    world.succeeds(&["catalogue", "retire", "host/example", "1"]);
    assert_eq!(
        world.succeeds(&["catalogue", "list", "--json"]).trim(),
        "[]"
    );
}

#[test]
fn a_layer_with_one_flipped_bit_is_not_published() {
    let world = World::new();
    let mut broken = host();
    broken.stored[20] ^= 1;
    let path = world.written("host", &broken);
    let (is, says) = (Digest::of(&broken.stored), broken.manifest.digest);
    let before = world.timestamp();
    world.refuses(
        &["publish", &path],
        3,
        &[&is.to_string(), &says.to_string(), "next:"],
    );
    assert_eq!(world.timestamp(), before);
}

#[test]
fn a_host_layer_that_brings_a_program_is_not_published() {
    let world = World::new();
    let files = [("usr/bin/bash", 0o755, &b"#!"[..])];
    let evil = layer(Kind::Host, "example", Compression::Zstd, &files);
    let path = world.written("host", &evil);
    world.refuses(&["publish", &path], 3, &["usr"]);
}

#[test]
fn another_layer_under_a_published_version_is_refused() {
    let world = World::new();
    let first = world.written("first", &host());
    world.succeeds(&["publish", &first]);
    let files = [("etc/hostname", 0o644, &b"other\n"[..])];
    let other = layer(Kind::Host, "example", Compression::Zstd, &files);
    let second = world.written("second", &other);
    let digests = [
        host().manifest.digest.to_string(),
        other.manifest.digest.to_string(),
    ];
    world.refuses(&["publish", &second], 2, &[&digests[0], &digests[1]]);
}

#[test]
fn a_chain_whose_kernel_could_not_unpack_a_layer_is_refused_and_names_both() {
    let world = World::new();
    let [mut kernel, base, host] = chain();
    let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP"];
    kernel.manifest.provides.modules = options.map(str::to_owned).to_vec();
    let paths = [
        world.written("kernel", &kernel),
        world.written("base", &base),
        world.written("host", &host),
    ];
    let publish = ["publish", &paths[0], &paths[1], &paths[2]];
    let names = [
        "CONFIG_RD_ZSTD in kernel debian",
        "host/example/",
        "--accept-missing",
    ];
    world.refuses(&publish, 1, &names);
    kernel
        .manifest
        .provides
        .modules
        .push("CONFIG_RD_ZSTD".into());
    world.written("kernel", &kernel);
    world.succeeds(&publish);
}

#[test]
fn a_chain_that_lacks_a_library_is_refused_and_names_it() {
    let world = World::new();
    let [_, base, mut host] = chain();
    host.manifest.requires.libraries = vec!["libgone.so.1".into()];
    let paths = [world.written("base", &base), world.written("host", &host)];
    let publish = ["publish", &paths[0], &paths[1]];
    world.refuses(&publish, 1, &["libgone.so.1", "--accept-missing"]);
    world.succeeds(&[&publish[..], &["--accept-missing"]].concat());
}

/// A base in an image, with bash, a link for `/bin`, and a CA bundle that others may replace.
fn image_base(version: &str) -> Layer {
    let files = [("usr/bin/bash", "#!"), ("etc/ca.crt", "old")];
    let image = squashfs(&files, &[("bin", "usr/bin")]);
    let mut base = image_layer(
        Kind::Base,
        (20, "base"),
        &image,
        &[("init", 0o755, b"stage 1")],
    );
    base.manifest.name = "debian".into();
    base.manifest.version = version.into();
    base.manifest.replaceable = vec!["etc/ca.crt".into()];
    base
}

fn agent(name: &str, paths: &[&str]) -> Layer {
    let files: Vec<_> = paths
        .iter()
        .map(|path| (*path, 0o644, &b"#!"[..]))
        .collect();
    layer(Kind::Agent, name, Compression::Zstd, &files)
}

#[test]
fn an_agent_over_a_file_in_the_bases_image_is_not_published() {
    let world = World::new();
    let base = world.written("base", &image_base("1"));
    world.succeeds(&["publish", &base]);
    let before = world.timestamp();
    for (path, says) in [
        ("usr/bin/bash", "brings usr/bin/bash"),
        ("bin/agent", "has a directory bin"),
        ("usr/bin", "has a link or file usr/bin"),
    ] {
        let evil = world.written("evil", &agent("evil", &[path]));
        let names = ["agent/evil/1/amd64", "base/debian/1/amd64", says, "next:"];
        world.refuses(&["publish", &evil], 3, &names);
        world.refuses(&["publish", &evil, "--accept-missing"], 3, &names);
    }
    assert_eq!(world.timestamp(), before);
    let good = agent("good", &["usr/bin/good", "etc/ca.crt"]);
    world.succeeds(&["publish", &world.written("good", &good)]);
}

#[test]
fn a_new_base_that_is_in_the_way_of_a_published_agent_is_not_published() {
    let world = World::new();
    let tool = agent("tool", &["usr/bin/bash"]);
    world.succeeds(&["publish", &world.written("tool", &tool)]);
    let base = world.written("base", &image_base("2"));
    let names = [
        "agent/tool/1/amd64 brings usr/bin/bash",
        "base/debian/2/amd64",
    ];
    world.refuses(&["publish", &base], 3, &names);
    world.succeeds(&["catalogue", "retire", "tool", "1"]);
    world.succeeds(&["publish", &base]);
}

#[test]
fn two_agents_with_one_file_are_not_published() {
    let world = World::new();
    let layers = [
        image_base("1"),
        agent("a", &["opt/x"]),
        agent("b", &["opt/x"]),
    ];
    let paths = ["base", "a", "b"].iter().zip(&layers);
    let paths: Vec<_> = paths
        .map(|(name, layer)| world.written(name, layer))
        .collect();
    let publish = ["publish", &paths[0], &paths[1], &paths[2]];
    let names = ["agent/b/1/amd64 brings opt/x", "agent/a/1/amd64"];
    world.refuses(&publish, 3, &names);
    world.succeeds(&publish[..3]);
}

#[test]
fn a_base_whose_image_is_no_squashfs_is_not_published() {
    let world = World::new();
    let base = image_layer(Kind::Base, (20, "base"), b"no image", &[]);
    let path = world.written("base", &base);
    world.refuses(&["publish", &path], 3, &["base.layer", "squashfs"]);
}

#[test]
fn a_place_that_may_not_be_written_and_a_store_with_a_hole_have_next_steps() {
    let world = World::new();
    // Nobody, root included, can make a folder there.
    world.refuses(&["init", "/sys/towline/site"], 2, &["/sys", "next: choose"]);
    let timestamp = world.site().join("store/metadata/timestamp.json");
    fs::remove_file(timestamp).unwrap();
    let says = ["no timestamp.json", "next: restore it from a copy"];
    world.refuses(&["catalogue", "list"], 70, &says);
}
