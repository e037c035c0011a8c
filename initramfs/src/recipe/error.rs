//! Why a recipe cannot be used.

use std::io;
use std::path::PathBuf;

use super::page::NoVersion;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not TOML, or a field that is missing, unknown or of another type.
    #[error("recipe {path}, line {line}: {what}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A source with a missing, unknown or wrong field.
    #[error("recipe {path}, line {line}: source {number}: {what}")]
    Source {
        /// The file.
        path: PathBuf,
        /// Line where the source begins, counted from 1.
        line: usize,
        /// Number of the source, counted from 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// Somebody has set a version that is none.
    #[error("recipe {path} cannot be of the release that `--set version=` names: {why}")]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: NoVersion,
    },
    /// What should be its release is none.
    #[error("recipe {path} cannot be of that release: {why}")]
    Release {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: NoVersion,
    },
}
