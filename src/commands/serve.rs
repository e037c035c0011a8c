//! `towline serve`: the provisioning server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use towline_contract::Timestamp;
use towline_server::Site;
use towline_server::http::{self, ServeError};
use towline_server::private::{Folder, Locked};

use super::refresh;
use super::site::{SiteArgs, failure};
use crate::exit::{Exit, Failure, Outcome};

/// Serve plans and layers to booting machines
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Address to serve HTTPS on, instead of the configured one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Serves until it is told to stop; `quiet` leaves out where it listens. Its log is for whoever looks for failures later.
pub(crate) fn run(args: &ServeArgs, quiet: bool) -> Outcome {
    let mut site = args.site.open()?;
    let _only = alone(&site)?;
    if let Some(listen) = args.listen {
        site.config.listen = listen;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, ServeError::Runtime(error)))?;
    let ready = |bound| {
        if !quiet {
            ready(&bound);
        }
    };
    let (tracked, hours) = (site.clone(), site.config.track.hours);
    let served = runtime.block_on(async {
        let looks = async {
            match hours {
                Some(hours) => refresh::keep(tracked, args.site.config(), hours).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = http::serve(site, Arc::new(Timestamp::now), ready, stop()) => served,
            () = looks => Ok(()),
        }
    });
    // Reads of files that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    served.map_err(|error| match error {
        ServeError::Listen { ref cause, .. } if cause.kind() == ErrorKind::AddrInUse => {
            Failure::new(Exit::Usage, error).next("stop the other program, or choose another port: towline serve --listen ADDRESS:PORT")
        }
        ServeError::Listen { ref cause, .. } if cause.kind() == ErrorKind::PermissionDenied => {
            Failure::new(Exit::Usage, error).next("ports below 1024 need root: choose another one with --listen")
        }
        ServeError::Site(error) => failure(error),
        ServeError::Listen { .. } => Failure::new(Exit::Usage, error).next("choose an address of this machine with --listen"),
        ServeError::Runtime(_) => Failure::new(Exit::Internal, error),
    })
}

/// The lock of the one server that serves the site. What a server has taken of a recovery is in its own memory: two would both
/// take a sealed request that is sent to each.
fn alone(site: &Site) -> Result<Locked, Failure> {
    let state = Folder::make(&site.state().join("serve")).and_then(Folder::try_lock);
    state.map_err(|error| match error.is_locked() {
        true => Failure::new(
            Exit::Usage,
            anyhow!(error).context("another `towline serve` serves this site"),
        )
        .next(
            "stop that one first; it ends within 10 seconds. If its machine is gone for good, and a file server keeps the lock for it, move \
             state/serve/.lock away",
        ),
        false => anyhow::Error::from(error).into(),
    })
}

fn ready(bound: &http::Bound) {
    eprintln!("serve: listening on https://{}", bound.https);
    if let Some(http) = bound.http {
        eprintln!("serve: listening on http://{http}");
    }
}

/// Completes when the process is asked to end.
pub(crate) async fn stop() {
    match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}
