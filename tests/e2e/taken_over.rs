//! Someone on the way of a machine's requests, with the key of a host or of plans: what they sign for another host, and what
//! they plan, starts nothing.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use towline_contract::plan::BootPlan;
use towline_contract::trust::metadata::Targets;
use towline_contract::trust::sign;
use towline_harness::proxy::{Fault, Proxy};
use towline_server::keys;

use crate::drill::capture;
use crate::world::{RESCUE, Site, built};

/// What the signed document of an envelope is.
fn signed<T: serde::de::DeserializeOwned>(envelope: &[u8]) -> T {
    let mut envelope: Value = serde_json::from_slice(envelope).expect("JSON");
    serde_json::from_value(envelope["signed"].take()).expect("a document")
}

/// Boots a machine that is to become `host`, whose answers are altered on paths that end so, and waits for `said`.
fn refuses(
    site: &Site,
    host: &str,
    end: &'static str,
    alter: fn(Vec<u8>, &Path) -> Vec<u8>,
    said: &str,
) {
    let (upstream, dir) = (SocketAddr::from(([127, 0, 0, 1], site.http)), site.dir());
    let script = move |path: &str, _| match path.ends_with(end) {
        true => Fault::Alter(alter, dir.clone()),
        false => Fault::None,
    };
    let proxy = Proxy::start(upstream, Box::new(script));
    let server = format!("http://10.0.2.2:{}", proxy.address.port());
    let image = site.medium_of(host, &[server], &[]);
    let name = format!("taken-over-{host}");
    let mut running = site.machine(&name, image).start().expect("QEMU");
    running.wait_for(said, RESCUE).expect("it says why");
    running
        .wait_for("What next?", RESCUE)
        .expect("the person is asked what to do");
    assert!(!site.events().contains("rescue-ready"));
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_host_that_was_taken_over_signs_no_session_of_another_host() {
    let site = Site::serving(&built().layers);
    // Hosts call the server by a name that this machine has.
    site.configure(|text| text.replace("\"10.0.2.2\"", "\"127.0.0.1\""));
    capture(&site, "web1");
    capture(&site, "db1");
    let by_db1 = |real: Vec<u8>, site: &Path| {
        let mut sessions: Targets = signed(&real);
        sessions.header.version += 1;
        let key = keys::read(&site.join("db1/etc/host.key")).expect("a host's key");
        sign(&sessions, &[&key]).expect("a document")
    };
    refuses(
        &site,
        "web1",
        ".host-web1.json",
        by_db1,
        "1.host-web1.json has",
    );
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_plan_by_the_servers_stolen_key_boots_no_base_that_was_not_signed() {
    let site = Site::serving(&built().layers);
    let another_base = |real: Vec<u8>, site: &Path| {
        let mut plan: BootPlan = signed(&real);
        let base = plan
            .chain
            .iter_mut()
            .find(|it| it.target.starts_with("base/"));
        base.expect("a base").digest = [0x11; 32].into();
        let key = keys::read(&site.join("keys/plan.key")).expect("the stolen key");
        sign(&plan, &[&key]).expect("a plan")
    };
    let said = "is not in the signed catalogue with digest 111111111111";
    refuses(&site, "example", "/v1/plan", another_base, said);
}
