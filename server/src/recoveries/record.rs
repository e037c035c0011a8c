//! What is kept of a recovery: a document of a few hundred bytes. Of its secrets it has digests only.

use std::cmp::Ordering;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use towline_contract::api::Machine;
use towline_contract::recovery::Then;
use towline_contract::trust::PublicKey;
use towline_contract::{Digest, Timestamp};

/// Version of the document that this program writes, and the only one it reads.
pub const RECORD_FORMAT: u32 = 1;

/// Wrong codes, sent by machines that named its host, after which a recovery takes no code any more. A code has 2^59 values.
pub const WRONG_CODES_MAX: u32 = 10;

/// UUIDs that makers of mainboards leave in every one of them: they identify nothing.
const EVERYBODYS_UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "03000200-0400-0500-0006-000700080009",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

/// One recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Its name: in plans, events and file names.
    pub id: String,
    /// The host.
    pub host: String,
    /// The session that was chosen when it was opened. It is this one or none.
    pub session: Chosen,
    /// When it was opened.
    pub opened: Timestamp,
    /// By whom, as the system calls them.
    pub opened_by: String,
    /// The code is of no use at this time and later.
    pub deadline: Timestamp,
    /// How it is done.
    pub options: Options,
    /// SHA-256 of the code.
    pub code: Digest,
    /// The public half of the key that its machine signs events by, once a machine has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report_key: Option<PublicKey>,
    /// Number of the last event of that machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_event: Option<u64>,
    /// SHA-256 of the token that events bore before they were signed: only in what a server of then has started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report_token: Option<Digest>,
    /// The machine that has used the code.
    pub machine: Option<UsedBy>,
    /// Wrong codes that machines sent which named its host.
    pub wrong_codes: u32,
    /// When it last changed.
    pub changed: Timestamp,
    /// Where it stands.
    pub state: State,
}

/// A session's layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Target name of the host layer.
    pub target: String,
    /// SHA-256 of the stored layer.
    pub digest: Digest,
    /// The point in time that it brings back.
    pub time: Timestamp,
    /// When the layout was captured.
    pub captured: Timestamp,
    /// Name of the agent layer that restores it.
    pub agent: String,
    /// The agent's own name of the session.
    pub agent_session: String,
}

impl Chosen {
    /// The host, which is the name of its layers.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.target.split('/').nth(1)
    }
}

/// How a recovery is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Nobody is at the machine: what would be asked is refused.
    pub unattended: bool,
    /// Disks that hold something else may be overwritten without asking.
    pub overwrite: bool,
    /// What follows.
    pub then: Then,
}

/// The machine that has used a code, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedBy {
    /// The machine.
    pub machine: Machine,
    /// Where it came from, the last time.
    pub address: IpAddr,
    /// When it sent the code first.
    pub first: Timestamp,
    /// How often it was given plan and credentials.
    pub times: u32,
}

impl UsedBy {
    /// Whether `other` is the same machine: it has the same network interfaces, or the same UUID.
    #[must_use]
    pub fn is(&self, other: &Machine) -> bool {
        let macs = |it: &Machine| {
            let mut macs: Vec<_> = it.macs.iter().map(|it| it.to_lowercase()).collect();
            macs.sort();
            macs
        };
        let uuid = |it: &Machine| {
            let uuid = it.uuid.as_ref().map(|it| it.to_lowercase());
            uuid.filter(|it| !EVERYBODYS_UUIDS.contains(&it.as_str()))
        };
        let (these, those) = (macs(&self.machine), macs(other));
        let same_uuid = uuid(&self.machine).is_some_and(|it| Some(it) == uuid(other));
        same_uuid || (!these.is_empty() && these == those)
    }
}

/// Where a recovery stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// Nobody has used the code.
    Opened,
    /// A machine has used the code.
    Started,
    /// It fetches the layers.
    Layers {
        /// Layers in their place.
        placed: u32,
        /// Their stored bytes.
        bytes: u64,
    },
    /// The rescue system is up.
    Rescue,
    /// Its checks have passed, and the disks are being written.
    Recovering,
    /// Partitions and file systems are there.
    Recreated,
    /// The agent restores.
    Restoring {
        /// Bytes that are there.
        bytes: u64,
        /// Bytes that there will be, if known.
        total: Option<u64>,
    },
    /// The agent is done.
    Restored {
        /// Bytes that it restored.
        bytes: u64,
    },
    /// All is done but for the first start.
    Recovered {
        /// Seconds that it took.
        seconds: u64,
    },
    /// The machine waits for its operator, or tries again.
    Failed {
        /// The first line of what it said.
        message: String,
    },
    /// It is over.
    Closed {
        /// Whether the host was recovered.
        recovered: bool,
        /// Why it is over.
        why: String,
    },
    /// Nobody used the code in time.
    Expired,
}

/// What an event is among those of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A later one than all before.
    Next,
    /// Nothing is to be done: it is the last one once more, whose answer was lost, or the recovery is over.
    Known,
    /// Another came after it.
    Late,
}

impl Recovery {
    /// The recovery as it is at `now`: one whose code nobody used in time has expired.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        if self.state == State::Opened && now >= self.deadline {
            (self.state, self.changed) = (State::Expired, self.deadline);
        }
        self
    }

    /// Whether nothing more will become of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed { .. } | State::Expired)
    }

    /// Whether its machine is at work, as far as anybody knows.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.is_over() && self.state != State::Opened
    }

    /// Whether its machine was given a token of before events were signed, by which nobody can tell who sends one.
    #[must_use]
    pub fn is_unsigned(&self) -> bool {
        self.report_key.is_none() && self.report_token.is_some() && !self.is_over()
    }

    /// What an event of its machine with this number is. One that is sent again is no new one, whoever sends it.
    #[must_use]
    pub fn turn(&self, number: u64) -> Turn {
        match self.last_event.map(|last| number.cmp(&last)) {
            Some(Ordering::Less) => Turn::Late,
            Some(Ordering::Equal) => Turn::Known,
            _ if self.is_over() => Turn::Known,
            _ => Turn::Next,
        }
    }

    /// Whether wrong codes have locked it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.wrong_codes >= WRONG_CODES_MAX
    }

    /// Whether this machine, which named `host` or none, should ask for a code because of it.
    #[must_use]
    pub fn wants_code(&self, host: Option<&str>, machine: &Machine, now: Timestamp) -> bool {
        let mine = self.machine.as_ref().is_none_or(|it| it.is(machine));
        let done = matches!(self.state, State::Recovered { .. });
        let in_time = now < self.deadline && !self.is_over();
        in_time && !done && mine && host.is_none_or(|host| host == self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{NOW, machine, opened};
    use super::*;

    fn used_by(machine: Machine) -> UsedBy {
        UsedBy {
            machine,
            address: [192, 0, 2, 1].into(),
            first: NOW.parse().unwrap(),
            times: 1,
        }
    }

    #[test]
    fn a_machine_is_the_same_by_all_its_interfaces_or_by_its_uuid() {
        let one = used_by(machine(&["52:54:00:00:00:01", "52:54:00:00:00:02"], "a-b"));
        assert!(one.is(&machine(&["52:54:00:00:00:02", "52:54:00:00:00:01"], "c-d")));
        assert!(one.is(&machine(&[], "A-B")));
        assert!(!one.is(&machine(&["52:54:00:00:00:01"], "c-d")));
        assert!(!one.is(&machine(&[], "c-d")));
    }

    #[test]
    fn what_every_machine_has_identifies_none() {
        let zero = "00000000-0000-0000-0000-000000000000";
        assert!(!used_by(machine(&[], zero)).is(&machine(&[], zero)));
        let nothing = Machine::default();
        assert!(!used_by(nothing.clone()).is(&nothing));
    }

    #[test]
    fn a_code_that_nobody_used_in_time_has_expired_and_a_started_recovery_has_not() {
        let recovery = opened("web1");
        let late = recovery.deadline;
        assert_eq!(
            recovery.clone().at(NOW.parse().unwrap()).state,
            State::Opened
        );
        assert_eq!(recovery.clone().at(late).state, State::Expired);
        let started = Recovery {
            state: State::Started,
            ..recovery
        };
        assert_eq!(started.at(late).state, State::Started);
    }

    #[test]
    fn an_event_is_taken_in_its_turn_and_once() {
        let recovery = Recovery {
            last_event: Some(7),
            ..opened("web1")
        };
        let turns = [6, 7, 8].map(|number| recovery.turn(number));
        assert_eq!(turns, [Turn::Late, Turn::Known, Turn::Next]);
        let first = Recovery {
            last_event: None,
            ..recovery.clone()
        };
        assert_eq!(first.turn(0), Turn::Next);
        let (recovered, why) = (true, String::new());
        let over = Recovery {
            state: State::Closed { recovered, why },
            ..recovery
        };
        let turns = [6, 7, 8].map(|number| over.turn(number));
        assert_eq!(turns, [Turn::Late, Turn::Known, Turn::Known]);
    }

    #[test]
    fn only_a_machine_whose_code_would_be_taken_is_asked_for_it() {
        let now = NOW.parse().unwrap();
        let (one, other) = (
            machine(&["52:54:00:00:00:01"], "a"),
            machine(&["52:54:00:00:00:09"], "b"),
        );
        let recovery = opened("web1");
        assert!(recovery.wants_code(Some("web1"), &one, now));
        assert!(recovery.wants_code(None, &one, now));
        assert!(!recovery.wants_code(Some("web2"), &one, now));
        assert!(!recovery.wants_code(None, &one, recovery.deadline));
        let used = Recovery {
            machine: Some(used_by(one.clone())),
            state: State::Started,
            ..recovery
        };
        assert!(used.wants_code(None, &one, now));
        assert!(!used.wants_code(None, &other, now));
        let recovered = Recovery {
            state: State::Recovered { seconds: 1 },
            ..used
        };
        // A medium left in the drive of an unattended machine does not begin again.
        assert!(!recovered.wants_code(None, &one, now));
    }
}
