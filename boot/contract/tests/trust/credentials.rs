//! Credentials are used only when the plan's signature covers them.

use towline_contract::Digest;
use towline_contract::newc::{Entry, mode, padding, trailer};
use towline_contract::recovery::{CredentialsRef, Order, Recover, Then};
use towline_contract::trust::{Chain, TrustError, Verified};

use crate::site::Site;

fn without_a_host(order: Order) -> Result<Verified<Chain>, TrustError> {
    let mut site = Site::new();
    site.layers.pop();
    site.plan(|plan| (plan.host, plan.order) = (None, Some(order)))
}

#[test]
fn an_order_to_recover_without_a_host_is_refused() {
    let found = without_a_host(Order::Recover(Recover {
        unattended: false,
        overwrite: false,
        then: Then::Reboot,
        credentials: None,
        report_token: Digest::of(b"token"),
    }));
    assert!(
        matches!(found, Err(TrustError::Malformed { .. })),
        "{found:?}"
    );
}

#[test]
fn a_code_may_be_asked_for_before_it_is_known_whose_it_is() {
    let chain = without_a_host(Order::AskCode { seal_to: None }).unwrap();
    assert_eq!((&chain.plan.host, chain.layers.len()), (&None, 3));
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
    let found = with_credentials(b"secret").credentials(Some(b"secret".to_vec().into()));
    let found = found.unwrap().unwrap();
    assert_eq!(***found.chunk, *b"secret");
    assert_eq!(found.manifest.target_name(), "credentials/r-1/1/all");
    assert_eq!(format!("{found:?}"), "Credentials(credentials/r-1/1/all)");
}

#[test]
fn the_token_for_reports_is_found_among_other_files() {
    let mut archive = Vec::new();
    for (name, body) in [
        (
            "run/towline/credentials/environment",
            "report-token=wrong\n",
        ),
        ("run/towline/credentials/report-token", "70ken\n"),
    ] {
        let entry = Entry {
            name: name.into(),
            mode: mode::S_IFREG | 0o600,
            bytes: u32::try_from(body.len()).unwrap(),
            ..Entry::default()
        };
        archive.extend(entry.encode().unwrap());
        archive.extend_from_slice(body.as_bytes());
        archive.extend_from_slice(padding(body.len() as u64));
    }
    archive.extend(trailer());
    let chain = with_credentials(&archive);
    let found = chain.credentials(Some(archive.into())).unwrap().unwrap();
    assert_eq!(found.report_token().as_deref(), Some("70ken"));
    let none = with_credentials(b"secret").credentials(Some(b"secret".to_vec().into()));
    assert_eq!(none.unwrap().unwrap().report_token(), None);
}

#[test]
fn other_bytes_are_refused() {
    for (bytes, wanted) in [(&b"Secret"[..], "digest"), (b"secret ", "bytes")] {
        let found = with_credentials(b"secret").credentials(Some(bytes.to_vec().into()));
        let text = found.unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    }
    let large = vec![0; (1 << 20) + 1];
    let found = with_credentials(&large).credentials(Some(large.into()));
    assert!(
        matches!(found, Err(TrustError::TooLarge { .. })),
        "{found:?}"
    );
}

#[test]
fn credentials_without_a_plan_for_them_and_a_plan_without_its_credentials_are_refused() {
    for order in [None, Some(Order::AskCode { seal_to: None })] {
        assert!(chain(order.clone()).credentials(None).unwrap().is_none());
        assert!(
            chain(order)
                .credentials(Some(b"secret".to_vec().into()))
                .is_err()
        );
    }
    assert!(with_credentials(b"secret").credentials(None).is_err());
}
