//! Recipes that follow their packages and releases, each with what is known of it and what comes of it. One that fails, whatever
//! it is that fails, keeps no other from being looked at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use towline_contract::manifest::Kind;
use towline_contract::trust::layer_role;
use towline_contract::{Digest, Timestamp};
use towline_initramfs::recipe::{Recipe, Track};
use towline_server::Site;
use towline_server::catalogue::Published;
use towline_server::private::Locked;
use towline_server::tracked::record::{self, Record, State};
use towline_server::tracked::versions;

use super::{Report, failures};
use crate::commands::layer;
use crate::exit::{Exit, Failure};

/// A recipe on its way through a look.
pub(super) struct Followed {
    pub(super) name: String,
    pub(super) recipe: Recipe,
    pub(super) track: Track,
    /// SHA-256 of the recipe.
    pub(super) digest: Digest,
    pub(super) record: Record,
    pub(super) report: Report,
    /// When it last had its turn; none if never.
    pub(super) turn: Option<Timestamp>,
    failure: Option<Failure>,
}

/// What came of one.
pub(super) type Ended = (Report, Option<Failure>);

/// What went wrong, and what that makes of the recipe.
pub(super) type Stopped = (State, Failure);

/// It did not get so far.
pub(super) fn failed(failure: Failure) -> Stopped {
    (State::Failed, failure)
}

/// A failure that several recipes have.
#[derive(Clone)]
pub(super) struct Shared {
    exit: Exit,
    what: String,
    next: Option<String>,
}

impl Shared {
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            exit: failure.exit,
            what: format!("{:#}", failure.error),
            next: failure.next.clone(),
        }
    }

    pub(super) fn failure(&self) -> Failure {
        Failure {
            next: self.next.clone(),
            ..Failure::new(self.exit, anyhow!(self.what.clone()))
        }
    }
}

impl Followed {
    /// Reads the recipe, and what is known of it.
    pub(super) fn open(
        site: &Site,
        folder: &Locked,
        path: &Path,
        now: Timestamp,
    ) -> Result<Self, Box<Ended>> {
        let report = Report {
            recipe: path.to_owned(),
            state: Some(State::Failed),
            ..Report::default()
        };
        let (name, known) = match known(site, path) {
            Ok(known) => known,
            Err(failure) => return Err(Box::new((report, Some(failure)))),
        };
        let turn = known.as_ref().map(Record::turn);
        let mut record = known.unwrap_or_else(|| Record::new(now));
        match read(path) {
            Ok((recipe, track, digest)) => Ok(Self {
                name,
                recipe,
                track,
                digest,
                record,
                report,
                turn,
                failure: None,
            }),
            Err(failure) => {
                let failure = noted(&mut record, &name, State::Failed, failure, now);
                Err(Box::new(ended(
                    folder,
                    &name,
                    &record,
                    report,
                    Some(failure),
                )))
            }
        }
    }

    /// What is known of recipes is known by their names.
    pub(super) fn has_name_of_another(self) -> Ended {
        let what = anyhow!("two recipes are called {}", self.name);
        let failure = Failure::new(Exit::Usage, what).next("give one of them another name");
        (self.report, Some(failure))
    }

    /// Which layers are of the recipe.
    pub(super) fn of(&self) -> (Kind, &str, &str) {
        of_recipe(&self.recipe)
    }

    /// The role that signs them.
    pub(super) fn role(&self) -> String {
        // Of other kinds none is tracked.
        layer_role(self.recipe.kind, &self.recipe.name).unwrap_or_default()
    }

    /// It goes no further.
    pub(super) fn stop(&mut self, (state, failure): Stopped, now: Timestamp) {
        let failure = noted(&mut self.record, &self.name, state, failure, now);
        self.failure = Some(failure);
    }

    /// Whether it goes further.
    pub(super) fn goes_on(&self) -> bool {
        self.failure.is_none()
    }

    /// Writes down that its turn has come: if the look is cut off at it, the next one begins with the others.
    pub(super) fn begin(&mut self, folder: &Locked, now: Timestamp) -> Result<(), Stopped> {
        self.record.begun = Some(now);
        self.write(folder)
    }

    /// Writes down what is known of it.
    pub(super) fn write(&self, folder: &Locked) -> Result<(), Stopped> {
        let written = record::write(folder, &self.name, &self.record);
        written.map_err(|error| failed(anyhow::Error::from(error).into()))
    }

    /// Writes down how it went.
    pub(super) fn close(self, folder: &Locked) -> Ended {
        ended(folder, &self.name, &self.record, self.report, self.failure)
    }
}

fn of_recipe(recipe: &Recipe) -> (Kind, &str, &str) {
    (recipe.kind, &recipe.name, &recipe.architecture)
}

/// Name of the recipe, and its record, if it has one.
fn known(site: &Site, path: &Path) -> Result<(String, Option<Record>), Failure> {
    let Some(name) = record::name_of(path) else {
        let what = anyhow!("{} is no name for a recipe that is tracked", path.display());
        return Err(Failure::new(Exit::Usage, what)
            .next("name it with letters, digits and -._+ alone: NAME.toml"));
    };
    let known = record::read(site, &name).map_err(|error| {
        let what = anyhow!(error).context(format!("recipe {name} is not current"));
        Failure::from(what).next(
            "remove that file: what is published is compared again, and stays until somebody takes it out; a layer that waited is built again",
        )
    })?;
    Ok((name, known))
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

/// Writes the failure into the record; gives it with the recipe's name.
fn noted(
    record: &mut Record,
    name: &str,
    state: State,
    failure: Failure,
    now: Timestamp,
) -> Failure {
    record.is_not(state, &format!("{:#}", failure.error), now);
    let error = failure
        .error
        .context(format!("recipe {name} is not current"));
    Failure { error, ..failure }
}

fn ended(
    folder: &Locked,
    name: &str,
    record: &Record,
    report: Report,
    failure: Option<Failure>,
) -> Ended {
    let written = record::write(folder, name, record);
    let written = written.map_err(|error| Failure::from(anyhow::Error::from(error)));
    let report = Report {
        state: Some(record.state),
        target: record.target.clone(),
        why: record.why.clone(),
        ..report
    };
    (report, failure.or(written.err()))
}

/// Recipes of the site that are tracked, and of which there is a layer, or one that waits. One of which that cannot be said is
/// among them, so that it is told.
pub(super) fn in_site(site: &Site, layers: &[Published]) -> Result<Vec<PathBuf>, Failure> {
    let folder = site.recipes();
    let mut found = Vec::new();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()));
    for entry in entries.map_err(|error| Failure::new(Exit::Usage, error))? {
        let path = entry.context("cannot read recipes/")?.path();
        if is_recipe(&path) && is_tracked(&path) && has_layer(site, layers, &path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Of recipes that make the same layers none goes further, whether the other one is looked at or is another tracked recipe of the
/// site, which every look of the timer would look at: each would publish over the other.
pub(super) fn refuse_twins(site: &Site, followed: &mut [Followed], now: Timestamp) {
    let mut makers: Vec<(PathBuf, Recipe)> = followed
        .iter()
        .map(|it| (it.report.recipe.clone(), it.recipe.clone()))
        .collect();
    let in_site = fs::read_dir(site.recipes()).into_iter().flatten().flatten();
    let paths = in_site.map(|it| it.path()).filter(|it| is_recipe(it));
    let tracked = paths.filter(|it| is_tracked(it));
    makers.extend(tracked.filter_map(|it| read(&it).ok().map(|(recipe, ..)| (it, recipe))));
    makers.sort_by(|a, b| a.0.cmp(&b.0));
    for it in followed.iter_mut() {
        let own = place(&it.report.recipe);
        let is_twin = |(path, recipe): &&(PathBuf, Recipe)| {
            of_recipe(recipe) == it.of() && place(path) != own
        };
        if let Some((path, _)) = makers.iter().find(is_twin) {
            let (kind, name, architecture) = it.of();
            let layers = format!("{kind}/{name} for {architecture}");
            let failure = failures::is_twin(&it.report.recipe, path, &layers);
            it.stop(failed(failure), now);
        }
    }
}

/// Where a file is, whichever way it was named.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

fn is_recipe(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "toml")
}

/// Whether the recipe has `[track]`; also one that is no TOML at the moment, so that it is told.
fn is_tracked(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else {
        return true;
    };
    let names_it = |line: &str| line.trim_start().starts_with("[track]");
    match text.parse::<toml::Table>() {
        Ok(table) => table.contains_key("track"),
        Err(_) => text.lines().any(names_it),
    }
}

fn has_layer(site: &Site, layers: &[Published], path: &Path) -> bool {
    let Ok((recipe, ..)) = read(path) else {
        return true;
    };
    let name = record::name_of(path).unwrap_or_default();
    let known = record::read(site, &name);
    let waits = known.map_or(true, |it| it.is_some_and(|it| it.built.is_some()));
    waits || !versions(layers, of_recipe(&recipe)).is_empty()
}
