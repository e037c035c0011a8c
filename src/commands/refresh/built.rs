//! Layers that were built and are not published yet: they are signed and published, or wait for signatures. Until one of both is
//! decided nothing else is built for their role: who has the key may have the document, and bring it back.
//!
//! A role signs one document at a time, so all that its recipes have built goes into one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, anyhow};
use towline_contract::Timestamp;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::stored::StoredError;
use towline_server::catalogue::{self, CatalogueError, NewLayer};
use towline_server::intake::{self, IntakeError};
use towline_server::tracked::record::{State, Waiting};
use towline_server::tracked::{GoneBack, ahead_by_hand, gone, gone_back, versions};

use super::Published;
use super::followed::{Followed, Shared, Stopped, failed};
use super::one::{Work, published, turn};
use crate::commands::publish::intake_failure;
use crate::commands::site::catalogue_failure;
use crate::exit::{Exit, Failure};

/// A layer with what goes when it comes.
struct Ready<'a> {
    followed: &'a mut Followed,
    layer: NewLayer,
    gone: Vec<String>,
}

/// What became of a layer that waits.
enum Found {
    /// It can be published; these targets go when it comes.
    Ready(Box<NewLayer>, Vec<String>),
    /// It is not there any more, or is no layer of this recipe.
    Nothing,
    /// Machines would take this one before it, which somebody published by hand, for this reason.
    Behind(String, String),
}

/// Whose fault it is that a layer is not published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Its own: it is forgotten, and built again by the next look.
    Layer,
    /// Any layer would have it.
    Other,
}

/// Publishes what was built and is not published yet.
pub(super) fn publish(work: &Work<'_>, followed: &mut [Followed], now: Timestamp) {
    let mut roles: BTreeMap<String, Vec<Ready<'_>>> = BTreeMap::new();
    for it in followed.iter_mut().filter(|it| it.goes_on()) {
        let Some(waiting) = it.record.built.clone() else {
            continue;
        };
        match ready(work, it, &waiting) {
            Ok(Found::Ready(layer, gone)) => {
                let ready = Ready {
                    layer: *layer,
                    gone,
                    followed: it,
                };
                roles.entry(ready.followed.role()).or_default().push(ready);
            }
            Ok(Found::Nothing) => it.record.built = None,
            Ok(Found::Behind(target, why)) => {
                it.record.stays(target, why, now);
                let _ = fs::remove_dir_all(work.built(&it.name)); // no machine would get it
            }
            Err((whose, failure)) => it.is_not_published(whose, failed(failure), now),
        }
    }
    for all in roles.into_values() {
        together(work, all, now);
    }
}

/// A layer of each role that waits.
pub(super) fn waiting(followed: &[Followed]) -> BTreeMap<String, String> {
    let waiting = followed.iter().filter_map(|it| {
        let waiting = it.record.built.as_ref()?;
        Some((it.role(), waiting.layer.clone()))
    });
    waiting.collect()
}

/// The layer that waits.
fn ready(
    work: &Work<'_>,
    followed: &Followed,
    waiting: &Waiting,
) -> Result<Found, (Whose, Failure)> {
    let other = |failure: Failure| (Whose::Other, failure);
    let path = work.built(&followed.name).join(&waiting.layer);
    let is_there = path.try_exists();
    let is_there = is_there.with_context(|| format!("cannot look for {}", path.display()));
    if waiting.layer.contains('/') || !is_there.map_err(|it| other(it.into()))? {
        return Ok(Found::Nothing);
    }
    let policy = work.policy().map_err(other)?;
    let layer = intake::take(&path, &policy).map_err(|error| {
        let whose = match &error {
            IntakeError::Read { .. }
            | IntakeError::Layer(StoredError::Read { .. } | StoredError::Temporary { .. }) => {
                Whose::Other
            }
            _ => Whose::Layer,
        };
        (whose, intake_failure(error))
    })?;
    let manifest = &layer.manifest;
    if (manifest.kind, &*manifest.name, &*manifest.architecture) != followed.of() {
        return Ok(Found::Nothing);
    }
    let layers = published(work.site).map_err(other)?;
    let versions = versions(&layers, followed.of());
    let own = &followed.record.own;
    let by_hand = ahead_by_hand(manifest, &versions, own);
    let others = versions.iter().copied();
    let others: Vec<_> = others.filter(|it| !by_hand.contains(it)).collect();
    let back = gone_back(manifest, &others);
    if !back.is_empty() {
        return Err((Whose::Layer, has_gone_back(&layer, &back)));
    }
    if let Some(first) = by_hand.first() {
        return behind(manifest, first).map_err(|failure| (Whose::Layer, failure));
    }
    let gone = gone(manifest, &versions, own, waiting.keep);
    if manifest.kind == Kind::Kernel && !gone.is_empty() {
        return Err((Whose::Layer, is_behind(&layer, &gone)));
    }
    Ok(Found::Ready(Box::new(layer), gone))
}

/// What somebody published by hand is what machines are to get; that upstream has packages newer than in it is a failure.
fn behind(layer: &Manifest, by_hand: &Manifest) -> Result<Found, Failure> {
    let target = by_hand.target_name();
    let why = "published by hand, and newer than what the recipe makes";
    let older = gone_back(by_hand, &[layer]);
    if older.is_empty() {
        return Ok(Found::Behind(target, why.to_owned()));
    }
    let rows = older
        .iter()
        .map(|it| format!("{} {}, {} by now", it.package, it.is, it.was));
    let rows: Vec<_> = rows.collect();
    let what = anyhow!(
        "machines take {target}, which was published by hand, before what the recipe makes, but it has {}",
        rows.join("; ")
    );
    let (kind, name, version) = (by_hand.kind, &by_hand.name, &by_hand.version);
    Err(Failure::new(Exit::No, what).next(format!(
        "publish a newer one by hand, or have the recipe's taken: towline catalogue retire {kind}/{name} {version}, and run this again"
    )))
}

/// Publishes layers of one role by one document.
fn together(work: &Work<'_>, all: Vec<Ready<'_>>, now: Timestamp) {
    match in_one(work, &all, now) {
        Err(error) if all.len() > 1 && whose(&error) == Whose::Layer => alone(work, all, now),
        done => settled(work, all, done, now),
    }
}

/// The same by a document for each, until one waits: one of them alone is why they cannot go together.
fn alone(work: &Work<'_>, all: Vec<Ready<'_>>, now: Timestamp) {
    let mut first: Option<String> = None;
    for ready in all {
        if let Some(first) = &first {
            ready.followed.stop((State::Waits, turn(first)), now);
            continue;
        }
        let target = ready.layer.manifest.target_name();
        let all = vec![ready];
        let done = in_one(work, &all, now);
        first = done
            .as_ref()
            .err()
            .and_then(|it| waits(it).then_some(target));
        settled(work, all, done, now);
    }
}

/// Targets that were new.
fn in_one(
    work: &Work<'_>,
    all: &[Ready<'_>],
    now: Timestamp,
) -> Result<BTreeSet<String>, CatalogueError> {
    let new: Vec<_> = all.iter().map(|it| it.layer.clone()).collect();
    let gone: Vec<_> = all.iter().flat_map(|it| it.gone.iter().cloned()).collect();
    let outcome = catalogue::publish_instead(work.site, &new, &gone, now)?;
    Ok(outcome.added.into_iter().collect())
}

/// What came of publishing, for each of them.
fn settled(
    work: &Work<'_>,
    all: Vec<Ready<'_>>,
    done: Result<BTreeSet<String>, CatalogueError>,
    now: Timestamp,
) {
    match done {
        Ok(added) => all
            .into_iter()
            .for_each(|it| it.published(work, &added, now)),
        Err(error) => {
            let (whose, waits) = (whose(&error), waits(&error));
            let shared = Shared::of(&catalogue_failure(error));
            for Ready {
                followed, layer, ..
            } in all
            {
                let stopped = match waits {
                    true => (State::Waits, waiting_for_key(followed, &layer, &shared)),
                    false => failed(shared.failure()),
                };
                followed.is_not_published(whose, stopped, now);
            }
        }
    }
}

impl Ready<'_> {
    /// Of a layer that was published before nothing has gone now: by a look that was cut off then, or by somebody who has
    /// published the very layer that a look has built.
    fn published(self, work: &Work<'_>, added: &BTreeSet<String>, now: Timestamp) {
        let Self {
            followed,
            layer,
            gone,
        } = self;
        let Some(waiting) = followed.record.built.take() else {
            return;
        };
        let target = layer.manifest.target_name();
        followed
            .record
            .is_current(target.clone(), waiting.recipe, waiting.seen, now);
        let gone = match added.contains(&target) {
            true => gone,
            false => Vec::new(),
        };
        followed.record.has_published(&layer.manifest, &gone);
        followed.report.retired.extend(gone);
        followed.report.published.push(Published {
            target,
            changes: waiting.changes,
        });
        let _ = fs::remove_dir_all(work.built(&followed.name)); // the store has it
    }
}

impl Followed {
    fn is_not_published(&mut self, whose: Whose, stopped: Stopped, now: Timestamp) {
        if whose == Whose::Layer {
            self.record.built = None;
        }
        self.stop(stopped, now);
    }
}

fn whose(error: &CatalogueError) -> Whose {
    match error {
        CatalogueError::Taken { .. }
        | CatalogueError::OtherManifest { .. }
        | CatalogueError::Unmet(_)
        | CatalogueError::Collisions(_) => Whose::Layer,
        _ => Whose::Other,
    }
}

fn waits(error: &CatalogueError) -> bool {
    matches!(error, CatalogueError::ToSign(_) | CatalogueError::Waits(_))
}

fn waiting_for_key(followed: &Followed, layer: &NewLayer, why: &Shared) -> Failure {
    let failure = why.failure();
    let target = layer.manifest.target_name();
    let waiting = followed.record.built.as_ref();
    let by = match waiting.is_some_and(|it| it.recipe != followed.digest) {
        true => ", by the recipe as it was then,",
        false => "",
    };
    let error = failure.error.context(format!(
        "{target} is built{by} and waits for the key of who answers for it"
    ));
    Failure {
        exit: Exit::No,
        error,
        ..failure
    }
}

fn has_gone_back(layer: &NewLayer, back: &[GoneBack]) -> Failure {
    let rows: Vec<_> = back.iter().map(ToString::to_string).collect();
    let what = anyhow!("packages have gone back: {}", rows.join("; "));
    let (kind, name) = (layer.manifest.kind, &layer.manifest.name);
    let targets = back.iter().map(|it| it.target.as_str());
    let version = targets.filter_map(|it| it.split('/').nth(2)).next();
    let version = version.unwrap_or("VERSION");
    Failure::new(Exit::No, what).next(format!(
        "see whether the archive is the right one; if that is right: towline catalogue retire {kind}/{name} {version}, and run this again"
    ))
}

/// Kernels do not go by themselves: media start in place by the layer of their own.
fn is_behind(layer: &NewLayer, ahead: &[String]) -> Failure {
    let target = layer.manifest.target_name();
    let what = anyhow!(
        "machines would not take {target} before {}, whose newest file is newer",
        ahead.join(", ")
    );
    Failure::new(Exit::No, what)
        .next("when no medium starts by those kernels any more: towline catalogue retire")
}
