//! Gives an interface its address, routes and MTU. Every change can be made again without harm: leases are renewed, and
//! the rescue system repeats what stage 1 did.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use super::interfaces::Interface;
use super::netlink::{Netlink, Route};

/// `IFF_UP` (netdevice(7)).
const IFF_UP: u32 = 1;

/// What one interface is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Address and prefix length.
    pub address: Option<(Ipv4Addr, u8)>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// More routes: destination, prefix length, gateway.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// MTU, in bytes.
    pub mtu: Option<u16>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// Domain for short names.
    pub domain: Option<String>,
}

/// Smallest MTU that is taken from a DHCP server: what IPv4 requires of any link to carry a datagram of 576 bytes
/// (RFC 791). A smaller one would be a mistake or an attack.
const MTU_BYTES_MIN: u16 = 576;

/// Brings an interface up, so that it can find a link.
pub(super) fn up(interface: &str) -> io::Result<()> {
    change_flags(interface, |flags| flags | IFF_UP)
}

/// Takes an interface down: it stops DMA, which must not go on into another kernel.
pub(super) fn down(interface: &str) -> io::Result<()> {
    change_flags(interface, |flags| flags & !IFF_UP)
}

fn change_flags(interface: &str, change: impl Fn(u32) -> u32) -> io::Result<()> {
    let path = format!("/sys/class/net/{interface}/flags");
    let text = fs::read_to_string(&path)?;
    let flags = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16);
    fs::write(
        &path,
        format!("{:#x}", change(flags.map_err(io::Error::other)?)),
    )
}

/// Applies a configuration. `metric` orders the default routes of several interfaces; the lowest is used.
pub(super) fn apply(
    netlink: &mut Netlink,
    interface: &Interface,
    configuration: &Configuration,
    metric: u32,
) -> io::Result<()> {
    if let Some(mtu) = configuration.mtu.filter(|mtu| *mtu >= MTU_BYTES_MIN) {
        // A card that cannot do this MTU works with its own.
        let _ = fs::write(
            format!("/sys/class/net/{}/mtu", interface.name),
            mtu.to_string(),
        );
    }
    if let Some((address, length)) = configuration.address {
        netlink.add_address(interface.index, address, length)?;
    }
    for route in routes(configuration) {
        netlink.add_route(interface.index, route, metric)?;
    }
    Ok(())
}

/// Removes the routes of a configuration, as far as they are there.
pub(super) fn forget_routes(
    netlink: &mut Netlink,
    interface: &Interface,
    configuration: &Configuration,
    metric: u32,
) {
    for route in routes(configuration) {
        // One that is gone already is what is wanted.
        let _ = netlink.remove_route(interface.index, route, metric);
    }
}

/// Takes all of a configuration away.
pub(super) fn forget(
    netlink: &mut Netlink,
    interface: &Interface,
    configuration: &Configuration,
    metric: u32,
) {
    forget_routes(netlink, interface, configuration, metric);
    if let Some((address, length)) = configuration.address {
        let _ = netlink.remove_address(interface.index, address, length);
    }
}

fn routes(configuration: &Configuration) -> impl Iterator<Item = Route> {
    let default = configuration
        .gateway
        .map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway));
    configuration.routes.iter().copied().chain(default)
}

/// Writes `/etc/resolv.conf`; glibc reads at most three name servers of it.
pub(super) fn write_resolver(name_servers: &[IpAddr], domain: Option<&str>) -> io::Result<()> {
    let text = resolver_text(name_servers, domain);
    fs::create_dir_all("/etc")?;
    // A base may ship a link to a resolver that does not run here.
    if fs::symlink_metadata("/etc/resolv.conf").is_ok_and(|it| it.is_symlink()) {
        fs::remove_file("/etc/resolv.conf")?;
    }
    fs::File::create("/etc/resolv.conf")?.write_all(text.as_bytes())
}

fn resolver_text(name_servers: &[IpAddr], domain: Option<&str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    // From DHCP: only what can be a domain reaches the file.
    let plain = |it: &&str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        !it.is_empty() && it.len() <= 253 && it.bytes().all(letter)
    };
    lines.extend(
        domain
            .filter(plain)
            .map(|domain| format!("search {domain}\n")),
    );
    for server in name_servers {
        let line = format!("nameserver {server}\n");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_from_dhcp_cannot_write_other_lines_into_resolv_conf() {
        let servers = [
            IpAddr::V4([192, 0, 2, 53].into()),
            IpAddr::V4([192, 0, 2, 53].into()),
        ];
        assert_eq!(
            resolver_text(&servers, Some("example.org")),
            "search example.org\nnameserver 192.0.2.53\n"
        );
        let text = resolver_text(&servers, Some("x\nnameserver 203.0.113.1"));
        assert_eq!(text, "nameserver 192.0.2.53\n");
    }
}
