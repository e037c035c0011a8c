//! The direction of dependencies between the crates, and the list of crates that PID 1 links.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate of the workspace may use of the others (`docs/architecture.md`).
const ALLOWED: &[(&str, &[&str])] = &[
    ("towline-contract", &[]),
    ("towline-stage1", &["towline-contract"]),
    ("towline-initramfs", &["towline-contract"]),
    ("towline-media", &["towline-contract", "towline-initramfs"]),
    ("towline-server", &["towline-contract", "towline-initramfs"]),
    (
        "towline",
        &[
            "towline-contract",
            "towline-initramfs",
            "towline-machine",
            "towline-media",
            "towline-server",
        ],
    ),
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

#[test]
fn dependencies_between_the_crates_point_one_way() {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let Some(allowed) = allowed.get(package["name"].as_str().unwrap()) else {
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            let shipped = dependency["kind"].is_null();
            if shipped && name.starts_with("towline") {
                assert!(
                    allowed.contains(&name),
                    "{} must not depend on {name}",
                    package["name"]
                );
            }
        }
    }
    assert_eq!(
        seen,
        ALLOWED.len(),
        "every crate of the list is in the workspace"
    );
}

#[test]
fn pid_1_links_the_listed_crates_and_no_others() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package=towline-stage1",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--target=x86_64-unknown-linux-gnu",
    ]);
    let linked: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let listed: BTreeSet<&str> = include_str!("../fixtures/stage1-crates.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
        .collect();
    let added: Vec<_> = linked.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&linked).collect();
    assert!(
        added.is_empty() && gone.is_empty(),
        "stage 1 newly links {added:?} and no longer {gone:?}: if that is wanted, say why in \
         docs/decisions/ and change tests/fixtures/stage1-crates.txt"
    );
}
