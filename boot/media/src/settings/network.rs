//! The network that a machine is told: by DHCP, or by fixed addresses that fit together.

use std::net::{IpAddr, Ipv4Addr};

use towline_contract::stamp::Network;

use super::SettingsError;

/// Longest interface name (IFNAMSIZ of linux/if.h, less the NUL).
const INTERFACE_BYTES_MAX: usize = 15;

/// `dhcp`, or `address=CIDR,gateway=IP,dns=IP,interface=IF`; `dns` may be repeated, and everything but the address left out.
///
/// # Errors
/// Anything else; a gateway or name server of the other address family; a gateway outside the address's network.
pub fn network(text: &str) -> Result<Network, SettingsError> {
    let refuse = |what: String| SettingsError::Network {
        text: text.to_owned(),
        what,
    };
    let mut network = Network::default();
    if text == "dhcp" {
        return Ok(network);
    }
    for part in text.split(',') {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| refuse(format!("{part:?} is not of the form NAME=VALUE")))?;
        let ip = || {
            value
                .parse::<IpAddr>()
                .map_err(|_| refuse(format!("{value:?} is no IP address")))
        };
        let once = |there: &Option<String>| match there {
            Some(_) => Err(refuse(format!("{name} is given twice"))),
            None => Ok(()),
        };
        match name {
            "address" => {
                once(&network.address)?;
                cidr(value).map_err(refuse)?;
                network.address = Some(value.to_owned());
            }
            "gateway" => {
                once(&network.gateway)?;
                network.gateway = Some(ip()?.to_string());
            }
            "dns" => network.name_servers.push(ip()?.to_string()),
            "interface" => {
                once(&network.interface)?;
                interface(value).map_err(refuse)?;
                network.interface = Some(value.to_owned());
            }
            other => {
                return Err(refuse(format!(
                    "{other:?} is not known: address, gateway, dns, interface"
                )));
            }
        }
    }
    fits(&network).map_err(refuse)?;
    Ok(network)
}

/// Checks what the parts say together.
fn fits(network: &Network) -> Result<(), String> {
    let Some(address) = &network.address else {
        return match &network.gateway {
            Some(_) => Err("a gateway without an address".into()),
            None => Ok(()),
        };
    };
    let (address, prefix) = cidr(address)?;
    let Some(gateway) = &network.gateway else {
        return Ok(());
    };
    let gateway: IpAddr = gateway
        .parse()
        .map_err(|_| "the gateway is no IP address".to_owned())?;
    if address == gateway {
        return Err("the address and the gateway are the same".into());
    }
    match (address, gateway) {
        (IpAddr::V4(address), IpAddr::V4(gateway)) => {
            // Point-to-point addresses (/31, /32) reach gateways that are not in their network.
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            if prefix < 31 && (u32::from(address) ^ u32::from(gateway)) & mask != 0 {
                return Err(format!(
                    "the gateway is not in the network of {address}/{prefix}"
                ));
            }
            Ok(())
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => Ok(()), // often a link-local address
        _ => Err("the address and the gateway are of different families".into()),
    }
}

/// Address and prefix length of `ADDRESS/PREFIX`.
fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("{text:?} is no address in CIDR notation, such as 192.0.2.7/24");
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let prefix_max = if address.is_ipv4() { 32 } else { 128 };
    let prefix = Some(prefix).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
    let prefix: u8 = prefix.and_then(|p| p.parse().ok()).ok_or_else(bad)?;
    let is_host =
        !address.is_unspecified() && !address.is_multicast() && address != Ipv4Addr::BROADCAST;
    if !(1..=prefix_max).contains(&prefix) || !is_host {
        return Err(bad());
    }
    Ok((address, prefix))
}

/// An interface's name (as the kernel takes it) or MAC address.
fn interface(text: &str) -> Result<(), String> {
    let pairs: Vec<_> = text.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    let is_mac = pairs.len() == 6 && pairs.iter().all(is_pair);
    let is_name = (1..=INTERFACE_BYTES_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_mac || is_name {
        Ok(())
    } else {
        Err(format!("{text:?} is no interface name or MAC address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_network_is_taken_apart() {
        assert_eq!(network("dhcp").unwrap(), Network::default());
        let wanted = Network {
            address: Some("192.0.2.7/24".into()),
            gateway: Some("192.0.2.1".into()),
            name_servers: vec!["192.0.2.53".into(), "2001:db8::53".into()],
            interface: Some("02:00:00:00:00:01".into()),
        };
        let text = "address=192.0.2.7/24,gateway=192.0.2.1,dns=192.0.2.53,dns=2001:db8::53,interface=02:00:00:00:00:01";
        assert_eq!(network(text).unwrap(), wanted);
        assert_eq!(
            network("dns=192.0.2.53").unwrap().name_servers,
            ["192.0.2.53"]
        );
        assert!(network("address=192.0.2.7/32,gateway=198.51.100.1").is_ok());
    }

    #[test]
    fn a_network_that_cannot_work_is_refused() {
        for bad in [
            "",
            "DHCP",
            "address=192.0.2.7",
            "address=192.0.2.7/33",
            "address=192.0.2.7/+8",
            "address=0.0.0.0/24",
            "address=192.0.2.7/24,address=192.0.2.8/24",
            "address=192.0.2.7/24,gateway=192.0.3.1",
            "address=192.0.2.7/24,gateway=2001:db8::1",
            "address=192.0.2.7/24,gateway=192.0.2.7",
            "gateway=192.0.2.1",
            "dns=ns.example",
            "interface=far-too-long-a-name",
            "interface=eth0/../x",
            "mtu=9000",
        ] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
