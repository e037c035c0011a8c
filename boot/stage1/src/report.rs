//! Tells the server what this boot does. For people only: nothing depends on whether it listens.

use std::time::Duration;

use towline_contract::Secret;
use towline_contract::event::{Event, What};

use crate::console::uptime;
use crate::fetch::{Client, FetchError, Planned, Server};

/// Longest wait for one event to arrive.
const WAIT: Duration = Duration::from_secs(10);

/// Reports one boot to one server.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    server: Server,
    recovery: String,
    token: Option<Secret>,
}

impl Reporter {
    /// Reports to `server` under the boot's identifier.
    #[must_use]
    pub fn new(client: Client, server: Server, recovery: &str) -> Self {
        Self {
            client,
            server,
            recovery: recovery.to_owned(),
            token: None,
        }
    }

    /// The same, with the token of an open recovery.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// Reports to the server that gave the plan, on connections that are checked in full.
    #[must_use]
    pub fn of(planned: &Planned) -> Self {
        let (client, server) = (planned.client.clone(), planned.server.clone());
        Self {
            token: planned.report_token.clone(),
            ..Self::new(client, server, &planned.chain.plan.recovery)
        }
    }

    /// Sends an event and waits for the answer.
    ///
    /// # Errors
    /// The server cannot be reached, or does not take it.
    pub async fn send(&self, what: What) -> Result<(), FetchError> {
        let (recovery, uptime_seconds) = (self.recovery.clone(), uptime().as_secs());
        let event = Event {
            recovery,
            // Not for everybody on the way to hear.
            token: self.token.clone().filter(|_| self.server.https()),
            uptime_seconds,
            what,
        };
        let send = async {
            let mut connection = self.client.connect(&self.server).await?;
            connection.post_event(&event).await
        };
        let stalled = |_| FetchError::Stalled {
            server: self.server.to_string(),
            seconds: WAIT.as_secs(),
        };
        tokio::time::timeout(WAIT, send).await.map_err(stalled)?
    }

    /// Sends an event while the boot goes on.
    pub fn send_meanwhile(&self, what: What) {
        let reporter = self.clone();
        tokio::spawn(async move {
            // The person at the machine sees the same on the console.
            let _ = reporter.send(what).await;
        });
    }
}
