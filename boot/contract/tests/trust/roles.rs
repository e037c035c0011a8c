//! Roles by kind: who may sign which layers, and that nobody signs others'.

use towline_contract::manifest::Kind;
use towline_contract::trust::metadata::{FileRef, Snapshot, TargetFile, Targets, Timestamp};
use towline_contract::trust::{
    FreshNonce, HOSTS_ROLE, SignedView, TrustError, host_paths, host_role, next_sessions,
    role_paths, sign,
};

use crate::site::{Files, Layer, NONCE, Site, asked, key, public, time};

/// A site whose layers are signed by kind: `base` has key 10, `agent-restic` key 11, `hosts` key 12, host `web1` key 9. The
/// targets role names none.
pub(crate) struct ByKind {
    pub(crate) site: Site,
    pub(crate) base: Targets,
    pub(crate) agent: Targets,
    pub(crate) hosts: Targets,
    pub(crate) sessions: Targets,
}

/// The files of one view.
pub(crate) struct Signed {
    pub(crate) files: Files,
    /// By role, in the order in which a machine adds them.
    pub(crate) roles: Vec<(&'static str, Vec<u8>)>,
    pub(crate) host: Vec<u8>,
}

fn paths(role: &str) -> Vec<String> {
    role_paths(role).unwrap()
}

fn insert(targets: &mut Targets, layer: &Layer) {
    let file = TargetFile::of_layer(&layer.manifest, &layer.manifest_bytes);
    targets.targets.insert(layer.manifest.target_name(), file);
}

impl ByKind {
    pub(crate) fn new() -> Self {
        let mut site = Site::new();
        site.targets.targets.clear();
        let new = |version| Targets::new(version, site.expires);
        let (mut base, mut agent, mut hosts) = (new(2), new(6), new(8));
        for layer in &site.layers[..2] {
            insert(&mut base, layer);
        }
        insert(&mut agent, &site.layers[2]);
        let mut sessions = next_sessions(None);
        insert(&mut sessions, &site.layers[3]);
        let web1 = public(&[&key(9)]);
        hosts.set_delegation(&host_role("web1"), &web1, 1, &[&host_paths("web1")]);
        let mut this = Self {
            site,
            base,
            agent,
            hosts,
            sessions,
        };
        for (role, number) in [("base", 10), ("hosts", 12), ("agent-restic", 11)] {
            this.delegate(role, number, &paths(role));
        }
        this
    }

    fn delegate(&mut self, role: &str, number: u8, paths: &[String]) {
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let keys = public(&[&key(number)]);
        self.site.targets.set_delegation(role, &keys, 1, &paths);
    }

    pub(crate) fn signed(&self) -> Signed {
        let targets = sign(&self.site.targets, &[&key(4), &key(5)]).unwrap();
        let mut snapshot = Snapshot::new(5, self.site.expires, FileRef::of(3, &targets));
        let mut put = |role: &str, document: &Targets, number| {
            let bytes = sign(document, &[&key(number)]).unwrap();
            let reference = FileRef::of(document.header.version, &bytes);
            snapshot.meta.insert(format!("{role}.json"), reference);
            bytes
        };
        let roles = vec![
            ("agent-restic", put("agent-restic", &self.agent, 11)),
            ("base", put("base", &self.base, 10)),
            ("hosts", put("hosts", &self.hosts, 12)),
        ];
        let host = put("host-web1", &self.sessions, 9);
        let snapshot = sign(&snapshot, &[&key(6)]).unwrap();
        let timestamp = Timestamp::new(9, self.site.expires, FileRef::of(5, &snapshot));
        let files = Files {
            root: self.site.files().root,
            timestamp: sign(&timestamp, &[&key(7)]).unwrap(),
            snapshot,
            targets,
        };
        Signed { files, roles, host }
    }

    fn view(&self) -> Result<SignedView, TrustError> {
        self.signed().view()
    }
}

impl Signed {
    pub(crate) fn view(&self) -> Result<SignedView, TrustError> {
        let mut view = self.files.view()?;
        for (role, bytes) in &self.roles {
            view = view.with_role(role, bytes)?;
        }
        view.with_host("web1", &self.host)
    }
}

/// Why the view is refused after `edit`.
fn refused(edit: impl FnOnce(&mut ByKind)) -> String {
    let mut by_kind = ByKind::new();
    edit(&mut by_kind);
    by_kind.view().unwrap_err().to_string()
}

#[test]
fn layers_are_signed_by_the_roles_of_their_kinds_and_a_plan_takes_them() {
    let by_kind = ByKind::new();
    let signed = by_kind.signed();
    let view = signed.view().unwrap();
    assert_eq!(view.layers().len(), 4);
    assert!(view.targets().targets.is_empty());
    assert_eq!(view.hosts().collect::<Vec<_>>(), ["web1"]);
    let mut plan = by_kind.site.boot_plan();
    plan.timestamp.digest = *view.timestamp_digest();
    let bytes = sign(&plan, &[&key(8)]).unwrap();
    let wanted = view.files_for(&bytes);
    let wanted: Vec<_> = wanted.iter().map(|it| it.file()).collect();
    assert_eq!(wanted, ["6.agent-restic.json", "2.base.json"]);
    let chain = view.plan(&bytes, FreshNonce::new(NONCE), &asked()).unwrap();
    assert_eq!(chain.layers.len(), 4);
}

#[test]
fn a_machine_reads_the_roles_of_its_plan_and_no_others() {
    let mut by_kind = ByKind::new();
    for number in 0..20 {
        let role = format!("agent-other{number}");
        by_kind.delegate(&role, 50 + number, &paths(&role));
    }
    let view = by_kind.view().unwrap();
    let bytes = sign(&by_kind.site.boot_plan(), &[&key(8)]).unwrap();
    assert_eq!(view.files_for(&bytes).len(), 2);
    assert_eq!(view.files_for(b"no plan"), []);
}

#[test]
fn a_role_signs_no_layer_of_another_kind_or_of_another_agent() {
    let layer = |kind, name: &str| Layer::new(kind, name, b"more".to_vec());
    for (kind, name) in [
        (Kind::Base, "evil"),
        (Kind::Kernel, "evil"),
        (Kind::Agent, "borg"),
        (Kind::Extra, "borg"),
        (Kind::Host, "web1"),
        (Kind::Credentials, "restic"),
    ] {
        let text = refused(|it| insert(&mut it.agent, &layer(kind, name)));
        assert!(text.contains("role agent-restic may not"), "{text}");
    }
    for kind in [Kind::Agent, Kind::Extra, Kind::Host] {
        let text = refused(|it| insert(&mut it.base, &layer(kind, "restic")));
        assert!(text.contains("role base may not"), "{text}");
        let text = refused(|it| insert(&mut it.hosts, &layer(kind, "web1")));
        assert!(text.contains("role hosts may not"), "{text}");
    }
    let mut by_kind = ByKind::new();
    insert(&mut by_kind.agent, &layer(Kind::Extra, "restic"));
    by_kind.view().unwrap();
}

#[test]
fn a_role_of_layers_delegates_nothing() {
    let keys = public(&[&key(99)]);
    let text = refused(|it| {
        it.base
            .set_delegation("agent-x", &keys, 1, &["agent/x/*/*"]);
    });
    assert!(text.contains("role base delegates nothing"), "{text}");
}

#[test]
fn a_role_with_wider_paths_than_its_kind_is_refused() {
    let wider = |role: &str, number, paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
        refused(|it| it.delegate(role, number, &paths))
    };
    for text in [
        wider("agent-restic", 11, &["agent/*/*/*", "extra/*/*/*"]),
        wider("base", 10, &["base/*/*/*", "kernel/*/*/*", "agent/*/*/*"]),
        wider("hosts", 12, &["*/*/*/*"]),
        refused(|it| {
            let roles = &mut it.site.targets.delegations.as_mut().unwrap().roles;
            let base = roles.iter_mut().find(|it| it.name == "base").unwrap();
            base.terminating = false;
        }),
    ] {
        assert!(text.contains("must be terminating and for"), "{text}");
    }
}

#[test]
fn a_role_is_signed_by_its_own_key_and_by_no_other_roles() {
    let by_kind = ByKind::new();
    let signed = by_kind.signed();
    for stranger in [6, 7, 8, 11, 12, 99] {
        let mut other = by_kind.signed();
        other.roles[1].1 = sign(&by_kind.base, &[&key(stranger)]).unwrap();
        // Whoever holds the server's keys can name it, too.
        let mut snapshot = Snapshot::new(5, by_kind.site.expires, {
            FileRef::of(3, &signed.files.targets)
        });
        for (role, bytes) in &other.roles {
            let version = match *role {
                "base" => 2,
                "hosts" => 8,
                _ => 6,
            };
            let reference = FileRef::of(version, bytes);
            snapshot.meta.insert(format!("{role}.json"), reference);
        }
        other.files.snapshot = sign(&snapshot, &[&key(6)]).unwrap();
        let reference = FileRef::of(5, &other.files.snapshot);
        let timestamp = Timestamp::new(9, by_kind.site.expires, reference);
        other.files.timestamp = sign(&timestamp, &[&key(7)]).unwrap();
        let refused = other.view();
        assert!(
            matches!(refused, Err(TrustError::Signatures { .. })),
            "{stranger}"
        );
    }
}

#[test]
fn the_registrar_names_each_host_for_itself_and_never_against_the_targets() {
    let keys = public(&[&key(99)]);
    let text = refused(|it| {
        let wide = host_paths("*");
        it.hosts.set_delegation("host-web1", &keys, 1, &[&wide]);
    });
    assert!(text.contains("the delegation to host-web1"), "{text}");
    // A host that the targets themselves name keeps that key, whatever the registrar says.
    let mut by_kind = ByKind::new();
    let own = public(&[&key(9)]);
    by_kind
        .site
        .targets
        .set_delegation("host-web1", &own, 1, &[&host_paths("web1")]);
    by_kind
        .hosts
        .set_delegation("host-web1", &keys, 1, &[&host_paths("web1")]);
    let view = by_kind.view().unwrap();
    assert_eq!(view.host_key("web1"), Some(&key(9).public()));
}

#[test]
fn without_the_registrars_file_no_host_of_its_is_known() {
    let signed = ByKind::new().signed();
    let view = signed.files.view().unwrap();
    assert_eq!(view.host_file("web1"), None);
    assert!(view.role_file(HOSTS_ROLE).is_some());
    assert!(view.with_host("web1", &signed.host).is_err());
}

#[test]
fn an_expired_role_stops_a_plan_and_is_named() {
    let mut by_kind = ByKind::new();
    by_kind.agent.header.expires = time("2026-11-20T00:00:00Z");
    let view = by_kind.view().unwrap();
    let expired = view.check_expiry(time("2026-11-23T22:30:00Z"));
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].role, "agent-restic");
    let mut plan = by_kind.site.boot_plan();
    plan.timestamp.digest = *view.timestamp_digest();
    let bytes = sign(&plan, &[&key(8)]).unwrap();
    let found = view.plan(&bytes, FreshNonce::new(NONCE), &asked());
    assert!(matches!(found, Err(TrustError::Expired(_))));
}
