//! `POST /v1/events`: those of a recovery move it, when its machine has signed them; others are for people.

use std::net::IpAddr;

use hyper::{HeaderMap, Response, StatusCode};
use towline_contract::Timestamp;
use towline_contract::api::{EVENT_SIGNATURE_HEADER, ErrorBody};
use towline_contract::event::Event;
use towline_contract::trust::EventSignature;

use super::answer::{Body, Fault, empty};
use super::handlers::{State, parse};
use crate::events::{self, Line};
use crate::log;
use crate::recoveries::{NotTaken, Turn};

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
    let received = (state.clock)();
    let event = match signature {
        Some(signature) => signed(state, peer, signature, body, received)?,
        None => Some(unsigned(state, body, received)?),
    };
    if let Some(event) = event {
        let line = Line {
            received,
            peer,
            event,
        };
        let appended = state.events.append(&line);
        appended.map_err(|error| Fault::ours(&error))?;
        let text = events::sentence(&line.event);
        log::say(format_args!("{peer}: {}", log::clean(&text)));
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The event, if it was its turn: then it has happened to its recovery.
fn signed(
    state: &State,
    peer: IpAddr,
    signature: &EventSignature,
    body: &[u8],
    now: Timestamp,
) -> Result<Option<Event>, Fault> {
    let signed = state.recoveries.signed(signature, body, now);
    let signed = signed.map_err(not_taken)?;
    // A drill's server changes nothing of the site.
    let is_trial = state.site.config.trial.is_some();
    if let Some((host, key)) = signed.new_key().filter(|_| !is_trial) {
        // Before the recovery is closed by it: what is interrupted here, the machine sends again.
        let succeeded = crate::hosts::succeed(&state.site, host, key, now);
        succeeded.map_err(|error| Fault::ours(&error))?;
    }
    let turn = state.recoveries.report(&signed, peer, now);
    match turn.map_err(|error| Fault::ours(&error))? {
        Turn::Next => Ok(Some(signed.event().clone())),
        Turn::Known => Ok(None),
        Turn::Late => Err(Fault::theirs(
            StatusCode::CONFLICT,
            "a later event of the same recovery came before this one",
        )),
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
        NotTaken::Unsigned(_) => (
            StatusCode::CONFLICT,
            "close it and open another on the server: towline recovery close, towline recovery open",
        ),
        NotTaken::Unread(_) => return Fault::theirs(StatusCode::BAD_REQUEST, message),
        NotTaken::Recoveries(error) => return Fault::ours(&error),
    };
    let next = Some(next.into());
    Fault::refused(status, ErrorBody { message, next })
}
