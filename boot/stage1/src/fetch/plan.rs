//! Asking for a plan: a fresh nonce, the catalogue's metadata, and the verified chain.

use std::time::Instant;

use towline_contract::Timestamp;
use towline_contract::api::{self, PlanRequest};
use towline_contract::limits::PLAN_BYTES_MAX;
use towline_contract::stamp::Settings;
use towline_contract::trust::{
    Chain, ExpiryPolicy, FreshNonce, SignedView, TIMESTAMP_FILE, TrustError, TrustedRoot, Verified,
};

use super::{Client, Connection, FetchError, Server, TlsTime};
use crate::progress::Progress;

/// What a machine asks for, but for the nonce.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The request; its nonce is replaced by a fresh one for each attempt.
    pub request: PlanRequest,
    /// No earlier time is believed: when the medium was built or stamped.
    pub floor: Timestamp,
    /// What to do about metadata that is past its date.
    pub expiry: ExpiryPolicy,
}

/// A verified plan, and what came with it.
pub struct Planned {
    /// What to boot.
    pub chain: Verified<Chain>,
    /// A client that checks certificates at the plan's time.
    pub client: Client,
    /// The server that answered.
    pub server: Server,
    /// The plan's time, and since when.
    pub time: TlsTime,
}

/// Asks the servers in turn until one gives a plan that verifies.
///
/// # Errors
/// The first server's failure when none does; the others' are reported on the way.
pub async fn plan(
    settings: &Settings,
    ask: &Ask,
    progress: &dyn Progress,
) -> Result<Planned, FetchError> {
    let root = settings.root.as_deref().ok_or(FetchError::NoRoot)?;
    let client = Client::new(&settings.ca, TlsTime::Unproven)?;
    let mut first = None;
    for url in &settings.servers {
        match Server::parse(url) {
            Err(error) => first = first.or(Some(error)),
            Ok(server) => match from(&client, &server, root, ask, progress).await {
                Ok(planned) => return Ok(planned),
                Err(error) => {
                    progress.warn(format_args!("{}", chain(&error)));
                    first = first.or(Some(error));
                }
            },
        }
    }
    Err(first.unwrap_or(FetchError::NoServer))
}

async fn from(
    client: &Client,
    server: &Server,
    root: &str,
    ask: &Ask,
    progress: &dyn Progress,
) -> Result<Planned, FetchError> {
    progress.step(format_args!("asking {server} for a plan"));
    let mut connection = client.connect(server).await?;
    let (request, nonce) = fresh(&ask.request)?;
    let answer = connection
        .post(api::PLAN_PATH, request, PLAN_BYTES_MAX)
        .await?;
    let view = view(&mut connection, root).await?;
    let trust = |cause| untrusted(server, cause);
    let chain = view
        .plan(&answer, nonce, ask.floor, ask.expiry)
        .map_err(trust)?;
    let time = TlsTime::Proven {
        time: chain.time(),
        since: Instant::now(),
    };
    for expired in &chain.expired {
        progress.warn(format_args!("{expired}; accepted all the same"));
    }
    Ok(Planned {
        chain,
        client: client.at(time)?,
        server: server.clone(),
        time,
    })
}

/// The request with a nonce that no answer has ever had.
fn fresh(request: &PlanRequest) -> Result<(Vec<u8>, FreshNonce), FetchError> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| FetchError::Random(errno.into()))?;
    let nonce = FreshNonce::new(random);
    let request = PlanRequest {
        nonce: nonce.to_send(),
        ..request.clone()
    };
    Ok((serde_json::to_vec(&request).unwrap_or_default(), nonce))
}

/// The catalogue's metadata, from the stamped root on.
async fn view(connection: &mut Connection, root: &str) -> Result<SignedView, FetchError> {
    let server = connection.server().clone();
    let trust = |cause| untrusted(&server, cause);
    let mut root = TrustedRoot::from_stamp(root.as_bytes()).map_err(trust)?;
    while let Some(bytes) = connection
        .find(&api::metadata_path(&root.next_file()), root.max_bytes())
        .await?
    {
        root = root.rotate(&bytes).map_err(trust)?;
    }
    let bytes = connection
        .get(
            &api::metadata_path(TIMESTAMP_FILE),
            root.timestamp_max_bytes(),
        )
        .await?;
    let timestamp = root.timestamp(&bytes).map_err(trust)?;
    let bytes = connection
        .get(
            &api::metadata_path(&timestamp.next_file()),
            timestamp.max_bytes(),
        )
        .await?;
    let snapshot = timestamp.snapshot(&bytes).map_err(trust)?;
    let bytes = connection
        .get(
            &api::metadata_path(&snapshot.next_file()),
            snapshot.max_bytes(),
        )
        .await?;
    snapshot.targets(&bytes).map_err(trust)
}

fn untrusted(server: &Server, cause: TrustError) -> FetchError {
    FetchError::Trust {
        server: server.to_string(),
        cause: Box::new(cause),
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
