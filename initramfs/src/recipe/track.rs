//! `[track]`: a recipe that is built again when what it is made of has changed.

use serde::Deserialize;
use toml::Spanned;
use towline_contract::manifest::Kind;

use super::page::Page;
use super::{Place, RecipeError};

/// How a recipe follows what it is made of: all the packages that it takes from an archive, and the releases that a page names.
#[derive(Clone, Debug)]
pub struct Track {
    /// How many versions of the layer stay published, the newest ones; all of them if it is absent.
    pub keep: Option<u32>,
    /// The page that names the version of what the recipe fetches; none if it fetches nothing that has one.
    pub page: Option<Page>,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    keep: Option<u32>,
    page: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
}

/// The table, if it makes sense for this kind of layer; else where it does not, and why.
pub(super) fn checked(
    table: Option<&Spanned<Table>>,
    kind: Kind,
    at: &Place<'_>,
) -> Result<Option<Track>, RecipeError> {
    let Some(table) = table else {
        return Ok(None);
    };
    let refused = |why: &str| Err(at.error(table.span().start, why));
    let Table {
        keep,
        page,
        version,
    } = table.get_ref();
    match (kind, keep) {
        (Kind::Host | Kind::Credentials, _) => {
            return refused("track: layers of this kind are made by other commands");
        }
        (_, Some(0)) => return refused("track.keep is 0, and must be 1 or more"),
        (Kind::Kernel, Some(_)) => {
            return refused(
                "track.keep: a medium starts in place by the layer of its own kernel, however old that is: \
                 take kernels out by hand, towline catalogue retire",
            );
        }
        _ => {}
    }
    let page = match (page, version) {
        (None, None) => None,
        (Some(page), Some(version)) => Some(Page::checked(page, version, at)?),
        _ => {
            return refused(
                "track.page says where versions are named, and track.version how one is known there: give both or none",
            );
        }
    };
    Ok(Some(Track { keep: *keep, page }))
}
