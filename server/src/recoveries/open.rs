//! Opening a recovery: a session that was chosen, a code, a deadline.

use std::time::Duration;
use towline_contract::Timestamp;
use towline_contract::recovery::Code;

use super::folder::{Recoveries, RecoveriesError};
use super::progress::Happened;
use super::record::{Chosen, Options, RECORD_FORMAT, Recovery, State};
use crate::catalogue::Published;

/// What an operator wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The session's layer.
    pub session: Chosen,
    /// The host.
    pub host: String,
    /// How long the code is good.
    pub life: Duration,
    /// How the recovery is done.
    pub options: Options,
    /// Who wants it.
    pub by: String,
}

/// The session in a host layer; none when the layer does not say which backup it belongs to.
#[must_use]
pub fn chosen(layer: &Published) -> Option<Chosen> {
    let session = layer.manifest.session.as_ref()?;
    Some(Chosen {
        target: layer.target.to_string(),
        digest: layer.manifest.digest,
        time: session.time,
        captured: session.captured,
        agent: session.backup.agent.clone(),
        agent_session: session.backup.session.clone(),
    })
}

/// The recovery as it begins, of random bytes for its name.
#[must_use]
pub fn opened(wanted: Wanted, code: &Code, random: [u8; 8], now: Timestamp) -> Recovery {
    Recovery {
        format: RECORD_FORMAT,
        id: format!("r-{}", hex::encode(random)),
        host: wanted.host,
        session: wanted.session,
        opened: now,
        opened_by: wanted.by,
        deadline: now.saturating_add(wanted.life).unwrap_or(Timestamp::MAX),
        options: wanted.options,
        code: code.digest(),
        report_key: None,
        last_event: None,
        report_token: None,
        machine: None,
        wrong_codes: 0,
        changed: now,
        state: State::Opened,
    }
}

impl Recoveries {
    /// Opens a recovery. Those of the same host that no machine has started are closed: one code of a host is good at a time.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn open(
        &self,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<(Recovery, Code), RecoveriesError> {
        let (code, mut random) = (new_code()?, [0; 8]);
        getrandom::fill(&mut random).map_err(RecoveriesError::Random)?;
        let recovery = opened(wanted, &code, random, now);
        let lock = self.lock()?;
        for earlier in self.all(now)? {
            if earlier.host == recovery.host && earlier.state == State::Opened {
                let why = format!("{} was opened instead", recovery.id);
                lock.record(&earlier, Happened::Closed { why }, now)?;
            }
        }
        lock.add(&recovery)?;
        Ok((recovery, code))
    }

    /// Closes a recovery: its code, its plan and its reports are of no use from now on. One that is over stays as it is.
    ///
    /// # Errors
    /// See [`RecoveriesError`].
    pub fn close(&self, id: &str, why: &str, now: Timestamp) -> Result<Recovery, RecoveriesError> {
        let lock = self.lock()?;
        let unknown = || RecoveriesError::Unknown(id.into());
        let recovery = self.get(id, now)?.ok_or_else(unknown)?;
        let why = why.to_owned();
        lock.record(&recovery, Happened::Closed { why }, now)
    }
}

fn new_code() -> Result<Code, RecoveriesError> {
    loop {
        let mut random = zeroize::Zeroizing::new([0; 64]);
        getrandom::fill(random.as_mut()).map_err(RecoveriesError::Random)?;
        // 64 bytes are too few for a code about never.
        if let Some(code) = Code::new(&random) {
            return Ok(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{NOW, machine, opened as fixture};
    use super::*;

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn wanted(host: &str) -> Wanted {
        Wanted {
            session: fixture(host).session,
            host: host.into(),
            life: Duration::from_secs(4 * 3600),
            options: Options::default(),
            by: "alice".into(),
        }
    }

    fn code_used() -> Happened {
        Happened::CodeUsed {
            machine: machine(&["52:54:00:00:00:01"], "a"),
            address: [192, 0, 2, 1].into(),
            report_key: None,
            chain: vec![],
        }
    }

    #[test]
    fn opening_another_closes_the_one_that_nobody_started_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let recoveries = Recoveries::new(dir.path().join("recoveries"));
        let (first, code) = recoveries.open(wanted("web1"), now()).unwrap();
        assert_eq!(first.code, code.digest());
        let (other, _) = recoveries.open(wanted("web2"), now()).unwrap();
        let (second, _) = recoveries.open(wanted("web1"), now()).unwrap();
        let lock = recoveries.lock().unwrap();
        lock.record(&second, code_used(), now()).unwrap();
        drop(lock);
        let (third, _) = recoveries.open(wanted("web1"), now()).unwrap();
        let state = |it: &Recovery| recoveries.get(&it.id, now()).unwrap().unwrap().state;
        assert!(
            matches!(state(&first), State::Closed { recovered: false, why } if why.contains(&second.id))
        );
        assert_eq!(state(&second), State::Started);
        assert_eq!(
            (state(&other), state(&third)),
            (State::Opened, State::Opened)
        );
    }
}
