//! Layers that were built and are not published yet: they are signed and published, or wait for signatures. Until one of both is
//! decided nothing else is built for their role: who has the key may have the document, and bring it back.
//!
//! A role signs one document at a time, so all that its recipes have built goes into one. What somebody was asked to sign is not
//! asked for in another way: while a recipe whose layer is in that document is not looked at, or is broken, the others wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context as _;
use towline_contract::Timestamp;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::stored::StoredError;
use towline_server::catalogue::{self, CatalogueError, NewLayer};
use towline_server::intake::{self, IntakeError};
use towline_server::tracked::record::{State, Waiting};
use towline_server::tracked::{ahead_by_hand, gone, gone_back, versions};

use super::Published;
use super::failures::{has_gone_back, has_older, is_behind, turn};
use super::followed::{Followed, Shared, Stopped, failed};
use super::one::{Work, published};
use super::turns::{First, asked_for};
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

/// Publishes what was built and is not published yet: of each role first what somebody was asked to sign, and the rest when that
/// is done.
pub(super) fn publish(work: &Work<'_>, followed: &mut [Followed], now: Timestamp) {
    let mut roles: BTreeMap<String, Vec<Ready<'_>>> = BTreeMap::new();
    let mut first = asked_for(work, followed);
    for it in followed.iter_mut() {
        match prepared(work, it, now) {
            Ok(ready) => roles.entry(ready.followed.role()).or_default().push(ready),
            Err(asked) => first.extend(asked),
        }
    }
    for (role, all) in roles {
        let is_asked = |it: &Ready<'_>| it.followed.asked().is_some();
        let (asked, new): (Vec<_>, Vec<_>) = all.into_iter().partition(is_asked);
        let mut first = first.remove(&role);
        for all in [asked, new] {
            match &first {
                Some(first) => all.into_iter().for_each(|it| it.waits_for(first, now)),
                None => first = together(work, all, now),
            }
        }
    }
}

/// The recipe's layer; else, if that is one that somebody was asked to sign, the others of its role wait for it.
fn prepared<'a>(
    work: &Work<'_>,
    followed: &'a mut Followed,
    now: Timestamp,
) -> Result<Ready<'a>, Option<(String, First)>> {
    let waiting = followed.record.built.clone();
    if let Some(waiting) = waiting.filter(|_| followed.goes_on()) {
        match ready(work, followed, &waiting) {
            Ok(Found::Ready(layer, gone)) => {
                return Ok(Ready {
                    layer: *layer,
                    gone,
                    followed,
                });
            }
            Ok(Found::Nothing) => followed.record.built = None,
            Ok(Found::Behind(target, why)) => {
                followed.record.stays(target, why, now);
                let _ = fs::remove_dir_all(work.built(&followed.name)); // no machine would get it
            }
            Err((whose, failure)) => followed.is_not_published(whose, failed(failure), now),
        }
    }
    Err(followed.asked())
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
    let back = gone_back(&manifest.packages, &others);
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
    let older = gone_back(&by_hand.packages, &[layer]);
    if older.is_empty() {
        return Ok(Found::Behind(target, why.to_owned()));
    }
    Err(has_older(by_hand, &older))
}

/// Publishes layers of one role by one document; gives one that is still to be published, which others of the role wait for.
fn together(work: &Work<'_>, all: Vec<Ready<'_>>, now: Timestamp) -> Option<First> {
    let target = all.first()?.layer.manifest.target_name();
    let recipe = all.first()?.followed.name.clone();
    match in_one(work, &all, now) {
        Err(error) if all.len() > 1 && whose(&error) == Whose::Layer => alone(work, all, now),
        done => settled(work, all, done, now).then_some(First { target, recipe }),
    }
}

/// The same by a document for each, until one waits: one of them alone is why they cannot go together.
fn alone(work: &Work<'_>, all: Vec<Ready<'_>>, now: Timestamp) -> Option<First> {
    let mut first: Option<First> = None;
    for ready in all {
        match &first {
            Some(first) => ready.waits_for(first, now),
            None => first = together(work, vec![ready], now),
        }
    }
    first
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

/// What came of publishing, for each of them; whether they are still to be published.
fn settled(
    work: &Work<'_>,
    all: Vec<Ready<'_>>,
    done: Result<BTreeSet<String>, CatalogueError>,
    now: Timestamp,
) -> bool {
    match done {
        Ok(added) => {
            for it in all {
                it.published(work, &added, now);
            }
            false
        }
        Err(error) => {
            let (whose, waits) = (whose(&error), waits(&error));
            let is_asked = matches!(error, CatalogueError::ToSign(_));
            let shared = Shared::of(&catalogue_failure(error));
            for Ready {
                followed, layer, ..
            } in all
            {
                let stopped = match waits {
                    true => (State::Waits, waiting_for_key(followed, &layer, &shared)),
                    false => failed(shared.failure()),
                };
                if let Some(waiting) = &mut followed.record.built {
                    waiting.asked |= is_asked;
                }
                followed.is_not_published(whose, stopped, now);
            }
            whose == Whose::Other
        }
    }
}

impl Ready<'_> {
    fn waits_for(self, first: &First, now: Timestamp) {
        self.followed.stop((State::Waits, turn(first)), now);
    }

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
