//! What the measurements work on: the released programs, the demonstration's layers, and the base system as files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Folders and programs of one run.
pub(crate) struct Workshop {
    /// target/bench.
    pub(crate) dir: PathBuf,
    /// The released `towline`.
    pub(crate) towline: PathBuf,
    /// Where the demonstration keeps layers and medium.
    pub(crate) built: PathBuf,
}

impl Workshop {
    /// Builds layers and medium (or uses them again) and unpacks the base system to `tree`.
    pub(crate) fn open() -> Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target")
            .canonicalize()?;
        let workshop = Self {
            dir: target.join("bench"),
            towline: target.join("release/towline"),
            built: target.join("demo"),
        };
        fs::create_dir_all(&workshop.dir)?;
        fs::create_dir_all(&workshop.built)?;
        let built = workshop.built.as_os_str();
        workshop.towline([
            OsStr::new("demo"),
            OsStr::new("--build-only"),
            OsStr::new("--dir"),
            built,
        ])?;
        workshop.unpack_base()?;
        Ok(workshop)
    }

    /// Runs `towline` in the workshop.
    pub(crate) fn towline<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Result<()> {
        let mut command = Command::new(&self.towline);
        run(command
            .args(arguments)
            .current_dir(&self.dir)
            .stdout(Stdio::null()))
    }

    /// The layer built from the ready recipe `name`.
    pub(crate) fn layer(&self, name: &str) -> Result<PathBuf> {
        layer_in(&self.built.join("layers").join(name))
    }

    /// The base system as files, in `tree`.
    fn unpack_base(&self) -> Result<()> {
        let tree = self.dir.join("tree");
        if tree.join("usr").exists() {
            return Ok(());
        }
        let script = "cpio --quiet -i --to-stdout towline/images/20-base.squashfs < \"$1\" > base.squashfs \
                      && rm -rf tree tree.new && unsquashfs -quiet -no-progress -d tree.new base.squashfs && mv tree.new tree";
        let base = self.layer("base-debian")?;
        let mut command = Command::new("bash");
        run(command
            .arg("-c")
            .arg(script)
            .arg("unpack")
            .arg(base)
            .current_dir(&self.dir)
            .stdout(Stdio::null()))
    }
}

/// The one layer in a folder.
pub(crate) fn layer_in(dir: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "layer")
        {
            return Ok(path);
        }
    }
    bail!("no layer in {}", dir.display())
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}

/// The machine, in a sentence.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores ({model}), QEMU without KVM. Files in the page cache.")
}
