//! One connection of a drill's machine: standard input and output are the one end, a port of this machine the other.
//!
//! QEMU starts it for each connection of a machine that must reach the drill's server and nothing else.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use clap::Args;

use crate::exit::Outcome;

/// One connection of a drill's machine to its server
#[derive(Args)]
pub(crate) struct PipeArgs {
    /// Where the server listens
    server: SocketAddr,
}

/// Copies both ways until the server has said all.
pub(crate) fn run(args: &PipeArgs) -> Outcome {
    let mut from_server = TcpStream::connect(args.server).context("the drill's server is gone")?;
    let mut to_server = from_server
        .try_clone()
        .context("cannot copy a connection")?;
    // Without the buffers of the standard streams.
    let unbuffered = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
    let mut input = unbuffered(io::stdin().as_fd()).context("no standard input")?;
    let mut output = unbuffered(io::stdout().as_fd()).context("no standard output")?;
    std::thread::spawn(move || {
        // Either end may go at any time; the other is told.
        let _ = io::copy(&mut input, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut from_server, &mut output);
    Ok(())
}
