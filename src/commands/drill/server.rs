//! The drill's own server: the site as it is, on a free port of loopback, in this process; and the signals that end a drill.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::oneshot;
use towline_contract::Timestamp;
use towline_machine::GUEST_SEES;
use towline_server::Site;
use towline_server::config::Trial;
use towline_server::http::{self, ServeError};

use crate::commands::serve::stop as asked_to_end;
use crate::exit::{Exit, Failure};

/// Longest until it listens.
const START_MAX: Duration = Duration::from_secs(30);

/// A server that runs; stopped when dropped.
pub(super) struct Server {
    /// Its port.
    pub(super) port: u16,
    interrupted: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it. From now on a request to end is remembered, and does not end the process.
    pub(super) fn start(site: &Site, trial: Trial) -> Result<Self, Failure> {
        let mut site = site.clone();
        site.config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        site.config.http_listen = None;
        // Everything comes from here: a mirror may not be reached from where the machine is.
        site.config.mirrors = Vec::new();
        if !site.config.server_names.iter().any(|it| it == GUEST_SEES) {
            site.config.server_names.push(GUEST_SEES.into());
        }
        site.config.trial = Some(trial);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Internal, ServeError::Runtime(error)))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, listens) = channel();
        let interrupted = Arc::new(AtomicBool::new(false));
        let remember = interrupted.clone();
        let thread = std::thread::spawn(move || {
            let told = ready.clone();
            let serve = http::serve(
                site,
                Arc::new(Timestamp::now),
                // Whoever started it may be gone.
                move |bound| drop(told.send(Ok(bound.https.port()))),
                async { drop(stopped.await) },
            );
            runtime.spawn(async move {
                asked_to_end().await;
                remember.store(true, Ordering::Relaxed);
            });
            if let Err(error) = runtime.block_on(serve) {
                let _ = ready.send(Err(error));
            }
            runtime.shutdown_background();
        });
        let mut server = Self {
            port: 0,
            interrupted,
            stop: Some(stop),
            thread: Some(thread),
        };
        server.port = match listens.recv_timeout(START_MAX) {
            Ok(Ok(port)) => port,
            Ok(Err(ServeError::Site(error))) => return Err(crate::commands::site::failure(error)),
            Ok(Err(error)) => return Err(Failure::new(Exit::Internal, error)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the drill's server does not start").into());
            }
        };
        Ok(server)
    }

    /// Whether somebody asked this process to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, and said so.
            let _ = thread.join();
        }
    }
}
