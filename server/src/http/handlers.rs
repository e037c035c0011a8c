//! The API's handlers: look up, decide, reply.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use towline_contract::api::{EVENTS_PATH, PLAN_PATH, PlanRequest, REQUEST_BYTES_MAX};
use towline_contract::event::{EVENT_BYTES_MAX, Event};
use towline_contract::plan::TimestampRef;
use towline_contract::trust::{SigningKey, TIMESTAMP_FILE, sign};
use towline_contract::{Digest, Timestamp};

use super::answer::{Body, Fault, empty, json};
use super::files::{Asked, file};
use crate::catalogue::{self, CatalogueError, Published};
use crate::compose::{self, Moment};
use crate::events::{Line, Log};
use crate::keys;
use crate::site::{Site, SiteError};

/// What the handlers share.
pub struct State {
    pub(super) site: Site,
    pub(super) clock: fn() -> Timestamp,
    plan_key: SigningKey,
    events: Log,
    /// The catalogue as last read, with the timestamp it belongs to.
    current: Mutex<Option<Arc<Current>>>,
}

struct Current {
    timestamp: TimestampRef,
    layers: Vec<Published>,
}

impl State {
    /// Opens what the handlers need.
    ///
    /// # Errors
    /// The plan's key cannot be read.
    pub fn open(site: Site, clock: fn() -> Timestamp) -> Result<Self, SiteError> {
        let plan_key = keys::read(&site.key_path("plan"))?;
        let events = Log::new(site.events());
        Ok(Self {
            site,
            clock,
            plan_key,
            events,
            current: Mutex::new(None),
        })
    }

    /// The catalogue that `timestamp.json` names now; read again only when that changed.
    fn catalogue(&self) -> Result<Arc<Current>, CatalogueError> {
        let store = &self.site.store;
        let path = store.metadata_path(TIMESTAMP_FILE);
        let bytes = store
            .read(&path, towline_contract::limits::TIMESTAMP_BYTES_MAX)?
            .unwrap_or_default();
        let digest = Digest::of(&bytes);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current
            .as_ref()
            .filter(|current| current.timestamp.digest == digest)
        {
            return Ok(current.clone());
        }
        let view = catalogue::view(store)?;
        let timestamp = TimestampRef {
            version: view.timestamp_version(),
            digest: *view.timestamp_digest(),
        };
        let fresh = Arc::new(Current {
            timestamp,
            layers: catalogue::layers(store, &view)?,
        });
        *current = Some(fresh.clone());
        Ok(fresh)
    }
}

/// Answers one request.
pub(super) async fn answer(
    state: Arc<State>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = route(&state, peer, request).await.unwrap_or_else(|fault| {
        eprintln!(
            "serve: {peer}: {method} {}: {}",
            path.escape_debug(),
            fault.logged.escape_debug()
        );
        fault.into_response()
    });
    Ok(response)
}

async fn route(
    state: &Arc<State>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().to_owned();
    let (method, headers) = (request.method().clone(), request.headers().clone());
    match (path.as_str(), &method) {
        (PLAN_PATH, &Method::POST) => plan(state, peer, &body(request, REQUEST_BYTES_MAX).await?),
        (EVENTS_PATH, &Method::POST) => event(state, peer, &body(request, EVENT_BYTES_MAX).await?),
        (PLAN_PATH | EVENTS_PATH, _) => Err(wrong_method("POST")),
        (_, &Method::GET | &Method::HEAD) => stored(state, &path, &method, &headers),
        _ => Err(wrong_method("GET or HEAD")),
    }
}

fn wrong_method(allowed: &str) -> Fault {
    Fault::theirs(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the method here is {allowed}"),
    )
}

/// `POST /v1/plan`.
fn plan(state: &State, peer: SocketAddr, body: &[u8]) -> Result<Response<Body>, Fault> {
    let request: PlanRequest = parse(body, "plan request")?;
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Fault::ours(&error))?;
    let moment = Moment {
        now: (state.clock)(),
        timestamp: current.timestamp.clone(),
        random,
    };
    let plan = compose::plan(&request, &current.layers, &state.site.config, &moment).map_err(
        |refusal| Fault {
            status: StatusCode::CONFLICT,
            logged: refusal.message.clone(),
            told: refusal,
        },
    )?;
    let signed = sign(&plan, &[&state.plan_key]).map_err(|error| Fault::ours(&error))?;
    eprintln!(
        "serve: {}: plan {} of {} layers for {}",
        peer.ip(),
        plan.recovery,
        plan.chain.len(),
        plan.host.as_deref().unwrap_or("no host").escape_debug()
    );
    Ok(json(StatusCode::OK, signed))
}

/// `POST /v1/events`.
fn event(state: &State, peer: SocketAddr, body: &[u8]) -> Result<Response<Body>, Fault> {
    let event: Event = parse(body, "event")?;
    let line = Line {
        received: (state.clock)(),
        peer: peer.ip(),
        event,
    };
    state
        .events
        .append(&line)
        .map_err(|error| Fault::ours(&error))?;
    let text = serde_json::to_string(&line.event).unwrap_or_default();
    eprintln!(
        "serve: {}: event {}",
        peer.ip(),
        text.chars().take(300).collect::<String>().escape_debug()
    );
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Layers, manifests and metadata.
fn stored(
    state: &State,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, Fault> {
    let store = &state.site.store;
    let not_found = || Fault::theirs(StatusCode::NOT_FOUND, "there is nothing of that name here");
    let asked = |content_type, etag: Option<String>| Asked {
        method,
        headers,
        content_type,
        etag,
    };
    if let Some(digest) = path.strip_prefix("/v1/layers/") {
        let digest: Digest = digest.parse().map_err(|_| not_found())?;
        let asked = asked("application/octet-stream", Some(digest.to_string()));
        return file(&store.layer_path(&digest), &asked);
    }
    if let Some(digest) = path
        .strip_prefix("/v1/manifests/")
        .and_then(|name| name.strip_suffix(".json"))
    {
        let digest: Digest = digest.parse().map_err(|_| not_found())?;
        let asked = asked("application/json", Some(digest.to_string()));
        return file(&store.manifest_path(&digest), &asked);
    }
    let name = path
        .strip_prefix("/v1/metadata/")
        .filter(|name| is_metadata(name))
        .ok_or_else(not_found)?;
    file(&store.metadata_path(name), &asked("application/json", None))
}

/// `timestamp.json`, or `N.ROLE.json` of a role with numbered files.
fn is_metadata(name: &str) -> bool {
    let numbered = |name: &str| {
        let (number, role) = name.split_once('.')?;
        let counts = (1..=18).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        (counts && ["root.json", "targets.json", "snapshot.json"].contains(&role)).then_some(())
    };
    name == TIMESTAMP_FILE || numbered(name).is_some()
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        Fault::theirs(
            StatusCode::BAD_REQUEST,
            format!("the body is no {what}: {error}"),
        )
    })
}

/// The request's body, of at most `max` bytes.
async fn body(request: Request<Incoming>, max: usize) -> Result<Bytes, Fault> {
    let too_large = || {
        Fault::theirs(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {max} bytes"),
        )
    };
    if request.body().size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let collected = Limited::new(request.into_body(), max).collect();
    let collected = tokio::time::timeout(super::HEADERS_MAX, collected)
        .await
        .map_err(|_| Fault::theirs(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    Ok(collected.map_err(|_| too_large())?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_can_be_asked_for_as_metadata() {
        for name in [
            "timestamp.json",
            "1.root.json",
            "12.targets.json",
            "3.snapshot.json",
        ] {
            assert!(is_metadata(name), "{name}");
        }
        for name in [
            "root.json",
            "../keys/plan.key",
            "1.timestamp.json",
            ".root.json",
            "1.root.json/x",
            "+1.root.json",
        ] {
            assert!(!is_metadata(name), "{name}");
        }
    }
}
