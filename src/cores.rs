//! No core of this process: the kernel writes its memory to no file and to no other program, whatever it dies of.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Largest core file, in bytes: none is as small. By 0 the kernel would still give a core to a program behind a pipe, as
/// systemd-coredump is; by 1 it does not (Linux, fs/coredump.c).
const CORE_BYTES_MAX: u64 = 1;

/// Switches cores off for this process, and for what it starts.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn off() -> io::Result<()> {
    let limit = Rlimit {
        current: Some(CORE_BYTES_MAX),
        maximum: Some(CORE_BYTES_MAX),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

/// Lets nobody but root look into this process's memory (ptrace): neither its user's other programs nor a debugger.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn close_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
