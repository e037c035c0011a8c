//! Whether the files of this machine that sources name are there, before minutes of work for others are spent.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::SourceError;
use crate::libraries::LibraryError;
use crate::recipe::{FileContent, FileSource, Recipe, Source};

/// Opens all that `source` takes from this machine by path.
///
/// # Errors
/// A file or folder is not there or cannot be read.
pub(crate) fn check(recipe: &Recipe, source: &Source) -> Result<(), SourceError> {
    if let Source::Program(source) = source {
        let is_there = |program: &&String| Path::new("/").join(program).exists();
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
    let beside = |path: &String| recipe.beside(path);
    match source {
        Source::Deb(source) => source.files.iter().map(beside).collect(),
        Source::Kernel(source) => [&source.file, &source.image, &source.initrd]
            .into_iter()
            .flatten()
            .map(beside)
            .collect(),
        Source::Tar(source) => vec![beside(&source.file)],
        Source::Initrd(source) => vec![beside(&source.file)],
        Source::Directory(source) => vec![beside(&source.path)],
        Source::File(FileSource {
            content: FileContent::From(path),
            ..
        }) => vec![beside(path)],
        Source::Apt(_)
        | Source::Program(_)
        | Source::Certificates(_)
        | Source::File(_)
        | Source::Links(_)
        | Source::Directories(_) => Vec::new(),
    }
}
