//! A reader that has seen enough, as `head -1`, ends a command quietly, and a full disk by a sentence.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::layer;

#[test]
fn a_command_whose_reader_has_gone_ends_without_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    // More entries than a pipe holds, so that the command still prints when nobody reads.
    let names: Vec<String> = (0..5000)
        .map(|number| format!("opt/file-{number}"))
        .collect();
    let files: Vec<_> = names
        .iter()
        .map(|name| (&**name, 0o644, &b""[..]))
        .collect();
    let agent = layer(Kind::Agent, "many", Compression::Zstd, &files);
    let path = folder.path().join("many.layer");
    fs::write(&path, &agent.stored).expect("a layer");
    let manifest = agent.manifest.to_bytes();
    fs::write(path.with_extension("manifest.json"), manifest).expect("a manifest");

    let mut child = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["layer", "inspect", "--entries"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("towline runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(talk, "", "nothing is said");
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGPIPE),
        "{:?}",
        output.status
    );
}

#[test]
fn results_that_find_no_room_are_told_as_cut_off_without_a_panic() {
    let full = File::options().write(true).open("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["init", "site", "--server-name", "127.0.0.1"])
        .current_dir(tempfile::tempdir().expect("a folder").path())
        .stdout(full.expect("a full device"))
        .output()
        .expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{talk}");
    assert!(
        talk.contains("cut off") && talk.contains("No space left"),
        "{talk}"
    );
    assert!(!talk.contains("panicked"), "{talk}");
}
