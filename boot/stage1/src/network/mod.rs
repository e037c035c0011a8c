//! The network: every interface is brought up and asked for at once, because nobody knows which cable is the right one.
//!
//! A watcher task owns the interfaces for as long as [`Network`] lives: it starts new ones, tells the consoles of each
//! one's state, and keeps leases. Settings from the stamp, the command line or the menu give a static address instead.

pub mod address;
mod configure;
mod dhcp;
mod interfaces;
mod netlink;
mod watcher;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use towline_contract::stamp;

use crate::progress::Progress;
pub use configure::Configuration;
pub use interfaces::{Interface, interfaces};
pub use watcher::{LinkState, Status};
use watcher::{Request, Watcher};

/// Longest wait for the first address. Spanning tree and LACP take 50 to 70 seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long the first interface with an address waits for others that are still asking.
const GRACE: Duration = Duration::from_secs(3);

/// Time between two looks at what else could be done while no address is there.
const TICK: Duration = Duration::from_secs(2);

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel's interface for this does not work.
    #[error("the kernel's network does not let itself be configured")]
    Netlink(#[source] std::io::Error),
    /// There is no interface at all.
    #[error("there is no network card that this medium has a driver for")]
    NoInterface,
    /// No cable, or nobody answers.
    #[error("no network card got an address in {} s: {states}", PATIENCE.as_secs())]
    NoAddress {
        /// Each interface with its state.
        states: String,
    },
    /// The settings cannot be used.
    #[error("the network settings cannot be used: {0}")]
    Settings(&'static str),
}

impl NetworkError {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Netlink(_) => "start again",
            Self::NoInterface => {
                "use another network card, or build the medium with the driver or firmware named above"
            }
            Self::NoAddress { .. } => {
                "check cable and switch port, or give an address under \"network settings\""
            }
            Self::Settings(_) => "correct them under \"network settings\"",
        }
    }
}

/// The network, up. Leases are kept while it lives.
#[derive(Debug)]
pub struct Network {
    requests: mpsc::Sender<Request>,
    states: watch::Receiver<Vec<Status>>,
    watcher: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Brings every interface up and waits until one has an address. `meanwhile` is called now and then during the wait, to
/// look for hardware that appears late.
///
/// # Errors
/// Nothing got an address within [`PATIENCE`].
pub async fn bring_up(
    settings: &stamp::Network,
    progress: Arc<dyn Progress>,
    meanwhile: &mut dyn FnMut(),
) -> Result<Network, NetworkError> {
    let (watcher, requests, states) = Watcher::new(settings, progress)?;
    let mut network = Network {
        requests,
        states,
        watcher: tokio::spawn(watcher.run()),
    };
    network.wait(meanwhile).await?;
    Ok(network)
}

impl Network {
    async fn wait(&mut self, meanwhile: &mut dyn FnMut()) -> Result<(), NetworkError> {
        let deadline = Instant::now() + PATIENCE;
        let mut ready_since: Option<Instant> = None;
        loop {
            let states = self.states.borrow_and_update().clone();
            if states.iter().any(Status::is_ready) {
                let since = *ready_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= GRACE || !states.iter().any(Status::is_asking) {
                    return Ok(());
                }
            } else if Instant::now() >= deadline {
                return Err(no_address(&states));
            }
            let tick = if ready_since.is_some() {
                GRACE / 6
            } else {
                TICK
            };
            match tokio::time::timeout(tick, self.states.changed()).await {
                Ok(Ok(())) => {}
                // The watcher is gone: nothing will change any more.
                Ok(Err(_)) => return Err(no_address(&states)),
                Err(_) => meanwhile(),
            }
        }
    }

    /// Each interface with its state.
    #[must_use]
    pub fn states(&self) -> Vec<Status> {
        self.states.borrow().clone()
    }

    /// Sends what has no nearer route through the next interface that has an address. False when there is only one.
    pub async fn prefer_next(&self) -> bool {
        let several = self.states().iter().filter(|it| it.is_ready()).count() > 1;
        several && self.requests.send(Request::PreferNext).await.is_ok()
    }

    /// Takes addresses and routes away, to make room for other settings; links stay up.
    pub async fn forget(self) {
        self.end(Request::Forget).await;
    }

    /// Takes every interface down, so that no card writes into memory that belongs to another kernel.
    pub async fn quiesce(self) {
        self.end(Request::Quiesce).await;
    }

    /// Sends a request after which the watcher ends, and waits for its end.
    async fn end(&self, request: impl FnOnce(oneshot::Sender<()>) -> Request) {
        let (done, wait) = oneshot::channel();
        if self.requests.send(request(done)).await.is_ok() {
            // The watcher answers at once, or is gone.
            let _ = tokio::time::timeout(Duration::from_secs(10), wait).await;
        }
    }
}

/// Brings the loopback interface up; programs of the rescue system talk to themselves.
///
/// # Errors
/// The kernel does not let it.
pub fn loopback_up() -> Result<(), NetworkError> {
    configure::up("lo").map_err(NetworkError::Netlink)
}

fn no_address(states: &[Status]) -> NetworkError {
    if states.is_empty() {
        return NetworkError::NoInterface;
    }
    let states: Vec<_> = states.iter().map(ToString::to_string).collect();
    NetworkError::NoAddress {
        states: states.join("; "),
    }
}
