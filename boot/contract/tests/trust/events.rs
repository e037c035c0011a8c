//! Events are their machine's, byte for byte, or nobody's.

use std::time::Duration;

use towline_contract::event::{EVENT_BYTES_MAX, Event, Part, What};
use towline_contract::trust::{
    EventError, EventSignature, EventSigner, PublicKey, SigningKey, Verified,
};

const RECOVERY: &str = "r-0123456789abcdef";
const TOKEN: &str = "0505050505050505050505050505050505050505050505050505050505050505";

fn signer() -> EventSigner {
    EventSigner::new(RECOVERY, TOKEN).unwrap()
}

fn body(recovery: &str) -> Vec<u8> {
    let what = What::LayoutRecreated { seconds: 3 };
    let event = Event::new(recovery, Part::Rescue, Duration::from_secs(12), what);
    serde_json::to_vec(&event).unwrap()
}

fn verify(header: &str, body: &[u8], key: &PublicKey) -> Result<Verified<Event>, EventError> {
    header.parse::<EventSignature>()?.verify(body, key)
}

#[track_caller]
fn is_refused(header: &str, body: &[u8], key: &PublicKey) {
    let found = verify(header, body, key);
    assert!(matches!(found, Err(EventError::NotSigned)), "{found:?}");
}

#[test]
fn an_event_of_its_machine_is_read_from_the_very_bytes_that_were_signed() {
    let (signer, body) = (signer(), body(RECOVERY));
    assert_eq!(signer.public(), SigningKey::generate([5; 32]).public());
    let header = signer.header(&body);
    let event = verify(&header, &body, &signer.public()).unwrap();
    assert_eq!(event.number, 1_000_000_012_000_000);
    assert_eq!(event.what, What::LayoutRecreated { seconds: 3 });
    // The same event in other bytes is not what was signed.
    let spaced = [b" ", body.as_slice()].concat();
    is_refused(&header, &spaced, &signer.public());
}

#[test]
fn the_example_in_the_documentation_is_what_is_signed() {
    let body = br#"{"recovery":"r-0123456789abcdef","number":7,"uptime_seconds":1,"event":"plan-verified"}"#;
    let header = signer().header(body);
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/api.md");
    let document = std::fs::read_to_string(document).unwrap();
    let public = signer().public().keyval.public.unwrap();
    let signature = header.split_once(' ').unwrap().1;
    for part in [TOKEN, &public, RECOVERY, signature] {
        assert!(document.contains(part), "{part} is not in api.md");
    }
    assert!(document.contains(std::str::from_utf8(body).unwrap()));
}

#[test]
fn an_event_with_any_bit_changed_is_refused() {
    let (signer, body) = (signer(), body(RECOVERY));
    let header = signer.header(&body);
    for index in 0..body.len() {
        for bit in 0..8 {
            let mut changed = body.clone();
            changed[index] ^= 1 << bit;
            is_refused(&header, &changed, &signer.public());
        }
    }
    for index in 0..header.len() {
        let mut changed = header.clone().into_bytes();
        changed[index] = if changed[index] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        is_refused(&changed, &body, &signer.public());
    }
}

#[test]
fn an_event_by_another_key_or_for_another_recovery_is_refused() {
    let (signer, body) = (signer(), body(RECOVERY));
    let other = EventSigner::new(RECOVERY, &"06".repeat(32)).unwrap();
    is_refused(&other.header(&body), &body, &signer.public());
    // The same key would sign it for another recovery: the body says which one it is for, and so does the signature.
    let elsewhere = EventSigner::new("r-fedcba9876543210", TOKEN).unwrap();
    is_refused(&elsewhere.header(&body), &body, &signer.public());
    let renamed = elsewhere
        .header(&body)
        .replace("r-fedcba9876543210", RECOVERY);
    is_refused(&renamed, &body, &signer.public());
}

#[test]
fn another_signature_by_the_same_key_is_none_of_an_event() {
    let (key, body) = (SigningKey::generate([5; 32]), body(RECOVERY));
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let signed = towline_contract::trust::sign(&document, &[&key]).unwrap();
    let signed: serde_json::Value = serde_json::from_slice(&signed).unwrap();
    let signature = signed["signatures"][0]["sig"].as_str().unwrap();
    let header = format!("{RECOVERY} {signature}");
    let canonical = towline_contract::trust::canonical_json(&document).unwrap();
    is_refused(&header, &canonical, &key.public());
}

#[test]
fn a_header_of_another_form_is_refused() {
    let (signer, body) = (signer(), body(RECOVERY));
    let header = signer.header(&body);
    let signature = header.split_once(' ').unwrap().1;
    let long = "r".repeat(129);
    for wrong in [
        "",
        " ",
        RECOVERY,
        signature,
        &format!(" {signature}"),
        &format!("{RECOVERY}  {signature}"),
        &format!("{RECOVERY} {signature}00"),
        &format!("{RECOVERY} {}", &signature[2..]),
        &format!("{RECOVERY} {}", "g".repeat(128)),
        &format!("{RECOVERY}\0 {signature}"),
        &format!("{long} {signature}"),
    ] {
        is_refused(wrong, &body, &signer.public());
    }
}

#[test]
fn a_body_larger_than_any_event_is_refused_and_a_signed_one_that_is_none_is_named() {
    let signer = signer();
    let large = vec![b' '; EVENT_BYTES_MAX + 1];
    is_refused(&signer.header(&large), &large, &signer.public());
    let found = verify(&signer.header(b"{}"), b"{}", &signer.public());
    assert!(matches!(found, Err(EventError::Json(_))), "{found:?}");
}

#[test]
fn a_token_that_is_no_seed_signs_nothing_and_a_signer_does_not_show_it() {
    for wrong in ["", "t0ken", &TOKEN[2..], &format!("{TOKEN}00")] {
        assert!(EventSigner::new(RECOVERY, wrong).is_none(), "{wrong}");
    }
    let shown = format!("{:?}", EventSigner::new(RECOVERY, &format!("{TOKEN}\n")));
    assert!(
        shown.contains(RECOVERY) && !shown.contains("0505"),
        "{shown}"
    );
}
