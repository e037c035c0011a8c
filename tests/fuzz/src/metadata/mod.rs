//! TUF metadata, every document by way of its envelope: as they come, where nothing counts but what the right keys once
//! signed; and signed by the right keys whatever they say, where what is accepted must keep to the rules.

mod canonical;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Debug;
use towline_contract::trust::metadata::{
    FileRef, Header, RoleName, Root, Snapshot, Targets, Timestamp,
};
use towline_contract::trust::{
    Envelope, SigningKey, TrustError, TrustedRoot, TrustedTimestamp, canonical_json, host_sessions,
    sign,
};

use crate::golden::{self, key};

const HOST: &str = "web1";

/// Panics when one of the properties does not hold. The first byte chooses the document, and who signs it.
pub fn check(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    match first % 10 {
        0 => canonical::check(rest),
        1 => check_received(rest, golden::ROOT, |it| {
            TrustedRoot::from_stamp(it).map(drop)
        }),
        2 => check_received(rest, golden::TIMESTAMP, |it| {
            golden::root().clone().timestamp(it).map(drop)
        }),
        3 => check_received(rest, golden::TARGETS, |it| {
            golden::root().targets_to_publish(it).map(drop)
        }),
        4 => check_stamped_root(rest),
        5 => check_rotation(rest),
        6 => check_timestamp(rest),
        7 => check_snapshot(rest),
        8 => check_targets(rest),
        _ => check_host(rest),
    }
}

/// What can be signed, which has no fractions, is the same when it is written again. Nobody can sign but the keys that signed
/// `genuine`: what is accepted means the same.
fn check_received(
    bytes: &[u8],
    genuine: &[u8],
    accept: impl FnOnce(&[u8]) -> Result<(), TrustError>,
) {
    if let Ok(envelope) = Envelope::parse(bytes, "a document", 1 << 20) {
        let again = Envelope::parse(&envelope.to_bytes(), "a document", u64::MAX);
        let again = again.expect("what is written can be read");
        if canonical_json(&envelope.signed).is_ok() {
            assert_eq!(again, envelope);
        }
    }
    if accept(bytes).is_ok() {
        let canonical = |bytes| {
            let envelope = Envelope::parse(bytes, "a document", u64::MAX).expect("an envelope");
            canonical_json(&envelope.signed).expect("it was signed")
        };
        assert_eq!(canonical(bytes), canonical(genuine));
    }
}

/// The document, if it has the shape of `T`, and an envelope for it that these keys signed.
fn signed<T>(bytes: &[u8], keys: &[&SigningKey]) -> Option<(T, Vec<u8>)>
where
    T: DeserializeOwned + Serialize + PartialEq + Debug,
{
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let document: T = serde_json::from_value(value.clone()).ok()?;
    let written = serde_json::to_value(&document).expect("a document can be written");
    let again: T = serde_json::from_value(written).expect("what is written can be read");
    assert_eq!(again, document);
    // Signatures take longest: a part of the inputs is enough.
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    Some((document, sign(&value, keys).ok()?))
}

fn check_header(header: &Header, role: RoleName) {
    assert_eq!(header.role, role);
    assert!(header.version > 0);
    assert!(header.spec_version == "1" || header.spec_version.starts_with("1."));
}

fn check_stamped_root(bytes: &[u8]) {
    if let Some((document, envelope)) = signed::<Root>(bytes, &[&key(1), &key(2)])
        && let Ok(root) = TrustedRoot::from_stamp(&envelope)
    {
        assert_eq!(root.document(), &document);
        check_root(&document);
    }
}

fn check_rotation(bytes: &[u8]) {
    if let Some((document, envelope)) = signed::<Root>(bytes, &[&key(1), &key(2)])
        && let Ok(root) = golden::root().clone().rotate(&envelope)
    {
        assert_eq!(root.document(), &document);
        assert_eq!(root.version(), golden::root().version() + 1);
        check_root(&document);
    }
}

/// Every top role can be signed for, and the two keys that signed this root were enough for it.
fn check_root(root: &Root) {
    check_header(&root.header, RoleName::Root);
    assert!(root.consistent_snapshot);
    for name in ["root", "timestamp", "snapshot", "targets"] {
        let role = &root.roles[name];
        let distinct: BTreeSet<_> = role.keyids.iter().collect();
        assert!(role.threshold > 0 && distinct.len() == role.keyids.len());
    }
    let own = &root.roles["root"];
    let publics = own
        .keyids
        .iter()
        .filter_map(|id| root.keys.get(id)?.keyval.public.clone());
    let publics: BTreeSet<_> = publics.map(|it| it.to_ascii_lowercase()).collect();
    let signers = [key(1), key(2)].map(|it| it.public().keyval.public.expect("a key"));
    let signed = signers.iter().filter(|it| publics.contains(*it)).count();
    assert!(signed as u64 >= u64::from(own.threshold), "{own:?}");
}

fn check_timestamp(bytes: &[u8]) {
    if let Some((document, envelope)) = signed::<Timestamp>(bytes, &[&key(7)])
        && let Ok(timestamp) = golden::root().clone().timestamp(&envelope)
    {
        check_header(&document.header, RoleName::Timestamp);
        let snapshot = &document.meta["snapshot.json"];
        let wanted = format!("{}.snapshot.json", snapshot.version);
        assert_eq!(timestamp.next_file(), wanted);
        assert!(snapshot.length.is_none_or(|it| timestamp.max_bytes() <= it));
        let taken = timestamp.snapshot(golden::SNAPSHOT).is_ok();
        let genuine = FileRef::of(5, golden::SNAPSHOT);
        let same = snapshot.version == genuine.version
            && snapshot.length.is_none_or(|it| Some(it) == genuine.length);
        assert!(!taken || same, "another snapshot was taken");
    }
}

/// A timestamp that names `snapshot`.
fn timestamp_of(version: u64, snapshot: &[u8]) -> TrustedTimestamp {
    let expires = golden::root().document().header.expires;
    let timestamp = Timestamp::new(9, expires, FileRef::of(version, snapshot));
    let timestamp = sign(&timestamp, &[&key(7)]).expect("it can be signed");
    let trusted = golden::root().clone().timestamp(&timestamp);
    trusted.expect("it is signed by its key")
}

fn check_snapshot(bytes: &[u8]) {
    let Some((document, envelope)) = signed::<Snapshot>(bytes, &[&key(6)]) else {
        return;
    };
    // Half of the time the timestamp names the version that the document says it is.
    let version = [5, document.header.version][bytes.len() % 2];
    if let Ok(snapshot) = timestamp_of(version, &envelope).snapshot(&envelope) {
        check_header(&document.header, RoleName::Snapshot);
        assert_eq!(document.header.version, version);
        let targets = &document.meta["targets.json"];
        assert_eq!(
            snapshot.next_file(),
            format!("{}.targets.json", targets.version)
        );
        let taken = snapshot.targets(golden::TARGETS).is_ok();
        assert!(
            !taken || targets.version == 3,
            "another version of the targets was taken"
        );
    }
}

fn check_targets(bytes: &[u8]) {
    let Some((document, envelope)) = signed::<Targets>(bytes, &[&key(4), &key(5)]) else {
        return;
    };
    if golden::root().targets_to_publish(&envelope).is_err() {
        return;
    }
    check_header(&document.header, RoleName::Targets);
    let version = document.header.version;
    let expires = golden::root().document().header.expires;
    let snapshot = Snapshot::new(5, expires, FileRef::of(version, &envelope));
    let snapshot = sign(&snapshot, &[&key(6)]).expect("it can be signed");
    let snapshot = timestamp_of(5, &snapshot).snapshot(&snapshot);
    let view = snapshot.and_then(|it| it.targets(&envelope));
    let view = view.expect("targets that can be published complete a view");
    assert_eq!(view.layers(), &document.targets);
    for host in view.hosts() {
        let key = view.host_key(host);
        assert!(key.is_none() || document.delegations.is_some());
        assert_eq!(
            view.host_file(host),
            None,
            "its snapshot names no file of a host"
        );
    }
}

fn check_host(bytes: &[u8]) {
    if let Some((document, envelope)) = signed::<Targets>(bytes, &[&key(9)])
        && let Ok(sessions) = host_sessions(&envelope, HOST, &key(9).public())
    {
        assert_eq!(sessions, document);
        check_header(&document.header, RoleName::Targets);
        assert!(document.delegations.is_none());
        let own = |name: &String| name.starts_with("host/web1/") && name.split('/').count() == 4;
        assert!(document.targets.keys().all(own));
        assert!(
            host_sessions(&envelope, "web2", &key(9).public()).is_err()
                || document.targets.is_empty()
        );
        assert!(host_sessions(&envelope, HOST, &key(8).public()).is_err());
    }
}
