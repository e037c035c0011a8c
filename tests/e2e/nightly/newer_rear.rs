//! A host whose ReaR is newer than the rescue system's is recovered: from the description that it wrote, by the rescue
//! system's ReaR, and by its own ReaR if its portable archive was captured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use towline_harness::protected::{Scene, code_typed, recovered};

use super::host::{is_back, protected, sessions, some_time_later};

/// What the host does.
const CAPTURED_TWICE: &str = include_str!("newer-rear.sh");

/// The version of the rescue system's ReaR.
const OF_RESCUE: &str = "2.7";

/// The release of Debian whose ReaR has portable archives: ReaR 2.9.
const RELEASE: &str = "forky";

/// The ReaR to test instead: a folder with `usr/sbin/rear` and `usr/share/rear`, such as a checkout of its sources.
const OTHER_REAR: &str = "TOWLINE_TEST_REAR";

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_host_with_a_newer_rear_is_recovered_by_either_and_by_its_own_if_it_came_along() {
    let scene = protected().scene("newer-rear");
    let rear = archive(&scene);
    some_time_later(&scene, CAPTURED_TWICE, &[("rear.tar", 0o644, &rear)]);
    let newer = |session: &&Value| session["session"]["rear"] != OF_RESCUE;
    let sessions = sessions(&scene);
    let mut newer: Vec<_> = sessions.iter().filter(newer).collect();
    newer.sort_by_key(|session| session["stored_bytes"].as_u64());
    let [described, portable] = newer.as_slice() else {
        panic!("{sessions:#?}")
    };
    comes_back(&scene, "described", described, true);
    comes_back(&scene, "portable", portable, false);
}

/// Recovers the session, by the rescue system's ReaR or by the host's own, as ReaR itself says.
fn comes_back(scene: &Scene, name: &str, session: &Value, of_rescue: bool) {
    let id = session["version"].as_str().expect("a version");
    let disk = scene.disk(&format!("{name}.raw"), 4);
    let opened = scene.open(&["--unattended", "--session", id]);
    let mut running = code_typed(&scene.machine(&disk), &opened.code).expect("it asks for a code");
    recovered(&mut running).expect("it recovers");
    let seen = running.seen();
    let word = format!("rear: Relax-and-Recover {OF_RESCUE} ");
    let by_rescue = seen.iter().any(|line| line.contains(&word));
    assert_eq!(by_rescue, of_rescue, "{seen:#?}");
    is_back(scene, &disk, &opened);
}

/// ReaR as a tar archive of its program and its scripts.
fn archive(scene: &Scene) -> Vec<u8> {
    let tree = match std::env::var_os(OTHER_REAR) {
        Some(folder) => folder.into(),
        None => of_debian(&scene.folder().join("rear")),
    };
    let archive = scene.folder().join("rear.tar");
    // As a package has it: ReaR reads no script that others than its owner may write.
    run(Command::new("tar")
        .args(["--mode=go-w", "--owner=0", "--group=0", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(tree)
        .args(["usr/sbin/rear", "usr/share/rear"]));
    fs::read(archive).expect("the archive")
}

/// Fetches ReaR of a later release from where this machine has its packages; the unpacked package.
fn of_debian(folder: &Path) -> PathBuf {
    for sub in ["lists/partial", "cache/archives/partial", "sources", "tree"] {
        fs::create_dir_all(folder.join(sub)).expect("a folder");
    }
    fs::write(folder.join("status"), "").expect("a file");
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let uri = sources.lines().find_map(|line| line.strip_prefix("URIs:"));
    let uri = uri.expect("debian.sources names where packages are").trim();
    let source = format!(
        "Types: deb\nURIs: {uri}\nSuites: {RELEASE}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
    fs::write(folder.join("sources/one.sources"), source).expect("a file");
    let config = format!(
        "Dir::State \"{0}\"; Dir::State::lists \"{0}/lists\"; Dir::State::status \"{0}/status\"; Dir::Cache \"{0}/cache\";\n\
         Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"{0}/sources\"; APT::Sandbox::User \"\";\n",
        folder.display()
    );
    fs::write(folder.join("apt.conf"), config).expect("a file");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(arguments)
            .env("APT_CONFIG", folder.join("apt.conf"))
            .current_dir(folder));
    };
    apt(&["-qq", "update"]);
    apt(&["-qq", "download", "rear"]);
    let files = fs::read_dir(folder).expect("the folder");
    let mut files = files.map(|file| file.expect("a file").path());
    let package = files.find(|it| it.extension().is_some_and(|it| it == "deb"));
    let tree = folder.join("tree");
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(package.expect("the package"))
        .arg(&tree));
    tree
}

fn run(command: &mut Command) {
    let status = command.status().expect("the program runs");
    assert!(status.success(), "{command:?}: {status}");
}
