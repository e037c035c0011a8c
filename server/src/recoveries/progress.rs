//! What happens to a recovery, and what becomes of it: a state machine without I/O or clock.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::api::Machine;
use towline_contract::event::What;
use towline_contract::trust::PublicKey;

use super::record::{Recovery, State, UsedBy};

/// Longest message that the state of a failed recovery shows, in characters. The whole of it is in the journal.
const MESSAGE_CHARS_MAX: usize = 300;

/// One line of a recovery's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened to a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Happened {
    /// An operator opened it.
    Opened {
        /// Who.
        by: String,
    },
    /// A machine sent the code, which is good for no other one from now on. It was given nothing yet.
    CodeBound {
        /// The machine.
        machine: Machine,
        /// Where it came from.
        address: IpAddr,
    },
    /// A machine used the code, and was given plan and credentials.
    CodeUsed {
        /// The machine.
        machine: Machine,
        /// Where it came from.
        address: IpAddr,
        /// The public half of the key that it signs events by; none in the journals of before they were signed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        report_key: Option<PublicKey>,
        /// Target names of its layers.
        chain: Vec<String>,
    },
    /// A machine that named its host sent a wrong code, or its own code was refused.
    CodeRefused {
        /// Where it came from.
        address: IpAddr,
        /// Why.
        why: String,
        /// Whether the code was a wrong one.
        wrong: bool,
    },
    /// Its machine reported.
    Reported {
        /// Where it came from.
        address: IpAddr,
        /// Seconds since the machine's kernel started.
        uptime_seconds: u64,
        /// [`towline_contract::event::Event::number`]; none in the journals of before there were numbers.
        #[serde(default)]
        number: u64,
        /// What it reported.
        event: What,
    },
    /// It was closed.
    Closed {
        /// Why.
        why: String,
    },
}

/// What becomes of `recovery` when this happens at `now`. What does not belong to its state changes nothing but the time.
#[must_use]
pub fn apply(recovery: &Recovery, what: &Happened, now: Timestamp) -> Recovery {
    let mut next = recovery.clone();
    if recovery.is_over() {
        return next;
    }
    next.changed = now;
    match what {
        Happened::Opened { .. } => {}
        Happened::CodeBound { machine, address } => {
            next.machine.get_or_insert_with(|| UsedBy {
                machine: machine.clone(),
                address: *address,
                first: now,
                times: 0,
            });
        }
        Happened::CodeUsed {
            machine,
            address,
            report_key,
            ..
        } => {
            let before = next.machine.as_ref();
            next.machine = Some(UsedBy {
                machine: machine.clone(),
                address: *address,
                first: before.map_or(now, |it| it.first),
                times: before.map_or(0, |it| it.times) + 1,
            });
            next.report_key.clone_from(report_key);
            (next.last_event, next.report_token) = (None, None);
            next.state = State::Started;
        }
        Happened::CodeRefused { wrong, .. } => next.wrong_codes += u32::from(*wrong),
        Happened::Reported { number, event, .. } => {
            next.last_event = Some(*number);
            if let Some(state) = reported(&recovery.state, event) {
                next.state = state;
            }
        }
        Happened::Closed { why } => {
            let recovered = matches!(recovery.state, State::Recovered { .. });
            let why = why.clone();
            next.state = State::Closed { recovered, why };
        }
    }
    next
}

/// The state after an event. Events overtake one another, so none leads back; only a new attempt does.
fn reported(state: &State, event: &What) -> Option<State> {
    let next = match event {
        What::PlanVerified | What::HandOver { .. } => return None,
        What::LayerPlaced { bytes, .. } => {
            let (placed, before) = match state {
                State::Layers { placed, bytes } => (*placed, *bytes),
                _ => (0, 0),
            };
            State::Layers {
                placed: placed.saturating_add(1),
                bytes: before.saturating_add(*bytes),
            }
        }
        What::RescueReady { .. } => State::Rescue,
        What::RecoveryStarted { .. } => State::Recovering,
        What::LayoutRecreated { .. } => State::Recreated,
        What::Restoring { bytes, total } => State::Restoring {
            bytes: *bytes,
            total: *total,
        },
        What::Restored { bytes, .. } => State::Restored { bytes: *bytes },
        What::Recovered { seconds, .. } => State::Recovered { seconds: *seconds },
        What::Failed { message } => State::Failed {
            message: first_line(message),
        },
        What::FirstBoot { hostname, .. } => State::Closed {
            recovered: true,
            why: format!("{} has started from its own disk", first_line(hostname)),
        },
    };
    follows(state, &next).then_some(next)
}

fn follows(state: &State, next: &State) -> bool {
    let recovered = matches!(state, State::Recovered { .. });
    match next {
        State::Closed { .. } => *state != State::Opened,
        State::Failed { .. } => !recovered,
        // Another attempt, after a failure.
        State::Recovering => !recovered,
        // Its operator may finish by hand what has failed.
        State::Recovered { .. } => true,
        _ if matches!(state, State::Failed { .. }) => false,
        _ => rank(state) <= rank(next),
    }
}

/// How far a recovery has come.
fn rank(state: &State) -> u8 {
    match state {
        State::Opened => 0,
        State::Started => 1,
        State::Layers { .. } => 2,
        State::Rescue => 3,
        State::Recovering => 4,
        State::Recreated => 5,
        State::Restoring { .. } => 6,
        State::Restored { .. } => 7,
        State::Recovered { .. } => 8,
        State::Failed { .. } => 9,
        State::Closed { .. } | State::Expired => 10,
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
