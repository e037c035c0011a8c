//! What protected hosts ask: to be known, how they stand, to add a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use towline_contract::api::{
    ENROLMENT_BYTES_MAX, Enrolled, Enrolment, ErrorBody, NEW_SESSION_BYTES_MAX, NewSession,
};
use towline_initramfs::stored::StoredError;

use super::answer::{Body, Fault, empty, json};
use super::body::{body, body_within, discard};
use super::handlers::{State, beside, bounded, parse};
use crate::hosts::daily::Daily;
use crate::hosts::registry::Registry;
use crate::hosts::take::{self, Taken};
use crate::hosts::{self, HostError};
use crate::intake::IntakeError;
use crate::log;
use crate::site::Site;

/// Most sessions that are received at a time: 64 MiB of memory.
const UPLOADS_MAX: usize = 16;

/// Longest a host may take for the body of a session, 4 MiB; it gives up after as long itself.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(60);

/// What bounds the uploads.
pub(super) struct Uploads {
    places: Semaphore,
    daily: Daily,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            places: Semaphore::new(UPLOADS_MAX),
            daily: Daily::default(),
        }
    }
}

/// Clears what a server that was killed has left.
pub(super) fn start(site: &Site) {
    take::clean(site);
}

/// `POST /v1/hosts`.
pub(super) async fn enrol(
    state: Arc<State>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    let body = body(request, ENROLMENT_BYTES_MAX).await?;
    beside(move || {
        let enrolment: Enrolment = parse(&body, "enrolment")?;
        bounded(&enrolment.machine)?;
        let (host, key) = (enrolment.host.clone(), enrolment.key.id());
        let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
        let request = hosts::Request {
            now: (state.clock)(),
            peer,
        };
        let registry = Registry::of(&state.site);
        let known = registry.enrol(&current.view, enrolment, request);
        let known = known.map_err(|error| fault(&error))?;
        log::say(format_args!(
            "{peer}: host {} with the fingerprint {} enrols: {known:?}",
            log::clean(&host),
            key.fingerprint()
        ));
        answer(&Enrolled { state: known })
    })
    .await
}

/// `GET /v1/hosts/ID`.
pub(super) async fn show(state: Arc<State>, host: String) -> Result<Response<Body>, Fault> {
    beside(move || {
        let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
        let known = hosts::state(&state.site, &current.view, &host);
        answer(&known.map_err(|error| fault(&error))?)
    })
    .await
}

/// `POST /v1/hosts/ID/sessions`.
pub(super) async fn add(
    state: Arc<State>,
    peer: IpAddr,
    host: String,
    request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    let _place = match admitted(&state, &host).await {
        Ok(place) => place,
        Err(fault) => {
            discard(request.into_body(), UPLOAD_TIME_MAX).await;
            return Err(fault);
        }
    };
    let body = body_within(request, NEW_SESSION_BYTES_MAX, UPLOAD_TIME_MAX).await?;
    let this = state.clone();
    beside(move || {
        let sent: NewSession = parse(&body, "session")?;
        let now = (this.clock)();
        let taken = take::take(&this.site, &this.uploads.daily, &host, &sent, now);
        match taken.map_err(|error| fault(&error))? {
            Taken::Added(target) => log::say(format_args!("{peer}: host {host} added {target}")),
            Taken::Already => log::say(format_args!("{peer}: host {host} sent a session again")),
        }
        Ok(empty(StatusCode::CREATED))
    })
    .await
}

/// A place for an upload: nobody's megabytes are kept who cannot be believed.
async fn admitted<'a>(state: &'a Arc<State>, host: &str) -> Result<SemaphorePermit<'a>, Fault> {
    let place = state.uploads.places.try_acquire().map_err(|_| busy())?;
    let (this, host) = (state.clone(), host.to_owned());
    beside(move || {
        let current = this.catalogue().map_err(|error| Fault::ours(&error))?;
        let known = take::approved(&this.site, &current.view, &host);
        known.map_err(|error| fault(&error))?;
        Ok(empty(StatusCode::OK))
    })
    .await?;
    Ok(place)
}

fn answer<T: serde::Serialize>(document: &T) -> Result<Response<Body>, Fault> {
    let bytes = serde_json::to_vec(document).map_err(|error| Fault::ours(&error))?;
    Ok(json(StatusCode::OK, bytes))
}

fn busy() -> Fault {
    let told = ErrorBody {
        message: format!("{UPLOADS_MAX} hosts send a session just now, which is the most"),
        next: Some("the next capture sends it, or: towline capture --retry".into()),
    };
    Fault::refused(StatusCode::SERVICE_UNAVAILABLE, told)
}

/// What a host is told: the whole reason, for it is about what it sent.
fn fault(error: &HostError) -> Fault {
    use HostError as E;
    let later = "towline capture --retry sends it again";
    let (status, next) = match error {
        E::Unknown(_) => (StatusCode::NOT_FOUND, "towline host enrol".to_owned()),
        E::Waiting { host, key } => (
            StatusCode::CONFLICT,
            format!(
                "an operator of the site runs: towline host approve {host} --fingerprint {}",
                key.fingerprint()
            ),
        ),
        E::OtherKey { host, .. } => (
            StatusCode::CONFLICT,
            format!(
                "enrol under another name (--host), or an operator looks at: towline host show {host}"
            ),
        ),
        E::Revoked { host, .. } => (
            StatusCode::FORBIDDEN,
            format!(
                "with a new key the host can enrol again: remove /etc/towline/host.key there, run towline host enrol, and an operator runs: towline host approve {host}"
            ),
        ),
        E::NotAHost(_) => (
            StatusCode::BAD_REQUEST,
            "choose another name with --host".into(),
        ),
        E::Full => (
            StatusCode::TOO_MANY_REQUESTS,
            "an operator of the site looks at: towline host list".into(),
        ),
        E::TooMany { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "it takes more tomorrow".into(),
        ),
        E::NotTrusted(_) => (
            StatusCode::FORBIDDEN,
            "compare the fingerprints: towline host enrol, and towline host show at the site"
                .into(),
        ),
        E::NotNext(_) => (StatusCode::CONFLICT, later.into()),
        E::Layer(IntakeError::Layer(StoredError::Read { .. })) => return Fault::ours(error),
        E::Session(_) | E::Layer(_) => (
            StatusCode::BAD_REQUEST,
            "capture again with the newest towline; what is refused is kept in spool/refused on the host"
                .into(),
        ),
        E::File(_) | E::Catalogue(_) | E::Approved(_) => return Fault::ours(error),
    };
    let message = log::chain(error);
    let next = Some(next);
    Fault::refused(status, ErrorBody { message, next })
}
