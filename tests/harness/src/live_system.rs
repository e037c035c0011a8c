//! A live system made by Debian's live-boot: what its ISO would have beside a boot loader.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towline_contract::Digest;

/// What makes it.
const SCRIPT: &str = include_str!("live-system.sh");

/// A folder with its files.
pub struct LiveSystem(PathBuf);

impl LiveSystem {
    /// The one that was made below `target` before, or else a new one: minutes, and root's rights.
    ///
    /// # Panics
    /// There is none, and none can be made.
    #[must_use]
    pub fn in_target(target: &Path) -> Self {
        let it = Self(target.join("demo/live-system"));
        let (inputs, wanted) = (
            it.0.join("inputs"),
            Digest::of(SCRIPT.as_bytes()).to_string(),
        );
        if fs::read_to_string(&inputs).is_ok_and(|text| text == wanted) {
            return it;
        }
        // Not there the first time.
        let _ = fs::remove_dir_all(&it.0);
        fs::create_dir_all(&it.0).expect("a folder below target/");
        let script = it.0.join("make");
        fs::write(&script, SCRIPT).expect("a folder below target/");
        let words: &[&str] = match rustix::process::geteuid().is_root() {
            true => &["bash"],
            false => &["sudo", "bash"],
        };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let made = command.arg(&script).arg(&it.0).output().expect("bash runs");
        let talk = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "the live system: {talk}");
        fs::write(inputs, wanted).expect("a folder below target/");
        it
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// The initramfs, by which it finds the rest.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd")
    }

    /// The rest.
    #[must_use]
    pub fn squashfs(&self) -> PathBuf {
        self.0.join("filesystem.squashfs")
    }
}
