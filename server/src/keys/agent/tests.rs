use std::os::unix::net::UnixListener;

use ssh_key::public::Ed25519PublicKey;
use towline_contract::trust::SigningKey;

use super::*;

/// An agent that says these things, one a connection, whatever it is asked.
fn agent(says: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for answer in says {
            let (mut asked, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            asked.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            asked.read_exact(&mut request).unwrap();
            // Who has heard enough may be gone.
            let _ = asked.write_all(&answer);
        }
    });
    (folder, socket)
}

fn framed(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = [&[kind][..], &parts.concat()].concat();
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn blob(key: &SigningKey) -> Vec<u8> {
    let public = hex::decode(key.public().keyval.public.unwrap()).unwrap();
    let public = Ed25519PublicKey(public.try_into().unwrap());
    ssh_key::PublicKey::from(public).to_bytes().unwrap()
}

/// The list of one key, called `it`.
fn lists(key: &SigningKey) -> Vec<u8> {
    let (blob, comment) = (string(&blob(key)), string(b"it"));
    framed(IDENTITIES_ANSWER, &[&1_u32.to_be_bytes(), &blob, &comment])
}

fn document() -> Envelope {
    Envelope::unsigned(&serde_json::json!({ "_type": "root" })).unwrap()
}

/// A signature by this key, as an agent gives it.
fn signature(key: &SigningKey) -> Vec<u8> {
    let mut envelope = document();
    envelope.add_signature(key).unwrap();
    let signature = hex::decode(&envelope.signatures[0].sig).unwrap();
    let inner = [string(b"ssh-ed25519"), string(&signature)].concat();
    framed(SIGN_RESPONSE, &[&string(&inner)])
}

/// What comes of signing with an agent's key, when the agent gives this answer.
fn signed(answer: Vec<u8>) -> Result<usize, AgentError> {
    let key = SigningKey::generate([1; 32]);
    let (_folder, socket) = agent(vec![lists(&key), answer]);
    let found = AgentKey::find(&socket, "it").unwrap();
    assert_eq!(found.public(), key.public());
    let mut envelope = document();
    let done = found.sign(&mut envelope);
    done.map(|()| envelope.signatures.len())
}

#[test]
fn an_agents_signature_is_taken_and_another_keys_is_refused() {
    assert_eq!(
        signed(signature(&SigningKey::generate([1; 32]))).unwrap(),
        1
    );
    let others = signed(signature(&SigningKey::generate([2; 32])));
    assert!(matches!(others, Err(AgentError::Trust(_))), "{others:?}");
}

#[test]
fn an_agent_that_refuses_or_makes_no_sense_signs_nothing() {
    let failure = signed(framed(5, &[]));
    assert!(
        matches!(failure, Err(AgentError::Refused(_))),
        "{failure:?}"
    );
    let whole = signature(&SigningKey::generate([1; 32]));
    let mut longer = whole.clone();
    longer.push(0);
    longer[3] += 1;
    for answer in [
        framed(SIGN_RESPONSE, &[]),
        framed(SIGN_RESPONSE, &[b"\xff\xff\xff\xff"]),
        longer,
    ] {
        let found = signed(answer);
        assert!(matches!(found, Err(AgentError::Answer { .. })), "{found:?}");
    }
    let cut = signed(whole[..whole.len() - 1].to_vec());
    assert!(matches!(cut, Err(AgentError::Socket { .. })), "{cut:?}");
}

#[test]
fn an_agent_that_would_never_end_is_cut_off() {
    let endless = [&u32::MAX.to_be_bytes()[..], &[0; 64]].concat();
    let found = signed(endless.clone());
    assert!(matches!(found, Err(AgentError::Socket { .. })), "{found:?}");
    // And one that lists keys without end, or none of those that it promised.
    let promised = framed(IDENTITIES_ANSWER, &[&u32::MAX.to_be_bytes()]);
    for answer in [endless, promised, Vec::new()] {
        let (_folder, socket) = agent(vec![answer]);
        let found = AgentKey::find(&socket, "it");
        let refused = matches!(
            found,
            Err(AgentError::Socket { .. } | AgentError::Answer { .. })
        );
        assert!(refused, "{found:?}");
    }
}

#[test]
fn a_document_larger_than_an_agent_takes_is_refused_before_it_is_asked() {
    let key = SigningKey::generate([1; 32]);
    let (_folder, socket) = agent(vec![lists(&key)]);
    let found = AgentKey::find(&socket, "it").unwrap();
    let large = serde_json::json!({ "x": "x".repeat(MESSAGE_BYTES_MAX) });
    let mut envelope = Envelope::unsigned(&large).unwrap();
    let refused = found.sign(&mut envelope);
    assert!(
        matches!(refused, Err(AgentError::TooLarge { .. })),
        "{refused:?}"
    );
}
