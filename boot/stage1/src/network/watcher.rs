//! The task that owns the interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use towline_contract::stamp;

use super::address::parse_cidr;
use super::configure::{self, Configuration};
use super::interfaces::{Interface, interfaces};
use super::netlink::Netlink;
use super::{NetworkError, dhcp};
use crate::progress::Progress;

/// Time between two looks at the interfaces.
const LOOK: Duration = Duration::from_millis(300);

/// Metric of the preferred interface's default route; the others follow by one each. Anything that an operator adds by
/// hand, at metric 0, wins.
const METRIC: u32 = 100;

/// What an interface is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Up, and nothing on the other end.
    NoLink,
    /// Asking for an address.
    Asking,
    /// Up, and not used: another one has the static address.
    Unused,
    /// It has an address.
    Ready(Configuration),
    /// It cannot be used, for this reason.
    Failed(String),
}

/// One interface and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The interface.
    pub interface: Interface,
    /// Its state.
    pub state: LinkState,
}

impl Status {
    /// Whether it has an address.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, LinkState::Ready(_))
    }

    /// Whether it is asking for one.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.state == LinkState::Asking
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.interface)?;
        match &self.state {
            LinkState::NoLink => f.write_str("no link (cable or switch port)"),
            LinkState::Asking => f.write_str("link up, asking for an address (DHCP)"),
            LinkState::Unused => f.write_str("link up, not used"),
            LinkState::Failed(why) => f.write_str(why),
            LinkState::Ready(configuration) => match configuration.address {
                Some((address, length)) => write!(f, "{address}/{length}"),
                None => f.write_str("no address"),
            },
        }
    }
}

/// What others want from the watcher.
#[derive(Debug)]
pub(super) enum Request {
    PreferNext,
    Forget(oneshot::Sender<()>),
    Quiesce(oneshot::Sender<()>),
}

/// A configuration found for the interface with this number.
type Found = (u32, Configuration);

pub(super) struct Watcher {
    netlink: Netlink,
    fixed: Option<Configuration>,
    /// Name or MAC address of the interface for the static address.
    wanted: Option<String>,
    name_servers: Vec<IpAddr>,
    links: BTreeMap<u32, Link>,
    /// Position, among those that are ready, of the interface with the lowest metric.
    preferred: usize,
    progress: Arc<dyn Progress>,
    requests: mpsc::Receiver<Request>,
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    states: watch::Sender<Vec<Status>>,
}

struct Link {
    status: Status,
    lease: Option<JoinHandle<()>>,
    metric: Option<u32>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.abort();
        }
    }
}

type Parts = (Watcher, mpsc::Sender<Request>, watch::Receiver<Vec<Status>>);

impl Watcher {
    pub(super) fn new(
        settings: &stamp::Network,
        progress: Arc<dyn Progress>,
    ) -> Result<Parts, NetworkError> {
        let (fixed, name_servers) = fixed(settings)?;
        let netlink = Netlink::open().map_err(NetworkError::Netlink)?;
        let (ask, requests) = mpsc::channel(4);
        let (states, seen) = watch::channel(Vec::new());
        let watcher = Self {
            netlink,
            fixed,
            wanted: settings.interface.clone(),
            name_servers,
            links: BTreeMap::new(),
            preferred: 0,
            progress,
            requests,
            found: mpsc::channel(16),
            states,
        };
        Ok((watcher, ask, seen))
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.look(),
                Some((index, configuration)) = self.found.1.recv() => self.apply(index, configuration),
                request = self.requests.recv() => match request {
                    Some(Request::PreferNext) => self.prefer_next(),
                    Some(Request::Quiesce(done)) => {
                        self.quiesce();
                        // Whoever asked may have given up waiting.
                        let _ = done.send(());
                        return;
                    }
                    Some(Request::Forget(done)) => {
                        self.forget();
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    /// Takes notice of interfaces that came, went, or changed.
    fn look(&mut self) {
        let now = interfaces();
        self.links
            .retain(|index, _| now.iter().any(|it| it.index == *index));
        for interface in now {
            let index = interface.index;
            if !self.links.contains_key(&index) {
                self.start(interface.clone());
            }
            self.follow(&interface);
        }
        self.publish();
    }

    fn start(&mut self, interface: Interface) {
        let state = match configure::up(&interface.name) {
            Ok(()) => LinkState::NoLink,
            Err(error) => LinkState::Failed(format!("cannot be brought up: {error}")),
        };
        let status = Status { interface, state };
        // Most cards need a moment to find their link; only what lasts is worth a line.
        if !matches!(status.state, LinkState::NoLink) {
            self.progress.warn(format_args!("{status}"));
        }
        let link = Link {
            status,
            lease: None,
            metric: None,
        };
        self.links.insert(link.status.interface.index, link);
    }

    /// Moves one interface from one state to the next.
    fn follow(&mut self, interface: &Interface) {
        let Some(link) = self.links.get_mut(&interface.index) else {
            return;
        };
        let lost = link.status.interface.carrier && !interface.carrier;
        link.status.interface = interface.clone();
        match (&link.status.state, interface.carrier) {
            (LinkState::NoLink, true) => self.ask(interface),
            (LinkState::Asking | LinkState::Unused, false) => {
                link.lease = None;
                self.set(interface.index, LinkState::NoLink);
            }
            // The address stays: a link that comes back goes on where it was.
            (LinkState::Ready(_), false) if lost => {
                self.progress
                    .warn(format_args!("{interface}: the link is lost"));
            }
            _ => {}
        }
    }

    /// There is a link: gives it the static address, or asks for one.
    fn ask(&mut self, interface: &Interface) {
        let index = interface.index;
        let Some(fixed) = &self.fixed else {
            let (found, interface) = (self.found.0.clone(), interface.clone());
            let lease = tokio::spawn(async move {
                dhcp::keep_lease(&interface, |it| found.try_send((index, it)).is_ok()).await;
            });
            if let Some(link) = self.links.get_mut(&index) {
                link.lease = Some(lease);
            }
            return self.set(index, LinkState::Asking);
        };
        let wanted = match &self.wanted {
            Some(wanted) => interface.is_called(wanted),
            None => !self.links.values().any(|it| it.status.is_ready()),
        };
        match wanted {
            true => self.apply(index, fixed.clone()),
            false => self.set(index, LinkState::Unused),
        }
    }

    fn apply(&mut self, index: u32, configuration: Configuration) {
        let ready = self
            .links
            .values()
            .filter(|it| it.status.is_ready())
            .count();
        let Some(link) = self.links.get_mut(&index) else {
            return;
        };
        let offset = u32::try_from(ready).unwrap_or(0);
        let metric = *link.metric.get_or_insert(METRIC + offset);
        let interface = link.status.interface.clone();
        match configure::apply(&mut self.netlink, &interface, &configuration, metric) {
            Ok(()) => self.set(index, LinkState::Ready(configuration)),
            Err(error) => self.set(
                index,
                LinkState::Failed(format!("cannot be configured: {error}")),
            ),
        }
        self.write_resolver();
        self.publish();
    }

    fn write_resolver(&self) {
        let ready = || {
            self.links.values().filter_map(|it| match &it.status.state {
                LinkState::Ready(configuration) => Some(configuration),
                _ => None,
            })
        };
        let found = ready().flat_map(|it| it.name_servers.iter().copied());
        let all: Vec<_> = self.name_servers.iter().copied().chain(found).collect();
        let domain = ready().find_map(|it| it.domain.as_deref());
        if let Err(error) = configure::write_resolver(&all, domain) {
            self.progress
                .warn(format_args!("cannot write /etc/resolv.conf: {error}"));
        }
    }

    /// Gives the next interface the lowest metric.
    fn prefer_next(&mut self) {
        let ready: Vec<u32> = self
            .links
            .iter()
            .filter(|(_, it)| it.status.is_ready())
            .map(|(index, _)| *index)
            .collect();
        if ready.len() < 2 {
            return;
        }
        self.preferred = (self.preferred + 1) % ready.len();
        for (position, index) in ready.iter().enumerate() {
            let place = (position + ready.len() - self.preferred) % ready.len();
            let metric = METRIC + u32::try_from(place).unwrap_or(0);
            let Some(link) = self.links.get_mut(index) else {
                continue;
            };
            let LinkState::Ready(configuration) = link.status.state.clone() else {
                continue;
            };
            let interface = link.status.interface.clone();
            let old = link.metric.replace(metric);
            if place == 0 {
                self.progress
                    .note(format_args!("{interface}: preferred from now on"));
            }
            // A route that is gone already needs no deleting; one that cannot be added is seen when it is used.
            if let Some(old) = old {
                configure::forget_routes(&mut self.netlink, &interface, &configuration, old);
            }
            let _ = configure::apply(&mut self.netlink, &interface, &configuration, metric);
        }
    }

    fn forget(&mut self) {
        for link in std::mem::take(&mut self.links).into_values() {
            if let (LinkState::Ready(configuration), Some(metric)) =
                (&link.status.state, link.metric)
            {
                let interface = &link.status.interface;
                configure::forget(&mut self.netlink, interface, configuration, metric);
            }
        }
    }

    fn quiesce(&mut self) {
        for link in std::mem::take(&mut self.links).into_values() {
            // The kernel that follows resets the card if this one cannot.
            let _ = configure::down(&link.status.interface.name);
        }
    }

    fn set(&mut self, index: u32, state: LinkState) {
        let Some(link) = self.links.get_mut(&index) else {
            return;
        };
        if link.status.state != state {
            link.status.state = state;
            self.progress.note(format_args!("{}", link.status));
        }
    }

    fn publish(&self) {
        let now: Vec<_> = self.links.values().map(|it| it.status.clone()).collect();
        self.states.send_if_modified(|states| {
            let changed = *states != now;
            *states = now;
            changed
        });
    }
}

/// The static configuration in the settings, if there is one, and the name servers that come before those of DHCP.
fn fixed(settings: &stamp::Network) -> Result<(Option<Configuration>, Vec<IpAddr>), NetworkError> {
    let servers = settings.name_servers.iter().map(|it| it.parse());
    let servers: Vec<IpAddr> = servers
        .collect::<Result<_, _>>()
        .map_err(|_| NetworkError::Settings("a name server is an IP address"))?;
    let Some(address) = &settings.address else {
        return Ok((None, servers));
    };
    let gateway = settings.gateway.as_ref().map(|it| it.parse()).transpose();
    let configuration = Configuration {
        address: Some(parse_cidr(address).map_err(NetworkError::Settings)?),
        gateway: gateway.map_err(|_| NetworkError::Settings("the gateway is an IPv4 address"))?,
        ..Configuration::default()
    };
    Ok((Some(configuration), servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_settings_that_are_no_addresses_are_refused() {
        let network = |address: &str, gateway: &str, server: &str| stamp::Network {
            address: Some(address.into()),
            gateway: Some(gateway.into()),
            name_servers: vec![server.into()],
            interface: None,
        };
        assert!(fixed(&network("192.0.2.7/24", "192.0.2.1", "192.0.2.53")).is_ok());
        assert!(fixed(&network("192.0.2.7", "192.0.2.1", "192.0.2.53")).is_err());
        assert!(fixed(&network("192.0.2.7/24", "gateway", "192.0.2.53")).is_err());
        assert!(fixed(&network("192.0.2.7/24", "192.0.2.1", "ns.example")).is_err());
    }
}
