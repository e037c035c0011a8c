//! A layer that was built and is not published yet: it is signed and published, or waits for signatures.

use std::fs;

use towline_contract::manifest::Manifest;
use towline_contract::{Digest, Timestamp};
use towline_server::catalogue::{self, CatalogueError, Missing, ToSign};
use towline_server::tracked::record::{Record, State};

use super::one::{Stopped, Work, published};
use super::{Published, Report};
use crate::commands::site::catalogue_failure;
use crate::exit::Failure;

/// A layer that waits for signatures.
pub(super) struct Unsigned {
    pub(super) manifest: Manifest,
    /// SHA-256 of the recipe that it was built by.
    pub(super) recipe: Digest,
    rows: Vec<ToSign>,
}

impl Unsigned {
    /// Whether somebody has signed it already: it is not taken from under their hands.
    pub(super) fn is_begun(&self) -> bool {
        self.rows.iter().any(|it| it.valid > 0)
    }
}

/// What waits for signatures is not there for machines yet.
pub(super) fn stopped(unsigned: Option<Unsigned>) -> Result<(), Stopped> {
    let Some(unsigned) = unsigned else {
        return Ok(());
    };
    let target = unsigned.manifest.target_name();
    let failure = catalogue_failure(CatalogueError::ToSign(unsigned.rows));
    let error = failure.error.context(format!(
        "{target} is built, and waits for the key of who answers for it"
    ));
    Err((State::Waits, Failure { error, ..failure }))
}

/// Publishes the layer that was built and is not published yet, if there is one. One that machines could not use is forgotten,
/// and built again.
pub(super) fn finish(
    work: &Work<'_>,
    name: &str,
    record: &mut Record,
    report: &mut Report,
    now: Timestamp,
) -> Result<Option<Unsigned>, Stopped> {
    let Some(waiting) = record.built.take() else {
        return Ok(None);
    };
    let failed = |failure: Failure| (State::Failed, failure);
    let path = work.built(name).join(&waiting.layer);
    if !path.exists() {
        return Ok(None);
    }
    let layer = work.taken(&path).map_err(failed)?;
    let target = layer.manifest.target_name();
    let before = published(work.site).map_err(failed)?;
    let is_there = |gone: &&String| before.iter().any(|it| it.target.to_string() == **gone);
    let gone: Vec<_> = waiting.gone.iter().filter(is_there).cloned().collect();
    let done = catalogue::publish_instead(
        work.site,
        std::slice::from_ref(&layer),
        &gone,
        Missing::Refuse,
        now,
    );
    match done {
        Ok(_) => {
            record.is_current(target.clone(), waiting.recipe, now);
            let changes = waiting.changes;
            report.published.push(Published { target, changes });
            report.retired.extend(gone);
            let _ = fs::remove_dir_all(work.built(name)); // the store has it
            Ok(None)
        }
        Err(CatalogueError::ToSign(rows)) => {
            let unsigned = Unsigned {
                manifest: layer.manifest,
                recipe: waiting.recipe,
                rows,
            };
            record.built = Some(waiting);
            Ok(Some(unsigned))
        }
        Err(error) => {
            if !is_of_the_layer(&error) {
                record.built = Some(waiting);
            }
            Err(failed(catalogue_failure(error)))
        }
    }
}

/// Whether the error is the layer's: another one may be good. All others would keep that from being published, too.
fn is_of_the_layer(error: &CatalogueError) -> bool {
    matches!(
        error,
        CatalogueError::Taken { .. }
            | CatalogueError::OtherManifest { .. }
            | CatalogueError::Unmet(_)
            | CatalogueError::Collisions(_)
            | CatalogueError::Layer(_)
    )
}
