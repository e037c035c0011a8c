//! Public halves of keys that are elsewhere, in the forms that people have them: what is kept here (64 hex digits), what
//! `ssh-keygen` writes, and what OpenSSL does (`SubjectPublicKeyInfo` in PEM). Ed25519, and ECDSA on P-256, which tokens have.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use pkcs8::der::Document;
use pkcs8::{LineEnding, SubjectPublicKeyInfoRef};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use towline_contract::trust::PublicKey;

use super::{KEY_BYTES_MAX, KeyError, failed, write_public_file};

/// A `SubjectPublicKeyInfo` of an Ed25519 key, but for the key (RFC 8410, section 4).
const ED25519_PREFIX: &[u8; 12] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// The same of an uncompressed point on P-256 (RFC 5480, sections 2.1.1 and 2.2).
const P256_PREFIX: &[u8; 26] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// What a PEM of it is labelled with (RFC 7468, section 13).
const LABEL: &str = "PUBLIC KEY";

/// Reads the public half in `path`.
///
/// # Errors
/// It cannot be read, or is no public key that machines believe.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text))
        .map_err(failed("read", path))?;
    parse(text.trim()).ok_or_else(|| KeyError::Public(path.into()))
}

/// Writes the public half to `path`, in place of what is there: nothing secret, and read again by [`read_public`].
///
/// # Errors
/// It cannot be written.
pub fn write_public(path: &Path, key: &PublicKey) -> Result<(), KeyError> {
    let text = key.keyval.public.as_deref().unwrap_or_default().trim_end();
    write_public_file(path, format!("{text}\n").as_bytes()).map_err(failed("write", path))
}

fn parse(text: &str) -> Option<PublicKey> {
    let mut bytes = [0; 32];
    let key = if hex::decode_to_slice(text, &mut bytes).is_ok() {
        PublicKey::ed25519(&bytes)
    } else if text.starts_with("-----") {
        of_pem(text)?
    } else {
        of_ssh(ssh_key::PublicKey::from_openssh(text).ok()?.key_data())?
    };
    key.can_verify().then_some(key)
}

fn of_pem(text: &str) -> Option<PublicKey> {
    let (label, document) = Document::from_pem(text).ok()?;
    let der = document.as_bytes();
    // The whole of it is well formed, and nothing follows.
    SubjectPublicKeyInfoRef::try_from(der).ok()?;
    match (label, der.strip_prefix(ED25519_PREFIX)) {
        (LABEL, Some(key)) => Some(PublicKey::ed25519(key.try_into().ok()?)),
        (LABEL, None) => p256(der.strip_prefix(P256_PREFIX)?),
        _ => None,
    }
}

/// The key of this form, if it is one that machines believe.
pub(super) fn of_ssh(key: &KeyData) -> Option<PublicKey> {
    match key {
        KeyData::Ed25519(key) => Some(PublicKey::ed25519(&key.0)),
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => p256(point.as_bytes()),
        _ => None,
    }
}

/// The key object of an uncompressed point on P-256, as securesystemslib makes it.
fn p256(point: &[u8]) -> Option<PublicKey> {
    let der = [P256_PREFIX, point].concat();
    let pem = Document::try_from(der).ok()?.to_pem(LABEL, LineEnding::LF);
    let key = PublicKey::ecdsa_p256(pem.ok()?);
    key.can_verify().then_some(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// The public half of a new key that OpenSSL makes, and of the same key as `ssh-keygen` writes it.
    fn of_others(dir: &Path, algorithm: &[&str]) -> [PublicKey; 2] {
        let run = |program: &str, arguments: &[&str]| {
            let done = Command::new(program)
                .args(arguments)
                .current_dir(dir)
                .output();
            let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
            assert!(done.status.success(), "{program}: {done:?}");
            done.stdout
        };
        run(
            "openssl",
            &[&["genpkey", "-out", "key"], algorithm].concat(),
        );
        let pem = run("openssl", &["pkey", "-in", "key", "-pubout"]);
        fs::write(dir.join("pem"), &pem).unwrap();
        let ssh = run("ssh-keygen", &["-i", "-m", "PKCS8", "-f", "pem"]);
        fs::write(dir.join("ssh"), ssh).unwrap();
        ["pem", "ssh"].map(|name| read_public(&dir.join(name)).unwrap())
    }

    #[test]
    fn a_public_half_is_the_same_key_in_every_form_that_people_have_it_in() {
        let dir = tempfile::tempdir().unwrap();
        let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let [pem, ssh] = of_others(dir.path(), &p256);
        assert_eq!(pem, ssh);
        assert_eq!(pem.keytype, "ecdsa");
        let kept = dir.path().join("kept.pub");
        write_public(&kept, &pem).unwrap();
        assert_eq!(read_public(&kept).unwrap().id(), pem.id());

        let key = crate::keys::create(&dir.path().join("ours.key")).unwrap();
        write_public(&kept, &key.public()).unwrap();
        assert_eq!(read_public(&kept).unwrap(), key.public());
        let mut ssh = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(
            hex::decode(key.public().keyval.public.unwrap())
                .unwrap()
                .try_into()
                .unwrap(),
        ));
        ssh.set_comment("somebody@somewhere");
        fs::write(&kept, ssh.to_openssh().unwrap()).unwrap();
        assert_eq!(read_public(&kept).unwrap(), key.public());
    }

    #[test]
    fn what_machines_would_not_believe_is_no_public_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pub");
        let p384 = Command::new("openssl")
            .args(["ecparam", "-name", "secp384r1", "-genkey", "-noout"])
            .output()
            .unwrap();
        let secret = String::from_utf8(p384.stdout).unwrap();
        let of_p384 = {
            fs::write(&path, &secret).unwrap();
            let done = Command::new("openssl")
                .args(["pkey", "-pubout", "-in"])
                .arg(&path)
                .output();
            String::from_utf8(done.unwrap().stdout).unwrap()
        };
        let not_a_point = "02".repeat(31);
        for text in ["", "ssh-ed25519 AAAA", &secret, &of_p384, &not_a_point] {
            fs::write(&path, text).unwrap();
            let found = read_public(&path);
            assert!(matches!(found, Err(KeyError::Public(_))), "{text}");
        }
    }
}
