//! Bodies of the API, and the short texts that people or servers write: each is read, written and read as the same, and what
//! is bounded stays within its bounds.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use towline_contract::api::{
    Enrolled, Enrolment, ErrorBody, HostState, MACHINE_MACS_MAX, Machine, NewSession, PlanRequest,
    RecoveryAnswer, RecoveryRequest,
};
use towline_contract::event::{EVENT_BYTES_MAX, Event};
use towline_contract::recovery::{Code, Order};
use towline_contract::seal::{SEALED_EXTRA_BYTES, SealKey, Sealed};
use towline_contract::trust::{EventError, EventSignature, EventSigner};
use towline_contract::{agent, base_url};
use towline_stage1::command_line::CommandLine;

/// Panics when one of the properties does not hold. The first byte chooses the body.
pub fn check(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    match first % 16 {
        0 => check_body::<PlanRequest>(rest),
        1 => check_body::<RecoveryRequest>(rest),
        2 => check_body::<RecoveryAnswer>(rest),
        3 => check_body::<Event>(rest),
        4 => check_body::<ErrorBody>(rest),
        5 => check_body::<Enrolment>(rest),
        6 => check_body::<HostState>(rest),
        7 => check_body::<NewSession>(rest),
        8 => check_body::<Order>(rest),
        9 => check_body::<Enrolled>(rest),
        10 => check_machine(rest),
        14 => check_sealed(rest),
        15 => check_signed(rest),
        choice => {
            if let Ok(text) = std::str::from_utf8(rest) {
                match choice {
                    11 => check_code(text),
                    12 => check_url(text),
                    _ => check_words(text),
                }
            }
        }
    }
}

fn check_body<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(body) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&body).expect("a body can be written");
    let again: T = serde_json::from_slice(&written).expect("what is written can be read");
    assert_eq!(again, body);
}

/// Nobody who lacks the key makes what opens by it; and what is sealed comes back.
fn check_sealed(bytes: &[u8]) {
    let key = SealKey::generate(&[5; 32].into());
    assert!(key.open(Sealed::RecoveryRequest, bytes).is_err());
    let sealed = key
        .public()
        .seal(Sealed::RecoveryRequest, bytes, [6; 32].into());
    let sealed = sealed.expect("a key that can be sealed to");
    assert_eq!(sealed.len(), bytes.len() + SEALED_EXTRA_BYTES);
    let opened = key.open(Sealed::RecoveryRequest, &sealed);
    assert_eq!(opened.expect("what was sealed").as_slice(), bytes);
}

/// Nobody who lacks the key signs an event; and what is signed is read, if it is one.
fn check_signed(bytes: &[u8]) {
    let signer = EventSigner::new("r-1", &"05".repeat(32)).expect("a seed");
    let key = signer.public();
    let found = std::str::from_utf8(bytes).map(str::parse::<EventSignature>);
    if let Ok(Ok(signature)) = found {
        assert!(signature.verify(b"{}", &key).is_err());
    }
    let signature: EventSignature = signer.header(bytes).parse().expect("a header");
    let read = serde_json::from_slice::<Event>(bytes);
    match (signature.verify(bytes, &key), read) {
        (Ok(event), Ok(read)) => assert_eq!((&*event, &*event.recovery), (&read, "r-1")),
        (Err(EventError::Json(_)), Err(_)) => {}
        (Err(EventError::NotSigned), Ok(read)) => assert_ne!(read.recovery, "r-1"),
        (Err(EventError::NotSigned), Err(_)) => assert!(bytes.len() > EVENT_BYTES_MAX),
        other => panic!("{other:?}"),
    }
}

fn check_machine(bytes: &[u8]) {
    check_body::<Machine>(bytes);
    let Ok(machine) = serde_json::from_slice::<Machine>(bytes) else {
        return;
    };
    let bounded = machine.clone().bounded();
    assert_eq!(bounded.mistake(), None);
    assert!(bounded.macs.len() <= MACHINE_MACS_MAX);
    assert_eq!(bounded.clone().bounded(), bounded);
    if machine.mistake().is_none() {
        assert_eq!(bounded, machine);
    }
}

fn check_code(text: &str) {
    if let Ok(code) = text.parse::<Code>() {
        let shown = code.to_string();
        assert_eq!(shown.parse(), Ok(code.clone()));
        assert_eq!(shown.to_lowercase().parse(), Ok(code));
        let letters = |text: &str| text.replace([' ', '-'], "").to_ascii_uppercase();
        assert_eq!(letters(text), letters(&shown));
    }
}

fn check_url(text: &str) {
    if let Ok(url) = base_url::parse(text) {
        let shown = url.to_string();
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()));
        let again = base_url::parse(&shown).expect("what is shown is one");
        assert_eq!(again, url);
        let authority = url.authority().expect("it has a host").as_str();
        assert!(!authority.contains('@') && url.query().is_none());
    }
}

fn check_words(text: &str) {
    if let Ok(line) = CommandLine::parse(text) {
        assert!(line.servers.iter().all(|it| !it.contains(',')));
    }
    match agent::variables(text) {
        Ok(variables) => assert!(variables.iter().all(|(name, value)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\n')
        })),
        Err(line) => assert!((1..=text.lines().count()).contains(&line)),
    }
}
