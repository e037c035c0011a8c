//! The kernel command line, as far as stage 1 reads it.
//!
//! Whoever types at the boot loader can change where a machine asks and how it gets an address, never what it trusts:
//! the root of trust is the stamp's.

use towline_contract::plan::HandOver;
use towline_contract::stamp::Network;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `towline.server=URL[,URL...]`: instead of the stamp's servers.
    pub servers: Vec<String>,
    /// `towline.host=NAME`: the host to recover.
    pub host: Option<String>,
    /// `towline.handover=in-place|kexec`: how to start the rescue system.
    pub hand_over: Option<HandOver>,
    /// `towline.ip=dhcp` or `towline.ip=ADDRESS/LENGTH[,gw=GATEWAY][,dns=SERVER...][,if=INTERFACE]`: instead of the stamp's.
    pub network: Option<Network>,
    /// `MODULE.PARAMETER=VALUE`: every word that may be for a module (modprobe(8) does the same).
    module_parameters: Vec<(String, String)>,
}

/// A word that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel command line has {word:?}: {why}")]
pub struct CommandLineError {
    word: String,
    why: &'static str,
}

impl CommandLine {
    /// Reads a command line.
    ///
    /// # Errors
    /// A `towline.` word that is not understood: an operator who mistyped must not get another boot than they asked for.
    pub fn parse(line: &str) -> Result<Self, CommandLineError> {
        let mut parsed = Self::default();
        for word in words(line) {
            let Some((name, value)) = word.split_once('=') else {
                continue;
            };
            let refused = |why| CommandLineError {
                word: word.clone(),
                why,
            };
            match name {
                "towline.server" => parsed.servers.extend(value.split(',').map(str::to_owned)),
                "towline.host" => parsed.host = Some(value.to_owned()),
                "towline.handover" => {
                    let how = hand_over(value).ok_or("it is in-place or kexec");
                    parsed.hand_over = Some(how.map_err(refused)?);
                }
                "towline.ip" => parsed.network = Some(network(value).map_err(refused)?),
                _ if name.starts_with("towline.") => return Err(refused("no such setting")),
                _ => parsed.add_module_parameter(name, value),
            }
        }
        Ok(parsed)
    }

    /// The parameters for a module, as `finit_module` takes them: `name=value name=value`.
    #[must_use]
    pub fn module_parameters(&self, module: &str) -> String {
        let mine = self
            .module_parameters
            .iter()
            .filter(|(name, _)| name == module);
        mine.map(|(_, parameter)| parameter.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn add_module_parameter(&mut self, name: &str, value: &str) {
        if let Some((module, parameter)) = name.split_once('.') {
            let parameter = format!("{parameter}={value}");
            self.module_parameters
                .push((module.replace('-', "_"), parameter));
        }
    }
}

/// Words between blanks; double quotes keep blanks inside a word, and are dropped (Linux, lib/cmdline.c, `next_arg`).
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.trim().chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    words
}

fn hand_over(value: &str) -> Option<HandOver> {
    match value {
        "in-place" => Some(HandOver::InPlace),
        "kexec" => Some(HandOver::Kexec),
        _ => None,
    }
}

/// Reads what follows `towline.ip=`, which is also what the console's menu takes.
///
/// # Errors
/// What it should look like.
pub fn network(value: &str) -> Result<Network, &'static str> {
    let mut network = Network::default();
    let mut parts = value.split(',');
    match parts.next() {
        Some("dhcp") => {}
        Some(address) => {
            crate::network::address::parse_cidr(address)?;
            network.address = Some(address.to_owned());
        }
        None => return Err("it is empty"),
    }
    for part in parts {
        match part.split_once('=') {
            Some(("gw", gateway)) => network.gateway = Some(ipv4(gateway)?),
            Some(("dns", server)) => network.name_servers.push(ip(server)?),
            Some(("if", interface)) => network.interface = Some(interface.to_owned()),
            _ => return Err("after the address there may be gw=, dns= and if="),
        }
    }
    Ok(network)
}

fn ipv4(text: &str) -> Result<String, &'static str> {
    let parsed = text.parse::<std::net::Ipv4Addr>();
    parsed
        .map(|a| a.to_string())
        .map_err(|_| "the gateway is an IPv4 address")
}

fn ip(text: &str) -> Result<String, &'static str> {
    let parsed = text.parse::<std::net::IpAddr>();
    parsed
        .map(|a| a.to_string())
        .map_err(|_| "a name server is an IP address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towlines_own_words_are_read_and_others_are_left() {
        let line = "BOOT_IMAGE=/vmlinuz quiet towline.server=https://a:1,https://b:2 towline.host=web-1 \
                    towline.handover=kexec console=ttyS0,115200n8\n";
        let parsed = CommandLine::parse(line).unwrap();
        assert_eq!(parsed.servers, ["https://a:1", "https://b:2"]);
        assert_eq!(parsed.host.as_deref(), Some("web-1"));
        assert_eq!(parsed.hand_over, Some(HandOver::Kexec));
        assert_eq!(parsed.network, None);
    }

    #[test]
    fn a_static_address_is_read_with_all_its_parts() {
        let line = "towline.ip=192.0.2.7/24,gw=192.0.2.1,dns=192.0.2.53,dns=2001:db8::53,if=eth1";
        let network = CommandLine::parse(line).unwrap().network.unwrap();
        assert_eq!(network.address.as_deref(), Some("192.0.2.7/24"));
        assert_eq!(network.gateway.as_deref(), Some("192.0.2.1"));
        assert_eq!(network.name_servers, ["192.0.2.53", "2001:db8::53"]);
        assert_eq!(network.interface.as_deref(), Some("eth1"));
    }

    #[test]
    fn dhcp_on_the_command_line_overrides_a_stamped_address() {
        let parsed = CommandLine::parse("towline.ip=dhcp").unwrap();
        assert_eq!(parsed.network, Some(Network::default()));
    }

    #[test]
    fn a_mistyped_word_is_refused_and_named() {
        for word in [
            "towline.handover=kexek",
            "towline.sever=https://a",
            "towline.ip=192.0.2.7",
            "towline.ip=192.0.2.7/33",
            "towline.ip=192.0.2.7/24,gateway=192.0.2.1",
            "towline.ip=",
        ] {
            let error = CommandLine::parse(&format!("quiet {word}")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn parameters_reach_their_module_whichever_way_it_is_spelled() {
        let line = "e1000e.IntMode=1 snd-hda.model=\"a b\" e1000e.debug=16";
        let parsed = CommandLine::parse(line).unwrap();
        assert_eq!(parsed.module_parameters("e1000e"), "IntMode=1 debug=16");
        assert_eq!(parsed.module_parameters("snd_hda"), "model=a b");
        assert_eq!(parsed.module_parameters("r8169"), "");
    }
}
