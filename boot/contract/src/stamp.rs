//! The stamp: a site's settings, written into a fixed area of a finished medium.
//!
//! The area is the body of one newc file, [`STAMP_PATH`], in an initrd of its own: [`STAMP_BYTES`] bytes that start with
//! [`STAMP_MAGIC`], so that it is found in any image and overwritten in place. `docs/formats/stamp.md` specifies it:
//! magic (32 bytes), payload length (8 decimal digits and a newline), SHA-256 of the payload (64 hex digits and a
//! newline), the payload (JSON), zeros. A cleared area has nothing but zeros after the magic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Timestamp};

/// Name of the stamp's file in the initramfs, without the leading slash.
pub const STAMP_PATH: &str = "towline/stamp";

/// Size of the area, in bytes.
pub const STAMP_BYTES: usize = 64 << 10;

/// First bytes of the area. The NULs keep it from matching itself in text.
pub const STAMP_MAGIC: &[u8; 32] = b"\0TOWLINE stamp area, version 1\0\n";

const LENGTH_BYTES: usize = 9;
const HEAD_BYTES: usize = STAMP_MAGIC.len() + LENGTH_BYTES + 65;

/// Largest payload, in bytes.
pub const STAMP_PAYLOAD_BYTES_MAX: usize = STAMP_BYTES - HEAD_BYTES;

/// What to do when signed metadata has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expired {
    /// Ask at the console; when nobody answers, do not boot.
    #[default]
    Refuse,
    /// Warn and go on.
    Accept,
}

/// How the machine gets its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// A static address in CIDR notation (`192.0.2.7/24`); DHCP on every interface when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Default gateway of the static address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers; added before those of DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// The interface for the static address, by name or MAC address; the first with a link when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// A site's settings on a medium.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Base URLs of the servers, in order of preference.
    pub servers: Vec<String>,
    /// The trusted root metadata, byte for byte, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// PEM certificates of the authorities for the servers' TLS certificates.
    pub ca: Vec<String>,
    /// Network settings.
    pub network: Network,
    /// The host to recover, on a medium made for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A token for unattended recoveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<crate::Secret>,
    /// Whether the console may offer a shell.
    pub shell: bool,
    /// What to do when signed metadata has expired.
    pub expired: Expired,
    /// Versions of the site's signed documents when it was stamped, by role: `targets`, `base`, `agent-restic`. No older ones
    /// are believed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, u64>,
    /// When the medium was stamped: no earlier time is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamped: Option<Timestamp>,
}

/// Why an area is no stamp.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// Not [`STAMP_BYTES`] long or without the magic.
    #[error("no stamp area (format version 1) here")]
    NoArea,
    /// The head is damaged, or the payload does not have its digest.
    #[error("the stamp is damaged: {0}")]
    Damaged(&'static str),
    /// The payload is no settings document.
    #[error("the stamp's settings cannot be read")]
    Json(#[from] serde_json::Error),
    /// The settings do not fit.
    #[error("settings of {bytes} bytes do not fit in the stamp area of {STAMP_PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Size in bytes.
        bytes: usize,
    },
}

/// An area with nothing in it.
#[must_use]
pub fn cleared() -> Vec<u8> {
    let mut area = STAMP_MAGIC.to_vec();
    area.resize(STAMP_BYTES, 0);
    area
}

/// The area that holds `settings`.
///
/// # Errors
/// The settings do not fit.
pub fn encode(settings: &Settings) -> Result<Vec<u8>, StampError> {
    let payload = serde_json::to_vec(settings)?;
    if payload.len() > STAMP_PAYLOAD_BYTES_MAX {
        return Err(StampError::TooLarge {
            bytes: payload.len(),
        });
    }
    let mut area = STAMP_MAGIC.to_vec();
    area.extend_from_slice(format!("{:08}\n{}\n", payload.len(), Digest::of(&payload)).as_bytes());
    area.extend_from_slice(&payload);
    area.resize(STAMP_BYTES, 0);
    Ok(area)
}

/// The settings in `area`; `None` when it is cleared.
///
/// # Errors
/// The area is not one, or damaged. A damaged stamp is never taken for an empty one.
pub fn decode(area: &[u8]) -> Result<Option<Settings>, StampError> {
    if area.len() != STAMP_BYTES || !area.starts_with(STAMP_MAGIC) {
        return Err(StampError::NoArea);
    }
    if area == cleared() {
        return Ok(None);
    }
    let head = &area[STAMP_MAGIC.len()..HEAD_BYTES];
    let (length, digest) = head.split_at(LENGTH_BYTES);
    let length = std::str::from_utf8(length)
        .ok()
        .and_then(|t| t.strip_suffix('\n'));
    let length: usize = length
        .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|t| t.parse().ok())
        .filter(|n| *n <= STAMP_PAYLOAD_BYTES_MAX)
        .ok_or(StampError::Damaged("its length is not a number in range"))?;
    let digest: Digest = std::str::from_utf8(digest)
        .ok()
        .and_then(|t| t.strip_suffix('\n'))
        .and_then(|t| t.parse().ok())
        .ok_or(StampError::Damaged("its digest is not one"))?;
    let (payload, rest) = area[HEAD_BYTES..].split_at(length);
    if Digest::of(payload) != digest {
        return Err(StampError::Damaged(
            "its settings do not have the digest beside them",
        ));
    }
    if rest != vec![0; rest.len()] {
        return Err(StampError::Damaged("there are bytes after its settings"));
    }
    Ok(Some(serde_json::from_slice(payload)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Settings {
        Settings {
            servers: vec!["https://backup.example:8443".into()],
            shell: true,
            ..Settings::default()
        }
    }

    #[test]
    fn what_is_stamped_is_shown_and_a_cleared_area_is_empty() {
        assert_eq!(
            decode(&encode(&example()).unwrap()).unwrap(),
            Some(example())
        );
        assert_eq!(decode(&cleared()).unwrap(), None);
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let settings = Settings {
            ca: vec!["x".repeat(STAMP_BYTES)],
            ..Settings::default()
        };
        assert!(matches!(
            encode(&settings),
            Err(StampError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_stamp_with_any_byte_changed_is_refused(at in 0..600_usize, flip in 1..=255_u8) {
            let mut area = encode(&example()).unwrap();
            area[at] ^= flip;
            prop_assert!(decode(&area).is_err());
        }
    }
}
