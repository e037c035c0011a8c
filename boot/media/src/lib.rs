//! The boot medium: building the one hybrid image, and stamping a site's settings into it.
//!
//! [`build`](mod@build) makes the same bytes from the same packages on any machine; [`area`] and [`settings`] change
//! nothing but the stamp area. Whether a machine believes a stamp is stage 1's business.

pub mod area;
pub mod build;
mod grub;
mod initrd;
mod iso;
pub mod settings;
mod sources;
mod tool;
pub mod versions;
