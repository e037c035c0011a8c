//! Why a layer cannot be placed.

use std::io;

use towline_contract::lanes::LaneError;

/// Why a layer cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It holds what a layer of its kind may not hold.
    #[error("a layer is refused")]
    Lane(#[from] LaneError),
    /// Its bytes do not decompress, though they are the signed ones.
    #[error("layer {layer} cannot be decompressed: {what}")]
    Decompress {
        /// Target name.
        layer: String,
        /// Why.
        what: String,
    },
    /// An entry would change what an earlier layer brought.
    #[error("layer {layer} is refused: {path} {rule}")]
    Over {
        /// Target name.
        layer: String,
        /// The entry.
        path: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The file system fails; out of memory, mostly.
    #[error("cannot {what} {path} of layer {layer}")]
    Write {
        /// What was done.
        what: &'static str,
        /// The entry.
        path: String,
        /// Target name.
        layer: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file system cannot be made or mounted.
    #[error("cannot {what} {path}")]
    Mount {
        /// What was done.
        what: &'static str,
        /// Where.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Nobody would put a layer where it belongs.
    #[error(
        "layer {layer} goes onto the recreated disk, and the rescue system of {base} does not know how to put it there"
    )]
    OlderBase {
        /// Target name.
        layer: String,
        /// Target name of the base.
        base: String,
    },
    /// The chain lacks something to start it.
    #[error("{0}")]
    Incomplete(String),
}
