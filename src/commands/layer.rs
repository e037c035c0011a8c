//! `towline layer`: builds layers, looks into them, and checks them.

mod diff;
mod inspect;
mod sources;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;
use towline_contract::manifest::Manifest;
use towline_initramfs::apt::AptError;
use towline_initramfs::assemble::SourceError;
use towline_initramfs::build::{self, BuildError, Built, Options};
use towline_initramfs::fetch::FetchError;
use towline_initramfs::kernel::ReadsError;
use towline_initramfs::libraries::LibraryError;
use towline_initramfs::makeself::MakeselfError;
use towline_initramfs::recipe::{PageError, Recipe, RecipeError};
use towline_initramfs::release::{self, ReleaseError};

use super::cache_dir::cache_dir;
use super::distribution::other_than_debian_12;
use super::stage1::stage1;
use crate::exit::{Exit, Failure, Outcome};
use crate::printable;

/// The variable of recipes that is the stage 1 program.
const STAGE1: &str = "stage1";

/// The variable that says which release is built.
const VERSION: &str = "version";

/// Build layers, look into them, check them
#[derive(Args)]
pub(crate) struct LayerArgs {
    #[command(subcommand)]
    command: LayerCommand,
}

impl LayerArgs {
    /// Whether it may fetch files from servers.
    pub(crate) fn has_peers(&self) -> bool {
        match &self.command {
            LayerCommand::Build(_) => true,
            LayerCommand::Verify(args) => args.builds(),
            LayerCommand::Inspect(_) | LayerCommand::Diff(_) => false,
        }
    }
}

#[derive(Subcommand)]
enum LayerCommand {
    /// Build the layer that a recipe describes
    Build(BuildArgs),
    /// Show what a layer is and holds
    Inspect(inspect::InspectArgs),
    /// Check a layer against its manifest, its kind's rules, and its sources
    Verify(verify::VerifyArgs),
    /// Show in which packages and files two layers differ. Exit status 1 when
    /// they do
    Diff(diff::DiffArgs),
}

#[derive(Args)]
struct BuildArgs {
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
struct BuildWith {
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
    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.cache.is_none() && self.for_kernel.is_none()
    }
}

/// Runs the command; `quiet` leaves out what is said along the way.
pub(crate) fn run(args: &LayerArgs, quiet: bool) -> Outcome {
    match &args.command {
        LayerCommand::Build(args) => run_build(args, quiet),
        LayerCommand::Inspect(args) => inspect::run(args),
        LayerCommand::Verify(args) => verify::run(args, quiet),
        LayerCommand::Diff(args) => diff::run(args),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn run_build(args: &BuildArgs, quiet: bool) -> Outcome {
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
fn build_again(
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

/// The values of the recipe's variables. Every value given must be of use; stage 1 is found when none is given.
pub(super) fn settings(
    recipe: &Path,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>, Failure> {
    let mut settings: BTreeMap<_, _> = given.iter().cloned().map(absolute).collect();
    let used = Recipe::variables(recipe).map_err(recipe_failure)?;
    if let Some(unused) = settings.keys().find(|name| !used.contains(*name)) {
        let recipe = recipe.display();
        let error = anyhow::anyhow!("recipe {recipe} uses no ${{{unused}}}");
        let names: Vec<_> = used.into_iter().collect();
        let next = match names.as_slice() {
            [] => "it uses no variables: leave out --set".to_owned(),
            names => format!("its variables are {}", names.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, error).next(next));
    }
    if used.contains(STAGE1) {
        let chosen = settings.get(STAGE1).map(Path::new);
        let path = stage1(chosen, "--set stage1=FILE")?;
        settings.insert(STAGE1.to_owned(), path.to_string_lossy().into_owned());
    }
    Ok(settings)
}

/// A value that names a file of this machine is made absolute: the recipe's own paths are relative to the recipe. A version is
/// none, though a release may well lie unpacked in a folder that is called so.
fn absolute((name, value): (String, String)) -> (String, String) {
    if name == VERSION {
        return (name, value);
    }
    let path = Path::new(&value).canonicalize().ok();
    let path = path.and_then(|path| path.to_str().map(str::to_owned));
    (name, path.unwrap_or(value))
}

/// The folder for downloaded packages.
fn cache(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(chosen) = chosen {
        return Ok(chosen.to_owned());
    }
    packages_cache()
}

/// Where packages are kept when nobody says otherwise.
pub(super) fn packages_cache() -> Result<PathBuf, Failure> {
    cache_dir().map(|dir| dir.join("packages")).ok_or_else(|| {
        let error = anyhow::anyhow!(
            "no home directory is known, so there is no place for downloaded packages"
        );
        Failure::new(Exit::Usage, error).next("say where: --cache DIR")
    })
}

pub(super) fn recipe_failure(error: RecipeError) -> Failure {
    let next = match &error {
        RecipeError::Set { .. } => "give it as it stands in the URL: --set version=1.2",
        _ => "docs/how-to/recipes.md explains every field",
    };
    Failure::new(Exit::Usage, error).next(next)
}

pub(super) fn release_failure(error: ReleaseError) -> Failure {
    let (exit, next) = match &error {
        ReleaseError::Fetch { cause, .. } => match &**cause {
            FetchError::Status { status, .. } => (
                Exit::NotReachable,
                status_next(*status)
                    .unwrap_or("see where versions are named by now, and put that into track.page")
                    .to_owned(),
            ),
            FetchError::TooLarge { .. } => (
                Exit::Usage,
                "name a page that lists fewer, such as that of the newest release".to_owned(),
            ),
            other => fetch_failure(other),
        },
        ReleaseError::Page { cause, .. } => (
            Exit::Usage,
            match &**cause {
                PageError::None { .. } => "compare track.version with what the page has",
                PageError::Many { .. } => "have track.version match less, or name a page that lists fewer",
                PageError::Version { .. } => {
                    "have the group of track.version match nothing but versions, such as ([0-9][0-9.]*)"
                }
            }
            .to_owned(),
        ),
        ReleaseError::Recipe(_) => (
            Exit::Usage,
            "docs/how-to/recipes.md explains every field".to_owned(),
        ),
    };
    Failure::new(exit, error).next(next)
}

pub(super) fn build_failure(error: BuildError) -> Failure {
    let (exit, next) = match &error {
        BuildError::Source { cause, .. } => source_failure(cause),
        BuildError::Missing(_) => (
            Exit::No,
            "add the packages that have them, or exclude the files that need them".into(),
        ),
        BuildError::ForKernel(error) => (Exit::Usage, for_kernel_next(error).into()),
        BuildError::Unread { instead, .. } => (Exit::Usage, instead.clone()),
        BuildError::Recipe { .. } | BuildError::Manifest(_) => (Exit::Usage, String::new()),
        _ => (Exit::Internal, String::new()),
    };
    let failure = Failure::new(exit, error);
    if next.is_empty() {
        failure
    } else {
        failure.next(next)
    }
}

fn for_kernel_next(error: &ReadsError) -> &'static str {
    match error {
        ReadsError::Unknown { .. } => {
            "name its configuration instead (boot/config-RELEASE), or build the kernel layer again with --for-kernel and that file"
        }
        _ => {
            "name a kernel layer, with its manifest beside it, or the kernel's configuration (boot/config-RELEASE)"
        }
    }
}

fn source_failure(error: &SourceError) -> (Exit, String) {
    match error {
        SourceError::Apt(error) => apt_failure(error),
        SourceError::Fetch(error) => fetch_failure(error),
        SourceError::Makeself(error) => (Exit::Usage, makeself_next(error).into()),
        SourceError::Library(LibraryError::Missing(_)) => (
            Exit::No,
            "add the packages that have them to the recipe".into(),
        ),
        _ => (Exit::Usage, String::new()),
    }
}

/// What to do about an answer that says nothing of the URL; none of any other.
fn status_next(status: u16) -> Option<&'static str> {
    match status {
        408 | 429 | 500.. => Some("that server cannot answer now: try again later"),
        401 | 403 | 407 => Some(
            "that server, or the proxy, does not let this machine have it: if it counts what is asked for, as GitHub's API \
             does, try again later; if it wants a login, name a place that everybody may read",
        ),
        _ => None,
    }
}

/// The exit code of a failure to fetch a file, and the next step.
fn fetch_failure(error: &FetchError) -> (Exit, String) {
    let (exit, next) = match error {
        FetchError::Unreachable { .. } | FetchError::Stopped { .. } => (
            Exit::NotReachable,
            "check the network (and https_proxy, if there is a proxy), then try again",
        ),
        FetchError::Late { .. } => (
            Exit::NotReachable,
            "see why it is so slow, and try again later; by hand it may take longer: towline layer build, towline publish",
        ),
        FetchError::Status { status, .. } => (
            Exit::NotReachable,
            status_next(*status).unwrap_or(
            "check the `url` in the recipe; of a release that a page names, whether its makers have put it there already, or \
             track.version takes for one what is none"),
        ),
        FetchError::TooLarge { .. } => (
            Exit::NotTrusted,
            "if it is the right file, raise `bytes-max` in the recipe",
        ),
        FetchError::Digest { .. } => (
            Exit::NotTrusted,
            "compare the digest with what its makers say; when they made a new version, put that into the recipe",
        ),
        FetchError::Signature { .. } => (
            Exit::NotTrusted,
            "compare the key with what its makers say, and look whether they sign this very file",
        ),
        FetchError::Unnamed { .. } => (
            Exit::NotTrusted,
            "see whether an older file lies there under a new name; if its makers never sign names, and you take that risk: `signed-name = false` beside the `minisign-key`",
        ),
        FetchError::Authorities(_) => (
            Exit::Usage,
            "install ca-certificates, or name a file with certificates in SSL_CERT_FILE",
        ),
        FetchError::File { .. } => (Exit::Internal, "choose another folder with --cache"),
        FetchError::Proof(_) => (Exit::Usage, ""),
    };
    (exit, next.to_owned())
}

fn makeself_next(error: &MakeselfError) -> &'static str {
    match error {
        MakeselfError::Other { .. } | MakeselfError::Form { .. } => {
            "carry it whole, and run it on the target: a source of type \"file\" with `path`, `from` and mode \"0755\", or the \
             agent's `install`"
        }
        MakeselfError::Size { .. } | MakeselfError::Sum { .. } => "fetch the file again",
        MakeselfError::Read { .. } | MakeselfError::Tar { .. } => "",
    }
}

/// The exit code of a failure to get packages, and the next step.
pub(super) fn apt_failure(error: &AptError) -> (Exit, String) {
    let (exit, next) = match error {
        AptError::NoLists => (Exit::Usage, "run `apt-get update` as root, then try again"),
        AptError::Download { .. } => (
            Exit::NotReachable,
            "check the network; when the archive has newer versions, run `apt-get update` as root",
        ),
        AptError::Update(talk) if talk.contains("signed") || talk.contains("signature") => (
            Exit::NotTrusted,
            "see the archive's key and Signed-By in this machine's apt sources; nothing was changed",
        ),
        AptError::Update(talk) if talk.contains("is expired") => (
            Exit::NotTrusted,
            "see why the mirror stands still; of an archive that is meant to, as a snapshot, say [check-valid-until=no] in this machine's apt sources; nothing was changed",
        ),
        AptError::Update(_) => (
            Exit::NotReachable,
            "check the network and this machine's apt sources, then run this again; nothing was changed",
        ),
        AptError::Busy { .. } => (
            Exit::No,
            "see which program has that file open (fuser FILE), wait for it or end it, and run this again; or choose another folder with --cache",
        ),
        AptError::Digest { .. } => (Exit::NotTrusted, "try again, or use another mirror"),
        AptError::File { .. } => (Exit::Internal, "choose another folder with --cache"),
        AptError::Unresolved { .. } | AptError::NoKernel { .. } => {
            if let Some(other) = other_than_debian_12() {
                let next = format!(
                    "the medium and the ready recipes are made of Debian 12's packages, and this machine has those of \
                     {other}: build on a Debian 12 machine or in a container of it"
                );
                return (Exit::Usage, next);
            }
            (
                Exit::Usage,
                "check the names; with old package lists, run `apt-get update` as root",
            )
        }
        _ => (Exit::Usage, ""),
    };
    (exit, next.to_owned())
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
