//! One recipe that follows its packages: looked at, and built.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::slice;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use towline_contract::lanes::LayerPolicy;
use towline_contract::manifest::Manifest;
use towline_contract::{Digest, Timestamp};
use towline_initramfs::apt::{Apt, AptError};
use towline_initramfs::build::{self, Options};
use towline_initramfs::recipe::Recipe;
use towline_initramfs::upstream::{self, Upstream};
use towline_initramfs::{fetch, release, stored};
use towline_server::Site;
use towline_server::catalogue::{self, NewLayer, Published};
use towline_server::intake;
use towline_server::private::Locked;
use towline_server::tracked::record::{Record, State, Waiting};
use towline_server::tracked::{gone_back, is_same, of_recipe, version_for, versions};

use super::failures::{page_has_gone_back, tracks_nothing, turn};
use super::followed::{Followed, Shared, Stopped, failed};
use super::turns::First;
use crate::commands::layer;
use crate::commands::publish::intake_failure;
use crate::commands::site::catalogue_failure;
use crate::exit::Failure;
use crate::printable;

/// How long fetched files are kept for a build that wants them again, after another change of its recipe.
const FETCHED_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Longest that what one recipe fetches may take in a look, which has six hours for all of them: a file of 1 GiB at 150 kB a
/// second.
const FETCH_WAIT: Duration = Duration::from_secs(2 * 3600);

/// What all recipes are looked at with.
pub(super) struct Work<'a> {
    pub(super) site: &'a Site,
    pub(super) folder: &'a Locked,
    pub(super) apt: Apt,
    pub(super) cache: &'a Path,
    /// Of when the archives' lists are, once somebody wanted them.
    pub(super) updated: Option<Result<Timestamp, Shared>>,
    pub(super) quiet: bool,
}

pub(super) fn published(site: &Site) -> Result<Vec<Published>, Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    catalogue::layers(&site.store, &view).map_err(catalogue_failure)
}

impl Work<'_> {
    /// Compares one recipe with what is published, and builds it if that is another. `waits` names a layer of each role that
    /// waits for signatures: of such a role nothing else is built, for that would be another document.
    pub(super) fn look(
        &mut self,
        followed: &mut Followed,
        layers: &[Published],
        waits: &BTreeMap<String, First>,
        now: Timestamp,
    ) -> Result<(), Stopped> {
        let recipe = self.of_newest(followed).map_err(failed)?;
        // A page is as new as the look at it.
        let seen = match upstream::asks_archives(&recipe) {
            true => self.update(now).map_err(failed)?,
            false => now,
        };
        let upstream = Upstream::of(&recipe, &self.apt);
        let upstream = upstream.map_err(|it| failed(apt_failure(it)))?;
        if upstream.is_empty() {
            return Err(failed(tracks_nothing(&followed.report.recipe)));
        }
        let versions = versions(layers, followed.of());
        refuse_to_go_back(followed, &upstream, &versions).map_err(failed)?;
        let newest = versions.first().copied();
        let built_by = newest.and_then(|it| built_by(&followed.record, it));
        let is_current = |it: &&Manifest| {
            upstream.is_all_told()
                && upstream.changes(&it.packages).is_empty()
                && built_by == Some(followed.digest)
        };
        if let Some(newest) = newest.filter(is_current) {
            followed.is_current(newest, seen, now);
            return Ok(());
        }
        if let Some(first) = waits.get(&followed.role()) {
            return Err((State::Waits, turn(first)));
        }
        let built = self.build(&followed.name, &recipe).map_err(failed)?;
        if let Some(newest) = newest.filter(|it| is_same(&built.manifest, it)) {
            followed.is_current(newest, seen, now);
            return Ok(());
        }
        let target = self.give_version(&built).map_err(failed)?;
        followed.record.built = Some(Waiting {
            layer: file_name(&built),
            target,
            asked: false,
            recipe: followed.digest,
            keep: followed.track.keep,
            changes: newest.map_or_else(Vec::new, |it| {
                changes(&upstream, it, built_by.map(|it| it == followed.digest))
            }),
            seen,
        });
        followed.write(self.folder)
    }

    /// The recipe for the newest release that its page names; as it is if it has none.
    fn of_newest(&self, followed: &Followed) -> Result<Recipe, Failure> {
        let name = &followed.name;
        release::of_newest(followed.recipe.clone(), &mut |what| {
            self.say(&format!("recipe {name}: {what}"));
        })
        .map_err(layer::release_failure)
    }

    /// Gets the archives' newest lists, once; says of when they are.
    fn update(&mut self, now: Timestamp) -> Result<Timestamp, Failure> {
        let known = match self.updated.take() {
            Some(known) => known,
            None => {
                self.say("asking the archives for their newest lists");
                let dated = self.apt.update().and_then(|()| self.apt.lists_dated());
                let dated = dated.map_err(|error| Shared::of(&apt_failure(error)));
                dated.map(|dated| dated.map_or(now, |dated| dated.min(now)))
            }
        };
        self.updated
            .insert(known)
            .clone()
            .map_err(|it| it.failure())
    }

    /// Packages that no archive has any more are of no use to anybody, and releases of long ago hardly; that they are still there
    /// is no failure.
    pub(super) fn forget_old(&self, now: SystemTime) {
        if matches!(self.updated, Some(Ok(_)))
            && let Err(error) = self.apt.forget_old()
        {
            self.say(&error.to_string());
        }
        let Some(before) = now.checked_sub(FETCHED_KEPT) else {
            return;
        };
        if let Err(error) = fetch::forget_old(self.cache, before) {
            self.say(&format!(
                "cannot remove old files that were fetched: {error}"
            ));
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
            fetch_wait: Some(FETCH_WAIT),
        };
        let built = build::build(recipe, &options, &mut |what| {
            self.say(&format!("recipe {name}: {what}"));
        });
        let path = built.map_err(layer::build_failure)?.layer;
        intake::take(&path, &self.policy()?).map_err(intake_failure)
    }

    /// Gives the layer that was built a version that no other one ever had; gives its target.
    fn give_version(&self, layer: &NewLayer) -> Result<String, Failure> {
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
        Ok(manifest.target_name())
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

impl Followed {
    /// This layer is what upstream had at `seen`.
    fn is_current(&mut self, layer: &Manifest, seen: Timestamp, now: Timestamp) {
        let target = layer.target_name();
        self.record.is_current(target, self.digest, seen, now);
    }
}

/// A release that is older than one which the recipe has published is not even fetched. What was published by hand is compared
/// when it is known which one machines would take.
fn refuse_to_go_back(
    followed: &Followed,
    upstream: &Upstream,
    versions: &[&Manifest],
) -> Result<(), Failure> {
    let release = upstream.release().map_or(&[][..], slice::from_ref);
    let own = of_recipe(versions, &followed.record.own);
    match gone_back(release, &own).first() {
        Some(back) => Err(page_has_gone_back(&followed.recipe, back)),
        None => Ok(()),
    }
}

/// The recipe that the layer was built by; of one that is not known to be of this recipe, as one that was published by hand,
/// nobody knows.
fn built_by(record: &Record, layer: &Manifest) -> Option<Digest> {
    let is_it = record.target.as_deref() == Some(&layer.target_name());
    record.recipe.filter(|_| is_it)
}

/// What has changed since `layer`, in words; `is_same_recipe` if that is known.
fn changes(upstream: &Upstream, layer: &Manifest, is_same_recipe: Option<bool>) -> Vec<String> {
    let packages = upstream.changes(&layer.packages);
    let mut words: Vec<_> = packages.iter().map(ToString::to_string).collect();
    let more = match is_same_recipe {
        Some(false) => Some("the recipe is another one now"),
        Some(true) if words.is_empty() => Some("files of this machine are others now"),
        None if words.is_empty() => Some("the recipe, or a file that it names, is another one now"),
        _ => None,
    };
    words.extend(more.map(str::to_owned));
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
