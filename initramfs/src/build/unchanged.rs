//! Layers that need not be built again, because nothing that they are made of has changed since.
//!
//! A record in the cache says of the last build of each layer: the state of its sources before that build, and where its files
//! are and what `stat` says of them. Whoever deletes the record, the layer or the cache, or touches any of them, has the
//! layer built again.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use towline_contract::Digest;
use towline_contract::limits::MANIFEST_BYTES_MAX;
use towline_contract::manifest::Manifest;

use super::sources::{State, stamp};
use super::{BuildError, Built, Files, Options, build_files};
use crate::listing::Listings;
use crate::recipe::Recipe;

/// Most bytes of a record: two paths and two stamps are a few hundred.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What is known of the last build of a layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    sources: Digest,
    layer: Stamped,
    manifest: Stamped,
}

/// A file as it was left.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamped {
    path: PathBuf,
    stamp: String,
}

/// Builds the layer of `recipe`, unless the one that is there was built of the same sources; then gives that one, and `false`.
///
/// # Errors
/// See [`BuildError`].
pub fn build_if_changed(
    recipe: &Recipe,
    options: &Options,
    now: SystemTime,
    talk: &mut dyn FnMut(&str),
) -> Result<(Built, bool), BuildError> {
    let record = options.cache.join("built").join(recipe.file_name());
    let mut listings = Listings::new();
    let state = State::of(recipe, &options.cache, &mut listings);
    if let Some(built) = state.and_then(|state| found(&record, &options.out, &state)) {
        return Ok((built, false));
    }
    let (built, files) = build_files(recipe, options, listings, talk)?;
    match state.filter(|state| state.is_settled(now)) {
        Some(state) => {
            if let Err(error) = note(&record, &state, &built, &files) {
                let record = record.display();
                talk(&format!(
                    "the next build looks at everything again: cannot write {record}: {error}"
                ));
            }
        }
        None => {
            // What it says is not so any more.
            let _ = fs::remove_file(&record);
        }
    }
    Ok((built, true))
}

/// The layer of the record in `out`, if it and its sources are as they were.
fn found(record: &Path, out: &Path, state: &State) -> Option<Built> {
    let record: Record = serde_json::from_slice(&read(record, RECORD_BYTES_MAX).ok()?).ok()?;
    let real = out.canonicalize().ok()?;
    let is_same = record.sources == state.digest
        && [&record.layer, &record.manifest]
            .into_iter()
            .all(|file| file.is_same() && file.path.parent() == Some(&real));
    if !is_same {
        return None;
    }
    let manifest = read(&record.manifest.path, MANIFEST_BYTES_MAX).ok()?;
    // As a build would name them.
    let named = |path: &Path| path.file_name().map(|name| out.join(name));
    Some(Built {
        manifest: Manifest::parse(&manifest).ok()?,
        layer: named(&record.layer.path)?,
        manifest_file: named(&record.manifest.path)?,
    })
}

/// What was built, by its own files: another build may have put its layer in their place.
fn note(record: &Path, state: &State, built: &Built, files: &Files) -> io::Result<()> {
    let dir = record.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let text = serde_json::to_vec(&Record {
        sources: state.digest,
        layer: Stamped::of(&built.layer, &files.layer)?,
        manifest: Stamped::of(&built.manifest_file, &files.manifest)?,
    })?;
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(&text)?;
    file.persist(record)?;
    Ok(())
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(bytes_max)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Stamped {
    fn of(path: &Path, file: &fs::File) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let stamp = stamp(&file.metadata()?);
        Ok(Self { path, stamp })
    }

    fn is_same(&self) -> bool {
        let metadata = self.path.symlink_metadata();
        metadata.is_ok_and(|metadata| stamp(&metadata) == self.stamp)
    }
}

#[cfg(test)]
mod tests;
