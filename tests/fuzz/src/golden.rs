//! The pinned documents of version 1, the view that they are, and the keys that signed them.

use std::sync::OnceLock;

use towline_contract::trust::{SignedView, SigningKey, TrustedRoot};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../boot/contract/tests/golden/v1/", $name))
    };
}

pub(crate) const ROOT: &[u8] = golden!("1.root.json");
pub(crate) const TIMESTAMP: &[u8] = golden!("timestamp.json");
pub(crate) const SNAPSHOT: &[u8] = golden!("5.snapshot.json");
pub(crate) const TARGETS: &[u8] = golden!("3.targets.json");
pub(crate) const PLAN: &[u8] = golden!("plan.json");

/// The nonce that the pinned plan echoes.
pub(crate) const NONCE: [u8; 32] = [7; 32];

/// Keys 1, 2 and 3 are root's (two must sign), 4 and 5 the targets' (both), 6 snapshot's, 7 timestamp's, 8 the plan's.
pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::generate([number; 32])
}

pub(crate) fn root() -> &'static TrustedRoot {
    static ROOT_DOCUMENT: OnceLock<TrustedRoot> = OnceLock::new();
    ROOT_DOCUMENT.get_or_init(|| TrustedRoot::from_stamp(ROOT).expect("the golden root is one"))
}

pub(crate) fn view() -> &'static SignedView {
    static VIEW: OnceLock<SignedView> = OnceLock::new();
    VIEW.get_or_init(|| {
        let timestamp = root().clone().timestamp(TIMESTAMP);
        let snapshot = timestamp.and_then(|it| it.snapshot(SNAPSHOT));
        let view = snapshot.and_then(|it| it.targets(TARGETS));
        view.expect("the golden files are a view")
    })
}
