//! Keys of other kinds than Towline makes, made and used by OpenSSL: ECDSA on P-256, as TPMs and HSMs have, and RSA.

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
    /// Options for signing.
    sign: Vec<&'static str>,
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
    /// An ECDSA key.
    fn new(curve: &str) -> Self {
        let option = format!("ec_paramgen_curve:{curve}");
        Self::made(["ecdsa", "ecdsa-sha2-nistp256"], "EC", &option, &[])
    }

    /// An RSA key of this many bits, that signs with these options.
    fn rsa(bits: u32, options: &[&'static str]) -> Self {
        let size = format!("rsa_keygen_bits:{bits}");
        Self::made(["rsa", "rsassa-pss-sha256"], "RSA", &size, options)
    }

    fn made(
        [keytype, scheme]: [&str; 2],
        algorithm: &str,
        option: &str,
        sign: &[&'static str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let make = [
            "genpkey",
            "-quiet",
            "-algorithm",
            algorithm,
            "-pkeyopt",
            option,
            "-out",
            "key.pem",
        ];
        openssl(&make, folder.path(), b"");
        let pem = openssl(&["pkey", "-in", "key.pem", "-pubout"], folder.path(), b"");
        let object = serde_json::json!({
            "keytype": keytype,
            "scheme": scheme,
            "keyval": { "public": String::from_utf8(pem).expect("PEM") },
        });
        let public = serde_json::from_value(object).expect("a key object");
        let sign = sign.to_vec();
        Self {
            folder,
            public,
            sign,
        }
    }

    fn sign(&self, message: &[u8]) -> String {
        fs::write(self.folder.path().join("message"), message).expect("message");
        let mut sign = vec!["dgst", "-sha256", "-sign", "key.pem"];
        sign.extend(&self.sign);
        sign.push("message");
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

/// RSA-PSS as TUF has it: a salt as long as the hash.
const PSS: [&str; 4] = [
    "-sigopt",
    "rsa_padding_mode:pss",
    "-sigopt",
    "rsa_pss_saltlen:digest",
];

#[test]
#[cfg(feature = "rsa")]
fn an_rsa_pss_signature_by_openssl_is_taken() {
    targets_signed_by(&Token::rsa(2048, &PSS), |message| message).unwrap();
}

#[test]
#[cfg(feature = "rsa")]
fn a_short_rsa_key_another_padding_or_another_message_is_refused() {
    for (token, more) in [
        (Token::rsa(1024, &PSS), &b""[..]),
        (Token::rsa(2048, &[]), b""),
        (Token::rsa(2048, &PSS), b" "),
    ] {
        let found = targets_signed_by(&token, |message| [&message, more].concat());
        assert!(
            matches!(found, Err(TrustError::Signatures { .. })),
            "{found:?}"
        );
    }
}

#[test]
#[cfg(feature = "rsa")]
fn what_is_no_rsa_key_can_verify_nothing() {
    let mut key = Token::rsa(2048, &PSS).public;
    assert!(key.can_verify());
    let ecdsa = Token::new("P-256").public.keyval;
    let whole = std::mem::replace(&mut key.keyval, ecdsa);
    assert!(!key.can_verify(), "a key of another kind");
    key.keyval = whole;
    key.scheme = "rsa-pkcs1v15-sha256".into();
    assert!(!key.can_verify(), "another scheme");
}

#[test]
#[cfg(not(feature = "rsa"))]
fn an_rsa_key_signs_nothing_and_no_host_has_one() {
    let token = Token::rsa(2048, &PSS);
    assert!(!token.public.can_verify());
    let found = targets_signed_by(&token, |message| message);
    assert!(
        matches!(found, Err(TrustError::Signatures { .. })),
        "{found:?}"
    );
}

#[test]
fn a_signature_that_was_made_elsewhere_is_taken_only_if_it_is_the_keys() {
    let site = Site::new();
    let [token, other] = [(); 2].map(|()| Token::new("P-256"));
    let mut envelope = Envelope::unsigned(&site.targets).unwrap();
    let message = envelope.message().unwrap();
    assert_eq!(
        message,
        canonical_json(&serde_json::to_value(&site.targets).unwrap()).unwrap()
    );
    let strangers = hex::decode(other.sign(&message)).unwrap();
    let of_another = hex::decode(token.sign(b"{}")).unwrap();
    for refused in [strangers, of_another, Vec::new()] {
        assert!(envelope.take_signature(&token.public, &refused).is_err());
        assert!(envelope.signatures.is_empty());
    }
    let own = hex::decode(token.sign(&message)).unwrap();
    envelope.take_signature(&token.public, &own).unwrap();
    // Another one by the same key takes its place: it is one signer.
    let again = hex::decode(token.sign(&message)).unwrap();
    envelope.take_signature(&token.public, &again).unwrap();
    let keys = [token.public.clone(), other.public.clone()];
    envelope.require_signers("it", &keys, 1).unwrap();
    let found = envelope.require_signers("it", &keys, 2).unwrap_err();
    assert!(
        matches!(&found, TrustError::Signatures { valid: 1, missing, .. } if *missing == [other.public.id().short()]),
        "{found:?}"
    );
    let twice = [token.public.clone(), token.public.clone()];
    assert!(envelope.require_signers("it", &twice, 2).is_err());
    assert!(envelope.require_signers("it", &[], 0).is_err());
}
