//! Placing: verified chunks of layers become a root file system, or an initramfs for another kernel.
//!
//! [`layer`] decompresses chunks and judges every entry by its lane as they come; [`root`] keeps images compressed and stacks
//! them under an overlay; [`unpack`] writes plain entries through it without following links; [`kexec`] keeps the stored
//! bytes instead, for the chain's own kernel. Only verified chunks come in: the types say so.

mod decompress;
mod error;
mod folder;
pub mod kexec;
mod layer;
mod loop_device;
pub mod root;
mod stack;
mod unpack;

pub use error::PlaceError;
pub use folder::layer_in;
pub use kexec::{KexecChain, KexecPlacing};
pub use layer::LayerSink;
pub use root::{Mounting, PlacedRoot, Root};
pub use stack::mount_images;
