//! A site's signing keys as files: 64 hex digits of an Ed25519 seed, mode 0600, in a folder of mode 0700.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use towline_contract::trust::SigningKey;
use zeroize::Zeroizing;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("cannot {what} the key {path}")]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not a key.
    #[error("{0} is no signing key: it should hold 64 hex digits")]
    Format(PathBuf),
    /// Others may read it.
    #[error("the key {path} has mode {mode:04o}; others may read it")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system has no random numbers.
    #[error("cannot get random bytes for a new key")]
    Random(#[source] getrandom::Error),
}

/// Makes a new key and writes it to `path`, which must not exist.
///
/// # Errors
/// See [`KeyError`].
pub fn create(path: &Path) -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(KeyError::Random)?;
    let text = Zeroizing::new(hex::encode(seed.as_ref()) + "\n");
    write_private(path, text.as_bytes()).map_err(|cause| KeyError::File {
        what: "write",
        path: path.into(),
        cause,
    })?;
    Ok(SigningKey::generate(*seed))
}

/// The key in `path`; a new one if there is none.
///
/// # Errors
/// See [`KeyError`].
pub fn read_or_create(path: &Path) -> Result<SigningKey, KeyError> {
    match read(path) {
        Err(KeyError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            create(path)
        }
        found => found,
    }
}

/// Reads a key that only its owner can read.
///
/// # Errors
/// See [`KeyError`].
pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
    let failed = |cause| KeyError::File {
        what: "read",
        path: path.into(),
        cause,
    };
    let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.into(),
            mode,
        });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), seed.as_mut_slice())
        .map_err(|_| KeyError::Format(path.into()))?;
    Ok(SigningKey::generate(*seed))
}

/// Writes a new file of mode 0600 and syncs it.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.key");
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().public(), key.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(&path),
            Err(KeyError::Readable { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_key_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.key");
        create(&path).unwrap();
        assert!(matches!(
            create(&path),
            Err(KeyError::File { what: "write", .. })
        ));
    }
}
