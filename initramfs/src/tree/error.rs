//! Why an entry does not fit into a tree.

use towline_contract::limits::{LAYER_ENTRIES_MAX, NAME_BYTES_MAX};

use super::NAMES_BYTES_MAX;
use super::links::LINKS_FOLLOWED_MAX;

/// Why an entry does not fit into the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Not a path below the root.
    #[error("{0} is no path below the root of the layer")]
    Path(String),
    /// A circle of symbolic links.
    #[error("{0} leads through more than {LINKS_FOLLOWED_MAX} symbolic links")]
    Links(String),
    /// A parent is a file.
    #[error("{path} cannot be made: {parent} is no directory")]
    Parent {
        /// The entry.
        path: String,
        /// The parent that is in the way.
        parent: String,
    },
    /// A directory where something else is, or the other way round.
    #[error("{path} is {there} already and cannot become {new}")]
    Clash {
        /// The entry.
        path: String,
        /// What is there.
        there: &'static str,
        /// What should come there.
        new: &'static str,
    },
    /// A name or a link that no archive of the kernel's can have.
    #[error("{start}… has more than {NAME_BYTES_MAX} bytes")]
    Long {
        /// Where it begins.
        start: String,
    },
    /// More than a layer may have.
    #[error(
        "there are more than {LAYER_ENTRIES_MAX} entries, or {NAMES_BYTES_MAX} bytes of names and links"
    )]
    Full,
    /// A hard link to something that is no file of the tree.
    #[error("{path} is a hard link to {target}, which is no regular file of the layer")]
    Hardlink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
}
