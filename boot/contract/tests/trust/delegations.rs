//! The search for a target through delegations: order, ends, patterns, and whose keys count.

use std::collections::BTreeMap;

use serde_json::json;
use towline_contract::Digest;
use towline_contract::limits::DELEGATED_ROLES_MAX;
use towline_contract::trust::metadata::{FileRef, Snapshot, TargetFile, Targets, Timestamp};
use towline_contract::trust::{KeyId, SignedView, Step, TrustError, sign};

use crate::site::{Files, Site, key, public, time};

/// A site whose roles are edited freely, each with a key of its own: `targets` and any delegated ones.
struct Graph {
    site: Site,
    roles: BTreeMap<String, Targets>,
}

impl Graph {
    fn new() -> Self {
        let mut site = Site::new();
        site.targets.targets.clear();
        Self {
            site,
            roles: BTreeMap::new(),
        }
    }

    fn role(&mut self, name: &str) -> &mut Targets {
        if name == "targets" {
            return &mut self.site.targets;
        }
        let new = || Targets::new(1, time("2027-01-01T00:00:00Z"));
        self.roles.entry(name.into()).or_insert_with(new)
    }

    /// `from` delegates to `to`, whose key has this number, for these patterns.
    fn delegate(&mut self, from: &str, to: &str, number: u8, paths: &[&str], terminating: bool) {
        self.role(to);
        let from = self.role(from);
        from.set_delegation(to, &public(&[&key(number)]), 1, paths);
        let roles = &mut from.delegations.as_mut().unwrap().roles;
        roles.last_mut().unwrap().terminating = terminating;
    }

    fn sign(&mut self, role: &str, target: &str) {
        let file = file(&format!("{target} by {role}"));
        self.role(role).targets.insert(target.into(), file);
    }

    /// The view, and each delegated role's file, signed by the key `signer` says.
    fn view(&self, signer: impl Fn(&str) -> u8) -> (SignedView, BTreeMap<String, Vec<u8>>) {
        self.view_of(|name, role| sign(role, &[&key(signer(name))]).unwrap())
    }

    /// The view, and each delegated role's file, which `file` makes.
    fn view_of(
        &self,
        file: impl Fn(&str, &Targets) -> Vec<u8>,
    ) -> (SignedView, BTreeMap<String, Vec<u8>>) {
        let targets = sign(&self.site.targets, &[&key(4), &key(5)]).unwrap();
        let mut snapshot = Snapshot::new(5, self.site.expires, FileRef::of(3, &targets));
        let mut files = BTreeMap::new();
        for (name, role) in &self.roles {
            let bytes = file(name, role);
            let reference = FileRef::of(role.header.version, &bytes);
            snapshot.meta.insert(format!("{name}.json"), reference);
            files.insert(format!("{}.{name}.json", role.header.version), bytes);
        }
        let snapshot = sign(&snapshot, &[&key(6)]).unwrap();
        let timestamp = Timestamp::new(9, self.site.expires, FileRef::of(5, &snapshot));
        let timestamp = sign(&timestamp, &[&key(7)]).unwrap();
        let root = self.site.files().root;
        let view = Files {
            root,
            timestamp,
            snapshot,
            targets,
        };
        (view.view().unwrap(), files)
    }

    /// What is found, and the roles that were looked into.
    fn find(&self, target: &str) -> (Result<Option<TargetFile>, TrustError>, Vec<String>) {
        let (view, files) = self.view(|_| 9);
        let mut search = view.search(target);
        let mut visited = Vec::new();
        loop {
            let next = match search.step() {
                Err(error) => return (Err(error), visited),
                Ok(Step::Absent) => return (Ok(None), visited),
                Ok(Step::Found(file)) => return (Ok(Some(file.into_inner())), visited),
                Ok(Step::Fetch(next)) => next,
            };
            visited.push(next.role.clone());
            let now = time("2026-12-01T00:00:00Z");
            if let Err(error) = search.take(&files[&next.file()], Some(now)) {
                return (Err(error), visited);
            }
        }
    }
}

/// A target of these bytes, without more.
fn file(text: &str) -> TargetFile {
    TargetFile {
        length: text.len() as u64,
        hashes: BTreeMap::from([("sha256".into(), Digest::of(text.as_bytes()).to_string())]),
        custom: None,
    }
}

#[test]
fn the_search_goes_deep_first_in_the_order_of_precedence() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["*"], false);
    graph.delegate("targets", "b", 9, &["*"], false);
    graph.delegate("a", "c", 9, &["*"], false);
    graph.delegate("c", "a", 9, &["*"], false); // a circle
    let (found, visited) = graph.find("nothing");
    assert_eq!(found.unwrap(), None);
    assert_eq!(visited, ["a", "c", "b"]);
    graph.sign("b", "layer");
    graph.sign("c", "layer");
    assert_eq!(
        graph.find("layer").0.unwrap(),
        Some(file("layer by c")),
        "the first in order of precedence signs"
    );
}

#[test]
fn nothing_is_taken_from_beyond_a_terminating_role() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["base/*"], true);
    graph.delegate("targets", "b", 9, &["*", "base/*"], false);
    graph.sign("b", "base/debian");
    let (found, visited) = graph.find("base/debian");
    assert_eq!((found.unwrap(), visited), (None, vec!["a".to_owned()]));
}

#[test]
fn a_role_signs_nothing_beyond_its_patterns_or_its_delegators() {
    let mut graph = Graph::new();
    graph.delegate("targets", "vendor", 9, &["agent/acme/*"], false);
    graph.delegate("vendor", "nested", 9, &["base/*", "agent/*/*"], false);
    for role in ["vendor", "nested"] {
        graph.sign(role, "base/debian");
        graph.sign(role, "agent/other/1");
    }
    for foreign in ["base/debian", "agent/other/1", "agent/acme/1/2"] {
        let (found, visited) = graph.find(foreign);
        assert_eq!((found.unwrap(), visited.len()), (None, 0), "{foreign}");
    }
    graph.sign("nested", "agent/acme/1");
    let (found, visited) = graph.find("agent/acme/1");
    assert!(found.unwrap().is_some());
    assert_eq!(visited, ["vendor", "nested"]);
}

#[test]
fn a_target_is_in_the_bin_that_its_names_digest_says_and_in_no_other() {
    let name = "host/web1/1/amd64";
    let digest = Digest::of(name.as_bytes()).to_string();
    let bin = |prefix: &str| {
        let mut graph = Graph::new();
        graph.delegate("targets", "bin", 9, &[], false);
        let roles = &mut graph.site.targets.delegations.as_mut().unwrap().roles;
        let role = roles.last_mut().unwrap();
        (role.paths, role.path_hash_prefixes) = (None, Some(vec![prefix.to_owned()]));
        graph.sign("bin", name);
        graph.find(name).0.unwrap().is_some()
    };
    assert!(bin(&digest[..2]));
    assert!(!bin(&digest[1..3]) || digest[..2] == digest[1..3]);
    assert!(!bin(""), "an empty prefix would be every bin");
}

#[test]
fn a_role_is_believed_by_the_keys_of_the_delegation_that_led_to_it() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["a/*"], false);
    graph.delegate("targets", "b", 9, &["b/*"], false);
    graph.delegate("a", "shared", 9, &["a/*"], false);
    graph.delegate("b", "shared", 99, &["b/*"], false); // another key for the same file
    graph.sign("shared", "a/x");
    graph.sign("shared", "b/x");
    assert!(graph.find("a/x").0.unwrap().is_some());
    let refused = graph.find("b/x").0;
    assert!(matches!(refused, Err(TrustError::Signatures { .. })));
}

#[test]
fn a_delegated_file_that_is_not_the_snapshots_is_refused_and_another_copy_may_be_given() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["*"], false);
    let (_, old) = graph.view(|_| 9);
    graph.role("a").header.version = 2;
    graph.sign("a", "layer");
    let (view, files) = graph.view(|_| 9);
    let mut search = view.search("layer");
    assert!(matches!(search.step(), Ok(Step::Fetch(_))));
    assert!(search.take(&old["1.a.json"], None).is_err());
    search.take(&files["2.a.json"], None).unwrap();
    assert!(matches!(search.step(), Ok(Step::Found(_))));
    let refused = search.take(&files["2.a.json"], None);
    assert!(refused.is_err(), "nothing is asked for any more");
}

#[test]
fn a_delegated_role_that_expired_or_that_the_snapshot_does_not_name_is_refused() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["*"], false);
    graph.role("a").header.expires = time("2026-11-30T00:00:00Z");
    match graph.find("layer").0 {
        Err(TrustError::Expired(roles)) => assert_eq!(roles[0].role, "a"),
        other => panic!("{other:?}"),
    }
    graph.roles.clear();
    let (refused, fetched) = graph.find("layer");
    assert!(matches!(refused, Err(TrustError::Malformed { .. })));
    assert!(fetched.is_empty());
}

#[test]
fn a_role_named_like_a_top_role_is_refused_and_other_names_are_made_safe() {
    for name in ["root", "timestamp", "snapshot", "targets"] {
        let mut graph = Graph::new();
        graph.delegate("targets", "a", 9, &["*"], false);
        let roles = &mut graph.site.targets.delegations.as_mut().unwrap().roles;
        roles.last_mut().unwrap().name = name.into();
        let (refused, fetched) = graph.find("layer");
        assert!(
            matches!(refused, Err(TrustError::Malformed { .. })),
            "{name}"
        );
        assert!(fetched.is_empty());
    }
    let mut graph = Graph::new();
    graph.delegate("targets", "../root", 9, &["*"], false);
    let (view, _) = graph.view(|_| 9);
    match view.search("layer").step().unwrap() {
        Step::Fetch(next) => assert_eq!(next.file(), "1...%2Froot.json"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn delegations_without_end_are_refused() {
    let mut graph = Graph::new();
    let mut from = "targets".to_owned();
    for number in 0..=DELEGATED_ROLES_MAX {
        let to = format!("r{number}");
        graph.delegate(&from, &to, 9, &["*"], false);
        from = to;
    }
    let (refused, visited) = graph.find("layer");
    assert!(matches!(refused, Err(TrustError::TooManyRoles { .. })));
    assert_eq!(visited.len(), DELEGATED_ROLES_MAX);
}

#[test]
fn a_terminating_role_below_another_ends_the_search_above_it_too() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["*"], false);
    graph.delegate("targets", "b", 9, &["*"], false);
    graph.delegate("a", "end", 9, &["*"], true);
    graph.delegate("a", "after", 9, &["*"], false);
    for role in ["b", "after"] {
        graph.sign(role, "layer");
    }
    let (found, visited) = graph.find("layer");
    assert_eq!(found.unwrap(), None);
    assert_eq!(visited, ["a", "end"]);
}

#[test]
fn two_signatures_of_one_key_are_one_for_a_delegated_role_too() {
    let mut graph = Graph::new();
    graph.delegate("targets", "a", 9, &["*"], false);
    graph.sign("a", "layer");
    let delegations = graph.site.targets.delegations.as_mut().unwrap();
    let role = delegations.roles.last_mut().unwrap();
    role.role.threshold = 2;
    // The same key by another identifier.
    let one = role.role.keyids[0].clone();
    let other: KeyId = serde_json::from_value(json!("other")).unwrap();
    role.role.keyids.push(other.clone());
    let same = delegations.keys[&one].clone();
    delegations.keys.insert(other, same);
    let mut bytes: serde_json::Value =
        serde_json::from_slice(&graph.view(|_| 9).1["1.a.json"]).unwrap();
    let mut copy = bytes["signatures"][0].clone();
    assert_eq!(copy["keyid"], json!(one.as_str()));
    copy["keyid"] = json!("other");
    bytes["signatures"].as_array_mut().unwrap().push(copy);
    let bytes = serde_json::to_vec(&bytes).unwrap();
    let (view, _) = graph.view_of(|_, _| bytes.clone());
    let mut search = view.search("layer");
    assert!(matches!(search.step(), Ok(Step::Fetch(_))));
    match search.take(&bytes, None) {
        Err(TrustError::Signatures {
            valid, threshold, ..
        }) => assert_eq!((valid, threshold), (1, 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_downloaded_target_is_the_signed_one_by_every_hash_that_is_understood() {
    let by = |hashes: &[(&str, &str)]| TargetFile {
        length: 3,
        hashes: hashes
            .iter()
            .map(|(name, hex)| ((*name).into(), (*hex).into()))
            .collect(),
        custom: None,
    };
    // FIPS 180-4's example, "abc".
    let sha512 = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let sha256 = Digest::of(b"abc").to_string();
    let verify = |file: &TargetFile, bytes: &[u8]| {
        let mut graph = Graph::new();
        let targets = &mut graph.site.targets.targets;
        targets.insert("x".into(), file.clone());
        let (view, _) = graph.view(|_| 9);
        match view.search("x").step().unwrap() {
            Step::Found(signed) => signed.verify("x", bytes.to_vec()).is_ok(),
            other => panic!("{other:?}"),
        }
    };
    assert!(verify(&by(&[("sha512", sha512)]), b"abc"));
    assert!(verify(
        &by(&[("sha512", sha512), ("sha256", &sha256)]),
        b"abc"
    ));
    assert!(verify(&by(&[("sha512", sha512), ("md9", "00")]), b"abc"));
    assert!(!verify(&by(&[("sha512", sha512)]), b"abd"));
    assert!(!verify(&by(&[("sha512", sha512)]), b"abcd"));
    assert!(!verify(
        &by(&[("sha512", &sha256), ("sha256", &sha256)]),
        b"abc"
    ));
    assert!(!verify(&by(&[("md9", "00")]), b"abc"));
    assert!(!verify(&by(&[]), b"abc"));
}
