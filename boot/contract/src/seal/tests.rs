//! RFC 9180's own numbers, and what must not open.

use proptest::prelude::*;

use super::*;

fn random(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, base mode.
mod rfc {
    pub(super) const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
    pub(super) const SENDERS_RANDOM: &str =
        "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b";
    pub(super) const RECIPIENTS_RANDOM: &str =
        "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df";
    pub(super) const RECIPIENT: &str =
        "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
    pub(super) const ENCAPSULATED: &str =
        "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
    pub(super) const AAD: &str = "436f756e742d30";
    pub(super) const MESSAGE: &str = "4265617574792069732074727574682c20747275746820626561757479";
    pub(super) const SEALED: &str = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
}

#[test]
fn what_is_sealed_is_what_rfc_9180_says_byte_for_byte() {
    let key = SealKey::generate(&Zeroizing::new(bytes(rfc::RECIPIENTS_RANDOM)));
    assert_eq!(key.public().0, bytes::<32>(rfc::RECIPIENT));
    let hex = |text| hex::decode(text).unwrap();
    let (info, aad, message) = (hex(rfc::INFO), hex(rfc::AAD), hex(rfc::MESSAGE));
    let random = Zeroizing::new(bytes(rfc::SENDERS_RANDOM));
    let sealed = key
        .public()
        .seal_with(&info, &aad, &message, random)
        .unwrap();
    let expected = [MAGIC.as_slice(), &hex(rfc::ENCAPSULATED), &hex(rfc::SEALED)].concat();
    assert_eq!(sealed, expected);
    let opened = key.open_with(&info, &aad, &sealed).unwrap();
    assert_eq!(*opened, message);
}

#[test]
fn the_example_in_the_documentation_is_what_is_sealed() {
    let document = include_str!("../../../../docs/formats/seal.md");
    let key = SealKey::generate(&random(1));
    let request = key
        .public()
        .seal(Sealed::RecoveryRequest, b"code", random(2));
    let request = request.unwrap();
    let answer = Sealed::RecoveryAnswer(Digest::of(&request));
    let machine = SealKey::generate(&random(3));
    let answer = machine.public().seal(answer, b"plan", random(4)).unwrap();
    for shown in [
        key.public().0.to_vec(),
        request,
        machine.public().0.to_vec(),
        answer,
    ] {
        let hex = hex::encode(shown);
        assert!(document.contains(&hex), "{hex}");
    }
}

#[test]
fn what_is_sealed_to_one_key_for_one_purpose_opens_by_no_other() {
    let (server, other) = (SealKey::generate(&random(1)), SealKey::generate(&random(2)));
    let [one, two] = [b"one", b"two"].map(|it| Sealed::RecoveryAnswer(Digest::of(it)));
    for sealed_as in [Sealed::RecoveryRequest, one, two] {
        let sealed = server.public().seal(sealed_as, b"code", random(3)).unwrap();
        assert_eq!(other.open(sealed_as, &sealed), Err(SealError::Closed));
        for opened_as in [Sealed::RecoveryRequest, one, two] {
            let opened = server.open(opened_as, &sealed).map(|it| it.to_vec());
            let expected = match opened_as == sealed_as {
                true => Ok(b"code".to_vec()),
                false => Err(SealError::Closed),
            };
            assert_eq!(opened, expected, "{sealed_as:?} as {opened_as:?}");
        }
    }
}

#[test]
fn a_key_of_small_order_is_not_sealed_to() {
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        let sealed = SealTo(weak).seal(Sealed::RecoveryRequest, b"code", random(3));
        assert_eq!(sealed, Err(SealError::Key));
        // Nor is one believed that a message brings.
        let message = [MAGIC.as_slice(), &weak, &[7; 20]].concat();
        let opened = SealKey::generate(&random(1)).open(Sealed::RecoveryRequest, &message);
        assert_eq!(opened, Err(SealError::Closed));
    }
}

#[test]
fn a_key_shows_nothing_of_its_secret_and_is_wiped() {
    let key = SealKey::generate(&random(1));
    assert_eq!(format!("{key:?}"), "SealKey(…)");
    // What X25519 and the cipher leave behind; without x25519-dalek's own feature it would be nothing that is dropped.
    assert!(std::mem::needs_drop::<SealKey>());
    assert!(std::mem::needs_drop::<x25519_dalek::SharedSecret>());
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<chacha20poly1305::ChaCha20Poly1305>();
}

#[test]
fn a_public_key_is_64_hex_digits_and_nothing_else() {
    let key = SealKey::generate(&random(1)).public();
    let text = serde_json::to_string(&key).unwrap();
    assert_eq!(text.len(), 66);
    assert_eq!(serde_json::from_str::<SealTo>(&text).unwrap(), key);
    for wrong in [
        "\"\"",
        "\"00\"",
        &text.replace('"', "\"00"),
        &format!("\"{}\"", "zz".repeat(32)),
    ] {
        assert!(serde_json::from_str::<SealTo>(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_message_comes_back_and_with_any_byte_changed_it_does_not_open(
        message in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let key = SealKey::generate(&random(1));
        let mut sealed = key.public().seal(Sealed::RecoveryRequest, &message, random(2)).unwrap();
        prop_assert_eq!(sealed.len(), message.len() + SEALED_EXTRA_BYTES);
        prop_assert_eq!(&*key.open(Sealed::RecoveryRequest, &sealed).unwrap(), &message);
        // X25519 passes over the highest bit of a key (RFC 7748, section 5), but HPKE's key schedule does not.
        let index = at.index(sealed.len());
        sealed[index] ^= 1_u8 << bit;
        prop_assert!(key.open(Sealed::RecoveryRequest, &sealed).is_err());
    }

    #[test]
    fn any_bytes_are_opened_or_refused_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool) {
        if magic {
            bytes.splice(0..0, *MAGIC);
        }
        prop_assert!(SealKey::generate(&random(1)).open(Sealed::RecoveryRequest, &bytes).is_err());
    }
}
