//! Layers beside the recipe's that somebody published by hand.

use serde_json::Value;

use super::Followed;
use crate::site::follows::{DAY, DAY_1, Follows as _};

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
