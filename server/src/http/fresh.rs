//! What must not grow old while the server runs: snapshot and timestamp, and its certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Certificate;
use super::handlers::State;
use crate::catalogue::{self, CatalogueError};
use crate::doctor::{self, look};
use crate::log;
use crate::site::{SiteError, offset};
use crate::tls::{self, TlsError};

/// How often the freshness of the catalogue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Brings everything up to date, which must work for the server to start; returns the certificate.
pub(super) fn start(state: &State) -> Result<Certificate, SiteError> {
    if catalogue::refresh(&state.site, (state.clock)())? {
        log::say(format_args!("signed snapshot and timestamp again"));
    }
    warn_of_expiry(state)?;
    let config = certificate(state)?;
    Ok(Arc::new(watch::channel(config).0))
}

/// Keeps everything up to date; never ends. What fails is logged and tried again.
pub(super) async fn keep(state: &Arc<State>, certificate_in_use: &Certificate) {
    let mut made = Instant::now();
    let mut warned = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let warn = warned.elapsed() >= tls::RENEW_AFTER;
        let renew = made.elapsed() >= tls::RENEW_AFTER;
        let state = state.clone();
        // Waits for `publish`, which may copy a layer just now.
        let work = tokio::task::spawn_blocking(move || {
            refresh(&state, warn);
            renew.then(|| certificate(&state))
        });
        if warn {
            warned = Instant::now();
        }
        match work.await {
            Ok(Some(Ok(config))) => {
                certificate_in_use.send_replace(config);
                made = Instant::now();
            }
            Ok(Some(Err(error))) => log::say(format_args!(
                "cannot renew the certificate: {}",
                log::chain(&error)
            )),
            Ok(None) => {}
            Err(error) => log::say(format_args!("keeping fresh failed: {error}")),
        }
    }
}

fn refresh(state: &State, warn: bool) {
    let refreshed = catalogue::refresh(&state.site, (state.clock)());
    let warned = if warn { warn_of_expiry(state) } else { Ok(()) };
    match refreshed {
        Ok(true) => log::say(format_args!("signed snapshot and timestamp again")),
        Ok(false) => {}
        Err(error) => log::say(format_args!(
            "cannot sign snapshot and timestamp again: {}",
            log::chain(&error)
        )),
    }
    if let Err(error) = warned {
        log::say(format_args!(
            "cannot read the catalogue: {}",
            log::chain(&error)
        ));
    }
}

/// What expires within 90 days, told at the start and every day: root, targets, the roles of layers and the authorities are for
/// people to make anew.
fn warn_of_expiry(state: &State) -> Result<(), CatalogueError> {
    let site = &state.site;
    let view = catalogue::view(&site.store)?;
    let facts = look::dates(site, Some(&view));
    for finding in doctor::site::site(&facts, site.config.valid_days, (state.clock)()) {
        log::say(format_args!("{}; next: {}", finding.what, finding.next));
    }
    Ok(())
}

fn certificate(state: &State) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let site = &state.site;
    tls::server_config(
        &site.authority(),
        &site.config.server_names,
        offset((state.clock)()),
    )
}
