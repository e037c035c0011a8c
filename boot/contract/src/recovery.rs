//! A recovery: what a plan orders the rescue system to do, and the code that asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use zeroize::Zeroize;

use crate::Digest;
use crate::seal::SealTo;

/// Letters of a code: no 0, 1, I, L, O, U, which are misread or misheard.
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Letters in a code: 30^12 is about 2^59.
const CODE_LETTERS: usize = 12;

/// What the rescue system does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Order {
    /// A recovery of this host is open: its code is to be typed, and sent by [`crate::api::RecoveryRequest`].
    AskCode {
        /// The server's key, which the code is sealed to. A server of before there were sealed codes names none.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        seal_to: Option<SealTo>,
    },
    /// Recovers the host.
    Recover(Recover),
}

/// How a host is recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// Whether nobody is there to ask: what would be asked is refused instead.
    pub unattended: bool,
    /// Whether disks that hold something else may be overwritten without asking.
    pub overwrite: bool,
    /// What happens when the host is recovered.
    pub then: Then,
    /// The credentials layer that comes with the plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credentials: Option<CredentialsRef>,
    /// SHA-256 of the token for reports, which is in the credentials ([`REPORT_TOKEN_FILE`]). Media of before events were signed
    /// read no order without it.
    pub report_token: Digest,
}

/// File of the credentials with the token for reports: the seed that the machine signs its events by
/// ([`crate::trust::EventSigner`]), in hex.
pub const REPORT_TOKEN_FILE: &str = "report-token";

/// File of the credentials with the public keys that may log in by ssh.
pub const AUTHORIZED_KEYS_FILE: &str = "authorized_keys";

/// What follows a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The machine starts from its disk.
    #[default]
    Reboot,
    /// It is switched off.
    PowerOff,
    /// The rescue system stays.
    Stay,
}

/// The credentials layer: uncompressed newc, held to the rules of [`crate::manifest::Kind::Credentials`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsRef {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes, at most [`crate::limits::CREDENTIALS_BYTES_MAX`].
    pub bytes: u64,
    /// Entries in the archive.
    pub entries: u64,
}

/// A recovery code: twelve letters, shown in groups of four. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; CODE_LETTERS]);

impl Drop for Code {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Code {
    /// Makes a code of random bytes; none when too many of them had to be left out, so that all codes are as likely.
    #[must_use]
    pub fn new(random: &[u8; 64]) -> Option<Self> {
        let fair = 256 - 256 % ALPHABET.len();
        let mut letters = random.iter().filter(|byte| usize::from(**byte) < fair);
        let mut code = [0; CODE_LETTERS];
        for letter in &mut code {
            *letter = ALPHABET[usize::from(*letters.next()?) % ALPHABET.len()];
        }
        Some(Self(code))
    }

    /// SHA-256 of the letters: what a server keeps.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

/// Shown in groups of four.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, letter) in self.0.iter().enumerate() {
            if index > 0 && index % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

/// Not in crash messages.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// Not a recovery code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a recovery code has {CODE_LETTERS} letters and digits, such as K7QF-2M9X-TR4P, without 0, 1, I, L, O and U"
)]
pub struct NotACode;

/// As people type it: small letters, blanks and dashes do not matter.
impl FromStr for Code {
    type Err = NotACode;

    fn from_str(text: &str) -> Result<Self, NotACode> {
        let letters = text.bytes().filter(|b| !b" -".contains(b));
        let letters: Vec<_> = letters
            .take(CODE_LETTERS + 1)
            .map(|b| b.to_ascii_uppercase())
            .collect();
        match <[u8; CODE_LETTERS]>::try_from(letters) {
            Ok(code) if code.iter().all(|b| ALPHABET.contains(b)) => Ok(Self(code)),
            _ => Err(NotACode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_it_is_printed_and_as_people_type_it() {
        let code = Code::new(&[7; 64]).unwrap();
        assert_eq!(code.to_string(), "9999-9999-9999");
        assert_eq!(code.to_string().parse(), Ok(code));
        let typed: Code = " k7qf 2m9x-tr4p".parse().unwrap();
        assert_eq!(typed.to_string(), "K7QF-2M9X-TR4P");
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in [
            "",
            "K7QF-2M9X-TR4",
            "K7QF-2M9X-TR4PP",
            "K7QF-2M9X-TR40",
            "K7QF-2M9X-TR4é",
        ] {
            assert_eq!(text.parse::<Code>(), Err(NotACode), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_would_make_some_letters_likelier_are_left_out() {
        assert!(Code::new(&[255; 64]).is_none());
    }
}
