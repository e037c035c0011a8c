//! Plans: as they come, where nothing counts but what the plan's key once signed; and signed by that key whatever they say,
//! where what is accepted must keep to every rule of `docs/formats/trust.md`.

use std::collections::BTreeMap;

use serde_json::Value;
use towline_contract::limits::{
    CHAIN_LAYERS_MAX, COMMAND_LINE_BYTES_MAX, MIRRORS_MAX, PLAN_SECONDS_MAX, URL_BYTES_MAX,
};
use towline_contract::manifest::Kind;
use towline_contract::plan::{BootPlan, HandOver};
use towline_contract::recovery::Order;
use towline_contract::trust::{
    Asked, Chain, Envelope, ExpiryPolicy, FreshNonce, Verified, canonical_json, sign,
};
use towline_contract::{Digest, Timestamp};

use crate::golden::{self, NONCE};

const HOST: &str = "web1";

/// A medium that knows of no documents.
static VERSIONS: BTreeMap<String, u64> = BTreeMap::new();

/// Panics when one of the properties does not hold. The first byte chooses: the envelope, or what is signed; and whether the
/// machine named a host, and accepts what has expired.
pub fn check(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let asked = Asked {
        host: (first & 2 != 0).then_some(HOST),
        architecture: "amd64",
        floor: floor(),
        versions: &VERSIONS,
        expiry: match first & 4 {
            0 => ExpiryPolicy::Refuse,
            _ => ExpiryPolicy::Accept,
        },
    };
    match first & 1 {
        0 => check_envelope(rest, &asked),
        _ => check_signed(rest, &asked),
    }
}

fn floor() -> Timestamp {
    let floor = "2026-11-01T00:00:00Z".parse();
    floor.expect("a time")
}

fn check_envelope(bytes: &[u8], asked: &Asked<'_>) {
    let verdict = golden::view().plan(bytes, FreshNonce::new(NONCE), asked);
    if let Ok(chain) = verdict {
        let signed = |bytes| Envelope::parse(bytes, "a plan", u64::MAX).map(|it| it.signed);
        let (found, wanted) = (signed(bytes), signed(golden::PLAN));
        let (found, wanted) = (found.expect("one"), wanted.expect("one"));
        let canonical = |value| canonical_json(value).expect("it was signed");
        assert_eq!(canonical(&found), canonical(&wanted));
        check_chain(&chain, asked);
    }
}

fn check_signed(bytes: &[u8], asked: &Asked<'_>) {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    // Signing takes longest, and what has not this shape is refused for it: every 16th of those is enough.
    let shaped = serde_json::from_value::<BootPlan>(document.clone());
    if shaped.is_err() && !bytes.len().is_multiple_of(16) {
        return;
    }
    let Ok(signed) = sign(&document, &[&golden::key(8)]) else {
        return;
    };
    match golden::view().plan(&signed, FreshNonce::new(NONCE), asked) {
        Ok(chain) => {
            assert_eq!(chain.plan, shaped.expect("a plan has its shape"));
            check_chain(&chain, asked);
        }
        Err(refused) => assert!(!refused.to_string().contains('\x1b'), "{refused}"),
    }
}

fn check_chain(chain: &Verified<Chain>, asked: &Asked<'_>) {
    let plan = &chain.plan;
    assert_eq!(plan.nonce, Digest::from(NONCE));
    assert_eq!(plan.timestamp.digest, Digest::of(golden::TIMESTAMP));
    assert_eq!(chain.time(), plan.time);
    assert!(plan.time >= asked.floor && plan.expires > plan.time);
    let seconds = plan.expires.duration_since(plan.time).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let most = PLAN_SECONDS_MAX as f64;
    assert!(seconds <= most);
    assert!(chain.expired.is_empty() || asked.expiry == ExpiryPolicy::Accept);
    assert!(asked.host.is_none() || plan.host.as_deref() == asked.host);
    check_texts(plan);
    check_layers(chain);
    match &plan.order {
        Some(Order::Recover(_)) => {
            assert!(plan.host.is_some());
            assert!(chain.credentials(Some(b"others".to_vec().into())).is_err());
        }
        _ => assert!(matches!(chain.credentials(None), Ok(None))),
    }
}

fn check_texts(plan: &BootPlan) {
    assert!(plan.command_line.len() <= COMMAND_LINE_BYTES_MAX);
    assert!(
        plan.command_line
            .bytes()
            .all(|it| (b' '..0x7f).contains(&it))
    );
    for word in plan.command_line.split(' ') {
        let name = word.split('=').next().unwrap_or_default();
        let runs = [
            "init", "rdinit", "root", "initrd", "lockdown", "lsm", "module", "--",
        ];
        assert!(!runs.contains(&name) && !word.contains(['"', '\'', '\\', '|', '$']));
    }
    assert!(plan.mirrors.len() <= MIRRORS_MAX);
    for mirror in &plan.mirrors {
        assert!(mirror.len() <= URL_BYTES_MAX && mirror.starts_with("http"));
        assert!(mirror.bytes().all(|it| it.is_ascii_graphic()));
    }
    for part in plan.host.iter().chain([&plan.recovery]) {
        assert!((1..=128).contains(&part.len()) && !part.contains('/') && !part.starts_with('.'));
    }
}

fn check_layers(chain: &Chain) {
    let (plan, signed) = (&chain.plan, golden::view().layers());
    assert_eq!(plan.chain.len(), chain.layers.len());
    assert!(chain.layers.len() <= CHAIN_LAYERS_MAX);
    let count = |kind| chain.layers.iter().filter(|it| it.kind == kind).count();
    assert_eq!(count(Kind::Base), 1);
    assert!(count(Kind::Kernel) <= 1 && count(Kind::Host) <= 1);
    assert!(plan.hand_over == HandOver::InPlace || count(Kind::Kernel) == 1);
    for (wanted, layer) in plan.chain.iter().zip(&chain.layers) {
        let file = signed.get(&wanted.target).expect("it is in the view");
        assert_eq!(file.sha256(), Some(layer.digest));
        assert_eq!(
            (wanted.digest, file.length),
            (layer.digest, layer.stored_bytes)
        );
        assert_eq!(wanted.target, layer.target.to_string());
        assert!(layer.kind != Kind::Host || plan.host.as_deref() == Some(&layer.target.name));
        assert!(["amd64", "all"].contains(&layer.target.architecture.as_str()));
    }
}
