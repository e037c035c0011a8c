//! Root, timestamp, snapshot, targets.

use proptest::prelude::*;
use serde_json::{Value, json};
use towline_contract::limits::{
    METADATA_BYTES_MAX, ROOT_BYTES_MAX, ROOT_ROTATIONS_MAX, TIMESTAMP_BYTES_MAX, VERSION_MAX,
};
use towline_contract::trust::metadata::{FileRef, RoleName, Snapshot, Timestamp};
use towline_contract::trust::{Envelope, SigningKey, TrustError, TrustedRoot, sign};

use crate::site::{Site, key, public};

/// Parses, changes and writes an envelope again; the signatures stay as they were unless the change touches them.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn an_honest_catalogue_is_read_and_each_step_names_the_next_file() {
    let files = Site::new().files();
    let root = TrustedRoot::from_stamp(&files.root).unwrap();
    assert_eq!(root.next_file(), "2.root.json");
    let timestamp = root.timestamp(&files.timestamp).unwrap();
    assert_eq!(timestamp.next_file(), "5.snapshot.json");
    assert_eq!(timestamp.max_bytes(), files.snapshot.len() as u64);
    let snapshot = timestamp.snapshot(&files.snapshot).unwrap();
    assert_eq!(snapshot.next_file(), "3.targets.json");
    assert_eq!(snapshot.max_bytes(), files.targets.len() as u64);
    let view = snapshot.targets(&files.targets).unwrap();
    assert_eq!(view.layers().len(), 4);
    assert_eq!(view.timestamp_version(), 9);
}

#[test]
fn white_space_and_unknown_fields_change_nothing() {
    let site = Site::new();
    let mut files = site.files();
    files.timestamp = changed(&files.timestamp, |_| {});
    files.view().unwrap();

    let mut root = serde_json::to_value(&site.root).unwrap();
    root["x-comment"] = json!({"made": "by hand", "number": 1});
    root["keys"][key(1).public().id().as_str()]["x-owner"] = json!("ops");
    files.root = sign(&root, &[&key(1), &key(2)]).unwrap();
    files.view().unwrap();
}

#[test]
fn a_root_signed_by_one_key_of_two_is_refused_and_says_who_is_missing() {
    let site = Site::new();
    let refused = TrustedRoot::from_stamp(&sign(&site.root, &[&key(1)]).unwrap());
    match refused {
        Err(TrustError::Signatures {
            valid: 1,
            threshold: 2,
            missing,
            ..
        }) => {
            assert!(missing.contains(&key(2).public().id().short()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_signed_twice_by_one_key_does_not_meet_a_threshold_of_two() {
    let site = Site::new();
    // The same signature twice under one name,
    let twice = changed(&sign(&site.root, &[&key(1)]).unwrap(), |envelope| {
        let first = envelope["signatures"][0].clone();
        envelope["signatures"].as_array_mut().unwrap().push(first);
    });
    assert!(matches!(
        TrustedRoot::from_stamp(&twice),
        Err(TrustError::Malformed { .. })
    ));
    // and one key under two names.
    let mut root = serde_json::to_value(&site.root).unwrap();
    root["keys"]["alias"] = root["keys"][key(1).public().id().as_str()].clone();
    root["roles"]["root"]["keyids"]
        .as_array_mut()
        .unwrap()
        .push(json!("alias"));
    let mut envelope =
        Envelope::parse(&sign(&root, &[&key(1)]).unwrap(), "root", ROOT_BYTES_MAX).unwrap();
    let mut alias = serde_json::to_value(&envelope.signatures[0]).unwrap();
    alias["keyid"] = json!("alias");
    envelope
        .signatures
        .push(serde_json::from_value(alias).unwrap());
    assert!(matches!(
        TrustedRoot::from_stamp(&envelope.to_bytes()),
        Err(TrustError::Signatures {
            valid: 1,
            threshold: 2,
            ..
        })
    ));
}

#[test]
fn a_threshold_of_zero_is_refused() {
    let mut site = Site::new();
    site.root
        .set_role(RoleName::Timestamp, &public(&[&key(7)]), 0);
    assert!(matches!(
        TrustedRoot::from_stamp(&site.files().root),
        Err(TrustError::Malformed { .. })
    ));
}

#[test]
fn a_key_of_an_unknown_type_is_kept_and_verifies_nothing() {
    let site = Site::new();
    let mut root = serde_json::to_value(&site.root).unwrap();
    let id = key(7).public().id();
    root["keys"][id.as_str()] =
        json!({"keytype": "future", "scheme": "future-1", "keyval": {"identity": "x"}});
    let mut files = site.files();
    files.root = sign(&root, &[&key(1), &key(2)]).unwrap();
    assert!(matches!(
        files.view(),
        Err(TrustError::Signatures {
            valid: 0,
            threshold: 1,
            ..
        })
    ));
}

#[test]
fn each_document_signed_by_a_strangers_key_is_refused() {
    let site = Site::new();
    let honest = site.files();
    let resign = |bytes: &[u8]| {
        let envelope = Envelope::parse(bytes, "file", METADATA_BYTES_MAX).unwrap();
        sign(&envelope.signed, &[&key(99)]).unwrap()
    };
    let mut files = honest.clone();
    files.root = resign(&honest.root);
    assert!(matches!(files.view(), Err(TrustError::Signatures { .. })));
    files = honest.clone();
    files.timestamp = resign(&honest.timestamp);
    assert!(matches!(files.view(), Err(TrustError::Signatures { .. })));
    // Beneath the timestamp, whoever holds its key can name any snapshot; the snapshot's key is still asked for.
    files = honest.clone();
    files.snapshot = resign(&honest.snapshot);
    let reference = FileRef::of(5, &files.snapshot);
    files.timestamp = sign(&Timestamp::new(9, site.expires, reference), &[&key(7)]).unwrap();
    assert!(matches!(files.view(), Err(TrustError::Signatures { .. })));
    // And whoever holds both, the server, cannot make targets.
    files = honest.clone();
    files.targets = resign(&honest.targets);
    let reference = FileRef::of(3, &files.targets);
    files.snapshot = sign(&Snapshot::new(5, site.expires, reference), &[&key(6)]).unwrap();
    let reference = FileRef::of(5, &files.snapshot);
    files.timestamp = sign(&Timestamp::new(9, site.expires, reference), &[&key(7)]).unwrap();
    assert!(matches!(files.view(), Err(TrustError::Signatures { .. })));
}

#[test]
fn a_document_of_one_role_is_not_taken_for_another() {
    // Shaped like one, and signed by the right key: only its type tells.
    let mut files = Site::new().files();
    let envelope = Envelope::parse(&files.timestamp, "timestamp", TIMESTAMP_BYTES_MAX).unwrap();
    for other in ["snapshot", "targets", "root", "towline-plan"] {
        let mut signed = envelope.signed.clone();
        signed["_type"] = json!(other);
        files.timestamp = sign(&signed, &[&key(7)]).unwrap();
        match files.view() {
            Err(TrustError::Malformed { why, .. }) => assert!(why.contains(other), "{why}"),
            found => panic!("{found:?}"),
        }
    }
}

#[test]
fn files_of_two_moments_do_not_mix() {
    let mut site = Site::new();
    let old = site.files();
    site.targets.header.version = 4;
    site.targets.targets.clear();
    let new = site.files();
    let mut mixed = new.clone();
    mixed.snapshot = old.snapshot.clone();
    assert!(matches!(
        mixed.view(),
        Err(TrustError::Length { .. } | TrustError::Digest { .. })
    ));
    let mut mixed = new;
    mixed.targets = old.targets;
    assert!(matches!(
        mixed.view(),
        Err(TrustError::TooLarge { .. } | TrustError::Length { .. } | TrustError::Digest { .. })
    ));
}

#[test]
fn another_file_of_the_same_version_is_refused_by_its_digest_or_length() {
    let mut site = Site::new();
    let honest = site.files();
    site.expires = "2028-01-01T00:00:00Z".parse().unwrap();
    site.targets.header.expires = site.expires;
    let other = site.files(); // as long, of the same versions, signed by the same keys
    let timestamp = TrustedRoot::from_stamp(&honest.root)
        .and_then(|root| root.timestamp(&honest.timestamp))
        .unwrap();
    let refused = timestamp.clone().snapshot(&other.snapshot);
    assert!(matches!(refused, Err(TrustError::Digest { .. })));
    let shorter = honest.snapshot.trim_ascii_end();
    let refused = timestamp.clone().snapshot(shorter);
    assert!(matches!(refused, Err(TrustError::Length { .. })));
    let snapshot = timestamp.snapshot(&honest.snapshot).unwrap();
    let refused = snapshot.clone().targets(&other.targets);
    assert!(matches!(refused, Err(TrustError::Digest { .. })));
    let refused = snapshot.targets(honest.targets.trim_ascii_end());
    assert!(matches!(refused, Err(TrustError::Length { .. })));
}

#[test]
fn a_snapshot_that_rolls_back_the_targets_is_refused_by_their_versions() {
    let site = Site::new();
    let mut files = site.files();
    let mut reference = FileRef::of(2, &files.targets); // the targets say 3
    reference.length = None;
    reference.hashes = None;
    files.snapshot = sign(&Snapshot::new(5, site.expires, reference), &[&key(6)]).unwrap();
    let reference = FileRef::of(5, &files.snapshot);
    files.timestamp = sign(&Timestamp::new(9, site.expires, reference), &[&key(7)]).unwrap();
    assert!(matches!(
        files.view(),
        Err(TrustError::Version {
            found: 3,
            wanted: 2,
            ..
        })
    ));
}

#[test]
fn a_timestamp_that_names_another_version_of_the_snapshot_is_refused() {
    let site = Site::new();
    let mut files = site.files();
    let reference = FileRef::of(6, &files.snapshot); // the snapshot says 5
    files.timestamp = sign(&Timestamp::new(9, site.expires, reference), &[&key(7)]).unwrap();
    assert!(matches!(
        files.view(),
        Err(TrustError::Version {
            found: 5,
            wanted: 6,
            ..
        })
    ));
}

#[test]
fn endless_files_are_refused_by_their_length_before_they_are_parsed() {
    let files = Site::new().files();
    let root = TrustedRoot::from_stamp(&files.root).unwrap();
    let endless = |max: u64| vec![b' '; usize::try_from(max).unwrap() + 1];
    assert_eq!(root.timestamp_max_bytes(), TIMESTAMP_BYTES_MAX);
    assert!(matches!(
        root.clone().timestamp(&endless(TIMESTAMP_BYTES_MAX)),
        Err(TrustError::TooLarge { .. })
    ));
    assert!(matches!(
        root.clone().rotate(&endless(root.max_bytes())),
        Err(TrustError::TooLarge { .. })
    ));
    let timestamp = root.timestamp(&files.timestamp).unwrap();
    let mut longer = files.snapshot.clone();
    longer.push(b'\n');
    assert!(matches!(
        timestamp.snapshot(&longer),
        Err(TrustError::TooLarge { .. })
    ));
}

#[test]
fn a_number_with_a_fraction_has_no_canonical_form_and_is_refused() {
    let files = Site::new().files();
    let broken = changed(&files.root, |envelope| {
        envelope["signed"]["x-number"] = json!(1.5);
    });
    assert!(matches!(
        TrustedRoot::from_stamp(&broken),
        Err(TrustError::Malformed { .. })
    ));
}

#[test]
fn a_root_without_consistent_snapshots_or_of_another_specification_is_refused() {
    let mut site = Site::new();
    site.root.consistent_snapshot = false;
    assert!(matches!(
        TrustedRoot::from_stamp(&site.files().root),
        Err(TrustError::Malformed { .. })
    ));
    let mut site = Site::new();
    site.root.header.spec_version = "2.0.0".into();
    assert!(matches!(
        TrustedRoot::from_stamp(&site.files().root),
        Err(TrustError::Malformed { .. })
    ));
}

/// The next version of the site's root, whose root keys are 1, 2 and 11.
fn rotated(site: &Site, signers: &[&SigningKey]) -> Vec<u8> {
    let mut next = site.root.clone();
    next.header.version += 1;
    next.set_role(RoleName::Root, &public(&[&key(1), &key(11), &key(12)]), 2);
    sign(&next, signers).unwrap()
}

#[test]
fn a_rotation_needs_the_old_threshold_and_the_new_one() {
    let site = Site::new();
    let root = TrustedRoot::from_stamp(&site.files().root).unwrap();
    let (old, new) = ([&key(1), &key(2)], [&key(11), &key(12)]);
    for not_enough in [old.as_slice(), new.as_slice(), &[&key(1), &key(11)][..1]] {
        assert!(matches!(
            root.clone().rotate(&rotated(&site, not_enough)),
            Err(TrustError::Signatures { .. })
        ));
    }
    let next = root
        .rotate(&rotated(&site, &[&key(1), &key(2), &key(11)]))
        .unwrap();
    assert_eq!(next.version(), 2);
    assert_eq!(next.next_file(), "3.root.json");
    next.timestamp(&site.files().timestamp).unwrap();
}

#[test]
fn a_rotation_neither_skips_nor_repeats_a_version() {
    let mut site = Site::new();
    let root = TrustedRoot::from_stamp(&site.files().root).unwrap();
    for version in [1, 3, VERSION_MAX] {
        site.root.header.version = version;
        assert!(matches!(
            root.clone().rotate(&site.files().root),
            Err(TrustError::Version { wanted: 2, .. })
        ));
    }
}

#[test]
fn rotations_without_end_are_refused() {
    let mut site = Site::new();
    let mut root = TrustedRoot::from_stamp(&site.files().root).unwrap();
    for _ in 0..ROOT_ROTATIONS_MAX {
        site.root.header.version += 1;
        let next = sign(&site.root, &[&key(1), &key(2)]).unwrap();
        root = root.rotate(&next).unwrap();
    }
    site.root.header.version += 1;
    assert!(matches!(
        root.rotate(&site.files().root),
        Err(TrustError::TooManyRotations { .. })
    ));
}

#[test]
fn a_key_that_was_rotated_out_signs_no_timestamp_any_more() {
    let mut site = Site::new();
    let root = TrustedRoot::from_stamp(&site.files().root).unwrap();
    let old = site.files();
    site.root.header.version = 2;
    site.root
        .set_role(RoleName::Timestamp, &public(&[&key(17)]), 1);
    let next = root.rotate(&site.files().root).unwrap();
    assert!(matches!(
        next.timestamp(&old.timestamp),
        Err(TrustError::Signatures { .. })
    ));
}

#[test]
fn expired_documents_are_listed_with_both_dates() {
    let view = Site::new().files().view().unwrap();
    assert_eq!(
        view.check_expiry("2026-12-31T23:59:59Z".parse().unwrap()),
        []
    );
    let expired = view.check_expiry("2027-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(expired.len(), 4);
    assert_eq!(
        expired[1].to_string(),
        "version 9 of the timestamp expired at 2027-01-01T00:00:00Z, and it is 2027-01-01T00:00:00Z"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_byte_is_refused_or_means_the_same(file in 0..4_usize, at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let honest = Site::new().files();
        let expected = honest.view().unwrap();
        let mut files = honest;
        let bytes = match file {
            0 => &mut files.root,
            1 => &mut files.timestamp,
            2 => &mut files.snapshot,
            _ => &mut files.targets,
        };
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(view) = files.view() {
            prop_assert_eq!(view.targets(), expected.targets());
            prop_assert_eq!(view.timestamp_version(), expected.timestamp_version());
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(TrustedRoot::from_stamp(&bytes).is_err());
        let root = TrustedRoot::from_stamp(&Site::new().files().root).unwrap();
        prop_assert!(root.timestamp(&bytes).is_err());
    }
}
