//! The network in a namespace of its own, with a real DHCP server on the other end of a virtual cable.
//!
//! Each test starts itself again inside a fresh namespace; what it does there touches nothing of this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use towline_contract::stamp;
use towline_stage1::network::{self, Network, NetworkError};
use towline_stage1::progress::Silent;

/// Set inside the namespace, to its server's name.
const INSIDE: &str = "TOWLINE_TEST_SERVER_NAMESPACE";

/// A client and a server joined by virtual cables `c0`, `c1` (client) and `s0`, `s1` (server).
struct Cables {
    client: String,
    server: String,
}

impl Cables {
    fn lay(test: &str) -> Self {
        let number = std::process::id();
        let short = test.len() % 97;
        let cables = Self {
            client: format!("towline-c{number}-{short}"),
            server: format!("towline-s{number}-{short}"),
        };
        let (client, server) = (&cables.client, &cables.server);
        ip(&format!("netns add {client}"));
        ip(&format!("netns add {server}"));
        for end in 0..2 {
            ip(&format!(
                "-n {client} link add c{end} type veth peer name s{end} netns {server}"
            ));
            ip(&format!("-n {server} link set s{end} up"));
            ip(&format!("-n {server} addr add 192.0.{end}.1/24 dev s{end}"));
        }
        // `ip netns exec` binds it over /etc/resolv.conf.
        let etc = format!("/etc/netns/{client}");
        fs::create_dir_all(&etc).unwrap();
        fs::write(format!("{etc}/resolv.conf"), "").unwrap();
        cables
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            ip(&format!("netns del {name}"));
        }
        fs::remove_dir_all(format!("/etc/netns/{}", self.client)).unwrap();
        let _ = fs::remove_dir("/etc/netns");
    }
}

/// Outside: runs the test of this name inside a namespace and is `None`. Inside: the server's namespace.
fn inside(test: &str) -> Option<String> {
    if let Ok(server) = std::env::var(INSIDE) {
        return Some(server);
    }
    let cables = Cables::lay(test);
    let this = std::env::current_exe().unwrap();
    let status = Command::new("ip")
        .args(["netns", "exec", &cables.client])
        .arg(this)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, &cables.server)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    None
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn said(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// dnsmasq, on one of the server's interfaces.
struct Dhcp(Child);

impl Dhcp {
    fn serve(namespace: &str, end: u32) -> Self {
        let dnsmasq = Command::new("ip")
            .args(["netns", "exec", namespace, "dnsmasq"])
            .args([
                "--no-daemon",
                "--conf-file=/dev/null",
                "--port=0",
                "--leasefile-ro",
            ])
            .args(["--dhcp-authoritative", "--no-ping", "--bind-interfaces"])
            .arg(format!("--interface=s{end}"))
            .arg(format!(
                "--dhcp-range=192.0.{end}.50,192.0.{end}.59,255.255.255.0,1h"
            ))
            .arg(format!("--dhcp-option=option:dns-server,192.0.{end}.53"))
            .args(["--dhcp-option=option:mtu,1400", "--domain=example.org"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(dnsmasq)
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bring_up(settings: &stamp::Network) -> Result<Network, NetworkError> {
    bring_up_and(settings, &mut || {})
}

fn bring_up_and(
    settings: &stamp::Network,
    meanwhile: &mut dyn FnMut(),
) -> Result<Network, NetworkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let network = runtime.block_on(network::bring_up(settings, Arc::new(Silent), meanwhile));
    // The watcher goes on in the runtime for as long as the test looks.
    std::mem::forget(runtime);
    network
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn a_lease_gives_address_route_mtu_and_resolver() {
    let Some(server) = inside("a_lease_gives_address_route_mtu_and_resolver") else {
        return;
    };
    let _dhcp = Dhcp::serve(&server, 0);
    let network = bring_up(&stamp::Network::default()).unwrap();
    assert!(network.states().iter().any(|it| it.is_ready()));
    let link = said("ip -4 addr show dev c0");
    assert!(
        link.contains("inet 192.0.0.5") && link.contains("mtu 1400"),
        "{link}"
    );
    let routes = said("ip -4 route");
    assert!(
        routes.contains("default via 192.0.0.1 dev c0 metric 100"),
        "{routes}"
    );
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(resolver, "search example.org\nnameserver 192.0.0.53\n");
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn a_card_that_nobody_answers_does_not_hold_up_the_other() {
    let Some(server) = inside("a_card_that_nobody_answers_does_not_hold_up_the_other") else {
        return;
    };
    let _dhcp = Dhcp::serve(&server, 1);
    let started = Instant::now();
    let network = bring_up(&stamp::Network::default()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
    let ready: Vec<_> = network
        .states()
        .into_iter()
        .filter(|it| it.is_ready())
        .collect();
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0].interface.name, "c1");
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn a_switch_port_that_opens_late_is_waited_for() {
    let Some(server) = inside("a_switch_port_that_opens_late_is_waited_for") else {
        return;
    };
    // No link on either cable at first; the port of c1 opens after 20 seconds.
    for end in 0..2 {
        ip(&format!("-n {server} link set s{end} down"));
    }
    let (mut dhcp, started) = (None, Instant::now());
    let network = bring_up_and(&stamp::Network::default(), &mut || {
        if dhcp.is_none() && started.elapsed() > Duration::from_secs(20) {
            ip(&format!("-n {server} link set s1 up"));
            dhcp = Some(Dhcp::serve(&server, 1));
        }
    })
    .unwrap();
    assert!(started.elapsed() < Duration::from_secs(45));
    assert!(
        network
            .states()
            .iter()
            .any(|it| it.is_ready() && it.interface.name == "c1")
    );
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn a_static_address_goes_to_the_card_named_by_its_mac_and_nobody_is_asked() {
    let name = "a_static_address_goes_to_the_card_named_by_its_mac_and_nobody_is_asked";
    let Some(server) = inside(name) else { return };
    let _dhcp = Dhcp::serve(&server, 0);
    let mac = fs::read_to_string("/sys/class/net/c1/address").unwrap();
    let settings = stamp::Network {
        address: Some("192.0.1.7/24".into()),
        gateway: Some("192.0.1.1".into()),
        name_servers: vec!["192.0.1.53".into()],
        interface: Some(mac.trim().to_uppercase()),
    };
    let _network = bring_up(&settings).unwrap();
    let addresses = said("ip -4 -o addr");
    assert!(addresses.contains("c1    inet 192.0.1.7/24"), "{addresses}");
    assert!(!addresses.contains("c0"), "{addresses}");
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(resolver, "nameserver 192.0.1.53\n");
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn asking_again_as_the_rescue_system_does_keeps_the_address() {
    let Some(server) = inside("asking_again_as_the_rescue_system_does_keeps_the_address") else {
        return;
    };
    let _dhcp = Dhcp::serve(&server, 0);
    let first = bring_up(&stamp::Network::default()).unwrap();
    let before = said("ip -4 -o addr show dev c0");
    drop(first);
    let _second = bring_up(&stamp::Network::default()).unwrap();
    let address = |text: &str| text.split_whitespace().nth(3).map(str::to_owned);
    let after = said("ip -4 -o addr show dev c0");
    assert_eq!(address(&before), address(&after));
    assert_eq!(after.lines().count(), 1, "{after}");
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn other_settings_from_the_menu_leave_nothing_of_the_first_ones() {
    let Some(server) = inside("other_settings_from_the_menu_leave_nothing_of_the_first_ones")
    else {
        return;
    };
    let _dhcp = Dhcp::serve(&server, 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let settings = stamp::Network::default();
        let network = network::bring_up(&settings, Arc::new(Silent), &mut || {})
            .await
            .unwrap();
        network.forget().await;
        assert_eq!(said("ip -4 -o addr show dev c0"), "");
        let settings = stamp::Network {
            address: Some("192.0.0.7/24".into()),
            gateway: Some("192.0.0.1".into()),
            interface: Some("c0".into()),
            ..stamp::Network::default()
        };
        let network = network::bring_up(&settings, Arc::new(Silent), &mut || {})
            .await
            .unwrap();
        let addresses = said("ip -4 -o addr show dev c0");
        assert!(
            addresses.lines().count() == 1 && addresses.contains("192.0.0.7/24"),
            "{addresses}"
        );
        assert_eq!(said("ip -4 route show default").lines().count(), 1);
        drop(network);
    });
}

#[test]
#[ignore = "needs root, ip netns and dnsmasq"]
fn quiescing_takes_every_card_down_before_another_kernel_starts() {
    let Some(server) = inside("quiescing_takes_every_card_down_before_another_kernel_starts")
    else {
        return;
    };
    let _dhcp = Dhcp::serve(&server, 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let settings = stamp::Network::default();
        let network = network::bring_up(&settings, Arc::new(Silent), &mut || {})
            .await
            .unwrap();
        network.quiesce().await;
    });
    for card in ["c0", "c1"] {
        let flags =
            fs::read_to_string(Path::new("/sys/class/net").join(card).join("flags")).unwrap();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & 1, 0, "{card} is up");
    }
}
