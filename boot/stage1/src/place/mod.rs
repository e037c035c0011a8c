//! Placing: verified chunks of layers become a root file system, or an initramfs for another kernel.
//!
//! [`layer`] decompresses chunks and judges every entry by its lane as they come; [`root`] keeps images compressed and stacks
//! them under an overlay; [`unpack`] writes plain entries through it without following links; [`kexec`] keeps the stored
//! bytes instead, for the chain's own kernel; [`on_disk`] keeps the names in memory, and what files hold on a disk. Only verified chunks come in: the types say so.

mod decompress;
mod error;
pub mod kexec;
mod layer;
mod loop_device;
mod on_disk;
pub mod root;
mod stack;
mod unpack;

pub use error::PlaceError;
pub use kexec::{KexecChain, KexecPlacing};
pub use layer::LayerSink;
pub use on_disk::OnDisk;
pub use root::{Mounting, PlacedRoot, Root};
pub use stack::mount_images;
