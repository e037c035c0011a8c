//! Keys of TPMs and HSMs: ECDSA on P-256, made and used by OpenSSL.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use towline_contract::trust::metadata::RoleName;
use towline_contract::trust::{Envelope, PublicKey, Signature, TrustError, canonical_json, sign};

use crate::site::{Site, key};

/// A key that OpenSSL made, as a TUF key object.
struct Token {
    folder: tempfile::TempDir,
    public: PublicKey,
}

fn openssl(arguments: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(input)
        .expect("input");
    let output = child.wait_with_output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

impl Token {
    fn new(curve: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let option = format!("ec_paramgen_curve:{curve}");
        let make = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            &option,
            "-out",
            "key.pem",
        ];
        openssl(&make, folder.path(), b"");
        let pem = openssl(&["pkey", "-in", "key.pem", "-pubout"], folder.path(), b"");
        let object = serde_json::json!({
            "keytype": "ecdsa",
            "scheme": "ecdsa-sha2-nistp256",
            "keyval": { "public": String::from_utf8(pem).expect("PEM") },
        });
        let public = serde_json::from_value(object).expect("a key object");
        Self { folder, public }
    }

    fn sign(&self, message: &[u8]) -> String {
        fs::write(self.folder.path().join("message"), message).expect("message");
        let sign = ["dgst", "-sha256", "-sign", "key.pem", "message"];
        hex::encode(openssl(&sign, self.folder.path(), b""))
    }
}

/// The site's root with `token` as the one key of the targets role, and its targets signed by it over `message(targets)`.
fn targets_signed_by(
    token: &Token,
    message: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<(), TrustError> {
    let mut site = Site::new();
    site.root
        .set_role(RoleName::Targets, std::slice::from_ref(&token.public), 1);
    let root = sign(&site.root, &[&key(1), &key(2)]).unwrap();
    let signed = serde_json::to_value(&site.targets).unwrap();
    let envelope = Envelope {
        signatures: vec![Signature {
            keyid: token.public.id(),
            sig: token.sign(&message(canonical_json(&signed).unwrap())),
        }],
        signed,
    };
    let root = towline_contract::trust::TrustedRoot::from_stamp(&root)?;
    root.targets_to_publish(&envelope.to_bytes()).map(drop)
}

#[test]
fn a_signature_by_openssl_is_taken() {
    targets_signed_by(&Token::new("P-256"), |message| message).unwrap();
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let found = targets_signed_by(&Token::new("P-256"), |mut message| {
        message.push(b' ');
        message
    });
    assert!(
        matches!(found, Err(TrustError::Signatures { .. })),
        "{found:?}"
    );
}

#[test]
fn a_key_on_another_curve_verifies_nothing() {
    let found = targets_signed_by(&Token::new("P-384"), |message| message);
    assert!(
        matches!(found, Err(TrustError::Signatures { .. })),
        "{found:?}"
    );
}

#[test]
fn one_key_under_two_identifiers_counts_once() {
    let token = Token::new("P-256");
    let mut twin = token.public.clone();
    twin.unknown.insert("note".into(), "a twin".into());
    let mut site = Site::new();
    site.root
        .set_role(RoleName::Targets, &[token.public.clone(), twin.clone()], 2);
    let root = sign(&site.root, &[&key(1), &key(2)]).unwrap();
    let signed = serde_json::to_value(&site.targets).unwrap();
    let message = canonical_json(&signed).unwrap();
    let by = |public: &PublicKey| Signature {
        keyid: public.id(),
        sig: token.sign(&message),
    };
    let envelope = Envelope {
        signatures: vec![by(&token.public), by(&twin)],
        signed,
    };
    let root = towline_contract::trust::TrustedRoot::from_stamp(&root).unwrap();
    let found = root.targets_to_publish(&envelope.to_bytes());
    assert!(
        matches!(found, Err(TrustError::Signatures { .. })),
        "{found:?}"
    );
}
