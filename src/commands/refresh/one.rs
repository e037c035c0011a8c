//! One recipe that follows its packages: looked at, built, published.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use towline_contract::lanes::LayerPolicy;
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::{Digest, Timestamp};
use towline_initramfs::apt::{Apt, AptError};
use towline_initramfs::build::{self, Options};
use towline_initramfs::recipe::{Recipe, Track};
use towline_initramfs::stored;
use towline_initramfs::upstream::Upstream;
use towline_server::Site;
use towline_server::catalogue::{self, NewLayer, Published};
use towline_server::intake;
use towline_server::private::Locked;
use towline_server::tracked::record::{self, Record, State, Waiting};
use towline_server::tracked::{is_same, version_for, versions};

use super::Report;
use super::built::finish;
use crate::commands::layer;
use crate::commands::publish::intake_failure;
use crate::commands::site::catalogue_failure;
use crate::exit::{Exit, Failure};
use crate::printable;

/// What all recipes are looked at with.
pub(super) struct Work<'a> {
    pub(super) site: &'a Site,
    pub(super) folder: &'a Locked,
    pub(super) apt: Apt,
    pub(super) cache: &'a Path,
    /// Whether the archives' lists are new, once somebody wanted them.
    pub(super) updated: Option<Result<(), (Exit, String, String)>>,
    pub(super) quiet: bool,
}

/// What went wrong, and what that makes of the recipe.
pub(super) type Stopped = (State, Failure);

/// Brings one recipe up to date. `record` and `report` say how far that went, also when it fails.
pub(super) fn one(
    work: &mut Work<'_>,
    name: &str,
    record: &mut Record,
    report: &mut Report,
    now: Timestamp,
) -> Result<(), Stopped> {
    let path = report.recipe.clone();
    let (recipe, track, digest) = read(&path).map_err(failed)?;
    finish(work, name, &recipe, record, report, now)?;
    work.update().map_err(failed)?;
    let upstream = Upstream::of(&recipe, &work.apt).map_err(|it| failed(apt_failure(it)))?;
    if upstream.is_empty() {
        return Err(failed(tracks_nothing(&path)));
    }
    let layers = published(work.site).map_err(failed)?;
    let versions = versions(&layers, of_recipe(&recipe));
    let newest = versions.first().copied();
    let is_same_recipe = |it: &Manifest| built_by(record, it).is_none_or(|by| by == digest);
    let is_current =
        |it: &&Manifest| upstream.changes(&it.packages).is_empty() && is_same_recipe(it);
    if let Some(newest) = newest.filter(is_current) {
        record.is_current(newest.target_name(), digest, now);
        return Ok(());
    }
    let changes = newest.map_or_else(Vec::new, |it| changes(&upstream, it, !is_same_recipe(it)));
    let built = work.build(name, &recipe).map_err(failed)?;
    if let Some(newest) = newest.filter(|it| is_same(&built.manifest, it)) {
        record.is_current(newest.target_name(), digest, now);
        return Ok(());
    }
    work.give_version(&built).map_err(failed)?;
    record.built = Some(Waiting {
        layer: file_name(&built),
        recipe: digest,
        keep: track.keep,
        changes,
    });
    record::write(work.folder, name, record)
        .map_err(|error| failed(anyhow::Error::from(error).into()))?;
    finish(work, name, &recipe, record, report, now)
}

/// It did not get so far.
pub(super) fn failed(failure: Failure) -> Stopped {
    (State::Failed, failure)
}

/// Which layers are of the recipe.
pub(super) fn of_recipe(recipe: &Recipe) -> (Kind, &str, &str) {
    (recipe.kind, &recipe.name, &recipe.architecture)
}

/// The recipe, how it tracks, and its SHA-256.
fn read(path: &Path) -> Result<(Recipe, Track, Digest), Failure> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bytes = bytes.map_err(|error| Failure::new(Exit::Usage, error))?;
    let settings = layer::settings(path, &[])?;
    let recipe = Recipe::read(path, &settings).map_err(layer::recipe_failure)?;
    let Some(track) = recipe.track.clone() else {
        let what = anyhow!("recipe {} has no [track]", path.display());
        return Err(Failure::new(Exit::Usage, what).next(
            "add [track] to it, or build and publish by hand: towline layer build, towline publish",
        ));
    };
    Ok((recipe, track, Digest::of(&bytes)))
}

/// Whether there is a layer of the recipe, or one that waits.
pub(super) fn is_published(site: &Site, path: &Path) -> Result<bool, Failure> {
    // One that cannot be read is told when it is looked at.
    let Ok((recipe, ..)) = read(path) else {
        return Ok(true);
    };
    let layers = published(site)?;
    let name = record::name_of(path).unwrap_or_default();
    let known = record::read(site, &name).map_err(anyhow::Error::from)?;
    let waits = known.is_some_and(|it| it.built.is_some());
    Ok(waits || !versions(&layers, of_recipe(&recipe)).is_empty())
}

pub(super) fn published(site: &Site) -> Result<Vec<Published>, Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    catalogue::layers(&site.store, &view).map_err(catalogue_failure)
}

/// The recipe that the layer was built by, if it is known: others are published by hand.
fn built_by(record: &Record, layer: &Manifest) -> Option<Digest> {
    let is_it = record.target.as_deref() == Some(&layer.target_name());
    record.recipe.filter(|_| is_it)
}

/// What has changed since `layer`, in words.
fn changes(upstream: &Upstream, layer: &Manifest, by_another_recipe: bool) -> Vec<String> {
    let packages = upstream.changes(&layer.packages);
    let mut words: Vec<_> = packages.iter().map(ToString::to_string).collect();
    if by_another_recipe {
        words.push("the recipe is another one now".into());
    }
    words
}

/// The file whole, or as it was.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

impl Work<'_> {
    /// Gets the archives' newest lists, once.
    fn update(&mut self) -> Result<(), Failure> {
        if self.updated.is_none() {
            self.say("asking the archives for their newest lists");
            let done = self.apt.update().map_err(|error| {
                let (exit, next) = layer::apt_failure(&error);
                (exit, error.to_string(), next)
            });
            self.updated = Some(done);
        }
        match &self.updated {
            Some(Err((exit, what, next))) => {
                Err(Failure::new(*exit, anyhow!(what.clone())).next(next.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Builds the recipe; what an interrupted build has left is gone.
    fn build(&self, name: &str, recipe: &Recipe) -> Result<NewLayer, Failure> {
        let out = self.built(name);
        match fs::remove_dir_all(&out) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = anyhow!(error).context(format!("cannot remove {}", out.display()));
                return Err(what.into());
            }
            _ => {}
        }
        let options = Options {
            out,
            cache: self.cache.to_owned(),
        };
        let built = build::build(recipe, &options, &mut |what| self.say(what));
        let path = built.map_err(layer::build_failure)?.layer;
        intake::take(&path, &self.policy()?).map_err(intake_failure)
    }

    /// Gives the layer that was built a version that no other one ever had.
    fn give_version(&self, layer: &NewLayer) -> Result<(), Failure> {
        let manifest =
            Manifest::parse(&layer.manifest_bytes).context("the manifest was good before")?;
        let of = (manifest.kind, &*manifest.name, &*manifest.architecture);
        let store = &self.site.store;
        let ever =
            catalogue::view(store).and_then(|view| catalogue::ever_published(store, &view, of));
        let version = version_for(&manifest, &ever.map_err(catalogue_failure)?);
        let path = stored::manifest_path(&layer.path);
        let manifest = Manifest {
            version,
            ..manifest
        };
        replace(&path, &manifest.to_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    /// What the site keeps layers to.
    pub(super) fn policy(&self) -> Result<LayerPolicy, Failure> {
        let policy = catalogue::view(&self.site.store).and_then(|view| Ok(view.layer_policy()?));
        policy.map_err(catalogue_failure)
    }

    /// Folder of the layer that was built by this recipe.
    pub(super) fn built(&self, name: &str) -> PathBuf {
        self.site.tracked().join("layers").join(name)
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("towline: {}", printable(what));
        }
    }
}

fn file_name(layer: &NewLayer) -> String {
    let name = layer.path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

pub(super) fn apt_failure(error: AptError) -> Failure {
    let (exit, next) = layer::apt_failure(&error);
    let failure = Failure::new(exit, error);
    match next.is_empty() {
        true => failure,
        false => failure.next(next),
    }
}

fn tracks_nothing(path: &Path) -> Failure {
    let what = anyhow!("recipe {} takes no package from an archive", path.display());
    Failure::new(Exit::Usage, what)
        .next("[track] follows sources of the types apt, certificates and kernel with package; leave it out")
}
