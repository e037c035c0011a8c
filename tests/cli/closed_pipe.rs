//! A reader that has seen enough, as `head -1`, ends a command quietly.

use std::fs;
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
