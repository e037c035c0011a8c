//! Hosts sign their own sessions, and nothing else.

use towline_contract::manifest::Kind;
use towline_contract::trust::metadata::{FileRef, Snapshot, TargetFile, Targets, Timestamp};
use towline_contract::trust::{
    SignedView, SigningKey, TrustError, added_session, host_paths, host_role, host_sessions,
    next_sessions, sign,
};

use crate::site::{Files, Layer, Site, key, public};

/// A site whose targets role delegates to host `web1` with key 9, and the file of that role.
struct Enrolled {
    site: Site,
    sessions: Targets,
    paths: String,
    snapshot_version: u64,
}

impl Enrolled {
    fn new() -> Self {
        let mut site = Site::new();
        let host = site.layers.pop().unwrap();
        site.targets.targets.remove(&host.manifest.target_name());
        let mut sessions = next_sessions(None);
        insert(&mut sessions, &host);
        Self {
            site,
            sessions,
            paths: host_paths("web1"),
            snapshot_version: 1,
        }
    }

    fn files(&self, signer: &SigningKey) -> (Files, Vec<u8>) {
        let mut targets = self.site.targets.clone();
        targets.set_delegation(&host_role("web1"), &public(&[&key(9)]), 1, &[&self.paths]);
        let targets = sign(&targets, &[&key(4), &key(5)]).unwrap();
        let host = sign(&self.sessions, &[signer]).unwrap();
        let mut snapshot = Snapshot::new(5, self.site.expires, FileRef::of(3, &targets));
        let reference = FileRef::of(self.snapshot_version, &host);
        snapshot.meta.insert("host-web1.json".into(), reference);
        let snapshot = sign(&snapshot, &[&key(6)]).unwrap();
        let timestamp = Timestamp::new(9, self.site.expires, FileRef::of(5, &snapshot));
        let timestamp = sign(&timestamp, &[&key(7)]).unwrap();
        let root = self.site.files().root;
        let files = Files {
            root,
            timestamp,
            snapshot,
            targets,
        };
        (files, host)
    }

    fn view(&self) -> Result<SignedView, TrustError> {
        let (files, host) = self.files(&key(9));
        files.view().unwrap().with_host("web1", &host)
    }
}

fn insert(sessions: &mut Targets, layer: &Layer) {
    let file = TargetFile::of_layer(&layer.manifest, &layer.manifest_bytes);
    sessions.targets.insert(layer.manifest.target_name(), file);
}

fn malformed(found: Result<SignedView, TrustError>) -> String {
    match found {
        Err(TrustError::Malformed { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hosts_own_sessions_are_in_the_view_and_the_file_is_named_by_the_snapshot() {
    let enrolled = Enrolled::new();
    let (files, host) = enrolled.files(&key(9));
    let view = files.view().unwrap();
    let (name, max) = view.host_file("web1").unwrap();
    assert_eq!((&*name, max), ("1.host-web1.json", host.len() as u64));
    assert_eq!(view.host_file("web2"), None);
    assert!(!view.layers().contains_key("host/web1/1/amd64"));
    let view = view.with_host("web1", &host).unwrap();
    assert!(view.layers().contains_key("host/web1/1/amd64"));
}

#[test]
fn sessions_signed_by_another_key_are_refused() {
    let (files, host) = Enrolled::new().files(&key(8));
    let found = files.view().unwrap().with_host("web1", &host);
    assert!(
        matches!(found, Err(TrustError::Signatures { .. })),
        "{found:?}"
    );
}

#[test]
fn a_host_signs_neither_for_another_host_nor_another_kind() {
    for layer in [
        Layer::new(Kind::Host, "web2", b"x".to_vec()),
        Layer::new(Kind::Base, "debian", b"x".to_vec()),
    ] {
        let mut enrolled = Enrolled::new();
        insert(&mut enrolled.sessions, &layer);
        let why = malformed(enrolled.view());
        assert!(why.contains(&layer.manifest.target_name()), "{why}");
    }
}

#[test]
fn a_host_delegates_nothing() {
    let mut enrolled = Enrolled::new();
    let key = public(&[&key(9)]);
    enrolled
        .sessions
        .set_delegation("host-web2", &key, 1, &["host/web2/*/*"]);
    assert_eq!(malformed(enrolled.view()), "a host delegates nothing");
}

#[test]
fn a_delegation_wider_than_the_host_is_refused() {
    let mut enrolled = Enrolled::new();
    enrolled.paths = "host/*/*/*".into();
    assert!(malformed(enrolled.view()).contains("host/*/*/*"));
}

#[test]
fn another_version_or_file_than_the_snapshot_names_is_refused() {
    let mut enrolled = Enrolled::new();
    enrolled.snapshot_version = 2;
    let found = enrolled.view();
    assert!(
        matches!(
            found,
            Err(TrustError::Version {
                found: 1,
                wanted: 2,
                ..
            })
        ),
        "{found:?}"
    );

    let enrolled = Enrolled::new();
    let (files, mut host) = enrolled.files(&key(9));
    let last = host.len() - 1;
    host[last] = b' ';
    let found = files.view().unwrap().with_host("web1", &host);
    assert!(matches!(found, Err(TrustError::Digest { .. })), "{found:?}");
}

#[test]
fn a_session_of_the_targets_role_is_not_replaced_by_a_hosts() {
    let mut enrolled = Enrolled::new();
    let other = Layer::new(Kind::Host, "web1", b"the operator's".to_vec());
    let file = TargetFile::of_layer(&other.manifest, &other.manifest_bytes);
    let name = other.manifest.target_name();
    enrolled
        .site
        .targets
        .targets
        .insert(name.clone(), file.clone());
    assert_eq!(enrolled.view().unwrap().layers()[&name], file);
}

#[test]
fn the_next_document_counts_on_and_keeps_the_sessions() {
    let first = Enrolled::new().sessions;
    assert_eq!(first.header.version, 1);
    let bytes = sign(&first, &[&key(9)]).unwrap();
    let read = host_sessions(&bytes, "web1", &key(9).public()).unwrap();
    let next = next_sessions(Some(read));
    assert_eq!((next.header.version, next.targets), (2, first.targets));
    assert!(host_sessions(&bytes, "web1", &key(8).public()).is_err());
    assert!(host_sessions(&bytes, "web2", &key(9).public()).is_err());
}

/// What the next document adds, with the second session of web1 edited in by `edit`.
fn added(retired: &[&str], edit: impl FnOnce(&mut Targets)) -> Result<String, String> {
    let first = Enrolled::new().sessions;
    let mut next = next_sessions(Some(first.clone()));
    let mut layer = Layer::new(Kind::Host, "web1", b"second".to_vec());
    layer.manifest.version = "2".into();
    insert(&mut next, &layer);
    edit(&mut next);
    let retired: Vec<_> = retired.iter().map(ToString::to_string).collect();
    let found = added_session(Some(&first), &next, "web1", &retired);
    found
        .map(|(name, _)| name.to_string())
        .map_err(|error| error.to_string())
}

#[test]
fn the_next_document_adds_one_session_and_leaves_the_others_alone() {
    let second = "host/web1/2/amd64".to_owned();
    assert_eq!(added(&[], |_| {}).as_ref(), Ok(&second));
    let drop = |next: &mut Targets| drop(next.targets.remove("host/web1/1/amd64"));
    assert_eq!(added(&["1"], drop).as_ref(), Ok(&second));
    assert!(added(&[], drop).unwrap_err().contains("drops host/web1/1"));

    let change = |next: &mut Targets| {
        next.targets.get_mut("host/web1/1/amd64").unwrap().length += 1;
    };
    assert!(
        added(&["1"], change)
            .unwrap_err()
            .contains("changes host/web1/1")
    );
}

#[test]
fn a_replayed_or_skipped_version_of_a_hosts_document_is_refused() {
    for version in [0, 1, 3] {
        let found = added(&[], |next| next.header.version = version);
        let says = format!("is version {version}, but 2 is required");
        assert!(found.clone().unwrap_err().contains(&says), "{found:?}");
    }
}

#[test]
fn a_document_that_adds_nothing_or_several_sessions_is_refused() {
    let none = |next: &mut Targets| drop(next.targets.remove("host/web1/2/amd64"));
    let more = |next: &mut Targets| {
        let mut layer = Layer::new(Kind::Host, "web1", b"third".to_vec());
        layer.manifest.version = "3".into();
        insert(next, &layer);
    };
    let twice = |next: &mut Targets| {
        let file = next.targets.remove("host/web1/2/amd64").unwrap();
        next.targets.insert("host/web1/1/all".into(), file);
    };
    assert!(
        added(&[], none)
            .unwrap_err()
            .contains("must add one session")
    );
    assert!(
        added(&[], more)
            .unwrap_err()
            .contains("must add one session")
    );
    assert!(
        added(&[], twice)
            .unwrap_err()
            .contains("a session 1 already")
    );
}

#[test]
fn the_key_of_a_host_is_the_one_that_its_own_delegation_names() {
    let enrolled = Enrolled::new();
    let view = enrolled.files(&key(9)).0.view().unwrap();
    assert_eq!(view.host_key("web1"), Some(&key(9).public()));
    assert_eq!(view.host_key("web2"), None);
    assert_eq!(view.hosts().collect::<Vec<_>>(), ["web1"]);
    let mut wider = Enrolled::new();
    wider.paths = "host/*/*/*".into();
    let view = wider.files(&key(9)).0.view().unwrap();
    assert_eq!(view.host_key("web1"), None);
}
