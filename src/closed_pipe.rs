//! What happens when the reader of our results has gone, as in `towline … | head -1`: this program ends quietly, as others do.
//!
//! Rust ignores SIGPIPE at start, and `println!` panics on the error that it gets instead.

/// Lets a write into a closed pipe end this process (signal(7): the default of SIGPIPE).
///
/// Not for commands that speak with other machines: a peer that hangs up would end those too.
#[expect(unsafe_code, reason = "libc has no safe way to set a signal's action")]
pub(crate) fn ends_this_process() {
    // SAFETY: SIG_DFL is no handler, so no code of ours runs in signal context; no other thread is there yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
