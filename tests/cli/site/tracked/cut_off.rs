//! Looks that are cut off or meet another: the next one goes on, and publishes once.

use std::fs::{self, File};
use std::time::Duration;

use super::Followed;
use crate::site::follows::{DAY, DAY_1, Follows as _};

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
        followed.is_killed_after(Duration::from_millis(wait * 50));
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
