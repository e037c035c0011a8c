//! One module a command: arguments, settings, the work, the output.

pub(crate) mod media;
