//! The rules that a layer can break.

use crate::limits::LINK_BYTES_MAX;
use crate::manifest::Kind;
use crate::newc::NewcError;

/// Which rule an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The archive is not valid newc.
    #[error("the archive is damaged")]
    Archive(#[from] NewcError),
    /// A name that could leave the root or hide something.
    #[error("names are relative, without empty, . or .. components")]
    Name,
    /// A parent that is no directory of this layer: missing, a link or a file.
    #[error("every parent must be a directory entry earlier in the same layer")]
    Parent,
    /// A name that was there before.
    #[error("a name may occur once in a layer")]
    Duplicate,
    /// Outside of the kind's directories.
    #[error("{0} layers may not have anything there")]
    Outside(Kind),
    /// Where the site's own policy keeps the kind out of.
    #[error("the site's policy keeps {0} layers out of there")]
    Policy(Kind),
    /// A directory on the way to the kind's own ones that is not plain.
    #[error("{0} layers may have this directory only with mode 0755 and owner root")]
    Ancestor(Kind),
    /// A type of entry that the kind may not have.
    #[error("{0} layers may not have a {1}")]
    Type(Kind, &'static str),
    /// A setuid or setgid bit.
    #[error("{0} layers may not have set-id bits")]
    SetId(Kind),
    /// Permissions of a secret that are too wide.
    #[error("files of {0} layers have mode 0600 at most, their directories 0700, and owner root")]
    Secret(Kind),
    /// Mode bits that mean nothing.
    #[error("mode {0:o} is of no known file type")]
    Mode(u32),
    /// A body where none belongs.
    #[error("a {0} has no content")]
    Body(&'static str),
    /// A link target that is empty, too long or has a NUL.
    #[error("a link's target has 1 to {LINK_BYTES_MAX} bytes and no NUL")]
    LinkTarget,
    /// A link that leads out of the kind's directories.
    #[error("a link of {0} layers may not leave their own directories")]
    LinkLeaves(Kind),
    /// A second name of something that is no regular file of this layer, or has bytes of its own.
    #[error(
        "a hard link names a regular file earlier in the same layer, and has no bytes of its own"
    )]
    Hardlink,
    /// Under `towline/`, but not the image that the manifest names.
    #[error("only the image that the manifest names may be under towline/")]
    NotTheImage,
    /// The image has another size, or is no plain file.
    #[error(
        "the image must be a regular file of {wanted} bytes, as its manifest says, and has {found}"
    )]
    ImageSize {
        /// Bytes in the archive.
        found: u64,
        /// Bytes in the manifest.
        wanted: u64,
    },
    /// The archive ended without its image.
    #[error("the image that the manifest names is missing")]
    NoImage,
    /// More bytes than the manifest says: a lie or a bomb.
    #[error("the archive is larger than the {0} bytes its manifest says")]
    MoreBytes(u64),
    /// Fewer bytes than the manifest says.
    #[error("the archive has {found} bytes, but its manifest says {wanted}")]
    FewerBytes {
        /// Bytes in the archive.
        found: u64,
        /// Bytes in the manifest.
        wanted: u64,
    },
    /// More entries than the manifest says.
    #[error("the archive has more than the {0} entries its manifest says")]
    MoreEntries(u64),
    /// Fewer entries than the manifest says.
    #[error("the archive has {found} entries, but its manifest says {wanted}")]
    FewerEntries {
        /// Entries in the archive.
        found: u64,
        /// Entries in the manifest.
        wanted: u64,
    },
}

/// A layer that breaks a rule. Nothing more of it may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} is refused{}", entry.as_ref().map(|e| format!(" at entry {e}")).unwrap_or_default())]
pub struct LaneError {
    /// Target name of the layer.
    pub layer: String,
    /// The entry, escaped for people; none when it is about the whole archive.
    pub entry: Option<String>,
    /// The rule.
    #[source]
    pub rule: Rule,
}
