//! Archives and recipes that are not followed: each look that fails says why, and leaves what is published.

use std::fs;
use std::os::unix::fs::chown;

use super::{Followed, RECIPE, base};
use crate::site::Server;
use crate::site::follows::{DAY, DAY_1, Follows as _};

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
