//! Asking for a plan: a fresh nonce, the catalogue's metadata, and the verified chain.

use std::collections::BTreeMap;
use std::time::Instant;

use towline_contract::api::{self, PlanRequest};
use towline_contract::limits::PLAN_BYTES_MAX;
use towline_contract::stamp::Settings;
use towline_contract::trust::{
    Asked, Chain, Credentials, ExpiryPolicy, FreshNonce, HOSTS_ROLE, SignedView, TIMESTAMP_FILE,
    TrustedRoot, Verified, is_host_id,
};
use towline_contract::{Secret, Timestamp};
use zeroize::Zeroizing;

use super::patience::Pauses;
use super::recovery::{Proof, exchange};
use super::{Client, Connection, FetchError, Server, TlsTime};
use crate::progress::Progress;

/// Times that all servers are asked before the person is.
const ROUNDS_MAX: u32 = 3;

/// What a machine asks for, but for the nonce.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The request; its nonce is replaced by a fresh one for each attempt.
    pub request: PlanRequest,
    /// No earlier time is believed: when the medium was built or stamped.
    pub floor: Timestamp,
    /// Versions of documents that the medium knows: no older ones are believed.
    pub versions: BTreeMap<String, u64>,
    /// What to do about metadata that is past its date.
    pub expiry: ExpiryPolicy,
}

impl Ask {
    /// What a plan must be the answer to.
    fn asked(&self) -> Asked<'_> {
        Asked {
            host: self.request.host.as_deref(),
            architecture: &self.request.architecture,
            floor: self.floor,
            versions: &self.versions,
            expiry: self.expiry,
        }
    }
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
    /// The credentials that came with it.
    pub credentials: Option<Credentials>,
    /// The token for reports that is in them.
    pub report_token: Option<Secret>,
    /// The stored bytes of its host layer, if they came with it: not verified, wiped when dropped.
    pub host_layer: Option<Zeroizing<Vec<u8>>>,
}

/// Asks the servers in turn until one gives a plan that verifies; asks them all again, after a pause, while that may help.
///
/// # Errors
/// When none does: the failure that leaves most to decide, of the last round; all are reported on the way.
pub async fn plan(
    settings: &Settings,
    ask: &Ask,
    progress: &dyn Progress,
) -> Result<Planned, FetchError> {
    let client = Client::new(&settings.ca, TlsTime::Unproven)?;
    plan_with(&client, settings, ask, progress).await
}

/// The same with a client of the caller's, whose connections need not know the time.
///
/// # Errors
/// As [`plan`].
pub async fn plan_with(
    client: &Client,
    settings: &Settings,
    ask: &Ask,
    progress: &dyn Progress,
) -> Result<Planned, FetchError> {
    let root = settings.root.as_deref().ok_or(FetchError::NoRoot)?;
    let mut pauses = Pauses::new(client.patience());
    let mut round = 1;
    loop {
        let mut worst: Option<FetchError> = None;
        let mut may_pass = false;
        for url in &settings.servers {
            let asked = async { settled(client, &Server::parse(url)?, root, ask, progress).await };
            let error = match asked.await {
                Ok(planned) => return Ok(planned),
                Err(error) => error,
            };
            progress.warn(format_args!("{}", chain(&error)));
            may_pass |= !error.is_final();
            if worst.as_ref().is_none_or(|it| it.weight() < error.weight()) {
                worst = Some(error);
            }
        }
        let worst = worst.unwrap_or(FetchError::NoServer);
        // An untrusted or refused answer is for a person to see at once, whatever the other servers might say later.
        if round == ROUNDS_MAX || !may_pass || worst.is_final() {
            return Err(worst);
        }
        round += 1;
        pauses.rest().await;
    }
}

/// Asks once more when the catalogue changed between the plan and the metadata.
async fn settled(
    client: &Client,
    server: &Server,
    root: &str,
    ask: &Ask,
    progress: &dyn Progress,
) -> Result<Planned, FetchError> {
    progress.step(format_args!("asking {server} for a plan"));
    match from(client, server, root, ask, None).await {
        Err(error) if error.is_between_versions() => {
            progress.note(format_args!(
                "asking {server} again, for its catalogue may have just changed: {}",
                chain(&error)
            ));
            from(client, server, root, ask, None).await
        }
        planned => planned,
    }
    .inspect(|planned| {
        for expired in &planned.chain.expired {
            progress.warn(format_args!("{expired}; accepted all the same"));
        }
    })
}

/// One request to one server, and all that verifies its answer.
pub(super) async fn from(
    client: &Client,
    server: &Server,
    root: &str,
    ask: &Ask,
    proof: Option<Proof<'_>>,
) -> Result<Planned, FetchError> {
    let mut connection = client.connect(server).await?;
    let (request, nonce) = fresh(&ask.request)?;
    let asked = Instant::now();
    let answer = match proof {
        None => {
            let json = serde_json::to_vec(&request).unwrap_or_default();
            let plan = connection.post(api::PLAN_PATH, json, PLAN_BYTES_MAX);
            Answer::public(plan.await?)
        }
        Some(proof) => exchange(&mut connection, proof, request).await?,
    };
    let since = Instant::now();
    // A machine that named a host recovers that one or none.
    let host = ask.request.host.as_deref().or(answer.host.as_deref());
    let view = view(&mut connection, root, &answer.plan, host).await?;
    let wanted = Asked {
        host,
        ..ask.asked()
    };
    let chain = view
        .plan(&answer.plan, nonce, &wanted)
        .map_err(|cause| FetchError::untrusted(server, cause))?;
    let credentials = chain
        .credentials(answer.credentials)
        .map_err(|cause| FetchError::untrusted(server, cause))?;
    let plan = &chain.plan;
    let life = plan.expires.duration_since(plan.time).unsigned_abs();
    // It was made after it was asked for: held back for longer than it lives, its time is of no use.
    if asked.elapsed() >= life {
        return Err(FetchError::slow(server, api::PLAN_PATH, life));
    }
    let time = TlsTime::Proven {
        time: chain.time(),
        since,
    };
    Ok(Planned {
        chain,
        client: client.at(time)?,
        server: server.clone(),
        time,
        report_token: credentials.as_ref().and_then(Credentials::report_token),
        credentials,
        host_layer: answer.host_layer,
    })
}

/// What a server answered; nothing of it is verified.
pub(super) struct Answer {
    pub(super) plan: Vec<u8>,
    pub(super) credentials: Option<Zeroizing<Vec<u8>>>,
    pub(super) host: Option<String>,
    pub(super) host_layer: Option<Zeroizing<Vec<u8>>>,
}

impl Answer {
    fn public(plan: Vec<u8>) -> Self {
        Self {
            plan,
            credentials: None,
            host: None,
            host_layer: None,
        }
    }
}

/// The request with a nonce that no answer has ever had.
fn fresh(request: &PlanRequest) -> Result<(PlanRequest, FreshNonce), FetchError> {
    let nonce = FreshNonce::new(*random()?);
    let request = PlanRequest {
        nonce: nonce.to_send(),
        ..request.clone()
    };
    Ok((request, nonce))
}

/// 32 random bytes of the kernel's.
pub(super) fn random() -> Result<Zeroizing<[u8; 32]>, FetchError> {
    let mut random = Zeroizing::new([0; 32]);
    rustix::rand::getrandom(random.as_mut_slice(), rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| FetchError::Random(errno.into()))?;
    Ok(random)
}

/// The catalogue's metadata, from the stamped root on, with the roles that sign what `plan` asks for, and the sessions of
/// `host`.
async fn view(
    connection: &mut Connection,
    root: &str,
    plan: &[u8],
    host: Option<&str>,
) -> Result<SignedView, FetchError> {
    let server = connection.server().clone();
    let trust = |cause| FetchError::untrusted(&server, cause);
    let host = host.filter(|it| is_host_id(it));
    let path_of = |file: &str| api::view_path(host, file);
    let mut root = TrustedRoot::from_stamp(root.as_bytes()).map_err(trust)?;
    loop {
        let path = path_of(&root.next_file());
        match connection.find(&path, root.max_bytes()).await? {
            Some(bytes) => root = root.rotate(&bytes).map_err(trust)?,
            None => break,
        }
    }
    let path = path_of(TIMESTAMP_FILE);
    let bytes = connection.get(&path, root.timestamp_max_bytes()).await?;
    let timestamp = root.timestamp(&bytes).map_err(trust)?;
    let path = path_of(&timestamp.next_file());
    let bytes = connection.get(&path, timestamp.max_bytes()).await?;
    let snapshot = timestamp.snapshot(&bytes).map_err(trust)?;
    let path = path_of(&snapshot.next_file());
    let bytes = connection.get(&path, snapshot.max_bytes()).await?;
    let mut view = snapshot.targets(&bytes).map_err(trust)?;
    let registrar = host.and_then(|_| view.role_file(HOSTS_ROLE));
    for file in view.files_for(plan).into_iter().chain(registrar) {
        let path = path_of(&file.file());
        let bytes = connection.get(&path, file.max_bytes).await?;
        view = view.with_role(&file.role, &bytes).map_err(trust)?;
    }
    let Some((host, (file, max))) = host.and_then(|host| Some((host, view.host_file(host)?)))
    else {
        return Ok(view);
    };
    let bytes = connection.get(&path_of(&file), max).await?;
    view.with_host(host, &bytes).map_err(trust)
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
