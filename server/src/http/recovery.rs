//! `POST /v1/recovery`: a code for a plan with an order and credentials. Sealed, over TLS only, and nothing of it is logged.

use std::net::IpAddr;
use std::sync::PoisonError;

use hyper::{Response, StatusCode};
use towline_contract::api::{ErrorBody, PlanRequest, RecoveryRequest};
use towline_contract::plan::BootPlan;
use towline_contract::recovery::Code;
use towline_contract::{Digest, Timestamp};

use super::answer::{Body, Fault, secret};
use super::handlers::{State, bounded};
use super::makings::Busy;
use super::{sealed, taken};
use crate::compose::{self, Secrets};
use crate::credentials::{self, CredentialsError, Made, Wanted};
use crate::log;
use crate::recoveries::{Happened, RecoveriesError, Recovery, Refused, admit};

/// The refusal for a code that came by plain HTTP. It is known to others now, perhaps.
pub(super) fn in_clear() -> Fault {
    let told = ErrorBody {
        message: "recovery codes are taken over https:// only".into(),
        next: Some("stamp the medium with the server's https:// URL".into()),
    };
    Fault::refused(StatusCode::FORBIDDEN, told)
}

/// Answers a machine that has a code. The code is bound to the machine before anything secret is made for it.
pub(super) fn recovery(
    state: &State,
    peer: IpAddr,
    request_as_sent: &[u8],
) -> Result<Response<Body>, Fault> {
    let opened = sealed::open(&state.seal_keys, request_as_sent)?;
    let RecoveryRequest {
        code,
        seal_to,
        request,
    } = parse(&opened.body)?;
    let code = digest(&code)?;
    bounded(&request.machine)?;
    let id = admitted(state, peer, &code, &request)?.id;
    let _making = state.makings.begin(&id).map_err(busy)?;
    let request_digest = Digest::of(request_as_sent);
    let taken = state.taken.take(&id, opened.key, request_digest);
    taken.map_err(not_taken)?;
    let recovery = bound(state, peer, &code, &request)?;
    let made = made(state, &recovery)?;
    let plan = composed(state, &request, &recovery, &made)?;
    let signed = state.signed(&plan)?;
    let renewed = state.seal_keys.renew();
    let new_key = renewed.map_err(|error| Fault::ours(&error))?;
    // Before the machine's key for reports is remembered: whatever becomes of that, no earlier request takes it away.
    state.taken.answered(&id, new_key);
    let recovery = used(state, peer, &code, &request, &made, &plan)?;
    log::say(format_args!(
        "{peer}: recovery {} of {} is started: plan of {} layers, credentials of {} bytes",
        recovery.id,
        recovery.host,
        plan.chain.len(),
        made.layer.len()
    ));
    let layer = sealed::host_layer(&state.site.store, &recovery.session);
    let layer = layer.as_ref().map(|it| it.as_slice());
    let (to, host) = (seal_to, recovery.host);
    let answer = sealed::answer(to, request_as_sent, &signed, &made, host, layer)?;
    Ok(secret(answer))
}

/// What cannot be read is not repeated, for it may have the code in it.
fn parse(body: &[u8]) -> Result<RecoveryRequest, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message =
            format!("the body is no recovery request: see line {line}, column {column} of it");
        Fault::theirs(StatusCode::BAD_REQUEST, message)
    })
}

fn digest(text: &str) -> Result<Digest, Fault> {
    let code = text.parse::<Code>();
    let code = code.map_err(|error| Fault::theirs(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(code.digest())
}

/// The recovery whose code it is, with a chain for this machine. Wrong codes are counted before the next is looked at.
fn admitted(
    state: &State,
    peer: IpAddr,
    code: &Digest,
    request: &PlanRequest,
) -> Result<Recovery, Fault> {
    let now = (state.clock)();
    // Whoever must wait costs no reading, and nobody waits for another one's.
    may_try(state, peer, now)?;
    let all = state
        .recoveries
        .all(now)
        .map_err(|error| Fault::ours(&error))?;
    let host = request.host.as_deref();
    let admission = {
        let mut tries = state.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.may_try(peer, now).map_err(|it| refused(&it))?;
        let admission = admit(code, host, &request.machine, &all, now);
        if let Err(Refused::Unknown | Refused::Locked { .. }) = admission {
            tries.wrong(peer, now);
        }
        admission
    };
    match admission {
        Ok(recovery) => has_chain(state, request, recovery).map(|()| recovery.clone()),
        Err(refusal) => {
            let remembered = remember(state, peer, code, host, &refusal, now);
            remembered.map_err(|error| Fault::ours(&error))?;
            Err(refused(&refusal))
        }
    }
}

fn may_try(state: &State, peer: IpAddr, now: Timestamp) -> Result<(), Fault> {
    let mut tries = state.tries.lock().unwrap_or_else(PoisonError::into_inner);
    tries.may_try(peer, now).map_err(|it| refused(&it))
}

/// Whether there is a chain for this machine at all: a code is not bound, and no secret made, for one that there is nothing for.
fn has_chain(state: &State, request: &PlanRequest, recovery: &Recovery) -> Result<(), Fault> {
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let layers = state
        .layers(&current, Some(&recovery.host))
        .map_err(|error| Fault::ours(&error))?;
    compose::recovery_chain(request, &layers, &state.site.config, &recovery.session)
        .map(drop)
        .map_err(|refusal| Fault::refused(StatusCode::CONFLICT, refusal))
}

/// Binds the code to this machine, if it is not bound. Another one, or the operator, may have been faster meanwhile.
fn bound(
    state: &State,
    peer: IpAddr,
    code: &Digest,
    request: &PlanRequest,
) -> Result<Recovery, Fault> {
    let what = Happened::CodeBound {
        machine: request.machine.clone(),
        address: peer,
    };
    admitted_again(state, code, request, |recovery| {
        recovery.machine.is_none().then_some(what)
    })
}

/// Lets this happen to the recovery, if its code is still good for this machine.
fn admitted_again(
    state: &State,
    code: &Digest,
    request: &PlanRequest,
    what: impl FnOnce(&Recovery) -> Option<Happened>,
) -> Result<Recovery, Fault> {
    let ours = |error: RecoveriesError| Fault::ours(&error);
    let now = (state.clock)();
    let lock = state.recoveries.lock().map_err(ours)?;
    let all = state.recoveries.all(now).map_err(ours)?;
    let host = request.host.as_deref();
    let recovery = admit(code, host, &request.machine, &all, now).map_err(|it| refused(&it))?;
    match what(recovery) {
        Some(what) => lock.record(recovery, what, now).map_err(ours),
        None => Ok(recovery.clone()),
    }
}

/// Puts a refusal into the journals of the recoveries that it is about: that of the code, or all of the host that was named.
fn remember(
    state: &State,
    peer: IpAddr,
    code: &Digest,
    host: Option<&str>,
    refusal: &Refused,
    now: Timestamp,
) -> Result<(), RecoveriesError> {
    let wrong = *refusal == Refused::Unknown;
    let is_about = |it: &Recovery| match wrong {
        true => Some(&*it.host) == host && !it.is_locked(),
        false => it.code == *code,
    };
    if !state.recoveries.all(now)?.iter().any(is_about) {
        return Ok(());
    }
    let lock = state.recoveries.lock()?;
    for recovery in state.recoveries.all(now)?.iter().filter(|it| is_about(it)) {
        let what = Happened::CodeRefused {
            address: peer,
            why: refusal.to_string(),
            wrong,
        };
        lock.record(recovery, what, now)?;
    }
    Ok(())
}

fn made(state: &State, recovery: &Recovery) -> Result<Made, Fault> {
    let wanted = Wanted {
        host: &recovery.host,
        session: &recovery.session.agent_session,
        recovery: &recovery.id,
    };
    credentials::make(&state.site, wanted, (state.clock)()).map_err(|error| {
        let status = match error {
            CredentialsError::Command(_) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let told = ErrorBody {
            message: error.told().into(),
            next: Some("look at the server's log, then try again with the same code".into()),
        };
        Fault::refused(status, told).because(&error)
    })
}

fn composed(
    state: &State,
    request: &PlanRequest,
    recovery: &Recovery,
    made: &Made,
) -> Result<BootPlan, Fault> {
    let (current, moment) = state.moment(Some(&recovery.host))?;
    let secrets = Secrets {
        credentials: made.reference.clone(),
        report_token: made.report_token,
    };
    let layers = state
        .layers(&current, Some(&recovery.host))
        .map_err(|error| Fault::ours(&error))?;
    let config = &state.site.config;
    let plan = compose::recovery(request, &layers, config, &moment, recovery, secrets)
        .map_err(|refusal| Fault::refused(StatusCode::CONFLICT, refusal))?;
    // Somebody stands before the dead machine: what is missing may not matter for it, and is no reason to send them away.
    for (layer, need) in compose::lacking(request, &layers, config, &recovery.session) {
        log::say(format_args!(
            "recovery {} of {}: {layer} needs {need:?}, which no layer of its chain has",
            recovery.id, recovery.host
        ));
    }
    for unread in compose::unread(request, &layers, config, &recovery.session, plan.hand_over) {
        log::say(format_args!(
            "recovery {} of {}: {unread}",
            recovery.id, recovery.host
        ));
    }
    Ok(plan)
}

/// Remembers what the machine is given. The operator may have been faster meanwhile.
fn used(
    state: &State,
    peer: IpAddr,
    code: &Digest,
    request: &PlanRequest,
    made: &Made,
    plan: &BootPlan,
) -> Result<Recovery, Fault> {
    let what = Happened::CodeUsed {
        machine: request.machine.clone(),
        address: peer,
        report_key: Some(made.report_key.clone()),
        chain: plan.chain.iter().map(|it| it.target.clone()).collect(),
    };
    admitted_again(state, code, request, |_| Some(what))
}

fn busy(busy: Busy) -> Fault {
    let told = ErrorBody {
        message: busy.to_string(),
        next: Some("wait half a minute, then try again with the same code".into()),
    };
    Fault::refused(StatusCode::SERVICE_UNAVAILABLE, told)
}

fn not_taken(refusal: taken::Refused) -> Fault {
    let status = match refusal {
        // It asks for another plan, which names the new key.
        taken::Refused::Late => StatusCode::MISDIRECTED_REQUEST,
        taken::Refused::Again | taken::Refused::Full => StatusCode::CONFLICT,
    };
    let told = ErrorBody {
        message: refusal.to_string(),
        next: Some(refusal.next().into()),
    };
    Fault::refused(status, told)
}

fn refused(refusal: &Refused) -> Fault {
    let status = match refusal {
        Refused::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let told = ErrorBody {
        message: refusal.to_string(),
        next: Some(refusal.next().into()),
    };
    Fault::refused(status, told)
}
