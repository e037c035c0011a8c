//! The protected host: made once for all these tests, and looked at when it is back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use towline_harness::errand::{ERRAND, Errand};
use towline_harness::protected::{GUEST_SEES, HOST, Opened, Protected, Scene, copy};

use crate::world::target;

/// What a recovery does not write again by itself: below these, everything must be as it was.
const SAME: &[&[u8]] = &[b"./srv/", b"./usr/", b"./boot/vmlinuz", b"./etc/passwd"];

/// Room for what an errand brings back, in MiB.
const RESULTS_MIB: u64 = 64;

/// What the host does when it is back: waits until its first start is reported, then looks at every file.
const LOOK: &str = include_str!("../../../src/commands/demo/protected/look.sh");
const INVENTORY: &str = include_str!("../../../src/commands/demo/protected/inventory.sh");

/// The host, backed up and captured.
pub(super) fn protected() -> &'static Protected {
    static PROTECTED: OnceLock<Protected> = OnceLock::new();
    PROTECTED.get_or_init(|| Protected::in_target(&target()))
}

/// Starts the host from `disk`: it reports in, all its files are what they were, and the recovery is closed with success.
/// The report of the recovery.
pub(super) fn is_back(scene: &Scene, disk: &Path, opened: &Opened) -> Value {
    let files: [(&str, u32, &[u8]); 3] = [
        ("run", 0o755, LOOK.as_bytes()),
        ("inventory.sh", 0o755, INVENTORY.as_bytes()),
        ("results", 0o644, b"/dev/vdc\n"),
    ];
    let after = facts(&errand(scene, disk, &files)).expect("an inventory");
    let before = protected().story().join("before-results.tar");
    let before = facts(&before).expect("the inventory before the backup");
    assert!(before.len() > 10_000, "{} facts", before.len());
    let different: Vec<_> = before.symmetric_difference(&after).take(20).collect();
    assert!(different.is_empty(), "{different:#?}");
    let shown = scene.shown(&opened.id);
    assert_eq!(shown["state"]["is"], "closed", "{shown}");
    assert_eq!(shown["state"]["recovered"], true, "{shown}");
    shown
}

/// What `inventory.sh` wrote of the files below [`SAME`]: kind, mode, owner, links, size, time; and SHA-256.
fn facts(archive: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut facts = BTreeSet::new();
    let is_same = |path: &[u8]| SAME.iter().any(|start| path.starts_with(start));
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let (mut entry, mut bytes) = (entry?, Vec::new());
        entry.read_to_end(&mut bytes)?;
        let records: Vec<_> = bytes.split(|byte| *byte == 0).collect();
        let found: Vec<_> = match entry.path()?.file_name().and_then(|it| it.to_str()) {
            Some("entries") => records.chunks(2).map(|it| (it[0], it.concat())).collect(),
            // 64 digits and two blanks before the name.
            Some("contents") => records
                .iter()
                .filter_map(|it| Some((it.get(66..)?, it.to_vec())))
                .collect(),
            _ => Vec::new(),
        };
        let found = found.into_iter().filter(|(path, _)| is_same(path));
        facts.extend(found.map(|(_, fact)| String::from_utf8_lossy(&fact).into_owned()));
    }
    Ok(facts)
}

/// Starts the host with an archive of `files` (name, mode, text), of which it runs `run`; the archive that comes back.
pub(super) fn errand(scene: &Scene, disk: &Path, files: &[(&str, u32, &[u8])]) -> PathBuf {
    let errand = Errand {
        disk,
        files,
        results_mib: RESULTS_MIB,
        limit: ERRAND,
    };
    errand.run(scene).0
}

/// Starts the host as the demonstration left it, some time later, with a script for `run` that finds in its folder how to
/// reach the scene's servers, and these files.
pub(super) fn some_time_later(scene: &Scene, script: &str, more: &[(&str, u32, &[u8])]) {
    let disk = scene.folder().join("host.raw");
    copy(&protected().story().join("new-disk.raw"), &disk);
    let credentials = scene.site().join("credentials").join(HOST);
    let credentials = fs::read_to_string(credentials.join("environment"));
    let settings = format!(
        "SERVER=https://{GUEST_SEES}:{}\n{}",
        scene.port(),
        credentials.expect("the host's credentials")
    );
    let authority = fs::read(scene.site().join("ca/ca.pem")).expect("the authority");
    let mut files: Vec<(&str, u32, &[u8])> = vec![
        ("run", 0o755, script.as_bytes()),
        ("settings", 0o600, settings.as_bytes()),
        ("ca.pem", 0o644, &authority),
    ];
    files.extend(more);
    errand(scene, &disk, &files);
}

/// The host's sessions, the newest first.
pub(super) fn sessions(scene: &Scene) -> Vec<Value> {
    let listed = scene.towline(&["session", "list", HOST, "--json"]);
    serde_json::from_str(&listed).expect("JSON of session list")
}

/// Whether the file is still one hole.
pub(super) fn is_untouched(disk: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(disk).expect("the disk").blocks() == 0
}

/// What the report's steps say, in order.
pub(super) fn steps(shown: &Value) -> Vec<String> {
    let steps = shown["report"]["steps"].as_array().expect("steps");
    let words = steps.iter().map(|it| it["what"].as_str().expect("words"));
    words.map(str::to_owned).collect()
}
