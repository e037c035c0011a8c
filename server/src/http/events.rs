//! `POST /v1/events`: those of a recovery move it, when its machine has signed them; others are for people.

use std::net::IpAddr;
use std::time::Duration;

use hyper::{HeaderMap, Response, StatusCode};
use towline_contract::Timestamp;
use towline_contract::api::{EVENT_SIGNATURE_HEADER, ErrorBody};
use towline_contract::event::Event;
use towline_contract::trust::{EventSignature, PublicKey};

use super::answer::{Body, Fault, empty};
use super::handlers::{State, parse};
use crate::events::{self, Line};
use crate::hosts;
use crate::log;
use crate::private::Lock;
use crate::recoveries::{NotTaken, RecoveriesError, Turn};
use crate::site::Site;

/// Longest that an event waits for the catalogue to be free; its machine waits for 10 s. `publish` may have it for minutes.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// The signature that came with an event; none if none came.
pub(super) fn signature(headers: &HeaderMap) -> Result<Option<EventSignature>, Fault> {
    let Some(value) = headers.get(EVENT_SIGNATURE_HEADER) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed
        .map(Some)
        .ok_or_else(|| not_taken(NotTaken::NotSigned))
}

/// Takes an event. One whose answer was lost is answered once more, and happens once.
pub(super) fn event(
    state: &State,
    peer: IpAddr,
    signature: Option<&EventSignature>,
    body: &[u8],
) -> Result<Response<Body>, Fault> {
    let now = (state.clock)();
    match signature {
        Some(signature) => signed(state, peer, signature, body, now)?,
        None => keep(state, peer, &unsigned(state, body, now)?, now)?,
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Puts the event among those that people read.
fn keep(state: &State, peer: IpAddr, event: &Event, received: Timestamp) -> Result<(), Fault> {
    let line = Line {
        received,
        peer,
        event: event.clone(),
    };
    let appended = state.events.append(&line);
    appended.map_err(|error| Fault::ours(&error))?;
    let text = events::sentence(event);
    log::say(format_args!("{peer}: {}", log::clean(&text)));
    Ok(())
}

/// Lets the event happen to its recovery, if it is its turn. Whatever can fail comes first: then nothing has happened, and the
/// machine sends it again. People may read it twice then: it is written for them before it is remembered that it has happened.
fn signed(
    state: &State,
    peer: IpAddr,
    signature: &EventSignature,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Fault> {
    let signed = state.recoveries.signed(signature, body, now);
    let signed = signed.map_err(not_taken)?;
    let (site, host) = (&state.site, signed.host());
    // A drill's server changes nothing of the site.
    let new_key = signed.new_key().filter(|_| site.config.trial.is_none());
    // Before the lock of the recoveries: `publish` has this one while it copies a layer, and no other recovery waits for that.
    let changes = new_key.is_some() && signed.is_next();
    let _store = changes.then(|| unchanging(site)).transpose()?;
    let first = || {
        if let Some(key) = new_key {
            let succeeded = hosts::succeed(site, host, key, now);
            succeeded.map_err(|error| Fault::ours(&error))?;
        }
        keep(state, peer, signed.event(), now)
    };
    match (state.recoveries.report(&signed, peer, now, first)?, new_key) {
        (Turn::Next, _) | (Turn::Known, None) => Ok(()),
        (Turn::Known, Some(key)) => is_the_hosts(site, host, key),
        (Turn::Late, _) => Err(Fault::theirs(
            StatusCode::CONFLICT,
            "a later event of the same recovery came before this one",
        )),
    }
}

/// The catalogue, for us to change. A host that is told to come again does, and a thread for each that waits is not there.
fn unchanging(site: &Site) -> Result<Lock, Fault> {
    let lock = site.store.lock_within(STORE_WAIT);
    lock.map_err(|error| Fault::ours(&error))?.ok_or_else(|| {
        let told = ErrorBody {
            message:
                "the catalogue is being changed, so that the new key of this host is not taken now"
                    .into(),
            next: Some("wait: the host reports again by itself".into()),
        };
        Fault::refused(StatusCode::SERVICE_UNAVAILABLE, told)
    })
}

/// A host that is told that it was heard uses its new key from then on: so it is told that only if the key is the host's.
fn is_the_hosts(site: &Site, host: &str, key: &PublicKey) -> Result<(), Fault> {
    let other = hosts::has_other_key(site, host, key);
    match other.map_err(|error| Fault::ours(&error))? {
        false => Ok(()),
        true => {
            let told = ErrorBody {
                message: format!(
                    "the recovery is over, so that the new key of {host} is not taken: the server knows {host} by another"
                ),
                next: Some(format!(
                    "on the server: towline host revoke {host}; then on {host}: towline host enrol"
                )),
            };
            Err(Fault::refused(StatusCode::CONFLICT, told))
        }
    }
}

impl From<RecoveriesError> for Fault {
    fn from(error: RecoveriesError) -> Self {
        Self::ours(&error)
    }
}

/// An event in nobody's name.
fn unsigned(state: &State, body: &[u8], now: Timestamp) -> Result<Event, Fault> {
    let event: Event = parse(body, "event")?;
    if let Some(mistake) = events::mistake(&event) {
        return Err(Fault::theirs(StatusCode::BAD_REQUEST, mistake));
    }
    let nobodys = state.recoveries.is_nobodys(&event.recovery, now);
    nobodys.map_err(not_taken)?;
    Ok(event)
}

fn not_taken(refusal: NotTaken) -> Fault {
    let message = refusal.to_string();
    let (status, next) = match refusal {
        NotTaken::NotSigned => (
            StatusCode::FORBIDDEN,
            "if the medium is older than the server, build it again: towline media build",
        ),
        NotTaken::Unsigned {
            recovered: true, ..
        } => (
            StatusCode::CONFLICT,
            "its host is recovered: close it on the server once the host has started: towline recovery close",
        ),
        NotTaken::Unsigned { .. } => (
            StatusCode::CONFLICT,
            "close it and open another on the server: towline recovery close, towline recovery open",
        ),
        NotTaken::Unread(_) => return Fault::theirs(StatusCode::BAD_REQUEST, message),
        NotTaken::Recoveries(error) => return Fault::ours(&error),
    };
    let next = Some(next.into());
    Fault::refused(status, ErrorBody { message, next })
}
