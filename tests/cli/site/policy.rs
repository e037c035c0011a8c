//! `towline catalogue policy`: what a site keeps layers to, and what it refuses by it.

use std::fs;

use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::layer;

use super::World;

const POLICY: &str = "[agent]\nwithin = [\"usr\", \"opt\"]\nnever = [\"usr/sbin\"]\n";

/// An agent of this version with this one file.
fn agent(version: &str, path: &str) -> towline_harness::layer::Layer {
    let mut agent = layer(
        Kind::Agent,
        "restic",
        Compression::None,
        &[(path, 0o755, b"#!/bin/sh\n")],
    );
    agent.manifest.version = version.into();
    agent
}

#[test]
fn a_layer_that_the_sites_policy_keeps_out_is_not_published_until_the_policy_is_gone() {
    let world = World::new();
    fs::write(world.site().join("policy.toml"), POLICY).unwrap();
    let shown = world.succeeds(&["catalogue", "policy", "policy.toml"]);
    assert!(shown.contains("agent    never   usr/sbin"), "{shown}");
    let json = world.succeeds(&["catalogue", "policy", "--json"]);
    assert!(json.contains("\"within\""), "{json}");

    let good = world.written("good", &agent("1", "opt/agent/run"));
    world.succeeds(&["publish", &good, "--accept-missing"]);
    let bad = world.written("bad", &agent("2", "usr/sbin/agent"));
    let why = "layer agent/restic/2/amd64 is refused at entry usr/sbin";
    let publish = ["publish", &bad, "--accept-missing"];
    world.refuses(&publish, 3, &[why, "the site's policy"]);

    let cleared = world.succeeds(&["catalogue", "policy", "--clear"]);
    assert!(cleared.contains("no policy of the site's own"), "{cleared}");
    world.succeeds(&["publish", &bad, "--accept-missing"]);
    // What is published by now would break it.
    let policy = ["catalogue", "policy", "policy.toml"];
    world.refuses(&policy, 1, &["agent/restic/2/amd64", "nothing was signed"]);
}

#[test]
fn a_policy_with_a_mistake_is_not_signed() {
    let world = World::new();
    let before = world.timestamp();
    for (text, why) in [
        ("[agent]\nwithin = [\"/usr\"]\n", "\"/usr\" is no path"),
        ("[agent]\nonly = [\"usr\"]\n", "unknown field `only`"),
        ("[agents]\nnever = [\"usr\"]\n", "agents"),
        ("[credentials]\nnever = [\"run\"]\n", "made by the server"),
    ] {
        fs::write(world.site().join("policy.toml"), text).unwrap();
        let policy = ["catalogue", "policy", "policy.toml"];
        world.refuses(&policy, 2, &[why, "docs/guide/site.md"]);
    }
    assert_eq!(world.timestamp(), before);
}

#[test]
fn an_officer_sees_what_a_policy_says() {
    let world = World::new();
    fs::write(world.site().join("policy.toml"), POLICY).unwrap();
    let key = world.site().join("targets.key");
    fs::rename(world.site().join("keys/targets.key"), &key).unwrap();
    let policy = ["catalogue", "policy", "policy.toml"];
    world.refuses(&policy, 1, &["to-sign/2.targets.json"]);
    let key = key.to_str().unwrap();
    let sign = [
        "key",
        "sign",
        "to-sign/2.targets.json",
        "--key",
        key,
        "--yes",
    ];
    let signed = world.run(&sign);
    let shown = [signed.stdout, signed.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    for line in [
        "0 layers in version 2",
        "policy: agent layers never in usr/sbin",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    world.succeeds(&policy);
}
