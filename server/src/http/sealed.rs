//! The sealed ends of `POST /v1/recovery` (`docs/formats/seal.md`): what machines send opens by this server's key alone, and
//! what they are answered by theirs.

use hyper::StatusCode;
use towline_contract::Digest;
use towline_contract::api::{ErrorBody, HOST_LAYER_BYTES_MAX, RecoveryAnswer};
use towline_contract::seal::{SealError, SealTo, Sealed};
use zeroize::Zeroizing;

use super::answer::Fault;
use super::seal_keys::{Opened, SealKeys};
use crate::credentials::Made;
use crate::keys::KeyError;
use crate::recoveries::Chosen;
use crate::store::Store;

/// 32 fresh random bytes.
///
/// # Errors
/// The system has no random numbers.
pub(super) fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(KeyError::Random)?;
    Ok(random)
}

/// What a machine sealed to this server.
pub(super) fn open(keys: &SealKeys, body: &[u8]) -> Result<Opened, Fault> {
    keys.open(body).map_err(|error| {
        let (status, message, next) = match error {
            SealError::NotSealed => (
                StatusCode::FORBIDDEN,
                "recovery codes are taken sealed only, and what came is not: this medium is older than this server",
                "build and stamp the medium again, and open another recovery, for this code may be known to others",
            ),
            SealError::Key | SealError::Closed => (
                StatusCode::MISDIRECTED_REQUEST,
                "the recovery code is sealed to another key than this server's, which has new ones each time it starts, and after each answer",
                "try again with the same code",
            ),
        };
        let told = ErrorBody {
            message: message.into(),
            next: Some(next.into()),
        };
        Fault::refused(status, told)
    })
}

/// The host layer, if it comes with the plan. One that is too large, or that cannot be read now, is fetched like any other.
pub(super) fn host_layer(store: &Store, session: &Chosen) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = store.read(&store.layer_path(&session.digest), HOST_LAYER_BYTES_MAX);
    bytes.ok().flatten().map(Zeroizing::new)
}

/// The answer to `request`, as it came, for nobody but the machine that made it.
pub(super) fn answer(
    seal_to: SealTo,
    request: &[u8],
    plan: &[u8],
    made: &Made,
    host: String,
    host_layer: Option<&[u8]>,
) -> Result<Vec<u8>, Fault> {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes).into();
    let answer = RecoveryAnswer {
        plan: String::from_utf8_lossy(plan).into_owned(),
        credentials: Some(base64(&made.layer)),
        host: Some(host),
        host_layer: host_layer.map(base64),
    };
    // Room for all at once: what grows leaves copies behind. A plan's quotes take two bytes each.
    let base64_bytes = [&answer.credentials, &answer.host_layer];
    let base64_bytes: usize = base64_bytes.into_iter().flatten().map(|it| it.len()).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(2 * plan.len() + base64_bytes + 1024));
    serde_json::to_writer(&mut *json, &answer).map_err(|error| Fault::ours(&error))?;
    let what = Sealed::RecoveryAnswer(Digest::of(request));
    let random = random().map_err(|error| Fault::ours(&error))?;
    let weak = |error: SealError| Fault::theirs(StatusCode::BAD_REQUEST, error.to_string());
    seal_to.seal(what, &json, random).map_err(weak)
}
