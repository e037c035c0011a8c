//! Credentials are used only when the plan's signature covers them.

use towline_contract::Digest;
use towline_contract::recovery::{CredentialsRef, Order, Recover, Then};
use towline_contract::trust::{Chain, TrustError, Verified};

use crate::site::Site;

#[test]
fn an_order_without_a_host_is_refused() {
    let mut site = Site::new();
    site.layers.pop();
    let found = site.plan(|plan| {
        plan.host = None;
        plan.order = Some(Order::AskCode);
    });
    assert!(
        matches!(found, Err(TrustError::Malformed { .. })),
        "{found:?}"
    );
}

fn chain(order: Option<Order>) -> Verified<Chain> {
    Site::new().plan(|plan| plan.order = order).unwrap()
}

fn with_credentials(bytes: &[u8]) -> Verified<Chain> {
    chain(Some(Order::Recover(Recover {
        unattended: false,
        overwrite: false,
        then: Then::Reboot,
        credentials: Some(CredentialsRef {
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
            entries: 1,
        }),
        report_token: Digest::of(b"token"),
    })))
}

#[test]
fn the_credentials_that_the_plan_names_are_taken() {
    let found = with_credentials(b"secret").credentials(Some(b"secret".to_vec()));
    let found = found.unwrap().unwrap();
    assert_eq!(**found.chunk, *b"secret");
    assert_eq!(found.manifest.target_name(), "credentials/r-1/1/all");
}

#[test]
fn other_bytes_are_refused() {
    for (bytes, wanted) in [(&b"Secret"[..], "digest"), (b"secret ", "bytes")] {
        let found = with_credentials(b"secret").credentials(Some(bytes.to_vec()));
        let text = found.unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    }
    let large = vec![0; (1 << 20) + 1];
    let found = with_credentials(&large).credentials(Some(large));
    assert!(
        matches!(found, Err(TrustError::TooLarge { .. })),
        "{found:?}"
    );
}

#[test]
fn credentials_without_a_plan_for_them_and_a_plan_without_its_credentials_are_refused() {
    for order in [None, Some(Order::AskCode)] {
        assert!(chain(order.clone()).credentials(None).unwrap().is_none());
        assert!(chain(order).credentials(Some(b"secret".to_vec())).is_err());
    }
    assert!(with_credentials(b"secret").credentials(None).is_err());
}
