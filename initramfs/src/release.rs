//! Which release of what a recipe fetches is the newest: by the page that the recipe names.
//!
//! Only the page is asked for. That a file is of that release its signature says when it is fetched.

use std::path::PathBuf;

use towline_contract::manifest::{Manifest, Package};

use crate::fetch::{self, FetchError};
use crate::recipe::{PageError, Recipe, RecipeError};

/// What manifests have as the architecture of a release, where packages of Debian and rpm have theirs.
pub(crate) const ARCHITECTURE: &str = "upstream";

/// Why it is not known which release is the newest.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The page cannot be had.
    #[error("recipe {recipe}, line {line}: track.page")]
    Fetch {
        /// The recipe.
        recipe: PathBuf,
        /// Line that names the page.
        line: usize,
        /// Why.
        #[source]
        cause: Box<FetchError>,
    },
    /// The page says none.
    #[error("recipe {recipe}, line {line}: track.page")]
    Page {
        /// The recipe.
        recipe: PathBuf,
        /// Line that names the page.
        line: usize,
        /// Why.
        #[source]
        cause: Box<PageError>,
    },
    /// What the version makes of the recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// The recipe for the newest release that its page names; one without a page, or whose release is known, as it is. `talk` hears
/// what is asked for and found.
///
/// # Errors
/// See [`ReleaseError`].
pub fn of_newest(recipe: Recipe, talk: &mut dyn FnMut(&str)) -> Result<Recipe, ReleaseError> {
    let Some(page) = recipe.page_to_ask() else {
        return Ok(recipe);
    };
    let place = || (recipe.path.clone(), page.line);
    let bytes = fetch::page(&page.url).map_err(|cause| {
        let ((recipe, line), cause) = (place(), Box::new(cause));
        ReleaseError::Fetch {
            recipe,
            line,
            cause,
        }
    })?;
    let version = page.newest(&bytes).map_err(|cause| {
        let ((recipe, line), cause) = (place(), Box::new(cause));
        ReleaseError::Page {
            recipe,
            line,
            cause,
        }
    })?;
    talk(&format!(
        "the newest version that {} names is {version}",
        page.url
    ));
    Ok(recipe.of_release(&version)?)
}

/// The release in a layer of `recipe`, as its manifest has it beside packages: by the name of the layer.
#[must_use]
pub fn package(recipe: &Recipe) -> Option<Package> {
    Some(Package {
        name: recipe.name.clone(),
        version: recipe.release.clone()?,
        architecture: ARCHITECTURE.into(),
    })
}

/// The release that a layer is of, by its manifest; none of one that was made without a page.
#[must_use]
pub fn of_layer(layer: &Manifest) -> Option<&str> {
    let release = layer.packages.iter().find(|it| is_release(it))?;
    Some(&release.version)
}

/// Whether this is a release that a page named, and no package.
pub(crate) fn is_release(package: &Package) -> bool {
    package.architecture == ARCHITECTURE
}
