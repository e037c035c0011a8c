//! The protected host: a Debian 12 server on a disk of its own, or on two, made once and kept.
//!
//! No root is needed: the packages' files come from a recipe, as a layer's do; the disks are partitioned and filled inside
//! QEMU, by `install.sh` in Towline's own base layer.

pub(super) mod errand;
pub(super) mod variant;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::manifest::{Compression, Package};
use towline_initramfs::content::{Content, Spool};
use towline_initramfs::filter::Filter;
use towline_initramfs::tree::{Meta, Tree};
use towline_initramfs::{initrd, stored, write};
use towline_machine::{Disk, Machine, Start, Writes};

use self::variant::Variant;
use super::cache::{finish, is_current, package_lists, start_afresh, the_layer};
use super::steps::{self, Steps, arguments};
use crate::exit::{Exit, Failure};

/// What the host's files are.
const RECIPE: &str = include_str!("host.toml");
/// How they come to the disk.
const INSTALL: &str = include_str!("install.sh");
/// Data beside the system.
const DATA: &str = include_str!("data.sh");
/// What it runs to be backed up and captured.
pub(super) const BACK_UP: &str = include_str!("back-up.sh");
/// What it runs when it is back.
pub(super) const LOOK: &str = include_str!("look.sh");
/// What both run to write down what every file is.
pub(super) const INVENTORY: &str = include_str!("inventory.sh");

/// Size of a disk; the file is sparse.
const DISK_BYTES: u64 = 4 << 30;

/// Longest that the installation may take: on a busy machine without KVM, GRUB and the initramfs need minutes.
const INSTALL_MAX: Duration = Duration::from_secs(1800);

/// The host's disks, made in `dir` with the help of the layers `kernel` and `base` unless they are there.
pub(super) fn disks(
    steps: &mut Steps,
    dir: &Path,
    variant: Variant,
    kernel: &Path,
    base: &Path,
) -> Result<Vec<PathBuf>, Failure> {
    let what = format!("build the protected host: {}", variant.described());
    let out = dir.join(variant.folder());
    let disks: Vec<_> = variant.disks().iter().map(|it| out.join(it)).collect();
    let inputs = inputs(variant);
    if is_current(&out, inputs) {
        steps.reused(&what);
        return Ok(disks);
    }
    steps.step(&what, || {
        start_afresh(&out)?;
        let recipe = dir.join("recipes/protected-host.toml");
        fs::write(&recipe, variant.recipe())
            .with_context(|| format!("cannot write {}", recipe.display()))?;
        steps::run(
            &out,
            &arguments([&"layer", &"build", &recipe, &"-o", &"files"]),
        )?;
        let files = the_layer(&out.join("files"))?;
        let start = installer(&out, kernel, base, &script(&files, variant)?)?;
        install(&out, &disks, start, files)?;
        for work in ["files", "vmlinuz", "initrd"] {
            let work = out.join(work);
            let removed = if work.is_dir() {
                fs::remove_dir_all(&work)
            } else {
                fs::remove_file(&work)
            };
            removed.with_context(|| format!("cannot remove {}", work.display()))?;
        }
        finish(&out, inputs)
    })?;
    Ok(disks)
}

/// Digest of everything that decides what is on the disks. Not of the layers it is installed with.
fn inputs(variant: Variant) -> Digest {
    let mut hasher = Hasher::default();
    let (recipe, settings) = (variant.recipe(), variant.settings());
    let install = variant.installation();
    for part in [&recipe, &settings, &install, DATA, &package_lists()] {
        hasher.update(Digest::of(part.as_bytes()).as_bytes());
    }
    hasher.finish()
}

/// Kernel and initramfs of the machine that installs: the layers and, as their init, the script.
fn installer(out: &Path, kernel: &Path, base: &Path, script: &Tree) -> Result<Start, Failure> {
    let image = out.join("vmlinuz");
    fs::write(&image, kernel_of(kernel)?).context("cannot write the kernel")?;
    let initrd = out.join("initrd");
    let mut joined = File::create(&initrd).context("cannot make the initramfs")?;
    for layer in [kernel, base] {
        let mut layer =
            File::open(layer).with_context(|| format!("cannot open {}", layer.display()))?;
        std::io::copy(&mut layer, &mut joined).context("cannot write the initramfs")?;
    }
    let part = tempfile::tempfile().context("cannot make a temporary file")?;
    let written = write::write(script, 0, Compression::None, 0, &part)
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    let mut bytes = vec![0; usize::try_from(written.stored_bytes).unwrap_or_default()];
    part.read_exact_at(&mut bytes, 0)
        .context("cannot read a temporary file")?;
    std::io::Write::write_all(&mut joined, &bytes).context("cannot write the initramfs")?;
    Ok(Start::Kernel {
        kernel: image,
        initrd: Some(initrd),
        command_line: "console=ttyS0,115200 quiet".into(),
    })
}

/// The kernel image in a kernel layer.
fn kernel_of(layer: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::Internal, error);
    let wanted = Filter::only(&["boot/vmlinuz-*".to_owned()], &[]).context("a glob")?;
    let mut spool = Spool::new().context("cannot make a temporary file")?;
    let mut tree = Tree::new();
    initrd::unpack(layer, &wanted, &mut spool, &mut tree).map_err(|error| failed(error.into()))?;
    let content = tree.iter().find_map(|(_, entry)| match &entry.node {
        towline_initramfs::tree::Node::File(content) => Some(content.clone()),
        _ => None,
    });
    let content =
        content.ok_or_else(|| failed(anyhow!("{} has no kernel image", layer.display())))?;
    Ok(content.read().context("cannot read the kernel image")?)
}

/// The script, and what it adds to the host's files.
fn script(files: &Path, variant: Variant) -> Result<Tree, Failure> {
    let manifest =
        stored::read_manifest(&stored::manifest_path(files)).context("cannot read the manifest")?;
    let mut tree = Tree::new();
    for (path, mode, text) in [
        ("usr/sbin/init", 0o755, variant.installation()),
        ("install.conf", 0o644, variant.settings()),
        ("protected-data.sh", 0o644, DATA.to_owned()),
        (
            "protected/var/lib/dpkg/status",
            0o644,
            dpkg_status(&manifest.packages),
        ),
    ] {
        tree.file(
            path.as_bytes(),
            Meta::root(mode),
            Content::from_bytes(text.into_bytes()),
        )
        .context("cannot gather the scripts")?;
    }
    Ok(tree)
}

/// What dpkg would know: nothing of its own was run, but `dpkg-query` answers.
fn dpkg_status(packages: &[Package]) -> String {
    let record = |package: &Package| {
        let Package {
            name,
            version,
            architecture,
        } = package;
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: Debian\nArchitecture: {architecture}\n\
             Version: {version}\nDescription: {name}\n\n"
        )
    };
    packages.iter().map(record).collect()
}

/// Runs the installation.
fn install(out: &Path, disks: &[PathBuf], start: Start, files: PathBuf) -> Result<(), Failure> {
    for disk in disks {
        File::create(disk)
            .and_then(|file| file.set_len(DISK_BYTES))
            .with_context(|| format!("cannot make {}", disk.display()))?;
    }
    let log = out.join("console.log");
    let own = disks.iter().map(|file| Disk {
        file: file.clone(),
        writes: Writes::Kept,
    });
    let files = Disk {
        file: files,
        writes: Writes::Refused,
    };
    let machine = Machine {
        disk_gib: None,
        disks: own.chain([files]).collect(),
        ..Machine::new(start, log.clone())
    };
    let failed = |error: anyhow::Error| {
        Failure::new(
            Exit::Internal,
            error.context("the protected host cannot be installed"),
        )
        .next(format!("read the whole console in {}", log.display()))
    };
    let mut running = machine.start().map_err(|error| failed(error.into()))?;
    let ended = |line: &str| {
        if let Some(step) = line.strip_prefix("install: ") {
            eprintln!("    | {step}");
        }
        line.contains("install: done") || line.contains("install: FAILED")
    };
    let line = running
        .wait_until("that it is installed", INSTALL_MAX, ended)
        .map_err(|error| failed(error.into()))?;
    if !line.contains("install: done") {
        return Err(failed(anyhow!("{line}")));
    }
    running
        .wait_until_off(Duration::from_secs(60))
        .map_err(|error| failed(error.into()))
}
