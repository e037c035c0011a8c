//! The site's layer policy: signed by the targets role, and kept by every layer of the chain.

use serde_json::json;
use towline_contract::lanes::{Bounds, LayerPolicy, POLICY_TARGET};
use towline_contract::trust::TrustError;
use towline_contract::trust::metadata::TargetFile;

use crate::roles::ByKind;
use crate::site::Site;

fn policy() -> LayerPolicy {
    let text =
        r#"{ "format": 1, "kinds": { "agent": { "within": ["usr"], "never": ["usr/sbin"] } } }"#;
    serde_json::from_str(text).unwrap()
}

/// A site that has signed this as its policy.
fn site(policy: TargetFile) -> Site {
    let mut site = Site::new();
    site.targets.targets.insert(POLICY_TARGET.into(), policy);
    site
}

#[test]
fn each_layer_of_a_plan_is_kept_to_the_policy_that_the_targets_role_signed() {
    let site = site(TargetFile::of_policy(&policy()).unwrap());
    let chain = site.plan(|_| {}).unwrap();
    assert_eq!(chain.policy, policy());
    let bounds = |index: usize| {
        let manifest = chain.manifest(index, &site.layers[index].manifest_bytes);
        manifest.unwrap().bounds.clone()
    };
    assert_eq!(bounds(2), policy().kinds.into_values().next().unwrap());
    assert_eq!(bounds(1), Bounds::default());
}

#[test]
fn a_policy_that_is_not_understood_in_full_stops_every_plan() {
    let honest = TargetFile::of_policy(&policy()).unwrap();
    let with = |custom: serde_json::Value| TargetFile {
        custom: Some(custom),
        ..honest.clone()
    };
    let mut newer = policy();
    newer.format = 2;
    assert!(TargetFile::of_policy(&newer).is_err());
    for (target, why) in [
        (
            with(json!({ "policy": { "format": 1, "kinds": {} } })),
            "another document's",
        ),
        (
            with(json!({ "policy": { "format": 1, "kinds": {}, "only": [] } })),
            "another document's",
        ),
        (with(json!({})), "missing field"),
        (
            TargetFile {
                custom: None,
                ..honest.clone()
            },
            "invalid type",
        ),
    ] {
        let refused = site(target).plan(|_| {}).unwrap_err();
        let TrustError::Malformed { what, why: found } = refused else {
            panic!("{refused}")
        };
        assert!(
            what.contains(POLICY_TARGET) && found.contains(why),
            "{found}"
        );
    }
}

#[test]
fn a_role_by_kind_signs_no_policy() {
    let mut by_kind = ByKind::new();
    let target = TargetFile::of_policy(&policy()).unwrap();
    by_kind.base.targets.insert(POLICY_TARGET.into(), target);
    let refused = by_kind.signed().view().unwrap_err().to_string();
    assert!(refused.contains("which role base may not"), "{refused}");
}
