//! A layer that was built and is not published yet: it is signed and published, or waits for signatures. Until one of both is
//! decided nothing else is built: who has the key may have its document, and bring it back.

use std::fs;

use anyhow::{Context as _, anyhow};
use towline_contract::Timestamp;
use towline_contract::manifest::Kind;
use towline_initramfs::recipe::Recipe;
use towline_initramfs::stored::StoredError;
use towline_server::catalogue::{self, CatalogueError, NewLayer};
use towline_server::intake::{self, IntakeError};
use towline_server::tracked::record::{Record, State, Waiting};
use towline_server::tracked::{GoneBack, gone, gone_back, versions};

use super::one::{Stopped, Work, failed, of_recipe, published};
use super::{Published, Report};
use crate::commands::publish::intake_failure;
use crate::commands::site::catalogue_failure;
use crate::exit::{Exit, Failure};

/// Publishes the layer that was built and is not published yet, if there is one. One that machines could not use is forgotten,
/// and built again by the next look; nothing else makes it forgotten.
pub(super) fn finish(
    work: &Work<'_>,
    name: &str,
    recipe: &Recipe,
    record: &mut Record,
    report: &mut Report,
    now: Timestamp,
) -> Result<(), Stopped> {
    let Some(waiting) = record.built.clone() else {
        return Ok(());
    };
    match published_now(work, name, recipe, &waiting, now) {
        Ok(None) => record.built = None,
        Ok(Some((target, gone))) => {
            record.is_current(target.clone(), waiting.recipe, now);
            let changes = waiting.changes;
            report.published.push(Published { target, changes });
            report.retired.extend(gone);
            let _ = fs::remove_dir_all(work.built(name)); // the store has it
        }
        Err((whose, stopped)) => {
            if whose == Whose::Layer {
                record.built = None;
            }
            return Err(stopped);
        }
    }
    Ok(())
}

/// Whose fault it is that a layer is not published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Its own: another one may be good.
    Layer,
    /// Any layer would have it.
    Other,
}

/// What was published, and which targets went; none if the layer is not there any more, or is no layer of this recipe.
type Done = Option<(String, Vec<String>)>;

fn published_now(
    work: &Work<'_>,
    name: &str,
    recipe: &Recipe,
    waiting: &Waiting,
    now: Timestamp,
) -> Result<Done, (Whose, Stopped)> {
    let other = |failure: Failure| (Whose::Other, failed(failure));
    let path = work.built(name).join(&waiting.layer);
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
        (whose, failed(intake_failure(error)))
    })?;
    let of = of_recipe(recipe);
    let manifest = &layer.manifest;
    if (manifest.kind, &*manifest.name, &*manifest.architecture) != of {
        return Ok(None);
    }
    let layers = published(work.site).map_err(other)?;
    let versions = versions(&layers, of);
    let back = gone_back(manifest, &versions);
    if !back.is_empty() {
        return Err((Whose::Layer, failed(has_gone_back(&layer, &back))));
    }
    let gone = gone(manifest, &versions, waiting.keep);
    if manifest.kind == Kind::Kernel && !gone.is_empty() {
        return Err((Whose::Layer, failed(is_behind(&layer, &gone))));
    }
    let new = std::slice::from_ref(&layer);
    match catalogue::publish_instead(work.site, new, &gone, now) {
        Ok(_) => Ok(Some((manifest.target_name(), gone))),
        Err(CatalogueError::ToSign(rows)) => {
            let target = manifest.target_name();
            let failure = catalogue_failure(CatalogueError::ToSign(rows));
            let error = failure.error.context(format!(
                "{target} is built, and waits for the key of who answers for it"
            ));
            Err((Whose::Other, (State::Waits, Failure { error, ..failure })))
        }
        Err(error) => Err((whose(&error), failed(catalogue_failure(error)))),
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
