//! Stage 1: PID 1 of the medium, and the rescue system's init.
//!
//! One static program in three roles, chosen by where it runs ([`roles`]): on the medium it fetches and places a chain
//! ([`boot`]); in an initramfs that a boot loader or kexec filled with a chain it puts that together ([`assemble`]); in the
//! rescue system it is init ([`rescue`]). A library beside its binary only so that tests can reach the parts.

pub mod assemble;
pub mod boot;
pub mod clock;
mod code;
pub mod command_line;
pub mod console;
mod cores;
pub mod failure;
pub mod fetch;
pub mod handover;
pub mod machine;
mod menu;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod place;
pub mod power;
pub mod progress;
pub mod report;
pub mod rescue;
pub mod roles;
pub mod settings;
pub mod shell;
