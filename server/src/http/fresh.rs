//! What must not grow old while the server runs: snapshot and timestamp, and its certificate.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;
use towline_contract::trust::HOSTS_ROLE;

use super::connection::Certificate;
use super::handlers::State;
use crate::catalogue::{self, CatalogueError};
use crate::log;
use crate::site::{SiteError, offset};
use crate::tls::{self, TlsError};

/// How often the freshness of the catalogue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// From how long before the catalogue's own expiry the log says so, in days.
const WARN_DAYS: i64 = 30;

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

/// Root, targets and the roles of layers are signed by keys that are elsewhere: people must do it.
fn warn_of_expiry(state: &State) -> Result<(), CatalogueError> {
    let view = catalogue::view(&state.site.store)?;
    let ahead = SignedDuration::from_hours(WARN_DAYS * 24);
    let soon = (state.clock)().saturating_add(ahead);
    for document in view.check_expiry(soon.unwrap_or((state.clock)())) {
        if !["timestamp", "snapshot", HOSTS_ROLE].contains(&document.role.as_str()) {
            log::say(format_args!(
                "the {} of the catalogue expires at {}: sign it again before",
                document.role, document.expires
            ));
        }
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
