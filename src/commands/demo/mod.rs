//! `towline demo`: the whole story on this machine, in QEMU.
//!
//! Every step is a `towline` command that an operator would type, run as its own process and printed; only starting QEMU
//! and reading the rescue's report is done here. Layers and medium are kept in a cache and used again while what they
//! were made from is unchanged; the site (keys, catalogue, store) is new each time and removed at the end unless `--keep`.

mod backups;
mod cache;
mod inventory;
mod machine;
mod protected;
mod requirements;
mod secret;
mod served;
mod site;
mod steps;
mod story;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use towline_contract::plan::HandOver;

use super::cache_dir::cache_dir;
use crate::exit::{Exit, Failure, Outcome};
use cache::{Built, Cache};
use protected::variant::Variant;
use site::Site;
use steps::Steps;

/// The host's name in the catalogue.
const HOST: &str = "alpha";

/// What the demonstration is to do.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Only boot the rescue system, with an example host's layer; recover nothing.
    #[arg(long)]
    rescue_only: bool,
    /// Firmware of the host and of the machine that becomes it.
    #[arg(long, value_enum, default_value = "bios")]
    firmware: Firmware,
    /// Agent that backs the host up and restores it.
    #[arg(long, value_enum, default_value = "restic")]
    agent: Agent,
    /// How the host's system lies on its disks; all of them are lost.
    #[arg(long, value_enum, default_value = "lvm")]
    disks: Disks,
    /// How stage 1 starts the rescue system.
    #[arg(long, value_enum, default_value = "in-place")]
    handover: How,
    /// Memory of the machine, in MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=65536))]
    memory: u32,
    /// Folder for what is built and for the site [default: towline/demo in the user's cache directory].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The stage 1 program [default: found beside this program].
    #[arg(long)]
    stage1: Option<PathBuf>,
    /// Leave the site for exploring.
    #[arg(long)]
    keep: bool,
    /// Build the layers and the medium, and stop.
    #[arg(long)]
    build_only: bool,
    /// Show the machine's whole console.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Firmware {
    Bios,
    Uefi,
    SecureBoot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Disks {
    /// /boot and LVM on one disk.
    Lvm,
    /// /boot and LVM on arrays of two mirrored disks, by BIOS.
    Raid1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Agent {
    Restic,
    Borg,
    /// One that comes as a `.run` installer, made for this.
    Run,
}

impl Agent {
    /// What it is called in the catalogue.
    fn name(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Borg => "borg",
            Self::Run => "example-run",
        }
    }

    /// The recipe of its layer, if that is the same for every site.
    fn recipe(self) -> Option<&'static str> {
        match self {
            Self::Restic => Some("agent-restic"),
            Self::Borg => Some("agent-borg"),
            Self::Run => None,
        }
    }
}

impl From<Firmware> for towline_machine::Firmware {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios => Self::Bios,
            Firmware::Uefi => Self::Uefi,
            Firmware::SecureBoot => Self::SecureBoot,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    InPlace,
    Kexec,
}

impl From<How> for HandOver {
    fn from(how: How) -> Self {
        match how {
            How::InPlace => Self::InPlace,
            How::Kexec => Self::Kexec,
        }
    }
}

/// Runs the demonstration; fails with [`Exit::No`] when the rescue did not come up whole.
pub(crate) fn run(args: &DemoArgs) -> Outcome {
    requirements::check(args)?;
    let dir = folder(args)?;
    let _lock = lock(&dir)?;
    let cache = Cache::open(&dir, args.stage1.as_deref())?;
    let mut steps = Steps::new();

    let built = cache.build(&mut steps, args.agent)?;
    let original = match args.rescue_only {
        true => None,
        false => Some(protected::disks(
            &mut steps,
            &dir,
            Variant::of(args.firmware, args.agent, args.disks),
            &built.kernel,
            &built.base,
        )?),
    };
    if args.build_only {
        println!("layers and medium are in {}", dir.display());
        return Ok(());
    }
    let site = Site::create(&dir.join("site"), args.keep, args.handover.into())?;
    match original {
        None => rescue(&mut steps, args, &built, &site),
        Some(original) => story::tell(
            &mut steps,
            args,
            &built,
            &original,
            &site,
            &dir.join("story"),
        ),
    }
}

/// Boots the rescue system from the medium, and looks at what it says of its layers.
fn rescue(steps: &mut Steps, args: &DemoArgs, built: &Built, site: &Site) -> Outcome {
    site.init(steps)?;
    let [kernel, base, host] = [&built.kernel, &built.base, &built.host].map(PathBuf::clone);
    let layers = [kernel, base]
        .into_iter()
        .chain(built.agent.clone())
        .chain([host]);
    site.publish(steps, &layers.collect::<Vec<_>>())?;
    let server = site.serve(steps)?;
    let medium = site.stamp(steps, &built.medium, server.port(), Some("example"))?;
    let report = machine::rescue(steps, args, &medium, site)?;
    let port = server.port();
    drop(server);

    let passed = report.print();
    steps.summary();
    if passed {
        site.leave(port);
        println!("the rescue system is ready: every layer is there and works");
        return Ok(());
    }
    Err(Failure::new(
        Exit::No,
        anyhow::anyhow!("a check inside the rescue system failed"),
    )
    .next(format!(
        "read the whole console in {}",
        site.console_log().display()
    )))
}

/// Keeps other demonstrations out of `dir` until dropped: each makes its site anew there.
fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!("another towline demo works in {}", dir.display()),
        )
        .next("wait for it to end, or use another folder: towline demo --dir DIR")),
        Err(TryLockError::Error(cause)) => Err(anyhow::Error::new(cause)
            .context(format!("cannot lock {}", path.display()))
            .into()),
    }
}

/// The folder that everything goes into, made if need be.
fn folder(args: &DemoArgs) -> Result<PathBuf, Failure> {
    let dir = args.dir.clone().or_else(|| Some(cache_dir()?.join("demo")));
    let dir = dir.ok_or_else(|| {
        Failure::new(Exit::Usage, anyhow::anyhow!("no home directory is known"))
            .next("say where to work: towline demo --dir DIR")
    })?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot open {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_demonstration_in_one_folder_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let refused = lock(dir.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        let text = refused.error.to_string();
        assert!(text.starts_with("another towline demo works in"), "{text}");
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
