//! Keys that are encrypted with a passphrase: PKCS#8 in PEM (RFC 5958, section 3; RFC 8410), by PBES2 with scrypt and AES-256 in
//! CBC mode (RFC 8018, section 6.2; RFC 7914, section 7). `openssl pkey -in FILE` reads them.

use std::path::Path;

use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{DecodePrivateKey as _, EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo};
use towline_contract::trust::SigningKey;
use zeroize::Zeroizing;

use super::{KeyError, failed, text, write_private};

/// What the PEM is labelled with (RFC 7468, section 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Cost of scrypt: 16 MiB, five times. That is what OWASP asks for where OpenSSL's limit of 32 MiB holds.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);

/// Length of the key that scrypt makes, in bytes: AES-256's.
const AES_KEY_BYTES: usize = 32;

/// Whether this is the text of an encrypted key.
pub(super) fn is(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ENCRYPTED ")
}

/// Makes a new key and writes it to `path`, which must not exist, encrypted with the passphrase.
///
/// # Errors
/// See [`KeyError`].
pub fn create_encrypted(path: &Path, passphrase: &str) -> Result<SigningKey, KeyError> {
    let (mut seed, mut salt, mut iv) = (Zeroizing::new([0; 32]), [0; 16], [0; 16]);
    for random in [seed.as_mut_slice(), &mut salt, &mut iv] {
        getrandom::fill(random).map_err(KeyError::Random)?;
    }
    let text = encrypt(&seed, passphrase, &salt, &iv).map_err(|cause| KeyError::File {
        what: "encrypt",
        path: path.into(),
        cause: std::io::Error::other(cause),
    })?;
    write_private(path, text.as_bytes()).map_err(failed("write", path))?;
    Ok(SigningKey::generate(*seed))
}

fn encrypt(
    seed: &[u8; 32],
    passphrase: &str,
    salt: &[u8; 16],
    iv: &[u8; 16],
) -> Result<Zeroizing<String>, pkcs8::Error> {
    let plain = ed25519_dalek::SigningKey::from_bytes(seed).to_pkcs8_der()?;
    let (log_n, r, p) = SCRYPT;
    let cost = scrypt::Params::new(log_n, r, p, AES_KEY_BYTES)
        .map_err(|_| pkcs8::Error::ParametersMalformed)?;
    let how = pbes2::Parameters::scrypt_aes256cbc(cost, salt, iv)?;
    let mut info = PrivateKeyInfo::try_from(plain.as_bytes())?;
    // With the public key beside the secret one it would be of a version that OpenSSL 3.0 does not read.
    info.public_key = None;
    let encrypted = info.encrypt_with_params(how, passphrase)?;
    Ok(encrypted.to_pem(LABEL, LineEnding::LF)?)
}

/// Reads a key that only its owner can read, and that `passphrase` opens.
///
/// # Errors
/// See [`KeyError`].
pub fn unlock(path: &Path, passphrase: &str) -> Result<SigningKey, KeyError> {
    let text = text(path)?;
    let format = || KeyError::Format(path.into());
    let (label, der) = pkcs8::Document::from_pem(&text).map_err(|_| format())?;
    if label != LABEL {
        return Err(format());
    }
    let encrypted = EncryptedPrivateKeyInfo::try_from(der.as_bytes()).map_err(|_| format())?;
    let plain = encrypted
        .decrypt(passphrase)
        .map_err(|_| KeyError::Passphrase(path.into()))?;
    let key = ed25519_dalek::SigningKey::from_pkcs8_der(plain.as_bytes()).map_err(|_| format())?;
    Ok(SigningKey::generate(key.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::keys;

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-1.key");
        let key = create_encrypted(&path, "a passphrase").unwrap();
        assert!(matches!(keys::read(&path), Err(KeyError::Encrypted(_))));
        assert!(matches!(
            unlock(&path, "another"),
            Err(KeyError::Passphrase(_))
        ));
        let opened = unlock(&path, "a passphrase").unwrap();
        assert_eq!(opened.public(), key.public());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode(key.seed())));
    }

    #[test]
    fn openssl_reads_what_is_written_here_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| {
            let done = Command::new("openssl")
                .args(args)
                .current_dir(&dir)
                .output();
            let done = done.expect("openssl runs");
            assert!(done.status.success(), "{done:?}");
            done.stdout
        };
        let ours = create_encrypted(&dir.path().join("ours"), "p 1").unwrap();
        let der = openssl(&[
            "pkey", "-in", "ours", "-passin", "pass:p 1", "-pubout", "-outform", "DER",
        ]);
        let public = ours.public().keyval.public.unwrap();
        assert!(hex::encode(der).ends_with(&public));
        for more in [&["-scrypt"][..], &["-v2", "aes-256-cbc"]] {
            openssl(&["genpkey", "-algorithm", "ed25519", "-out", "plain"]);
            let to = [
                "pkcs8", "-topk8", "-in", "plain", "-out", "theirs", "-passout", "pass:p 2",
            ];
            openssl(&[&to, more].concat());
            let der = openssl(&["pkey", "-in", "plain", "-pubout", "-outform", "DER"]);
            let path = dir.path().join("theirs");
            let public = unlock(&path, "p 2")
                .unwrap()
                .public()
                .keyval
                .public
                .unwrap();
            assert!(hex::encode(der).ends_with(&public), "{more:?}");
        }
    }

    #[test]
    fn a_damaged_key_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in [
            "",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ] {
            let _ = std::fs::remove_file(&path);
            write_private(&path, text.as_bytes()).unwrap();
            assert!(
                matches!(unlock(&path, "p"), Err(KeyError::Format(_))),
                "{text:?}"
            );
        }
    }
}
