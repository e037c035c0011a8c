//! Placing verified layers: what may lie where, over what, and nothing behind a link of an earlier layer.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use towline_contract::lanes::Rule;
use towline_contract::manifest::{Compression, Kind, Manifest};
use towline_contract::trust::Verified;
use towline_harness::layer::{Item, Layer, image_layer, layer, noise, of_items, with_parents};
use towline_stage1::place::{KexecChain, KexecPlacing, LayerSink, Mounting, PlaceError, Root};

use crate::world::{CHUNK, Ready, base, kernel};

/// The chunks of a stored layer through a sink.
fn pour(
    mut sink: LayerSink<'_>,
    manifest: &Verified<Manifest>,
    layer: &Layer,
) -> Result<(), PlaceError> {
    for (index, chunk) in layer.stored.chunks(CHUNK).enumerate() {
        sink.chunk(manifest.chunk(index, chunk.to_vec()).unwrap())?;
    }
    sink.finish()
}

pub(crate) fn place_into(dir: &Path, layers: &[Layer]) -> Result<(), PlaceError> {
    place_ready(dir, &Ready::serving(layers), layers)
}

pub(crate) fn place_ready(dir: &Path, ready: &Ready, layers: &[Layer]) -> Result<(), PlaceError> {
    let mut root = Root::create(dir, Mounting::None)?;
    for (manifest, layer) in ready.manifests.iter().zip(layers) {
        pour(root.layer(manifest)?, manifest, layer)?;
    }
    root.finish().map(drop)
}

pub(crate) fn for_kexec(dir: &Path, layers: &[Layer]) -> Result<KexecChain, PlaceError> {
    ready_for_kexec(dir, &Ready::serving(layers), layers)
}

pub(crate) fn ready_for_kexec(
    dir: &Path,
    ready: &Ready,
    layers: &[Layer],
) -> Result<KexecChain, PlaceError> {
    let mut placing = KexecPlacing::create(dir, Mounting::None)?;
    for (manifest, layer) in ready.manifests.iter().zip(layers) {
        pour(placing.layer(manifest)?, manifest, layer)?;
    }
    placing.finish()
}

/// A small base of these entries, and an init.
pub(crate) fn base_of(mut items: Vec<Item>) -> Layer {
    items.push(Item::file("sbin/init", 0o755, b"init"));
    of_items(
        Kind::Base,
        "debian",
        Compression::Zstd,
        &with_parents(items),
    )
}

pub(crate) fn agent_of(items: Vec<Item>) -> Layer {
    of_items(
        Kind::Agent,
        "restic",
        Compression::Zstd,
        &with_parents(items),
    )
}

/// Kernel, a base of `below`, and an agent of `above`: the agent's refusal, if any, and the tree.
fn over(below: Vec<Item>, above: Vec<Item>) -> (Result<(), PlaceError>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let placed = place_into(dir.path(), &[kernel(), base_of(below), agent_of(above)]);
    (placed, dir)
}

#[track_caller]
fn assert_over(found: &Result<(), PlaceError>, entry: &str, words: &str) {
    let Err(PlaceError::Over { layer, path, rule }) = found else {
        panic!("{found:?}")
    };
    assert_eq!(
        (layer.as_str(), path.as_str()),
        ("agent/restic/1/amd64", entry)
    );
    assert!(rule.contains(words), "{rule}");
}

#[test]
fn files_come_with_content_mode_time_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let items = vec![
        Item::directory("var/secret", 0o700),
        Item::file("var/secret/key", 0o600, b"key"),
        Item::file("usr/bin/su", 0o4755, b"su"),
        Item::link("usr/bin/sh", "bash"),
        Item::hard("usr/bin/perl", 7, b"perl"),
        Item::hard("usr/bin/perl5", 7, b""),
        Item::file("etc/empty", 0o644, b""),
    ];
    place_into(dir.path(), &[kernel(), base_of(items)]).unwrap();
    let tree = dir.path().join("upper");
    let stat = |path: &str| fs::symlink_metadata(tree.join(path)).unwrap();
    assert_eq!(stat("var/secret").mode() & 0o7777, 0o700);
    assert_eq!(stat("var/secret/key").mode() & 0o7777, 0o600);
    assert_eq!(
        stat("usr/bin/su").mode() & 0o7777,
        0o4755,
        "a base may have set-id programs"
    );
    assert_eq!(stat("usr/bin/su").mtime(), 1_700_000_000);
    assert_eq!(
        fs::read_link(tree.join("usr/bin/sh")).unwrap(),
        Path::new("bash")
    );
    assert_eq!(stat("usr/bin/perl").ino(), stat("usr/bin/perl5").ino());
    assert_eq!(fs::read(tree.join("usr/bin/perl5")).unwrap(), b"perl");
    assert_eq!(stat("etc/empty").len(), 0);
}

#[test]
fn an_entry_behind_a_link_of_an_earlier_layer_is_refused() {
    // The base's directory links are harmless, and so is a directory of the same name; together they lead elsewhere.
    for (target, file) in [("usr/lib", "lib/libagent.so"), ("/etc", "lib/passwd")] {
        let below = vec![Item::directory("usr/lib", 0o755), Item::link("lib", target)];
        let (found, dir) = over(below, vec![Item::file(file, 0o644, b"x")]);
        assert_over(&found, "lib", "something else");
        assert!(!dir.path().join("upper/usr/lib/libagent.so").exists());
    }
}

#[test]
fn a_link_that_an_agent_makes_itself_leads_it_nowhere() {
    // First a link, then an entry below it: the lanes refuse it, for the link is no directory.
    let items = [
        Item::directory("opt", 0o755),
        Item::link("opt/way", "/etc"),
        Item::file("opt/way/passwd", 0o644, b"evil"),
    ];
    let agent = of_items(Kind::Agent, "restic", Compression::Zstd, &items);
    let dir = tempfile::tempdir().unwrap();
    let found = place_into(dir.path(), &[kernel(), base_of(vec![]), agent]);
    let Err(PlaceError::Lane(error)) = found else {
        panic!("{found:?}")
    };
    assert!(matches!(error.rule, Rule::Parent), "{error:?}");
}

#[test]
fn a_link_planted_in_the_tree_is_not_followed() {
    // Whatever put it there: the last defence is the kernel's.
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let layers = [
        kernel(),
        base_of(vec![]),
        agent_of(vec![Item::file("opt/agent", 0o755, b"x")]),
    ];
    let ready = Ready::serving(&layers);
    let mut root = Root::create(dir.path(), Mounting::None).unwrap();
    for index in [0, 1] {
        pour(
            root.layer(&ready.manifests[index]).unwrap(),
            &ready.manifests[index],
            &layers[index],
        )
        .unwrap();
    }
    symlink(outside.path(), dir.path().join("upper/opt")).unwrap();
    let found = pour(
        root.layer(&ready.manifests[2]).unwrap(),
        &ready.manifests[2],
        &layers[2],
    );
    assert!(matches!(found, Err(PlaceError::Over { .. })), "{found:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_link_planted_in_the_middle_of_a_layer_is_not_followed() {
    // The directory was a real one when its entry came: only how parents are opened is left to refuse.
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let items = vec![
        Item::file("opt/early", 0o644, &noise(3, CHUNK + 5000)),
        Item::file("opt/late", 0o755, b"x"),
    ];
    let agent = of_items(
        Kind::Agent,
        "restic",
        Compression::None,
        &with_parents(items),
    );
    let layers = [kernel(), base_of(vec![]), agent];
    let ready = Ready::serving(&layers);
    let mut root = Root::create(dir.path(), Mounting::None).unwrap();
    for (manifest, layer) in ready.manifests.iter().zip(&layers).take(2) {
        pour(root.layer(manifest).unwrap(), manifest, layer).unwrap();
    }
    let (manifest, stored) = (&ready.manifests[2], &layers[2].stored);
    let mut sink = root.layer(manifest).unwrap();
    let chunk = |index: usize| {
        let bytes = stored.chunks(CHUNK).nth(index).unwrap();
        manifest.chunk(index, bytes.to_vec()).unwrap()
    };
    sink.chunk(chunk(0)).unwrap();
    fs::rename(dir.path().join("upper/opt"), dir.path().join("aside")).unwrap();
    symlink(outside.path(), dir.path().join("upper/opt")).unwrap();
    assert_over(&sink.chunk(chunk(1)), "opt/late", "behind a symbolic link");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_over_a_file_and_a_file_over_a_directory_are_refused() {
    let (found, _) = over(
        vec![Item::file("opt", 0o644, b"")],
        vec![Item::file("opt/agent", 0o755, b"x")],
    );
    assert_over(&found, "opt", "is a directory where");
    let (found, _) = over(
        vec![Item::directory("opt/agent", 0o755)],
        vec![Item::file("opt/agent", 0o755, b"x")],
    );
    assert_over(&found, "opt/agent", "takes the place of a directory");
}

#[test]
fn an_agent_replaces_nothing_of_the_base() {
    for above in [
        Item::file("etc/passwd", 0o644, b"evil"),
        Item::link("etc/passwd", "/dev/null"),
    ] {
        let (found, dir) = over(vec![Item::file("etc/passwd", 0o644, b"good")], vec![above]);
        assert_over(&found, "etc/passwd", "takes the place of a file");
        assert_eq!(
            fs::read(dir.path().join("upper/etc/passwd")).unwrap(),
            b"good"
        );
    }
}

#[test]
fn an_agent_replaces_what_the_base_lets_it_and_never_through_a_link() {
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    let mut base = base_of(vec![
        Item::file("etc/precious", 0o644, b"precious"),
        Item::link(bundle, "../../precious"),
    ]);
    base.manifest.replaceable = vec![bundle.into()];
    let agent = agent_of(vec![Item::file(bundle, 0o644, b"fresh")]);
    let dir = tempfile::tempdir().unwrap();
    place_into(dir.path(), &[kernel(), base, agent]).unwrap();
    let tree = dir.path().join("upper");
    assert_eq!(fs::read(tree.join("etc/precious")).unwrap(), b"precious");
    assert_eq!(fs::read(tree.join(bundle)).unwrap(), b"fresh");
    assert!(fs::symlink_metadata(tree.join(bundle)).unwrap().is_file());
}

#[test]
fn what_an_agent_says_is_replaceable_does_not_count() {
    let mut agent = agent_of(vec![Item::file("etc/passwd", 0o644, b"evil")]);
    agent.manifest.replaceable = vec!["etc/passwd".into()];
    let refused = Manifest::parse(&agent.manifest.to_bytes()).unwrap_err();
    assert!(refused.to_string().contains("replaceable"), "{refused}");
}

#[test]
fn a_directory_that_exists_keeps_its_mode() {
    let below = vec![
        Item::directory("root", 0o700),
        Item::file("root/.profile", 0o644, b""),
    ];
    let (placed, dir) = over(
        below,
        vec![
            Item::directory("root", 0o777),
            Item::file("root/agent", 0o644, b""),
        ],
    );
    placed.unwrap();
    let mode = fs::metadata(dir.path().join("upper/root")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn a_host_layer_that_carries_a_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let program: &[_] = &[("usr/bin/bash", 0o755, b"#!/bin/evil".as_slice())];
    let host = layer(Kind::Host, "example", Compression::Zstd, program);
    let found = place_into(dir.path(), &[kernel(), base_of(vec![]), host]);
    let Err(PlaceError::Lane(error)) = found else {
        panic!("{found:?}")
    };
    // Its folder comes before it, and is refused already.
    assert_eq!(error.entry.as_deref(), Some("usr/bin"), "{error}");
    assert!(!dir.path().join("upper/usr/bin").exists());
}

#[test]
fn layers_of_every_compression_are_placed() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let files: &[_] = &[("sbin/init", 0o755, b"init".as_slice())];
        let base = layer(Kind::Base, "debian", compression, files);
        place_into(dir.path(), &[kernel(), base]).unwrap();
        assert_eq!(
            fs::read(dir.path().join("upper/sbin/init")).unwrap(),
            b"init"
        );
    }
}

#[test]
fn an_image_is_written_and_what_lies_beside_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let beside: &[_] = &[("boot/vmlinuz-6.1.0-test", 0o644, b"kernel".as_slice())];
    let kernel = image_layer(Kind::Kernel, (10, "kernel"), b"squashfs of modules", beside);
    let base = image_layer(Kind::Base, (20, "base"), b"squashfs of programs", &[]);
    place_into(dir.path(), &[kernel, base]).unwrap();
    let image = |name: &str| fs::read(dir.path().join("images").join(name)).unwrap();
    assert_eq!(image("10-kernel.squashfs"), b"squashfs of modules");
    assert_eq!(image("20-base.squashfs"), b"squashfs of programs");
    assert_eq!(fs::read_dir(dir.path().join("upper")).unwrap().count(), 0);
}

#[test]
fn an_image_over_plain_files_is_refused() {
    let layers = [kernel(), image_layer(Kind::Base, (20, "base"), b"two", &[])];
    let dir = tempfile::tempdir().unwrap();
    let found = place_into(dir.path(), &layers);
    let Err(PlaceError::Incomplete(what)) = found else {
        panic!("{found:?}")
    };
    assert!(
        what.contains("comes after a layer of plain files"),
        "{what}"
    );
}

#[test]
fn for_kexec_every_layer_is_kept_as_it_is_stored_and_ends_on_four_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [kernel(), base()];
    let chain = for_kexec(dir.path(), &layers).unwrap();
    assert_eq!(fs::read(&chain.kernel).unwrap(), b"kernel");
    assert_eq!(chain.layers.len(), 2);
    for (path, layer) in chain.layers.iter().zip(&layers) {
        let kept = fs::read(path).unwrap();
        assert!(kept.starts_with(&layer.stored) && kept.len().is_multiple_of(4));
        assert!(kept[layer.stored.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn for_kexec_lanes_are_enforced_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let program: &[_] = &[("usr/bin/bash", 0o755, b"#!/bin/evil".as_slice())];
    let host = layer(Kind::Host, "example", Compression::Zstd, program);
    let found = for_kexec(dir.path(), &[kernel(), base(), host]);
    assert!(matches!(found, Err(PlaceError::Lane(_))), "{found:?}");
}

/// The same for kexec: the agent's refusal, if any.
fn over_for_kexec(base: Layer, agent: Layer) -> Result<(), PlaceError> {
    let dir = tempfile::tempdir().unwrap();
    for_kexec(dir.path(), &[kernel(), base, agent]).map(drop)
}

#[test]
fn for_kexec_an_agent_replaces_nothing_of_the_base() {
    for above in [
        Item::file("etc/passwd", 0o644, b"evil"),
        Item::link("etc/passwd", "/dev/null"),
    ] {
        let base = base_of(vec![Item::file("etc/passwd", 0o644, b"good")]);
        let found = over_for_kexec(base, agent_of(vec![above]));
        assert_over(&found, "etc/passwd", "takes the place of a file");
    }
}

#[test]
fn for_kexec_an_entry_behind_a_link_of_an_earlier_layer_is_refused() {
    let below = vec![
        Item::directory("usr/lib", 0o755),
        Item::link("lib", "usr/lib"),
    ];
    let agent = agent_of(vec![Item::file("lib/libagent.so", 0o644, b"x")]);
    let found = over_for_kexec(base_of(below), agent);
    assert_over(&found, "lib", "something else");
}

#[test]
fn for_kexec_an_agent_replaces_what_the_base_lets_it() {
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    let mut base = base_of(vec![Item::file(bundle, 0o644, b"old")]);
    base.manifest.replaceable = vec![bundle.into()];
    let agent = agent_of(vec![Item::file(bundle, 0o644, b"fresh")]);
    over_for_kexec(base, agent).unwrap();
}

#[test]
fn for_kexec_an_agent_replaces_nothing_that_lies_beside_an_image() {
    // Only the other kernel's initramfs has these files, and the program that starts there reads them.
    let module = "usr/lib/modules/6.1.0-test/loop.ko";
    let beside: &[_] = &[
        ("boot/vmlinuz-6.1.0-test", 0o644, b"kernel".as_slice()),
        (module, 0o644, b"module"),
    ];
    let kernel = image_layer(Kind::Kernel, (10, "kernel"), b"squashfs of modules", beside);
    let base = image_layer(Kind::Base, (20, "base"), b"squashfs of programs", &[]);
    let agent = agent_of(vec![Item::file(module, 0o644, b"evil")]);
    let dir = tempfile::tempdir().unwrap();
    let found = for_kexec(dir.path(), &[kernel, base, agent]).map(drop);
    assert_over(&found, module, "takes the place of a file");
}

#[test]
fn for_kexec_what_judged_the_layers_is_gone_before_the_kernel_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let image = image_layer(Kind::Base, (20, "base"), b"squashfs", &[]);
    for_kexec(dir.path(), &[kernel(), image, agent_of(vec![])]).unwrap();
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["00.layer", "01.layer", "02.layer", "vmlinuz"]);
}

#[test]
fn for_kexec_the_kernel_is_that_of_the_release_the_manifest_names() {
    let dir = tempfile::tempdir().unwrap();
    let files: &[_] = &[
        ("boot/vmlinuz-6.1.0-test", 0o644, b"kernel".as_slice()),
        ("boot/vmlinuz-6.1.0-other", 0o644, b"other"),
    ];
    let two = layer(Kind::Kernel, "linux", Compression::Zstd, files);
    let chain = for_kexec(dir.path(), &[two, base()]).unwrap();
    assert_eq!(fs::read(&chain.kernel).unwrap(), b"kernel");
    let dir = tempfile::tempdir().unwrap();
    let other = layer(Kind::Kernel, "linux", Compression::Zstd, &files[1..]);
    let found = for_kexec(dir.path(), &[other, base()]);
    assert!(matches!(found, Err(PlaceError::Incomplete(_))), "{found:?}");
}
