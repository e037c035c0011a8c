//! Root keys: the secret half is taken away, the public half stays, so that people and commands know whose file is whose.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use towline_contract::trust::{PublicKey, SigningKey};
use zeroize::Zeroizing;

use super::{KeyError, create, create_encrypted, failed, read};

/// Most root keys that are looked for.
const ROOT_KEYS_MAX: u32 = 64;

/// Encrypts a key. It shows nothing of itself to a log.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Passphrase {
    /// A passphrase that somebody chose.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// One of 128 random bits: letters and digits in groups of four.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let mut random = Zeroizing::new([0; 16]);
        getrandom::fill(random.as_mut()).map_err(KeyError::Random)?;
        let letters = Zeroizing::new(BASE32_NOPAD.encode(random.as_ref()));
        let mut text = Zeroizing::new(String::new());
        for (at, letter) in letters.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        Ok(Self(text))
    }

    /// The passphrase, to be shown to its owner or used.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Makes the root key `path`, encrypted if there is a passphrase, with its public half beside it.
///
/// # Errors
/// See [`KeyError`].
pub fn create_root(path: &Path, passphrase: Option<&Passphrase>) -> Result<SigningKey, KeyError> {
    let key = match passphrase {
        Some(passphrase) => create_encrypted(path, passphrase.text())?,
        None => create(path)?,
    };
    let public = public_path(path);
    let text = key.public().keyval.public.unwrap_or_default() + "\n";
    fs::write(&public, text).map_err(failed("write", &public))?;
    Ok(key)
}

/// Where the public half of the key `path` is kept: 64 hex digits of an Ed25519 key.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// A root key that is here, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKey {
    /// `root-1`.
    pub name: String,
    /// Where it is, or was.
    pub path: PathBuf,
    /// Its public half, when that is known.
    pub public: Option<PublicKey>,
}

/// The root keys of which `folder` has any half.
#[must_use]
pub fn root_keys(folder: &Path) -> Vec<RootKey> {
    let key = |number| {
        let name = format!("root-{number}");
        let path = folder.join(format!("{name}.key"));
        let known = path.exists() || public_path(&path).exists();
        known.then(|| RootKey {
            name,
            public: public(&path),
            path,
        })
    };
    (1..=ROOT_KEYS_MAX).filter_map(key).collect()
}

fn public(path: &Path) -> Option<PublicKey> {
    let kept = fs::read_to_string(public_path(path)).ok().and_then(|text| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim_end(), &mut bytes).ok()?;
        Some(PublicKey::ed25519(&bytes))
    });
    kept.or_else(|| Some(read(path).ok()?.public()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_that_was_taken_away_is_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let passphrase = Passphrase::generate().unwrap();
        let first = create_root(&path("root-1.key"), Some(&passphrase)).unwrap();
        let second = create(&path("root-2.key")).unwrap();
        fs::remove_file(path("root-1.key")).unwrap();
        let found = root_keys(dir.path());
        let found: Vec<_> = found.into_iter().map(|it| (it.name, it.public)).collect();
        let wanted = [("root-1", first), ("root-2", second)];
        assert_eq!(
            found,
            wanted.map(|(name, key)| (name.into(), Some(key.public())))
        );
    }

    #[test]
    fn passphrases_are_long_differ_and_are_not_in_logs() {
        let two = [(); 2].map(|()| Passphrase::generate().unwrap());
        assert_ne!(two[0].text(), two[1].text());
        assert_eq!(two[0].text().len(), 26 + 6);
        assert_eq!(format!("{:?}", two[0]), "Passphrase");
    }
}
