//! Rollback, for clients that keep what they trusted; and dates, for those that know the time.

use towline_contract::trust::metadata::{FileRef, RoleName, Snapshot, Timestamp};
use towline_contract::trust::{TrustError, TrustedRoot, TrustedSnapshot, TrustedTimestamp, sign};

use crate::site::{Site, key, public, time};

fn root(site: &Site) -> TrustedRoot {
    TrustedRoot::from_stamp(&site.files().root).unwrap()
}

/// A timestamp of this version that names a snapshot of that one.
fn timestamp(site: &Site, version: u64, snapshot: u64) -> TrustedTimestamp {
    let reference = FileRef {
        version: snapshot,
        length: None,
        hashes: None,
    };
    let bytes = sign(
        &Timestamp::new(version, site.expires, reference),
        &[&key(7)],
    )
    .unwrap();
    root(site).timestamp(&bytes).unwrap()
}

/// A snapshot of version 5 that names these files besides the targets, signed by this key.
fn snapshot(site: &Site, targets: u64, files: &[(&str, u64)], signer: u8) -> Vec<u8> {
    let reference = |version| FileRef {
        version,
        length: None,
        hashes: None,
    };
    let mut snapshot = Snapshot::new(5, site.expires, reference(targets));
    for (name, version) in files {
        snapshot.meta.insert((*name).into(), reference(*version));
    }
    sign(&snapshot, &[&key(signer)]).unwrap()
}

fn trusted(site: &Site, bytes: &[u8]) -> TrustedSnapshot {
    timestamp(site, 9, 5).snapshot(bytes).unwrap()
}

#[test]
fn an_older_timestamp_than_the_stored_one_is_refused_with_both_versions() {
    let site = Site::new();
    let refused = timestamp(&site, 8, 5).after(Some(timestamp(&site, 9, 5)));
    assert!(matches!(
        refused,
        Err(TrustError::Rollback {
            found: 8,
            stored: 9,
            ..
        })
    ));
    let refused = timestamp(&site, 10, 4).after(Some(timestamp(&site, 9, 5)));
    assert!(matches!(
        refused,
        Err(TrustError::Rollback {
            found: 4,
            stored: 5,
            ..
        })
    ));
    timestamp(&site, 10, 5)
        .after(Some(timestamp(&site, 9, 5)))
        .unwrap();
}

#[test]
fn another_timestamp_of_the_stored_version_is_passed_over() {
    let site = Site::new();
    let stored = timestamp(&site, 9, 5);
    let digest = *stored.digest();
    let kept = timestamp(&site, 9, 100).after(Some(stored)).unwrap();
    assert_eq!(*kept.digest(), digest);
}

#[test]
fn a_snapshot_that_takes_back_or_forgets_a_file_is_refused() {
    let site = Site::new();
    let stored = snapshot(&site, 3, &[("host-web1.json", 7)], 6);
    let stored = root(&site).stored_snapshot(&stored).unwrap();
    let compare = |targets, files: &[(&str, u64)]| {
        trusted(&site, &snapshot(&site, targets, files, 6)).not_before(&stored)
    };
    compare(3, &[("host-web1.json", 7)]).unwrap();
    compare(4, &[("host-web1.json", 8), ("host-web2.json", 1)]).unwrap();
    for (targets, files) in [
        (2, &[("host-web1.json", 7)][..]),
        (3, &[("host-web1.json", 6)]),
    ] {
        let refused = compare(targets, files);
        assert!(matches!(refused, Err(TrustError::Rollback { .. })));
    }
    let refused = compare(4, &[]);
    assert!(matches!(refused, Err(TrustError::Malformed { .. })));
}

#[test]
fn what_keys_that_were_rotated_out_signed_is_no_evidence_of_a_rollback() {
    let mut site = Site::new();
    let far = snapshot(&site, 1_000_000, &[], 6);
    assert!(root(&site).stored_snapshot(&far).is_ok());
    site.root
        .set_role(RoleName::Snapshot, &public(&[&key(16)]), 1);
    let refused = root(&site).stored_snapshot(&far);
    assert!(matches!(refused, Err(TrustError::Signatures { .. })));
}

#[test]
fn each_top_role_that_expired_is_refused_by_a_client_that_knows_the_time() {
    let mut site = Site::new();
    let (before, at) = (time("2026-12-31T23:59:59Z"), site.expires);
    let files = site.files();
    let timestamp = root(&site).timestamp(&files.timestamp).unwrap();
    let snapshot = timestamp.clone().snapshot(&files.snapshot).unwrap();
    let view = snapshot.clone().targets(&files.targets).unwrap();
    for now in [before, at] {
        let asked = [
            root(&site).require_date(now).map(drop),
            timestamp.clone().require_date(now).map(drop),
            snapshot.clone().require_date(now).map(drop),
            view.clone().require_date(now).map(drop),
        ];
        for found in asked {
            match found {
                Ok(()) => assert_eq!(now, before),
                Err(TrustError::Expired(_)) => assert_eq!(now, at),
                other => panic!("{other:?}"),
            }
        }
    }
    // An old root leads to the newest one, whatever its date.
    let old = root(&site);
    site.root.header.version = 2;
    site.root.header.expires = time("2030-01-01T00:00:00Z");
    let newest = old.rotate(&site.files().root).unwrap();
    newest.require_date(at).unwrap();
}
