//! Plans: replays, strangers, freezes, foreign layers, clocks.

use towline_contract::manifest::Kind;
use towline_contract::plan::{BootPlan, HandOver, PLAN_ROLE};
use towline_contract::trust::metadata::RoleName;
use towline_contract::trust::{Asked, Chain, ExpiryPolicy, TrustError, Verified, sign};
use towline_contract::{Digest, stamp};

use crate::site::{Layer, Site, asked, key, public, time};

fn chain_error(found: Result<Verified<Chain>, TrustError>) -> String {
    match found {
        Err(TrustError::Chain(text)) => text,
        other => panic!("not a refused chain: {other:?}"),
    }
}

#[test]
fn an_honest_plan_is_a_chain() {
    let site = Site::new();
    let chain = site.plan(|_| {}).unwrap();
    let kinds: Vec<_> = chain.layers.iter().map(|layer| layer.kind).collect();
    assert_eq!(kinds, [Kind::Kernel, Kind::Base, Kind::Agent, Kind::Host]);
    assert_eq!(chain.layers[2].target.to_string(), "agent/restic/1/amd64");
    assert_eq!(chain.time(), time("2026-11-23T22:30:00Z"));
    assert!(chain.expired.is_empty());
}

#[test]
fn a_replayed_plan_is_refused() {
    let refused = Site::new().plan(|plan| plan.nonce = [8; 32].into());
    assert!(matches!(refused, Err(TrustError::Nonce { .. })));
}

#[test]
fn a_plan_signed_by_a_strangers_key_is_refused() {
    let site = Site::new();
    let bytes = sign(&site.boot_plan(), &[&key(99)]).unwrap();
    let refused = site.signed_plan(&bytes, ExpiryPolicy::Refuse);
    assert!(matches!(
        refused,
        Err(TrustError::Signatures { valid: 0, .. })
    ));
}

#[test]
fn a_plan_signed_by_any_other_role_of_the_site_is_refused() {
    let site = Site::new();
    for role in 1..=7 {
        let bytes = sign(&site.boot_plan(), &[&key(role)]).unwrap();
        let refused = site.signed_plan(&bytes, ExpiryPolicy::Accept);
        assert!(matches!(
            refused,
            Err(TrustError::Signatures { valid: 0, .. })
        ));
    }
}

#[test]
fn a_plan_changed_after_signing_is_refused() {
    let site = Site::new();
    let bytes = sign(&site.boot_plan(), &[&key(8)]).unwrap();
    let text = String::from_utf8(bytes)
        .unwrap()
        .replace("console=ttyS0", "init=/bin/sh ");
    let refused = site.signed_plan(text.as_bytes(), ExpiryPolicy::Accept);
    assert!(matches!(refused, Err(TrustError::Signatures { .. })));
}

#[test]
fn other_documents_by_the_plans_key_are_no_plans() {
    let mut site = Site::new();
    site.root
        .set_role(RoleName::Timestamp, &public(&[&key(8)]), 1);
    let timestamp = sign(&site.boot_plan().timestamp, &[&key(8)]).unwrap();
    for bytes in [timestamp, b"{}".to_vec(), Vec::new()] {
        assert!(
            Site::new()
                .signed_plan(&bytes, ExpiryPolicy::Accept)
                .is_err()
        );
    }
    let refused = Site::new().plan(|plan| plan.type_ = "timestamp".into());
    assert!(matches!(refused, Err(TrustError::Malformed { .. })));
}

#[test]
fn a_newer_format_and_unknown_fields_are_refused() {
    let refused = Site::new().plan(|plan| plan.format = 2);
    assert!(matches!(refused, Err(TrustError::Malformed { .. })));
    let site = Site::new();
    let mut plan = serde_json::to_value(site.boot_plan()).unwrap();
    plan["extra"] = "what an old program would not heed".into();
    let refused = site.signed_plan(&sign(&plan, &[&key(8)]).unwrap(), ExpiryPolicy::Accept);
    assert!(matches!(refused, Err(TrustError::Json { .. })));
}

#[test]
fn without_one_delegation_named_plan_nothing_is_a_plan() {
    let mut site = Site::new();
    let delegations = site.targets.delegations.as_mut().unwrap();
    let twice = delegations.roles[0].clone();
    delegations.roles.push(twice);
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Malformed { .. })
    ));
    site.targets.delegations = None;
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Malformed { .. })
    ));
    site.targets
        .set_delegation("agent-plan", &public(&[&key(8)]), 1, &["agent/*"]);
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Malformed { .. })
    ));
}

#[test]
fn a_plan_needs_its_roles_threshold() {
    let mut site = Site::new();
    site.targets
        .set_delegation(PLAN_ROLE, &public(&[&key(8), &key(9)]), 2, &["plan/*"]);
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Signatures {
            valid: 1,
            threshold: 2,
            ..
        })
    ));
}

#[test]
fn a_plan_lives_for_minutes() {
    for expires in [
        "2026-11-23T22:30:00Z",
        "2026-11-23T22:29:59Z",
        "2026-11-23T22:45:01Z",
        "2099-01-01T00:00:00Z",
    ] {
        let refused = Site::new().plan(|plan| plan.expires = time(expires));
        assert!(
            matches!(refused, Err(TrustError::Malformed { .. })),
            "{expires}"
        );
    }
    Site::new()
        .plan(|plan| plan.expires = time("2026-11-23T22:45:00Z"))
        .unwrap();
}

#[test]
fn a_plan_from_before_the_medium_was_made_is_refused() {
    let refused = Site::new().plan(|plan| {
        plan.time = time("2012-01-01T00:00:00Z");
        plan.expires = time("2012-01-01T00:05:00Z");
    });
    assert!(matches!(refused, Err(TrustError::Clock { .. })));
}

#[test]
fn a_plan_made_from_another_timestamp_is_refused() {
    let refused = Site::new().plan(|plan| plan.timestamp.version = 10);
    assert!(matches!(
        refused,
        Err(TrustError::Version {
            found: 9,
            wanted: 10,
            ..
        })
    ));
    let refused = Site::new().plan(|plan| plan.timestamp.digest = Digest::of(b"another"));
    assert!(matches!(refused, Err(TrustError::Digest { .. })));
}

#[test]
fn a_layer_that_the_catalogue_does_not_have_is_refused() {
    let refused = Site::new().plan(|plan| plan.chain[2].target = "agent/restic/2/amd64".into());
    assert!(matches!(refused, Err(TrustError::NotInView { .. })));
    let refused = Site::new().plan(|plan| plan.chain[2].digest = Digest::of(b"mine"));
    assert!(matches!(refused, Err(TrustError::NotInView { .. })));
    let refused = Site::new().plan(|plan| plan.chain[2].digest = plan.chain[1].digest);
    assert!(matches!(refused, Err(TrustError::NotInView { .. })));
}

#[test]
fn chains_without_a_proper_shape_are_refused() {
    type Change = fn(&mut BootPlan);
    let rows: [(Change, &str); 6] = [
        (|plan| plan.chain.clear(), "0 base layers"),
        (|plan| drop(plan.chain.remove(1)), "0 base layers"),
        (|plan| plan.chain.swap(0, 1), "comes before"),
        (|plan| plan.chain.swap(2, 3), "comes before"),
        (|plan| plan.chain.insert(2, plan.chain[2].clone()), "twice"),
        (
            |plan| plan.chain = vec![plan.chain[2].clone(); 17],
            "more than 16",
        ),
    ];
    for (change, text) in rows {
        let found = chain_error(Site::new().plan(change));
        assert!(found.contains(text), "{found:?} says {text:?}");
    }
}

#[test]
fn kexec_without_a_kernel_layer_is_refused_and_in_place_is_not() {
    let without = |hand_over: HandOver| {
        Site::new().plan(|plan| {
            plan.chain.remove(0);
            plan.hand_over = hand_over;
        })
    };
    assert!(chain_error(without(HandOver::Kexec)).contains("no kernel layer"));
    without(HandOver::InPlace).unwrap();
}

#[test]
fn a_host_layer_of_another_host_or_of_none_is_refused() {
    for host in [Some("web2"), Some("web"), None] {
        let refused = Site::new().plan(|plan| plan.host = host.map(Into::into));
        assert!(
            matches!(refused, Err(TrustError::ForeignHost { .. })),
            "{host:?}"
        );
    }
    let public_layers_only = Site::new().plan(|plan| {
        plan.chain.pop();
        plan.host = None;
    });
    public_layers_only.unwrap();
}

#[test]
fn a_plan_for_another_host_than_was_asked_for_is_refused() {
    let answer = |asked_for: Option<&str>, change: fn(&mut BootPlan)| {
        let site = Site::new();
        let mut plan = site.boot_plan();
        change(&mut plan);
        let asked = Asked {
            host: asked_for,
            ..asked()
        };
        site.answer(&sign(&plan, &[&key(8)]).unwrap(), &asked)
    };
    let of_no_host = |plan: &mut BootPlan| {
        plan.chain.pop();
        plan.host = None;
    };
    for (asked_for, change) in [
        ("web2", (|_| {}) as fn(&mut BootPlan)),
        ("web", |_| {}),
        ("web1", of_no_host),
    ] {
        let refused = answer(Some(asked_for), change);
        assert!(
            matches!(&refused, Err(TrustError::AnotherHost { wanted, .. }) if wanted == asked_for),
            "{refused:?}"
        );
    }
    answer(Some("web1"), |_| {}).unwrap();
    // Who named none gets what the server knows: the public layers, or the host that a person or a code chose.
    answer(None, |_| {}).unwrap();
    answer(None, of_no_host).unwrap();
}

#[test]
fn a_catalogue_older_than_the_medium_knows_is_refused_with_both_versions() {
    let site = Site::new();
    let plan = sign(&site.boot_plan(), &[&key(8)]).unwrap();
    let answer = |role: &str, version| {
        let versions = [(role.to_owned(), version)].into();
        let asked = Asked {
            versions: &versions,
            ..asked()
        };
        site.answer(&plan, &asked).map(drop)
    };
    answer("targets", 3).unwrap();
    // A role that this plan does not need is no reason.
    answer("agent-other", 9).unwrap();
    let refused = answer("targets", 4).unwrap_err();
    let TrustError::Rollback {
        what,
        found: 3,
        stored: 4,
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(what, "targets.json");
}

#[test]
fn layers_of_another_architecture_are_refused() {
    let site = Site::new();
    let asked = Asked {
        architecture: "arm64",
        ..asked()
    };
    let refused = site.answer(&sign(&site.boot_plan(), &[&key(8)]).unwrap(), &asked);
    assert!(
        matches!(refused, Err(TrustError::Architecture { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_target_whose_name_and_custom_part_disagree_is_refused() {
    let mut site = Site::new();
    let base = site.targets.targets["base/debian/1/amd64"].clone();
    let layer = &site.layers[3];
    let name = layer.manifest.target_name();
    site.targets.targets.get_mut(&name).unwrap().custom = base.custom;
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Malformed { .. })
    ));
    site.targets.targets.get_mut(&name).unwrap().custom = None;
    assert!(matches!(
        site.plan(|_| {}),
        Err(TrustError::Malformed { .. })
    ));
}

#[test]
fn text_that_would_surprise_a_kernel_a_url_parser_or_a_terminal_is_refused() {
    type Change = fn(&mut BootPlan);
    let rows: [Change; 8] = [
        |plan| plan.command_line = "quiet\ninit=/x".into(),
        |plan| plan.command_line = "x".repeat(2048),
        |plan| plan.mirrors = vec!["file:///etc/shadow".into()],
        |plan| plan.mirrors = vec!["https://a.example/ HTTP/1.1".into()],
        |plan| plan.mirrors = vec!["https://a.example".into(); 17],
        |plan| plan.recovery = "\u{1b}[2J".into(),
        |plan| plan.recovery = String::new(),
        |plan| plan.recovery = "../x".into(),
    ];
    for (row, change) in rows.into_iter().enumerate() {
        let refused = Site::new().plan(change);
        assert!(
            matches!(refused, Err(TrustError::Malformed { .. })),
            "row {row}"
        );
    }
}

#[test]
fn a_mirror_that_this_program_cannot_use_spoils_no_plan() {
    let mirrors = ["https://user@a.example", "https://b.example"].map(str::to_owned);
    let chain = Site::new().plan(|plan| plan.mirrors = mirrors.to_vec());
    assert_eq!(chain.unwrap().plan.mirrors, mirrors);
}

#[test]
fn expired_metadata_stops_an_honest_plan_unless_it_is_accepted() {
    let mut site = Site::new();
    site.expires = time("2026-11-23T22:30:00Z"); // snapshot and timestamp
    let bytes = sign(&site.boot_plan(), &[&key(8)]).unwrap();
    let refused = site.signed_plan(&bytes, stamp::Expired::default().into());
    match refused {
        Err(TrustError::Expired(rows)) => {
            assert_eq!(rows[0].role, "timestamp");
            assert_eq!(rows[1].role, "snapshot");
            assert_eq!(rows.len(), 2);
        }
        other => panic!("{other:?}"),
    }
    let chain = site.signed_plan(&bytes, ExpiryPolicy::Accept).unwrap();
    assert_eq!(chain.expired.len(), 2);
}

#[test]
fn accepting_expired_metadata_accepts_nothing_else() {
    let mut site = Site::new();
    site.expires = time("2026-01-01T00:00:00Z");
    let mut plan = site.boot_plan();
    plan.nonce = [8; 32].into();
    let refused = site.signed_plan(&sign(&plan, &[&key(8)]).unwrap(), ExpiryPolicy::Accept);
    assert!(matches!(refused, Err(TrustError::Nonce { .. })));
}

#[test]
fn a_plan_larger_than_its_bound_is_refused() {
    let site = Site::new();
    let mut bytes = sign(&site.boot_plan(), &[&key(8)]).unwrap();
    bytes.resize(256 * 1024 + 1, b' ');
    let refused = site.signed_plan(&bytes, ExpiryPolicy::Refuse);
    assert!(matches!(refused, Err(TrustError::TooLarge { .. })));
}

#[test]
fn a_second_base_or_kernel_is_refused() {
    for (kind, at) in [(Kind::Base, 1), (Kind::Kernel, 0), (Kind::Host, 3)] {
        let mut site = Site::new();
        let mut second = Layer::new(kind, "web1", b"another".to_vec());
        second.manifest.version = "2".into();
        let name = second.manifest.target_name();
        let bytes = second.manifest.to_bytes();
        let target =
            towline_contract::trust::metadata::TargetFile::of_layer(&second.manifest, &bytes);
        site.targets.targets.insert(name.clone(), target);
        let found = chain_error(site.plan(|plan| {
            let mut layer = plan.chain[at].clone();
            layer.target = name;
            layer.digest = second.manifest.digest;
            plan.chain.insert(at, layer);
        }));
        assert!(found.contains(&format!("2 {kind} layers")), "{found}");
    }
}
