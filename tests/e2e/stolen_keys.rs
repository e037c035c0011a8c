//! Keys that were stolen or lost: what a thief of the server serves starts nothing, and what the operators answer starts on the
//! media that are in drawers.

use std::fs;
use std::path::Path;

use towline_contract::stamp::STAMP_MAGIC;
use towline_harness::site::usurp;

use crate::world::{RESCUE, Site, built, expect_rescue, run};

/// Publishes the layers that every test has.
fn publish(dir: &Path) {
    let layers = built().layers.iter();
    let layers: Vec<_> = layers.map(|it| it.to_str().expect("UTF-8")).collect();
    run(dir, &[&["publish"], layers.as_slice()].concat());
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_thief_of_the_servers_keys_boots_no_base_of_their_own() {
    let site = Site::serving(&built().layers);
    let image = site.https_medium();
    site.kill();
    usurp(&site.dir());
    publish(&site.dir());
    site.start();
    let mut running = site.machine("usurped", image).start().expect("QEMU");
    let named = |line: &str| line.contains("targets.json is not trusted");
    running
        .wait_until("the document that no trusted key signed", RESCUE, named)
        .expect("it says which");
    running
        .wait_for("What next?", RESCUE)
        .expect("the person is asked what to do");
    assert!(!site.events().contains("rescue-ready"));
}

#[test]
#[ignore = "boots QEMU: make test"]
fn an_older_catalogue_boots_nothing_from_a_medium_that_was_stamped_since() {
    let site = Site::serving(&built().layers);
    let (dir, older) = (site.dir(), site.dir().join("older"));
    copy(&dir.join("store/metadata"), &older);
    run(&dir, &["key", "rotate", "base", "--renew"]);
    let image = site.https_medium();
    site.kill();
    copy(&older, &dir.join("store/metadata"));
    site.start();
    let mut running = site.machine("older", image).start().expect("QEMU");
    running
        .wait_for("base.json is version 2, but version 3 was known", RESCUE)
        .expect("it names both versions");
    running
        .wait_for("What next?", RESCUE)
        .expect("the person is asked what to do");
    assert!(!site.events().contains("rescue-ready"));
}

/// Makes `to` a copy of the folder `from`.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_medium_of_the_first_day_boots_after_a_root_key_was_lost_and_all_keys_were_replaced() {
    let site = Site::serving(&built().layers);
    let image = site.https_medium();
    let (dir, away) = (site.dir(), site.dir().join("keys/root-1.key"));
    fs::remove_file(away).expect("the key is lost");
    let rotate = |roles: &[&str]| {
        run(
            &dir,
            &[&["key", "rotate", "--plain-root-keys"], roles].concat(),
        )
    };
    rotate(&["root", "--replace", "root-1"]);
    rotate(&[
        "targets",
        "snapshot",
        "timestamp",
        "base",
        "hosts",
        "plan",
        "agent-restic",
    ]);
    rotate(&["root", "--renew"]);
    rotate(&["root"]);
    assert!(dir.join("store/metadata/5.root.json").exists());
    let mut running = site.machine("rotated", image).start().expect("QEMU");
    expect_rescue(&mut running, &site);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_damaged_stamp_is_no_stamp_and_the_machine_says_so() {
    let site = Site::serving(&built().layers);
    let image = site.https_medium();
    let mut bytes = fs::read(&image).expect("the image");
    let at = bytes
        .windows(STAMP_MAGIC.len())
        .position(|it| it == STAMP_MAGIC)
        .expect("a stamp");
    // One letter of the settings, behind magic, length and digest.
    bytes[at + 120] ^= 1;
    fs::write(&image, bytes).expect("the image");
    let mut running = site.machine("damaged-stamp", image).start().expect("QEMU");
    running
        .wait_for("the stamp is damaged", RESCUE)
        .expect("it says so");
    assert!(!running.seen().iter().any(|line| line.contains("10.0.2.2")));
    assert!(site.events().is_empty());
}
