//! A mirror that turns one bit of a layer is named and left; the boot goes on with an honest one, or not at all.

use std::net::SocketAddr;

use towline_harness::proxy::{Fault, Proxy};

use crate::world::{BOOT, RESCUE, Site, built, expect_rescue};

/// Byte of the base layer that is falsified: in the middle of it.
const OFFSET: u64 = 20_000_000;

/// A mirror of `site` that falsifies every layer larger than [`OFFSET`].
fn liar(site: &Site) -> Proxy {
    let upstream = SocketAddr::from(([127, 0, 0, 1], site.http));
    Proxy::start(
        upstream,
        Box::new(|path, _| {
            if path.starts_with("/v1/layers/") {
                Fault::Flip(OFFSET)
            } else {
                Fault::None
            }
        }),
    )
}

fn seen_by_the_machine(proxy: &Proxy) -> String {
    format!("http://10.0.2.2:{}", proxy.address.port())
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_flipped_bit_is_named_and_the_other_mirror_goes_on() {
    let site = Site::serving(&built().layers);
    let liar = liar(&site);
    site.configure(|text| {
        let mirrors = format!("mirrors = [{:?}]", seen_by_the_machine(&liar));
        text.replace("mirrors = []", &mirrors)
    });
    let mut running = site
        .machine("flipped-bit", site.https_medium())
        .start()
        .expect("QEMU");
    let named = |line: &str| line.contains("is not trusted for layer") && line.contains("chunk 19");
    running
        .wait_until("which layer and chunk is wrong", RESCUE, named)
        .expect("it says which");
    running
        .wait_for("going on with https://10.0.2.2", BOOT)
        .expect("it goes on with the other mirror");
    expect_rescue(&mut running, &site);
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_layer_that_every_mirror_falsifies_never_starts() {
    let site = Site::serving(&built().layers);
    let liar = liar(&site);
    let image = site.medium(&[seen_by_the_machine(&liar)], &[]);
    let mut running = site
        .machine("every-mirror-lies", image)
        .start()
        .expect("QEMU");
    running
        .wait_for("every mirror sent wrong bytes", RESCUE)
        .expect("it says that none is left");
    running
        .wait_for("What next?", BOOT)
        .expect("the person is asked what to do");
    assert!(!site.events().contains("rescue-ready"));
}
