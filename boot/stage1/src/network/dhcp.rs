//! DHCPv4 on one interface: asks until there is a lease, then keeps it.

use std::net::IpAddr;
use std::time::Duration;

use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};

use super::configure::Configuration;
use super::interfaces::Interface;

/// Longest before asking anew. RFC 2131 waits up to 64 seconds between questions; behind a switch whose port opens after
/// 50 seconds (spanning tree) the next question must not be a minute away.
const ASK_AGAIN_SECONDS: u32 = 14;

/// Pause after an error, so that a broken interface does not keep the processor busy.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks for a lease and gives each new or renewed one to `found`; ends when `found` says so.
pub(super) async fn keep_lease(
    interface: &Interface,
    mut found: impl FnMut(Configuration) -> bool,
) {
    let Some(mac) = interface.mac_bytes() else {
        return;
    };
    loop {
        let mut config = DhcpV4Config::new(&interface.name);
        config
            .set_iface_index(interface.index)
            .set_timeout_sec(ASK_AGAIN_SECONDS);
        if config.set_iface_mac_raw(&mac).is_err() {
            return;
        }
        config.use_mac_as_client_id();
        let Ok(mut client) = DhcpV4Client::init(config, None).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // An error ends this client, not the asking: no offer in time, a refused or an expired lease.
        while let Ok(state) = client.run().await {
            if let DhcpV4State::Done(lease) = state
                && !found(configuration(&lease))
            {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a lease gives to its interface.
fn configuration(lease: &DhcpV4Lease) -> Configuration {
    let classless = lease.classless_routes.as_deref().unwrap_or_default();
    let routes = classless
        .iter()
        .map(|it| (it.destination, it.prefix_length, it.router));
    // RFC 3442: with option 121 the router option does not count.
    let gateways = lease.gateways.as_deref().unwrap_or_default();
    let gateway = if classless.is_empty() {
        gateways.first().copied()
    } else {
        None
    };
    let name_servers = lease.dns_srvs.as_deref().unwrap_or_default();
    Configuration {
        // Without a mask there is nothing on the link but the gateway.
        address: Some((
            lease.yiaddr,
            if lease.prefix_length() == 0 {
                32
            } else {
                lease.prefix_length()
            },
        )),
        gateway,
        routes: routes.filter(|(_, length, _)| *length <= 32).collect(),
        mtu: lease.mtu,
        name_servers: name_servers.iter().copied().map(IpAddr::V4).collect(),
        domain: lease.domain_name.clone(),
    }
}
