//! A recovery for the tests of pure decisions.

use jiff::SignedDuration;
use towline_contract::api::Machine;
use towline_contract::recovery::Code;
use towline_contract::trust::EventSigner;
use towline_contract::{Digest, Timestamp};

use super::record::{Chosen, Options, RECORD_FORMAT, Recovery, State};

/// When it is opened.
pub(crate) const NOW: &str = "2026-11-23T22:00:00Z";

/// Its code.
pub(crate) const CODE: &str = "K7QF-2M9X-TR4P";

/// What its machine signs by.
pub(crate) fn signer(seed: u8) -> EventSigner {
    let token = hex::encode([seed; 32]);
    EventSigner::new("r-0123456789abcdef", &token).unwrap()
}

/// A recovery of this host that was just opened, for four hours.
pub(crate) fn opened(host: &str) -> Recovery {
    let now: Timestamp = NOW.parse().unwrap();
    Recovery {
        format: RECORD_FORMAT,
        id: "r-0123456789abcdef".into(),
        host: host.into(),
        session: Chosen {
            target: format!("host/{host}/s1/amd64"),
            digest: Digest::of(format!("host/{host}/s1").as_bytes()),
            time: now,
            captured: now,
            agent: "restic".into(),
            agent_session: "4bba301e".into(),
        },
        opened: now,
        opened_by: "alice".into(),
        deadline: now + SignedDuration::from_hours(4),
        options: Options::default(),
        code: CODE.parse::<Code>().unwrap().digest(),
        report_key: None,
        last_event: None,
        report_token: None,
        machine: None,
        wrong_codes: 0,
        changed: now,
        state: State::Opened,
    }
}

/// A machine.
pub(crate) fn machine(macs: &[&str], uuid: &str) -> Machine {
    Machine {
        macs: macs.iter().map(|it| (*it).into()).collect(),
        uuid: Some(uuid.into()),
        memory_kib: 1 << 20,
        ..Machine::default()
    }
}
