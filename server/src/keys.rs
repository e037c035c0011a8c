//! A site's signing keys as files of mode 0600, in a folder of mode 0700: 64 hex digits of an Ed25519 seed; or, encrypted with a
//! passphrase, what OpenSSL reads as well ([`encrypted`]).

mod agent;
mod encrypted;
mod offline;
mod public;
mod signer;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use towline_contract::trust::SigningKey;
use zeroize::Zeroizing;

use crate::owner;

pub use agent::{AgentError, AgentKey};
pub use encrypted::{create_encrypted, unlock};
pub use offline::{OfflineKey, Passphrase, create_offline, free_path, offline_keys, public_path};
pub use public::{read_public, write_public};
pub use signer::Signer;

/// Largest key file that is read, in bytes. An encrypted one has 400.
const KEY_BYTES_MAX: u64 = 8 << 10;

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
    #[error(
        "{0} is no signing key: it should hold 64 hex digits, or an Ed25519 key that is encrypted as PKCS#8 in PEM"
    )]
    Format(PathBuf),
    /// Not a public half.
    #[error(
        "{0} is no public key that machines believe: it should hold 64 hex digits, an OpenSSH public key, or a PEM of one; of Ed25519 or ECDSA P-256"
    )]
    Public(PathBuf),
    /// There are too many keys of the role.
    #[error("all numbers of keys of {0} are taken")]
    Numbers(String),
    /// It needs a passphrase.
    #[error("the key {0} is encrypted with a passphrase")]
    Encrypted(PathBuf),
    /// Another passphrase than it was encrypted with, or a damaged file.
    #[error("the passphrase does not open the key {0}")]
    Passphrase(PathBuf),
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

impl KeyError {
    /// Whether the key is not here, or not to be had without its passphrase.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::File { cause, .. } => cause.kind() == io::ErrorKind::NotFound,
            Self::Encrypted(_) => true,
            _ => false,
        }
    }
}

/// Makes a new key and writes it to `path`, which must not exist.
///
/// # Errors
/// See [`KeyError`].
pub fn create(path: &Path) -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(KeyError::Random)?;
    let text = Zeroizing::new(hex::encode(seed.as_ref()) + "\n");
    write_private(path, text.as_bytes()).map_err(failed("write", path))?;
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
    let text = text(path)?;
    if encrypted::is(&text) {
        return Err(KeyError::Encrypted(path.into()));
    }
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), seed.as_mut_slice())
        .map_err(|_| KeyError::Format(path.into()))?;
    Ok(SigningKey::generate(*seed))
}

/// What is in a file that only its owner can read.
fn text(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mode = file.metadata().map_err(failed("read", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.into(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed("read", path))?;
    Ok(text)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |cause| KeyError::File {
        what,
        path: path.into(),
        cause,
    }
}

/// Writes a new file of mode 0600 and syncs it. What root writes belongs to whom the folder belongs.
///
/// # Errors
/// It exists, or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        owner::as_folder(&file, &File::open(folder)?)?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file that anyone may read, in place of what is there, whole.
fn write_public_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    let folder = File::open(folder)?;
    owner::as_folder(file.as_file(), &folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

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
