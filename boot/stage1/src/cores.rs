//! No core of this process: the kernel writes its memory to no file and to no other program, whatever it dies of.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Largest core file, in bytes: none is as small. By 0 the kernel would still give a core to a program behind a pipe, as
/// systemd-coredump is; by 1 it does not (Linux, fs/coredump.c).
const CORE_BYTES_MAX: u64 = 1;

/// Switches cores off for this process, and core files for what it starts. It is called before there is anything secret.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn off() -> io::Result<()> {
    let limit = Rlimit {
        current: Some(CORE_BYTES_MAX),
        maximum: Some(CORE_BYTES_MAX),
    };
    setrlimit(Resource::Core, limit)?;
    // Nobody but root may look into its memory either (ptrace).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
