//! Lanes: what a layer of each kind may contain, enforced entry by entry while it is unpacked.
//!
//! TUF limits the *names* a key may sign; lanes limit *contents*: a host's key can put nothing into the rescue system but its
//! own ReaR state. That is code as well (ReaR's settings are shell, and a host may bring the ReaR that goes with them), and
//! runs as root: in a recovery of that very host, which somebody ordered, and nowhere else. [`LayerReader`] wraps [`crate::newc::Decoder`] and yields only entries that keep to the rules;
//! `docs/formats/layer.md` lists them.
//!
//! What needs the file system below is the caller's, who places entries in a tree made of earlier layers:
//! - Every parent directory of an entry is opened without following symbolic links, beneath the root
//!   (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); the reader guarantees that a directory entry for each of
//!   them came before, not that the tree below has no link there.
//! - A directory entry where something else than a directory exists is refused; where a directory exists, it stays as it
//!   is, its owner and mode included.
//! - Anything else where a directory exists is refused.
//! - Anything else where a file, link or node exists replaces it (unlink, then create; never open and truncate) if
//!   [`LayerReader::may_replace`] allows it, and is refused otherwise.

mod item;
mod policy;
mod reader;
mod rule;
mod site;

pub use item::{EntryPath, LayerItem, Owner};
pub use reader::LayerReader;
pub use rule::{LaneError, Rule};
pub use site::{Bounds, LayerPolicy, POLICY_FORMAT, POLICY_TARGET};
