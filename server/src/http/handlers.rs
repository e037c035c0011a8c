//! The API's handlers: look up, decide, reply.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use towline_contract::api::{ErrorBody, Machine, PlanRequest, REQUEST_BYTES_MAX};
use towline_contract::event::EVENT_BYTES_MAX;
use towline_contract::limits::TIMESTAMP_BYTES_MAX;
use towline_contract::plan::{BootPlan, PLAN_ROLE, TimestampRef};
use towline_contract::recovery::Order;
use towline_contract::trust::{SignedView, TIMESTAMP_FILE, is_host_id, sign};
use towline_contract::{Digest, Timestamp};

use super::Clock;
use super::answer::{Body, Fault, fresh_json, json};
use super::body::body;
use super::connection::Peer;
use super::events;
use super::files::{Asked, file};
use super::hosts::{self, Uploads};
use super::makings::Makings;
use super::metrics;
use super::pool::Pool;
use super::recovery;
use super::route::Route;
use super::seal_keys::SealKeys;
use super::taken::Taken;
use super::views::Views;
use crate::catalogue::{self, CatalogueError, HostView, Published};
use crate::compose::{self, Moment};
use crate::events::Log;
use crate::log;
use crate::recoveries::{Recoveries, RecoveriesError, Tries};
use crate::site::{Site, SiteError};

/// What the handlers share.
pub(super) struct State {
    pub(super) site: Site,
    pub(super) clock: Clock,
    pub(super) recoveries: Recoveries,
    /// The wrong codes of late.
    pub(super) tries: Mutex<Tries>,
    pub(super) makings: Makings,
    /// What recovery codes are sealed to.
    pub(super) seal_keys: SealKeys,
    /// What came sealed to them.
    pub(super) taken: Taken,
    pub(super) uploads: Uploads,
    pub(super) events: Log,
    pool: Arc<Pool>,
    views: Views,
    /// The catalogue as last read, with the timestamp it belongs to.
    current: Mutex<Option<Arc<Current>>>,
}

/// The catalogue at one moment.
pub(super) struct Current {
    pub(super) timestamp: TimestampRef,
    pub(super) view: SignedView,
    /// Without what hosts sign.
    pub(super) layers: Vec<Published>,
}

impl State {
    /// Opens what the handlers need.
    ///
    /// # Errors
    /// The plan's key cannot be read.
    pub(super) fn open(site: Site, clock: Clock) -> Result<Self, SiteError> {
        site.signing_keys(PLAN_ROLE)?;
        let trial = site.config.trial.as_ref();
        let events = Log::new(trial.map_or_else(|| site.events(), |it| it.events.clone()));
        // A drill's server is beside the site's own, which may be looking at a session just now.
        if site.config.trial.is_none() {
            hosts::start(&site);
        }
        Ok(Self {
            recoveries: site.recoveries(),
            tries: Mutex::default(),
            makings: Makings::default(),
            seal_keys: SealKeys::new()?,
            taken: Taken::default(),
            site,
            clock,
            uploads: Uploads::default(),
            events,
            pool: Arc::default(),
            views: Views::default(),
            current: Mutex::new(None),
        })
    }

    /// The plan, signed by the key that is for plans now.
    pub(super) fn signed(&self, plan: &BootPlan) -> Result<Vec<u8>, Fault> {
        let keys = self.site.signing_keys(PLAN_ROLE);
        let keys = keys.map_err(|error| Fault::ours(&error))?;
        let keys: Vec<_> = keys.iter().collect();
        sign(plan, &keys).map_err(|error| Fault::ours(&error))
    }

    /// The catalogue, and what else surrounds the making of one plan for `host`.
    pub(super) fn moment(&self, host: Option<&str>) -> Result<(Arc<Current>, Moment), Fault> {
        let current = self.catalogue().map_err(|error| Fault::ours(&error))?;
        let view = self.view(&current, host)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Fault::ours(&error))?;
        let moment = Moment {
            now: (self.clock)(),
            timestamp: view.timestamp.clone(),
            random,
        };
        Ok((current, moment))
    }

    /// What a machine that is to become `host`, or none, reads of the catalogue.
    fn view(&self, current: &Current, host: Option<&str>) -> Result<Arc<HostView>, Fault> {
        let host = host.filter(|it| is_host_id(it));
        let compose = || catalogue::host_view(&self.site, &current.view, host);
        let view = self.views.get(host, current.timestamp.digest, compose);
        view.map_err(|error| Fault::ours(&error))
    }

    /// The catalogue that `timestamp.json` names now; read again only when that changed, or there is a newer root.
    pub(super) fn catalogue(&self) -> Result<Arc<Current>, CatalogueError> {
        let store = &self.site.store;
        let path = store.metadata_path(TIMESTAMP_FILE);
        let bytes = store.read(&path, TIMESTAMP_BYTES_MAX)?.unwrap_or_default();
        let digest = Digest::of(&bytes);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |current: &&Arc<Current>| {
            current.timestamp.digest == digest && catalogue::has_newest_root(store, &current.view)
        };
        if let Some(current) = current.as_ref().filter(same) {
            return Ok(current.clone());
        }
        let view = catalogue::view(store)?;
        let fresh = Arc::new(Current {
            timestamp: TimestampRef {
                version: view.timestamp_version(),
                digest: *view.timestamp_digest(),
            },
            layers: catalogue::layers(store, &view)?,
            view,
        });
        *current = Some(fresh.clone());
        Ok(fresh)
    }

    /// The layers of `current` for a machine that is to become `host`: its own sessions too.
    pub(super) fn layers<'a>(
        &self,
        current: &'a Current,
        host: Option<&str>,
    ) -> Result<Cow<'a, [Published]>, CatalogueError> {
        let sessions = match host {
            Some(host) => catalogue::host_layers(&self.site.store, &current.view, host)?,
            None => Vec::new(),
        };
        match sessions.is_empty() {
            true => Ok(Cow::Borrowed(&current.layers)),
            false => Ok([current.layers.clone(), sessions].concat().into()),
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    state: Arc<State>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = reply(state, peer, request).await;
    Ok(response.unwrap_or_else(|fault| {
        // Every boot asks for the root after the newest one.
        let is_ordinary = fault.status == StatusCode::NOT_FOUND && path.ends_with(".root.json");
        if !is_ordinary {
            log::say(format_args!(
                "{}: {} {method} {}: {}",
                peer.address,
                fault.status.as_u16(),
                log::clean(&path),
                fault.logged
            ));
        }
        fault.into_response()
    }))
}

async fn reply(
    state: Arc<State>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    let route = Route::of(request.uri().path()).ok_or_else(Fault::not_found)?;
    let methods = route.methods();
    if !methods.split(", ").any(|one| one == request.method()) {
        return Err(Fault::method(methods));
    }
    match route {
        Route::Plan => {
            let body = body(request, REQUEST_BYTES_MAX).await?;
            beside(move || plan(&state, peer.address.ip(), &body)).await
        }
        Route::Recovery if !peer.tls => Err(recovery::in_clear()),
        Route::Recovery => {
            let body = body(request, REQUEST_BYTES_MAX).await?;
            beside(move || recovery::recovery(&state, peer.address.ip(), &body)).await
        }
        Route::Events => {
            let signature = events::signature(request.headers())?;
            let body = body(request, EVENT_BYTES_MAX).await?;
            beside(move || events::event(&state, peer.address.ip(), signature.as_ref(), &body))
                .await
        }
        Route::Hosts => hosts::enrol(state, peer.address.ip(), request).await,
        Route::Host(host) => hosts::show(state, host).await,
        Route::NewSession(host) => hosts::add(state, peer.address.ip(), host, request).await,
        Route::Metrics => beside(move || metrics::metrics(&state)).await,
        Route::View(host, name) if is_composed(&name) => {
            beside(move || composed(&state, host.as_deref(), &name)).await
        }
        Route::View(_, name) => stored(&state, &Route::Numbered(name), &request),
        stored_file => stored(&state, &stored_file, &request),
    }
}

/// Does work that may wait for the disk, or verify signatures, beside the network's threads.
pub(super) async fn beside(
    work: impl FnOnce() -> Result<Response<Body>, Fault> + Send + 'static,
) -> Result<Response<Body>, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::ours(&error)))
}

/// `POST /v1/plan`.
fn plan(state: &State, peer: IpAddr, body: &[u8]) -> Result<Response<Body>, Fault> {
    let request: PlanRequest = parse(body, "plan request")?;
    bounded(&request.machine)?;
    let (current, moment) = state.moment(request.host.as_deref())?;
    let layers = state
        .layers(&current, request.host.as_deref())
        .map_err(|error| Fault::ours(&error))?;
    let mut plan = compose::plan(&request, &layers, &state.site.config, &moment)
        .map_err(|refusal| Fault::refused(StatusCode::CONFLICT, refusal))?;
    if wants_code(state, &request, moment.now)? {
        let seal_to = state.seal_keys.newest();
        plan.order = Some(Order::AskCode { seal_to });
    }
    let signed = state.signed(&plan)?;
    log::say(format_args!(
        "{peer}: plan {} of {} layers for {}",
        plan.recovery,
        plan.chain.len(),
        log::clean(plan.host.as_deref().unwrap_or("no host"))
    ));
    Ok(json(StatusCode::OK, signed))
}

/// Whether a recovery is open that this machine could have the code of. When nobody can tell, a machine that waits for its code
/// would boot something else: it is told, and asks again.
fn wants_code(state: &State, request: &PlanRequest, now: Timestamp) -> Result<bool, Fault> {
    let (host, machine) = (request.host.as_deref(), &request.machine);
    let trial = state.site.config.trial.as_ref();
    if trial.is_some_and(|it| it.session.is_some()) {
        return Ok(false);
    }
    let all = state.recoveries.all(now);
    let all = all.map_err(|error| unreadable(&error))?;
    Ok(all.iter().any(|it| it.wants_code(host, machine, now)))
}

/// The machine is told what its operator can do, and the log says why.
fn unreadable(error: &RecoveriesError) -> Fault {
    let told = ErrorBody {
        message: "the server cannot read its recoveries, so that it cannot tell whether one is open for this machine".into(),
        next: Some("look at the server's log and at state/recoveries, then try again".into()),
    };
    Fault::refused(StatusCode::INTERNAL_SERVER_ERROR, told).because(error)
}

/// Refuses a machine that describes itself as larger than any.
pub(super) fn bounded(machine: &Machine) -> Result<(), Fault> {
    match machine.mistake() {
        Some(mistake) => Err(Fault::theirs(StatusCode::BAD_REQUEST, mistake)),
        None => Ok(()),
    }
}

/// Whether views have a file of this name of their own.
fn is_composed(name: &str) -> bool {
    let role = name.split_once('.').map(|(_, role)| role);
    name == TIMESTAMP_FILE || matches!(role, Some("snapshot.json" | "hosts.json"))
}

/// A file of the view of a host.
fn composed(state: &State, host: Option<&str>, name: &str) -> Result<Response<Body>, Fault> {
    if name != TIMESTAMP_FILE
        && let Some(bytes) = state.views.file(host, name)
    {
        return Ok(json(StatusCode::OK, bytes));
    }
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let view = state.view(&current, host)?;
    let bytes = view.files.get(name).ok_or_else(Fault::not_found)?;
    Ok(fresh_json(bytes.clone()))
}

/// Layers, manifests and metadata.
fn stored(
    state: &State,
    route: &Route,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    const BYTES: &str = "application/octet-stream";
    const JSON: &str = "application/json";
    let store = &state.site.store;
    let (path, content_type, etag) = match route {
        Route::Layer(digest) => (store.layer_path(digest), BYTES, Some(digest.to_string())),
        Route::Manifest(digest) => (store.manifest_path(digest), JSON, Some(digest.to_string())),
        Route::Numbered(name) => (store.metadata_path(name), JSON, Some(name.clone())),
        Route::Timestamp => (store.metadata_path(TIMESTAMP_FILE), JSON, None),
        Route::Plan
        | Route::Recovery
        | Route::Events
        | Route::Hosts
        | Route::Host(_)
        | Route::Metrics
        | Route::NewSession(_)
        | Route::View(..) => return Err(Fault::not_found()),
    };
    let asked = Asked {
        method: request.method(),
        headers: request.headers(),
        content_type,
        etag,
    };
    file(&path, &asked, &state.pool)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Fault> {
    let wrong = |error| {
        let message = format!("the body is no {what}: {error}");
        Fault::theirs(StatusCode::BAD_REQUEST, message)
    };
    serde_json::from_slice(body).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_request_is_named_with_the_place_of_the_mistake() {
        let fault = parse::<PlanRequest>(b"{\"nonce\": 1}", "plan request").unwrap_err();
        assert_eq!(fault.status, StatusCode::BAD_REQUEST);
        assert!(fault.told.message.contains("line 1"), "{:?}", fault.told);
    }
}
