//! Layers: from a recipe's sources to one reproducible, content-addressed newc archive with its manifest.
//!
//! The way down: [`recipe`] says what; [`assemble`] gathers the sources ([`apt`], [`deb`], [`rpm`], [`kernel`], directories, programs
//! with their [`libraries`], files that it must [`mod@fetch`] first) into one [`tree`]; [`build`] packs it ([`image`], [`mod@write`]) and describes it in a manifest.
//! [`chain`] judges several manifests together, [`places`] tells what a finished layer puts where. Nothing here needs root, decides about trust in layers, or
//! lets the time into one.

pub mod apt;
pub mod assemble;
pub mod build;
pub mod chain;
pub mod compressed;
pub mod content;
pub mod contents;
mod cpio;
pub mod deb;
pub mod diff;
pub mod elf;
pub mod fetch;
pub mod filter;
pub mod image;
pub mod initrd;
mod items;
pub mod kernel;
pub mod libraries;
mod listing;
pub mod makeself;
mod parallel;
pub mod places;
mod ready;
mod rear;
pub mod recipe;
pub mod release;
pub mod rpm;
pub mod sbom;
pub mod scratch;
pub mod squashfs;
pub mod stored;
pub mod tarball;
pub mod tree;
pub mod upstream;
pub mod write;
mod xz;

pub use ready::ready_recipes;
