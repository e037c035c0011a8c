//! Recipes with a page: what a version makes of them.
//!
//! They are read before anybody has asked the page, so that nothing but the recipe is opened; which release it is of comes later.

use super::variables::VERSION_IN_TEXT;
use super::{Page, Recipe, RecipeError, page};

impl Recipe {
    /// A recipe with a page, of this release if that is known already. What would be refused of any release is refused now.
    pub(super) fn with_page(self, release: Option<&String>) -> Result<Self, RecipeError> {
        let any = self.of_release("0")?;
        if !any.sources.iter().any(|it| it.source.is_of_release()) {
            return Err(self.page_error(&format!(
                "track.page names versions, and no source has {VERSION_IN_TEXT} in its `url`"
            )));
        }
        match release {
            Some(version) => self.of_release(version).map_err(|error| match error {
                RecipeError::Release { path, why } => RecipeError::Set { path, why },
                other => other,
            }),
            None => Ok(self),
        }
    }

    /// The recipe for this release of what it fetches.
    ///
    /// # Errors
    /// The version could lead elsewhere, or what it makes of a source cannot be fetched or trusted.
    pub fn of_release(&self, version: &str) -> Result<Self, RecipeError> {
        page::version(version.as_bytes()).map_err(|why| RecipeError::Release {
            path: self.path.clone(),
            why,
        })?;
        let mut recipe = self.clone();
        for numbered in &mut recipe.sources {
            let source = &mut numbered.source;
            let mut downloads = source.downloads_mut();
            let filled = downloads.try_for_each(|it| it.of_release(version));
            drop(downloads);
            filled
                .and_then(|()| source.check())
                .map_err(|what| RecipeError::Source {
                    path: self.path.clone(),
                    line: numbered.line,
                    number: numbered.number,
                    what,
                })?;
        }
        recipe.version = recipe.version.replace(VERSION_IN_TEXT, version);
        recipe.release = Some(version.to_owned());
        Ok(recipe)
    }

    /// The page that must say of which release it is; none if that is known, or there is none.
    #[must_use]
    pub fn page_to_ask(&self) -> Option<&Page> {
        let page = self.track.as_ref()?.page.as_ref();
        page.filter(|_| self.release.is_none())
    }

    /// An error at the line of the recipe's page.
    fn page_error(&self, what: &str) -> RecipeError {
        let page = self.track.as_ref().and_then(|it| it.page.as_ref());
        RecipeError::Syntax {
            path: self.path.clone(),
            line: page.map_or(1, |it| it.line),
            what: what.to_owned(),
        }
    }
}
