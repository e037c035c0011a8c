//! The network interfaces of this machine, as `sysfs` shows them.

use std::fs;
use std::path::Path;

/// `ARPHRD_ETHER` (linux/if_arp.h).
const ETHERNET: u32 = 1;

/// One physical Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it; names may change, numbers do not.
    pub index: u32,
    /// Name, such as `eth0`.
    pub name: String,
    /// MAC address, in lower-case hex with colons.
    pub mac: String,
    /// The driver's name, if it says so.
    pub driver: Option<String>,
    /// Whether there is a link: cable, partner, speed. `false` also while the interface is down.
    pub carrier: bool,
}

impl Interface {
    /// Whether an operator meant this one by `text`, a name or a MAC address.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        self.name == text || self.mac.eq_ignore_ascii_case(text)
    }

    /// The MAC address's bytes.
    #[must_use]
    pub fn mac_bytes(&self) -> Option<[u8; 6]> {
        let mut bytes = [0; 6];
        let mut parts = self.mac.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(bytes)
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.name, self.mac)?;
        match &self.driver {
            Some(driver) => write!(f, ", {driver})"),
            None => f.write_str(")"),
        }
    }
}

/// All Ethernet interfaces but loopback, bridges' ports and the like, by number.
#[must_use]
pub fn interfaces() -> Vec<Interface> {
    let entries = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| interface(&entry.path()))
        .collect();
    found.sort_by_key(|it| it.index);
    found
}

fn interface(path: &Path) -> Option<Interface> {
    let text = |name: &str| {
        let text = fs::read_to_string(path.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let kind: u32 = text("type")?.parse().ok()?;
    if kind != ETHERNET || path.join("master").exists() {
        return None;
    }
    let driver = fs::read_link(path.join("device/driver")).ok();
    Some(Interface {
        index: text("ifindex")?.parse().ok()?,
        name: path.file_name()?.to_str()?.to_owned(),
        mac: text("address")?,
        driver: driver.and_then(|it| Some(it.file_name()?.to_str()?.to_owned())),
        // Reading it is an error while the interface is down.
        carrier: text("carrier").as_deref() == Some("1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_meant_by_its_name_or_its_mac_in_any_case() {
        let interface = Interface {
            index: 2,
            name: "eth0".into(),
            mac: "52:54:00:ab:cd:ef".into(),
            driver: None,
            carrier: true,
        };
        assert!(interface.is_called("eth0") && interface.is_called("52:54:00:AB:CD:EF"));
        assert!(!interface.is_called("eth1") && !interface.is_called(""));
        assert_eq!(
            interface.mac_bytes(),
            Some([0x52, 0x54, 0, 0xab, 0xcd, 0xef])
        );
    }
}
