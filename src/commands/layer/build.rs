//! `towline layer build`: the layer that a recipe describes.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use clap::Args;
use serde_json::json;
use towline_contract::manifest::Manifest;
use towline_initramfs::build::{self, Built, Options};
use towline_initramfs::recipe::Recipe;
use towline_initramfs::release;

use super::failures::{build_failure, recipe_failure, release_failure};
use super::settings::{setting, settings};
use crate::commands::cache_dir::cache_dir;
use crate::exit::{Exit, Failure, Outcome};
use crate::printable;

#[derive(Args)]
pub(super) struct BuildArgs {
    /// The recipe
    recipe: PathBuf,
    /// Folder for the layer and its manifest
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    with: BuildWith,
    /// Compression level in place of the recipe's
    #[arg(long, value_name = "N")]
    level: Option<i32>,
    /// Build even if nothing has changed since the layer there was built
    #[arg(long)]
    again: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// With what a recipe is built.
#[derive(Args)]
pub(super) struct BuildWith {
    /// Value of a variable of the recipe [default of stage1: the program found
    /// beside this one]
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Folder for downloaded packages, and for what spares the next build
    /// work; may be shared and deleted [default: towline/packages in the
    /// user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Kernel that is to read the layer, in place of the recipe's: a kernel
    /// layer, or its configuration (boot/config-RELEASE). The best compression
    /// that it unpacks is taken
    #[arg(long, value_name = "FILE")]
    for_kernel: Option<PathBuf>,
}

impl BuildWith {
    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.cache.is_none() && self.for_kernel.is_none()
    }
}

/// Builds the layer, unless nothing has changed; `quiet` leaves out what is said along the way.
pub(super) fn run(args: &BuildArgs, quiet: bool) -> Outcome {
    let started = Instant::now();
    let (mut recipe, options) = prepare(&args.recipe, &args.with, &args.out, None, quiet)?;
    if let Some(level) = args.level {
        let set = recipe.set_level(level);
        set.map_err(|what| Failure::new(Exit::Usage, anyhow::anyhow!("--level: {what}")))?;
    }
    let mut talk = talk(quiet);
    let built = match args.again {
        true => build::build(&recipe, &options, &mut talk).map(|built| (built, true)),
        false => build::build_if_changed(&recipe, &options, SystemTime::now(), &mut talk),
    };
    let (built, was_built) = built.map_err(build_failure)?;
    if !was_built {
        talk("nothing that it is made of has changed since it was built");
    }
    print(
        &built,
        was_built,
        started.elapsed().as_secs_f64(),
        args.json,
    );
    Ok(())
}

/// Builds `layer` again, by `recipe` into `out`, whatever is there: of a recipe with a page, the release that the layer is of,
/// unless `--set version=` says another.
pub(super) fn build_again(
    layer: &Manifest,
    recipe: &Path,
    with: &BuildWith,
    out: &Path,
    quiet: bool,
) -> Result<Built, Failure> {
    let (recipe, options) = prepare(recipe, with, out, release::of_layer(layer), quiet)?;
    build::build(&recipe, &options, &mut talk(quiet)).map_err(build_failure)
}

/// Of a recipe with a page, what is built is what `--set version=` says; else this `release`, or the newest that the page names.
fn prepare(
    recipe: &Path,
    with: &BuildWith,
    out: &Path,
    release: Option<&str>,
    quiet: bool,
) -> Result<(Recipe, Options), Failure> {
    let settings = settings(recipe, &with.settings)?;
    let mut recipe = Recipe::read(recipe, &settings).map_err(recipe_failure)?;
    if let Some(path) = &with.for_kernel {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        recipe.for_kernel = Some(path.to_string_lossy().into_owned());
    }
    if let Some(release) = release.filter(|_| recipe.page_to_ask().is_some()) {
        recipe = recipe.of_release(release).map_err(recipe_failure)?;
    }
    let recipe = release::of_newest(recipe, &mut talk(quiet)).map_err(release_failure)?;
    let options = Options {
        out: out.to_owned(),
        cache: cache(with.cache.as_deref())?,
        fetch_wait: None,
    };
    Ok((recipe, options))
}

/// Says on stderr what is going on.
fn talk(quiet: bool) -> impl FnMut(&str) {
    move |what| {
        if !quiet {
            // Archives of strangers have a word in it.
            eprintln!("towline: {}", printable(what));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are shown in megabytes with one digit"
)]
fn print(built: &Built, was_built: bool, seconds: f64, json: bool) {
    let Manifest {
        digest,
        stored_bytes,
        unpacked_bytes,
        entries,
        ..
    } = &built.manifest;
    if json {
        let result = json!({
            "layer": built.layer, "manifest": built.manifest_file, "target": built.manifest.target_name(),
            "digest": digest, "stored_bytes": stored_bytes, "unpacked_bytes": unpacked_bytes, "entries": entries,
            "built": was_built, "seconds": seconds,
        });
        println!("{result}");
        return;
    }
    println!("{}", built.layer.display());
    println!("  target   {}", built.manifest.target_name());
    println!("  digest   {digest}");
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "  stored   {:.1} MB, archive {:.1} MB",
        megabytes(*stored_bytes),
        megabytes(*unpacked_bytes)
    );
    if let Some(image) = &built.manifest.image {
        println!(
            "  image    {:.1} MB, files {:.1} MB",
            megabytes(image.bytes),
            megabytes(image.content_bytes)
        );
    }
    println!("  entries  {entries}");
    println!("  time     {seconds:.1} s");
}

/// The folder for downloaded packages.
fn cache(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(chosen) = chosen {
        return Ok(chosen.to_owned());
    }
    packages_cache()
}

/// Where packages are kept when nobody says otherwise.
pub(in crate::commands) fn packages_cache() -> Result<PathBuf, Failure> {
    cache_dir().map(|dir| dir.join("packages")).ok_or_else(|| {
        let error = anyhow::anyhow!(
            "no home directory is known, so there is no place for downloaded packages"
        );
        Failure::new(Exit::Usage, error).next("say where: --cache DIR")
    })
}
