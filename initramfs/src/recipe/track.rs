//! `[track]`: a recipe that is built again when what it is made of has changed.

use serde::Deserialize;
use toml::Spanned;
use towline_contract::manifest::Kind;

/// How a recipe follows what it is made of: all the packages that it takes from an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Track {
    /// How many versions of the layer stay published, the newest ones; all of them if it is absent.
    pub keep: Option<u32>,
}

/// The table, if it makes sense for this kind of layer; else where it does not, and why.
pub(super) fn checked(
    table: Option<&Spanned<Track>>,
    kind: Kind,
) -> Result<Option<Track>, (usize, String)> {
    let Some(table) = table else {
        return Ok(None);
    };
    let at = table.span().start;
    let refused = |why: &str| Err((at, why.to_owned()));
    match (kind, table.get_ref().keep) {
        (Kind::Host | Kind::Credentials, _) => {
            refused("track: layers of this kind are made by other commands")
        }
        (_, Some(0)) => refused("track.keep is 0, and must be 1 or more"),
        (Kind::Kernel, Some(_)) => refused(
            "track.keep: a medium starts in place by the layer of its own kernel, however old that is: \
             take kernels out by hand, towline catalogue retire",
        ),
        _ => Ok(Some(table.get_ref().clone())),
    }
}
