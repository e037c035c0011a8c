//! Stage 1: PID 1 of the medium, and the rescue system's init.
//!
//! One static program in three roles, chosen by where it runs ([`roles`]): it fetches and places a chain on the medium, it
//! assembles a chain that a boot loader or kexec left in the initramfs, and it is the init of the rescue system. A library
//! beside its binary only so that tests can reach the parts.

pub mod fetch;
pub mod place;
pub mod progress;
