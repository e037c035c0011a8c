//! Bounds: more of anything than an honest document has is refused, and the bound itself is not.

use serde_json::{Value, json};
use towline_contract::limits::{DELEGATIONS_MAX, ROLE_KEYS_MAX, TARGETS_MAX, VERSION_MAX};
use towline_contract::trust::{TrustError, TrustedRoot, sign};

use crate::site::{Site, key};

#[test]
fn more_keys_signatures_or_versions_than_any_honest_document_has_are_refused() {
    let site = Site::new();
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut root = serde_json::to_value(&site.root).unwrap();
        edit(&mut root);
        let bytes = sign(&root, &[&key(1), &key(2)]).unwrap();
        TrustedRoot::from_stamp(&bytes).unwrap_err()
    };
    let many = refused(&|root| {
        let ids: Vec<_> = (0..=ROLE_KEYS_MAX).map(|it| it.to_string()).collect();
        root["roles"]["targets"]["keyids"] = json!(ids);
    });
    assert!(matches!(many, TrustError::TooMany { found: 65, .. }));
    let last = refused(&|root| root["version"] = json!(VERSION_MAX + 1));
    assert!(last.to_string().contains("versions are 1 to"), "{last}");

    let mut root: Value = serde_json::from_slice(&site.files().root).unwrap();
    let one = root["signatures"][0].clone();
    let copies = (0..200).map(|number| {
        let mut copy = one.clone();
        copy["keyid"] = json!(number.to_string());
        copy
    });
    let copies: Vec<_> = copies.collect();
    root["signatures"].as_array_mut().unwrap().extend(copies);
    let bytes = serde_json::to_vec(&root).unwrap();
    let many = TrustedRoot::from_stamp(&bytes).unwrap_err();
    assert!(matches!(many, TrustError::TooMany { found: 202, .. }));
}

#[test]
fn more_targets_or_delegations_than_a_document_may_have_are_refused() {
    let site = Site::new();
    let root = TrustedRoot::from_stamp(&site.files().root).unwrap();
    let found = |targets: usize, roles: usize| {
        let mut document = serde_json::to_value(&site.targets).unwrap();
        let file = json!({ "length": 0, "hashes": {} });
        let target = |number: usize| (number.to_string(), file.clone());
        document["targets"] = (0..targets).map(target).collect();
        let role = |number: usize| json!({ "name": number.to_string(), "keyids": [], "threshold": 1, "terminating": true, "paths": [] });
        let roles: Vec<_> = (0..roles).map(role).collect();
        document["delegations"] = json!({ "keys": {}, "roles": roles });
        let bytes = sign(&document, &[&key(4), &key(5)]).unwrap();
        root.targets_to_publish(&bytes).map(drop)
    };
    found(TARGETS_MAX, 0).unwrap();
    found(0, DELEGATIONS_MAX).unwrap();
    let many = [(TARGETS_MAX + 1, 0), (0, DELEGATIONS_MAX + 1)];
    for ((targets, roles), wanted) in many.into_iter().zip(["targets", "delegated roles"]) {
        match found(targets, roles) {
            Err(TrustError::TooMany { of, .. }) => assert_eq!(of, wanted),
            other => panic!("{other:?}"),
        }
    }
}
