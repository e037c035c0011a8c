//! A host's layer that carries a program is refused by name, though it is signed: its lane does not allow it.

use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::layer;
use towline_harness::site::add;

use crate::world::{RESCUE, Site, built};

#[test]
#[ignore = "boots QEMU: make test"]
fn a_host_layer_that_carries_bash_is_refused() {
    let layers: Vec<_> = built()
        .layers
        .iter()
        .filter(|path| !path.to_string_lossy().contains("host-"))
        .cloned()
        .collect();
    let site = Site::serving(&layers);
    let files: &[(&str, u32, &[u8])] = &[
        ("etc/hostname", 0o644, b"example\n"),
        ("usr/bin/bash", 0o755, b"#!/bin/sh\n"),
    ];
    add(
        &site.dir(),
        &[layer(Kind::Host, "example", Compression::Zstd, files)],
    );
    let mut running = site
        .machine("foreign-files", site.https_medium())
        .start()
        .expect("QEMU");
    let named = |line: &str| line.contains("usr/bin") && line.contains("host/example");
    running
        .wait_until("layer and entry that break the rule", RESCUE, named)
        .expect("it names both");
    running
        .wait_for("What next?", RESCUE)
        .expect("the person is asked what to do");
    assert!(!site.events().contains("rescue-ready"));
}
