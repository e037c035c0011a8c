//! What happens when results cannot be printed: this program ends, without a panic.
//!
//! Rust ignores SIGPIPE at start, and `println!` panics on any error that it gets.

use std::panic::{self, PanicHookInfo};
use std::process;

use crate::exit::Exit;

/// How the panic of `println!` begins (std::io::stdio).
const CANNOT_PRINT: &str = "failed printing to stdout";

/// Lets a write into a closed pipe end this process quietly (signal(7): the default of SIGPIPE), as others do in `towline … | head -1`.
///
/// Not for commands that speak with other machines: a peer that hangs up would end those too.
#[expect(unsafe_code, reason = "libc has no safe way to set a signal's action")]
pub(crate) fn closed_pipe_ends_this_process() {
    // SAFETY: SIG_DFL is no handler, so no code of ours runs in signal context; no other thread is there yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Lets any other write that fails, as on a full disk, end this process with a sentence. What the command did is done.
///
/// Not for those commands either: a panic of theirs unwinds, which ends the machines that they have started.
pub(crate) fn other_faults_end_it() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match cannot_print(panic) {
        Some(why) => {
            eprintln!("towline: what the command says is cut off: {why}");
            process::exit(Exit::Internal as i32);
        }
        None => otherwise(panic),
    }));
}

fn cannot_print<'a>(panic: &'a PanicHookInfo<'_>) -> Option<&'a str> {
    let said = panic.payload().downcast_ref::<String>()?;
    said.starts_with(CANNOT_PRINT).then_some(said)
}
