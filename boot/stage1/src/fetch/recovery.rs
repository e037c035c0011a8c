//! A recovery code for the plan that recovers: sealed to the server, answered to a key that is made for it (`docs/formats/seal.md`).

use towline_contract::api::{self, PlanRequest, RecoveryAnswer, RecoveryRequest};
use towline_contract::recovery::{Code, Order};
use towline_contract::seal::{SealKey, SealTo, Sealed};
use towline_contract::stamp::Settings;
use towline_contract::{Digest, Secret};
use zeroize::Zeroizing;

use super::plan::{Answer, Ask, Planned, from, random};
use super::{Connection, FetchError};

/// What a server answers to a code that is sealed to a key it does not have: 421 Misdirected Request (RFC 9110, section 15.5.20).
const SEALED_TO_ANOTHER_KEY: u16 = 421;

/// Exchanges a recovery code for the plan that recovers, at the server that gave `planned`: sealed to the key that this plan
/// names, on a new connection, whose certificate is checked at the plan's time, dates included.
///
/// # Errors
/// The server refuses the code, names no key, has no recovery for this machine any more, or is reached by plain HTTP; and as [`super::plan::plan`].
pub async fn with_code(
    planned: &Planned,
    settings: &Settings,
    ask: &Ask,
    code: &Code,
) -> Result<Planned, FetchError> {
    let root = settings.root.as_deref().ok_or(FetchError::NoRoot)?;
    let (client, server) = (&planned.client, &planned.server);
    if !server.https() {
        return Err(FetchError::CodeInClear(server.to_string()));
    }
    let sealed = |planned: &Planned| {
        let seal_to = key_of(planned).ok_or_else(|| FetchError::NoKey(server.to_string()))?;
        Ok::<_, FetchError>(Proof { code, seal_to })
    };
    match from(client, server, root, ask, Some(sealed(planned)?)).await {
        // It has another key, since it was started again, or has answered this recovery: a new plan names it.
        Err(error) if error.is_between_versions() || is_misdirected(&error) => {
            let again = from(client, server, root, ask, None).await?;
            if !matches!(again.chain.plan.order, Some(Order::AskCode { .. })) {
                return Err(FetchError::NoRecovery(server.to_string()));
            }
            from(client, server, root, ask, Some(sealed(&again)?)).await
        }
        planned => planned,
    }
}

fn is_misdirected(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Status {
            status: SEALED_TO_ANOTHER_KEY,
            ..
        }
    )
}

/// The key that a code is sealed to.
fn key_of(planned: &Planned) -> Option<SealTo> {
    match &planned.chain.plan.order {
        Some(Order::AskCode { seal_to }) => *seal_to,
        _ => None,
    }
}

/// A code, and the key of the server that it is for.
#[derive(Clone, Copy)]
pub(super) struct Proof<'a> {
    code: &'a Code,
    seal_to: SealTo,
}

/// Sends the code, and opens the answer by a key that is made for it alone and gone afterwards.
pub(super) async fn exchange(
    connection: &mut Connection,
    proof: Proof<'_>,
    request: PlanRequest,
) -> Result<Answer, FetchError> {
    let key = SealKey::generate(&random()?);
    let request = RecoveryRequest {
        code: proof.code.to_string().into(),
        seal_to: key.public(),
        request,
    };
    let path = api::RECOVERY_PATH;
    let server = connection.server().to_string();
    let unreadable = |why: String| FetchError::Answer {
        server: server.clone(),
        path,
        why,
    };
    let json = Zeroizing::new(serde_json::to_vec(&request).unwrap_or_default());
    let sealed = proof
        .seal_to
        .seal(Sealed::RecoveryRequest, &json, random()?);
    let sealed = sealed.map_err(|error| unreadable(error.to_string()))?;
    let what = Sealed::RecoveryAnswer(Digest::of(&sealed));
    let answer = connection
        .post_sealed(path, sealed, api::RECOVERY_ANSWER_BYTES_MAX)
        .await?;
    let answer = key.open(what, &answer);
    let answer = answer.map_err(|error| unreadable(error.to_string()))?;
    // What cannot be read is not repeated: it may have secrets in it.
    let answer: RecoveryAnswer = serde_json::from_slice(&answer).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unreadable(format!(
            "it is no answer to a code at line {line}, column {column}"
        ))
    })?;
    let decode = |text: Option<Secret>| -> Result<_, FetchError> {
        let decoded = text.map(|it| data_encoding::BASE64.decode(it.as_bytes()));
        let decoded = decoded.transpose();
        let decoded = decoded.map_err(|error| unreadable(error.to_string()))?;
        Ok(decoded.map(Zeroizing::new))
    };
    Ok(Answer {
        plan: answer.plan.into_bytes(),
        credentials: decode(answer.credentials)?,
        host: answer.host,
        host_layer: decode(answer.host_layer)?,
    })
}
