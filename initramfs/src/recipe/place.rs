//! Where in a recipe something is, for messages.

use std::path::Path;

use super::RecipeError;

/// A recipe's text, to name lines of it.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Place<'_> {
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }

    pub(super) fn error(&self, offset: usize, what: &str) -> RecipeError {
        RecipeError::Syntax {
            path: self.path.to_owned(),
            line: self.line(offset),
            what: what.to_owned(),
        }
    }
}
