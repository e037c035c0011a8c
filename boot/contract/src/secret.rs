//! Secret text: wiped from memory when dropped, and not in crash messages.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A code, a token, or what has one in it. Written and read like any text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Machine, PlanRequest, RecoveryAnswer, RecoveryRequest};
    use crate::seal::SealKey;
    use crate::stamp::Settings;

    #[test]
    fn a_secret_text_is_read_like_any_and_never_shown() {
        let secret: Secret = serde_json::from_str(r#""K7QF""#).unwrap();
        assert_eq!(&*secret, "K7QF");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""K7QF""#);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(std::mem::needs_drop::<Zeroizing<String>>());
    }

    #[test]
    fn what_has_a_code_a_token_or_credentials_in_it_shows_none_of_them() {
        let secret = || Secret::from("sesame".to_owned());
        let request = RecoveryRequest {
            code: secret(),
            seal_to: SealKey::generate(&Zeroizing::new([1; 32])).public(),
            request: PlanRequest {
                nonce: [7; 32].into(),
                architecture: "amd64".into(),
                kernel_release: "6.1".into(),
                host: None,
                hand_over: None,
                machine: Machine::default(),
            },
        };
        let answer = RecoveryAnswer {
            plan: "{}".into(),
            credentials: Some(secret()),
            host: None,
            host_layer: Some(secret()),
        };
        let settings = Settings {
            token: Some(secret()),
            ..Settings::default()
        };
        for shown in [
            format!("{request:?}"),
            format!("{answer:?}"),
            format!("{settings:?}"),
        ] {
            assert!(shown.contains('…') && !shown.contains("sesame"), "{shown}");
        }
    }
}
