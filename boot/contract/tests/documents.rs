//! Documents must not promise what is not there: each test that `docs/threats.md` names exists.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::path::{Path, PathBuf};

/// All Rust sources of the workspace below `folder`, joined.
fn sources(folder: &Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_threats_page_names_exists() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    for folder in ["boot", "initramfs", "server", "src", "tests"] {
        sources(&top.join(folder), &mut code);
    }
    let page = std::fs::read_to_string(top.join("docs/threats.md")).unwrap();
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.rsplit('|').nth(1).unwrap();
        for test in tests.split('`').skip(1).step_by(2) {
            named += 1;
            assert!(
                code.contains(&format!("fn {test}(")),
                "no test is named {test}"
            );
        }
    }
    assert!(named > 50, "only {named} tests were found in the page");
}
