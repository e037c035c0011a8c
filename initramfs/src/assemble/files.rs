//! Whether the files of this machine that sources name are there, before minutes of work for others are spent.

use std::fs::File;
use std::path::PathBuf;

use super::SourceError;
use super::programs::root_of;
use crate::libraries::LibraryError;
use crate::recipe::{Input, Recipe, Source};

/// Opens all that `source` takes from this machine by path.
///
/// # Errors
/// A file or folder is not there or cannot be read.
pub(crate) fn check(recipe: &Recipe, source: &Source) -> Result<(), SourceError> {
    if let Source::Program(source) = source {
        let root = root_of(recipe, source)?;
        let is_there = |program: &&String| root.find(program.trim_start_matches('/')).is_some();
        let missing = source.programs.iter().find(|program| !is_there(program));
        return missing.map_or(Ok(()), |program| {
            let program = program.trim_start_matches('/').to_owned();
            Err(LibraryError::NoProgram(program).into())
        });
    }
    for path in paths(recipe, source) {
        File::open(&path).map_err(|cause| SourceError::Read { path, cause })?;
    }
    Ok(())
}

fn paths(recipe: &Recipe, source: &Source) -> Vec<PathBuf> {
    if let Source::Directory(source) = source {
        return vec![recipe.beside(&source.path)];
    }
    let inputs = source.inputs().into_iter();
    let beside = inputs.filter_map(|input| match input {
        Input::Beside(path) => Some(recipe.beside(path)),
        Input::Fetched(_) => None,
    });
    beside.collect()
}
