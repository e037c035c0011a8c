//! One module a command: arguments, settings, the work, the output.

mod cache_dir;
pub(crate) mod capture;
pub(crate) mod catalogue;
pub(crate) mod chain;
mod choice;
pub(crate) mod demo;
mod distribution;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod host;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod layer;
pub(crate) mod media;
pub(crate) mod publish;
pub(crate) mod recovery;
mod refresh;
pub(crate) mod serve;
pub(crate) mod session;
mod site;
pub(crate) mod stage1;
