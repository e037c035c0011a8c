//! The stamp area: a whole area by a model of its head, and payloads behind a head that is right.

use towline_contract::Digest;
use towline_contract::stamp::{
    STAMP_BYTES, STAMP_MAGIC, STAMP_PAYLOAD_BYTES_MAX, Settings, StampError, cleared, decode,
    encode,
};

/// Panics when one of the properties does not hold. The first byte chooses: the area's beginning, or its payload.
pub fn check(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    match first & 1 {
        0 => check_area(rest),
        _ => check_payload(rest),
    }
}

fn check_area(beginning: &[u8]) {
    let mut area = beginning.to_vec();
    area.resize(STAMP_BYTES, 0);
    match (decode(&area), model(&area)) {
        (Ok(None), _) => assert_eq!(area, cleared(), "only a cleared area is an empty one"),
        (Ok(Some(settings)), Some(payload)) => check_settings(&settings, payload),
        (Err(StampError::Json(_)), Some(payload)) => {
            assert!(serde_json::from_slice::<Settings>(payload).is_err());
        }
        (Err(_), None) => {}
        (decoded, payload) => panic!("{decoded:?}, and the model says {payload:?}"),
    }
}

fn check_payload(payload: &[u8]) {
    if payload.len() > STAMP_PAYLOAD_BYTES_MAX {
        return;
    }
    let mut area = STAMP_MAGIC.to_vec();
    area.extend(format!("{:08}\n{}\n", payload.len(), Digest::of(payload)).into_bytes());
    area.extend_from_slice(payload);
    area.resize(STAMP_BYTES, 0);
    match decode(&area) {
        Ok(Some(settings)) => check_settings(&settings, payload),
        Ok(None) => panic!("a stamp was taken for none"),
        Err(refused) => assert!(matches!(refused, StampError::Json(_)), "{refused}"),
    }
}

fn check_settings(settings: &Settings, payload: &[u8]) {
    let read: Settings = serde_json::from_slice(payload).expect("it was read");
    assert_eq!(settings, &read);
    match encode(settings) {
        Ok(area) => {
            assert_eq!(area.len(), STAMP_BYTES);
            let again = decode(&area).expect("what is written can be read");
            assert_eq!(again.as_ref(), Some(settings));
        }
        // Written in full it may be larger than what was read, which may leave out what is not set.
        Err(refused) => assert!(matches!(refused, StampError::TooLarge { .. }), "{refused}"),
    }
}

/// The payload, if the head is right: `docs/formats/stamp.md`.
fn model(area: &[u8]) -> Option<&[u8]> {
    let head = area.strip_prefix(STAMP_MAGIC)?;
    let (length, rest) = (head.get(..8)?, head.get(8..)?);
    let digits = length.iter().all(u8::is_ascii_digit);
    let length: usize = std::str::from_utf8(length)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()?;
    let rest = rest.strip_prefix(b"\n")?;
    let (digest, rest) = (rest.get(..64)?, rest.get(64..)?);
    let (payload, zeros) = rest.strip_prefix(b"\n")?.split_at_checked(length)?;
    let right = digest == Digest::of(payload).to_string().as_bytes();
    (right && zeros == vec![0; zeros.len()]).then_some(payload)
}
