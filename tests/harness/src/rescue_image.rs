//! The protected host's own rescue system, as `rear mkrescue` packs it, and what that takes beside `towline capture`: both run
//! in one start of the host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use towline_contract::Digest;
use towline_contract::digest::Hasher;

use crate::errand::Errand;
use crate::protected::{GUEST_SEES, Protected, Scene, copy};

/// What the host does.
const SCRIPT: &str = include_str!("rescue-image.sh");

/// Longest from power-on to the end of it: without KVM and beside other work ReaR takes half an hour.
const LIMIT: Duration = Duration::from_secs(5400);

/// Room for kernel and initramfs, in MiB.
const ROOM_MIB: u64 = 512;

/// A folder with what the host has made.
pub struct RescueImage(PathBuf);

impl RescueImage {
    /// Has the host make it anew, in a scene of its own, and keeps it in `target`.
    ///
    /// # Panics
    /// It cannot.
    #[must_use]
    pub fn make(protected: &Protected) -> Self {
        let scene = protected.scene("rescue-image");
        let disk = scene.folder().join("host.raw");
        copy(&protected.story().join("new-disk.raw"), &disk);
        let authority = fs::read_to_string(scene.site().join("ca/ca.pem")).expect("the authority");
        let settings = format!("SERVER=https://{GUEST_SEES}:{}\n", scene.port());
        let errand = Errand {
            disk: &disk,
            files: &[
                ("run", 0o755, SCRIPT.as_bytes()),
                ("settings", 0o644, settings.as_bytes()),
                ("ca.pem", 0o644, authority.as_bytes()),
            ],
            results_mib: ROOM_MIB,
            limit: LIMIT,
        };
        let (results, _) = errand.run(&scene);
        Self::keep(protected, &scene, &results)
    }

    /// The one that an equal host has made before, or else a new one.
    ///
    /// # Panics
    /// There is none, and none can be made.
    #[must_use]
    pub fn of(protected: &Protected) -> Self {
        let kept = Self(Self::folder(protected));
        let same = fs::read_to_string(kept.0.join("inputs"))
            .is_ok_and(|text| text == inputs(protected).to_string());
        match same {
            true => kept,
            false => Self::make(protected),
        }
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.0.join("kernel")
    }

    /// The initramfs.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd")
    }

    /// A figure of those that the script has noted.
    ///
    /// # Panics
    /// It has not.
    #[must_use]
    pub fn figure(&self, name: &str) -> f64 {
        let text = fs::read_to_string(self.0.join("figures")).expect("the figures");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no figure {name} in {text}"))
    }

    fn folder(protected: &Protected) -> PathBuf {
        protected.kept().join("rescue-image")
    }

    fn keep(protected: &Protected, scene: &Scene, results: &Path) -> Self {
        let unpacked = scene.folder().join("rescue-image");
        let archive = File::open(results).expect("the results");
        tar::Archive::new(archive)
            .unpack(&unpacked)
            .expect("an archive");
        let inputs = inputs(protected).to_string();
        fs::write(unpacked.join("inputs"), inputs).expect("the scene's folder");
        let folder = Self::folder(protected);
        // Not there the first time.
        let _ = fs::remove_dir_all(&folder);
        fs::rename(unpacked, &folder).expect("both are below target/");
        Self(folder)
    }
}

/// Digest of what decides what the host makes.
fn inputs(protected: &Protected) -> Digest {
    let host = fs::read(protected.kept().join("protected/inputs")).expect("the protected host");
    let mut hasher = Hasher::default();
    for part in [host.as_slice(), SCRIPT.as_bytes()] {
        hasher.update(Digest::of(part).as_bytes());
    }
    hasher.finish()
}
