//! Tells the servers how the recovery goes. A recovery never waits long for them, and never fails by them.

use std::time::{Duration, Instant};

use towline_contract::event::What;
use towline_contract::handover::HandOverNote;

use crate::clock;
use crate::fetch::{Client, Server, TlsTime};
use crate::report::Reporter;

/// Tries of an event that the recovery's report needs, and the pause between them: as long as a server takes to restart.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(5);

/// The servers of a recovery.
#[derive(Clone)]
pub(super) struct Reports(Vec<Reporter>);

impl Reports {
    /// The servers of the note; reports bear `token`. Nobody, if the note has none that can be used.
    pub(super) fn new(note: &HandOverNote, token: &str) -> Self {
        Self::to(&note.servers, &note.ca, &note.recovery, token)
    }

    /// The same from its parts.
    pub(super) fn to(servers: &[String], ca: &[String], recovery: &str, token: &str) -> Self {
        let time = TlsTime::Proven {
            time: clock::now(),
            since: Instant::now(),
        };
        let Ok(client) = Client::new(ca, time) else {
            return Self(Vec::new());
        };
        let servers = servers.iter().filter_map(|it| Server::parse(it).ok());
        let reporter =
            |server| Reporter::new(client.clone(), server, recovery).with_token(token.to_owned());
        Self(servers.map(reporter).collect())
    }

    /// Tells one of the servers, once; true if it listened.
    pub(super) async fn try_once(&self, what: &What) -> bool {
        for reporter in &self.0 {
            if reporter.send(what.clone()).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Tells one of the servers, more than once if need be.
    pub(super) async fn tell(&self, what: What) -> bool {
        let tries = if self.0.is_empty() { 0 } else { TRIES };
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            if self.try_once(&what).await {
                return true;
            }
        }
        false
    }

    /// Tells one of the servers while the work goes on.
    pub(super) fn tell_meanwhile(&self, what: What) {
        let reports = self.clone();
        tokio::spawn(async move {
            let _ = reports.try_once(&what).await;
        });
    }
}
