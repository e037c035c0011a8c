//! Layers whose keys are elsewhere: they wait for signatures, and the next look publishes them.

use std::fs;

use super::{Followed, base};
use crate::site::chain;
use crate::site::follows::{DAY, DAY_1, Follows as _};

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
