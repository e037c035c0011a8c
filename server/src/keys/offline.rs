//! Keys that belong elsewhere: the secret half is taken away, or never was here; the public half stays, so that people and
//! commands know whose file is whose.

use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use towline_contract::limits::ROLE_KEYS_MAX;
use towline_contract::trust::{PublicKey, SigningKey};
use zeroize::Zeroizing;

use super::{KeyError, create, create_encrypted, read, read_public, write_public};

/// Largest number of a key that is looked for: a role of a dozen keys that were all replaced twenty times is below it.
const NUMBERS_MAX: usize = 4 * ROLE_KEYS_MAX;

/// Roles that may have several keys, each with a number. (No agent's: `agent-acme-2` may be an agent of that name.)
const NUMBERED: [&str; 2] = ["root", "targets"];

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

/// Makes the key `path`, encrypted if there is a passphrase, with its public half beside it.
///
/// # Errors
/// See [`KeyError`].
pub fn create_offline(
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<SigningKey, KeyError> {
    let key = match passphrase {
        Some(passphrase) => create_encrypted(path, passphrase.text())?,
        None => create(path)?,
    };
    write_public(&public_path(path), &key.public())?;
    Ok(key)
}

/// Where the public half of the key `path` is kept.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// A key that is here, or was, or is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineKey {
    /// `root-1`.
    pub name: String,
    /// Where its secret half is, or would be.
    pub path: PathBuf,
    /// Its public half, when that is known.
    pub public: Option<PublicKey>,
}

/// The keys of a role of which `folder` has any half: `ROLE.key`, and for root and targets those with numbers.
#[must_use]
pub fn offline_keys(folder: &Path, role: &str) -> Vec<OfflineKey> {
    let numbers = match NUMBERED.contains(&role) {
        true => NUMBERS_MAX,
        false => 0,
    };
    let names = (1..=numbers).map(|number| format!("{role}-{number}"));
    let keys = std::iter::once(role.to_owned()).chain(names).map(|name| {
        let path = folder.join(format!("{name}.key"));
        let known = path.exists() || public_path(&path).exists();
        known.then(|| OfflineKey {
            name,
            public: public(&path),
            path,
        })
    });
    keys.flatten().collect()
}

/// Where the next key of the role goes, from this number on. One that was taken away keeps its number, by its public half.
///
/// # Errors
/// All numbers are taken.
pub fn free_path(folder: &Path, role: &str, from: usize) -> Result<PathBuf, KeyError> {
    let paths = (from..=NUMBERS_MAX).map(|number| folder.join(format!("{role}-{number}.key")));
    let mut free = paths.filter(|path| !path.exists() && !public_path(path).exists());
    let none = || KeyError::Numbers(role.into());
    free.next().ok_or_else(none)
}

fn public(path: &Path) -> Option<PublicKey> {
    let kept = read_public(&public_path(path)).ok();
    kept.or_else(|| Some(read(path).ok()?.public()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_root_key_that_was_taken_away_is_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let passphrase = Passphrase::generate().unwrap();
        let first = create_offline(&path("root-1.key"), Some(&passphrase)).unwrap();
        let second = create(&path("root-2.key")).unwrap();
        fs::remove_file(path("root-1.key")).unwrap();
        let found = offline_keys(dir.path(), "root");
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

    #[test]
    fn an_agent_whose_name_ends_in_a_number_is_no_second_key_of_another() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["agent-acme", "agent-acme-2", "targets-2"] {
            create(&dir.path().join(format!("{name}.key"))).unwrap();
        }
        let of = |role: &str| {
            let all = offline_keys(dir.path(), role).into_iter();
            all.map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(of("agent-acme"), ["agent-acme"]);
        assert_eq!(of("targets"), ["targets-2"]);
    }

    #[test]
    fn the_number_of_a_key_that_is_elsewhere_is_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        create_offline(&dir.path().join("root-4.key"), None).unwrap();
        fs::remove_file(dir.path().join("root-4.key")).unwrap();
        let next = free_path(dir.path(), "root", 4).unwrap();
        assert_eq!(next, dir.path().join("root-5.key"));
    }
}
