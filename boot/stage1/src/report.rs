//! Tells the server what this boot does. For people only: nothing here depends on whether it listens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use towline_contract::event::{Event, Part, What};
use towline_contract::trust::EventSigner;

use crate::console::uptime;
use crate::fetch::{Client, FetchError, Planned, Server};

/// Longest wait for one event to arrive, and for those before it.
const WAIT: Duration = Duration::from_secs(10);

/// Reports one boot to one server.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    server: Server,
    recovery: String,
    signer: Option<EventSigner>,
    /// Held by whoever sends: an event gets its number when its turn comes, so that none overtakes another.
    turn: Arc<Mutex<()>>,
}

impl Reporter {
    /// Reports to `server` under the boot's identifier.
    #[must_use]
    pub fn new(client: Client, server: Server, recovery: &str) -> Self {
        Self {
            client,
            server,
            recovery: recovery.to_owned(),
            signer: None,
            turn: Arc::default(),
        }
    }

    /// The same, signing by the token of an open recovery. One that is no key signs nothing.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.signer = EventSigner::new(&self.recovery, token);
        self
    }

    /// Reports to the server that gave the plan, on connections that are checked in full.
    #[must_use]
    pub fn of(planned: &Planned) -> Self {
        let (client, server) = (planned.client.clone(), planned.server.clone());
        let reporter = Self::new(client, server, &planned.chain.plan.recovery);
        match &planned.report_token {
            Some(token) => reporter.with_token(token),
            None => reporter,
        }
    }

    /// Sends an event of stage 1 and waits for the answer.
    ///
    /// # Errors
    /// The server cannot be reached, or does not take it.
    pub async fn send(&self, what: What) -> Result<(), FetchError> {
        let send = async {
            let _turn = self.turn.lock().await;
            let event = Event::new(&self.recovery, Part::Stage1, uptime(), what);
            self.post(&event).await
        };
        self.in_time(send).await
    }

    /// Sends an event of whatever part, which may have been sent before, and waits for the answer.
    ///
    /// # Errors
    /// The server cannot be reached, or does not take it.
    pub async fn send_event(&self, event: &Event) -> Result<(), FetchError> {
        self.in_time(self.post(event)).await
    }

    async fn post(&self, event: &Event) -> Result<(), FetchError> {
        let mut connection = self.client.connect(&self.server).await?;
        connection.post_event(event, self.signer.as_ref()).await
    }

    async fn in_time(
        &self,
        send: impl Future<Output = Result<(), FetchError>>,
    ) -> Result<(), FetchError> {
        let stalled = |_| FetchError::Stalled {
            server: self.server.to_string(),
            seconds: WAIT.as_secs(),
        };
        tokio::time::timeout(WAIT, send).await.map_err(stalled)?
    }

    /// Sends an event of stage 1 while the boot goes on.
    pub fn send_meanwhile(&self, what: What) {
        let reporter = self.clone();
        tokio::spawn(async move {
            // The person at the machine sees the same on the console.
            let _ = reporter.send(what).await;
        });
    }
}
