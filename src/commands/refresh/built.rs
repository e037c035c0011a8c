//! Layers that were built and are not published yet: they are signed and published, or wait for signatures. Until one of both is
//! decided nothing else is built for their role: who has the key may have the document, and bring it back.
//!
//! A role signs one document at a time, so all that its recipes have built goes into one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, anyhow};
use towline_contract::Timestamp;
use towline_contract::manifest::Kind;
use towline_initramfs::stored::StoredError;
use towline_server::catalogue::{self, CatalogueError, NewLayer};
use towline_server::intake::{self, IntakeError};
use towline_server::tracked::record::{State, Waiting};
use towline_server::tracked::{GoneBack, gone, gone_back, versions};

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

/// A layer, and targets that go when it comes; none if it is not there any more, or is no layer of this recipe.
type Found = Option<(NewLayer, Vec<String>)>;

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
            Ok(Some((layer, gone))) => {
                let ready = Ready {
                    layer,
                    gone,
                    followed: it,
                };
                roles.entry(ready.followed.role()).or_default().push(ready);
            }
            Ok(None) => it.record.built = None,
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
        return Ok(None);
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
        return Ok(None);
    }
    let layers = published(work.site).map_err(other)?;
    let versions = versions(&layers, followed.of());
    let back = gone_back(manifest, &versions);
    if !back.is_empty() {
        return Err((Whose::Layer, has_gone_back(&layer, &back)));
    }
    let gone = gone(manifest, &versions, waiting.keep);
    if manifest.kind == Kind::Kernel && !gone.is_empty() {
        return Err((Whose::Layer, is_behind(&layer, &gone)));
    }
    Ok(Some((layer, gone)))
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
    /// Of a layer that was published before nothing has gone now.
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
        if added.contains(&target) {
            followed.report.retired.extend(gone);
        }
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
