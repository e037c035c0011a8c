//! Layers and the medium, built once and used again while what they are made from is unchanged.
//!
//! Beside each product lies `inputs`, the digest of everything it was made from: recipe, this program, stage 1, and the
//! state of apt's package lists. It is removed before a build and written after it, so an interrupted build is done again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use towline_contract::Digest;
use towline_contract::digest::Hasher;

use super::Agent;
use super::steps::{self, Steps, arguments};
use crate::exit::{Exit, Failure};

/// What was built.
pub(super) struct Built {
    /// The kernel's layer.
    pub(super) kernel: PathBuf,
    /// The rescue system's.
    pub(super) base: PathBuf,
    /// The agent's; none for an agent whose layer depends on its server.
    pub(super) agent: Option<PathBuf>,
    /// The example host's.
    pub(super) host: PathBuf,
    /// The medium, without a stamp.
    pub(super) medium: PathBuf,
}

/// The folder of products.
pub(super) struct Cache {
    dir: PathBuf,
    stage1: PathBuf,
}

impl Cache {
    /// Opens the cache in `dir` and finds stage 1.
    pub(super) fn open(dir: &Path, stage1: Option<&Path>) -> Result<Self, Failure> {
        let stage1 = crate::commands::stage1::stage1(stage1, "--stage1 FILE")?;
        Ok(Self {
            dir: dir.to_owned(),
            stage1,
        })
    }

    /// Builds what is not there or not valid any more.
    pub(super) fn build(&self, steps: &mut Steps, agent: Agent) -> Result<Built, Failure> {
        let recipes = self.dir.join("recipes");
        for (name, bytes) in towline_initramfs::ready_recipes() {
            let path = recipes.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&recipes))
                .context("cannot make the recipes' folder")?;
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut layer = |name, with_stage1| self.layer(steps, &recipes, name, with_stage1);
        Ok(Built {
            kernel: layer("kernel-debian", false)?,
            base: layer("base-debian", true)?,
            agent: agent.recipe().map(|it| layer(it, false)).transpose()?,
            host: layer("host-example", false)?,
            medium: self.medium(steps)?,
        })
    }

    fn layer(
        &self,
        steps: &mut Steps,
        recipes: &Path,
        name: &str,
        with_stage1: bool,
    ) -> Result<PathBuf, Failure> {
        let what = format!("build layer {name}");
        let recipe = recipes.join(format!("{name}.toml"));
        let out = self.dir.join("layers").join(name);
        let inputs = self.inputs(&recipe, with_stage1)?;
        if is_current(&out, inputs) {
            steps.reused(&what);
            return the_layer(&out);
        }
        steps.step(&what, || {
            start_afresh(&out)?;
            let mut command = arguments([&"layer", &"build", &recipe, &"-o", &out]);
            if with_stage1 {
                let mut setting = std::ffi::OsString::from("stage1=");
                setting.push(&self.stage1);
                command.extend(["--set".into(), setting]);
            }
            steps::run(&self.dir, &command)?;
            finish(&out, inputs)
        })?;
        the_layer(&out)
    }

    fn medium(&self, steps: &mut Steps) -> Result<PathBuf, Failure> {
        let out = self.dir.join("medium");
        let image = out.join("towline.iso");
        let inputs = self.inputs(&self.stage1, true)?;
        if is_current(&out, inputs) {
            steps.reused("build the medium");
            return Ok(image);
        }
        steps.step("build the medium", || {
            start_afresh(&out)?;
            steps::run(
                &self.dir,
                &arguments([&"media", &"build", &"-o", &image, &"--stage1", &self.stage1]),
            )?;
            finish(&out, inputs)
        })?;
        Ok(image)
    }

    /// Digest of everything that a product is made from.
    fn inputs(&self, recipe: &Path, with_stage1: bool) -> Result<Digest, Failure> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut hasher = Hasher::default();
        for path in [recipe, &program]
            .into_iter()
            .chain(with_stage1.then_some(self.stage1.as_path()))
        {
            let bytes =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            hasher.update(Digest::of(&bytes).as_bytes());
        }
        hasher.update(package_lists().as_bytes());
        Ok(hasher.finish())
    }
}

/// Names, sizes and times of apt's package lists: they change when an archive does.
pub(super) fn package_lists() -> String {
    let mut lists: Vec<String> = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with("Release"))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(format!(
                "{:?} {} {:?}\n",
                entry.file_name(),
                metadata.len(),
                metadata.modified().ok()
            ))
        })
        .collect();
    lists.sort();
    lists.concat()
}

pub(super) fn is_current(out: &Path, inputs: Digest) -> bool {
    fs::read_to_string(out.join("inputs")).is_ok_and(|text| text.trim() == inputs.to_string())
}

pub(super) fn start_afresh(out: &Path) -> Result<(), Failure> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    Ok(())
}

pub(super) fn finish(out: &Path, inputs: Digest) -> Result<(), Failure> {
    fs::write(out.join("inputs"), format!("{inputs}\n")).context("cannot write to the cache")?;
    Ok(())
}

/// The one layer file in `out`.
pub(super) fn the_layer(out: &Path) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))?;
    let mut layers: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "layer")
        })
        .collect();
    match (layers.pop(), layers.is_empty()) {
        (Some(layer), true) => Ok(layer),
        _ => Err(Failure::new(
            Exit::Internal,
            anyhow!("{} should hold one layer", out.display()),
        )
        .next(format!("remove {} and run again", out.display()))),
    }
}
