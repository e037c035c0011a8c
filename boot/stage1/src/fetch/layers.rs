//! Layers: verified chunks in order, from mirrors that may stall, break off or lie.
//!
//! A chunk is used only after its digest matched, so whatever a mirror does costs time and never correctness. A broken
//! connection goes on at the first byte that is not verified; a mirror that sent wrong bytes is not asked for that layer
//! again; a mirror that works is asked first next time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use towline_contract::api;
use towline_contract::manifest::Manifest;
use towline_contract::trust::{Chain, ChainLayer, TrustError, Verified};

use super::download::{Download, Fault};
use super::pace::Measured;
use super::patience::Pauses;
use super::plan::chain as causes;
use super::{Client, FetchError, Planned, Server};
use crate::place::PlaceError;
use crate::progress::Progress;

/// Rounds in which every mirror refuses before the person is asked: a load balancer says so while its server restarts.
const REFUSED_ROUNDS_MAX: usize = 3;

/// Takes a layer's verified chunks, in order.
pub type Sink<'a> = dyn FnMut(Verified<Vec<u8>>) -> Result<(), PlaceError> + 'a;

/// Where layers are fetched from.
pub struct Mirrors {
    client: Client,
    servers: Vec<Server>,
    /// Index of the one that worked last.
    preferred: AtomicUsize,
}

impl Mirrors {
    /// The plan's mirrors, then the server that gave the plan. A mirror that this program cannot use costs a warning: there
    /// are others.
    #[must_use]
    pub fn of(planned: &Planned, progress: &dyn Progress) -> Self {
        let mut servers = usable(&planned.chain.plan.mirrors, progress);
        if !servers.contains(&planned.server) {
            servers.push(planned.server.clone());
        }
        Self::new(planned.client.clone(), servers)
    }

    /// The servers with these URLs, as stage 1 noted them ([`Self::urls`]).
    #[must_use]
    pub fn named(client: Client, urls: &[String], progress: &dyn Progress) -> Self {
        Self::new(client, usable(urls, progress))
    }

    /// Their URLs, the one that worked last first.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.in_order()
            .into_iter()
            .map(ToString::to_string)
            .collect()
    }

    /// These servers, in order of preference.
    #[must_use]
    pub fn new(client: Client, servers: Vec<Server>) -> Self {
        Self {
            client,
            servers,
            preferred: AtomicUsize::new(0),
        }
    }

    /// All of them, the one that worked last first.
    fn in_order(&self) -> Vec<&Server> {
        let mut servers: Vec<_> = self.servers.iter().collect();
        servers.rotate_left(self.preferred.load(Ordering::Relaxed));
        servers
    }

    fn prefer(&self, server: &Server) {
        if let Some(index) = self.servers.iter().position(|it| it == server) {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// Fetches and verifies the manifest of the layer with this index.
    ///
    /// # Errors
    /// No mirror has it, or what they have is not trusted.
    pub async fn manifest(
        &self,
        chain: &Verified<Chain>,
        index: usize,
        progress: &dyn Progress,
    ) -> Result<Verified<Manifest>, FetchError> {
        let layer = chain.layers.get(index).ok_or_else(|| FetchError::Trust {
            server: "the plan".into(),
            cause: Box::new(TrustError::Chain(format!("there is no layer {index}"))),
        })?;
        let (started, patience) = (Instant::now(), self.client.patience());
        let mut pauses = Pauses::new(patience);
        let mut refused_rounds = 0;
        loop {
            let mut last = FetchError::NoServer;
            let mut may_pass = false;
            for server in self.in_order() {
                let fetched = self.manifest_bytes(server, layer).await;
                let verified = fetched.and_then(|bytes| {
                    let trust = |cause| FetchError::untrusted(server, cause);
                    chain.manifest(index, &bytes).map_err(trust)
                });
                match verified {
                    Ok(manifest) => {
                        self.prefer(server);
                        return Ok(manifest);
                    }
                    Err(error) => {
                        let target = &layer.target;
                        progress.warn(format_args!("no manifest of {target}: {}", causes(&error)));
                        may_pass |= !error.is_final();
                        last = error;
                    }
                }
            }
            refused_rounds = if may_pass { 0 } else { refused_rounds + 1 };
            let lies = matches!(last, FetchError::Trust { .. }) && !may_pass;
            if lies || refused_rounds == REFUSED_ROUNDS_MAX || started.elapsed() > patience.progress
            {
                return Err(last);
            }
            pauses.rest().await;
        }
    }

    async fn manifest_bytes(
        &self,
        server: &Server,
        layer: &ChainLayer,
    ) -> Result<Vec<u8>, FetchError> {
        let mut connection = self.client.connect(server).await?;
        let path = api::manifest_path(&layer.manifest);
        connection.get(&path, layer.manifest_bytes).await
    }

    /// Fetches a layer and gives its verified chunks to `sink`, in order.
    ///
    /// # Errors
    /// Every mirror lies, none goes on, or the sink refuses the layer.
    pub async fn layer(
        &self,
        manifest: &Verified<Manifest>,
        sink: &mut Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let layer = manifest.target_name();
        let download = Download::new(manifest, &layer, progress);
        self.download(download, manifest, sink, progress).await
    }

    /// Whether a mirror has the layer: its first chunk is fetched and verified, and not used.
    ///
    /// # Errors
    /// As for [`Self::layer`].
    pub async fn has(
        &self,
        manifest: &Verified<Manifest>,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let layer = manifest.target_name();
        let download = Download::new(manifest, &layer, progress).beginning();
        let unused = &mut |_| Ok(());
        self.download(download, manifest, unused, progress).await
    }

    async fn download(
        &self,
        mut download: Download<'_>,
        manifest: &Verified<Manifest>,
        sink: &mut Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let layer = manifest.target_name();
        let mut attempts = Attempts::new(self);
        loop {
            let server = attempts.server()?;
            let before = download.verified_bytes();
            let least = attempts.least_rate(server);
            let Err(fault) = download.run(&self.client, server, least, sink).await else {
                self.prefer(server);
                return Ok(());
            };
            if download.verified_bytes() > before {
                attempts.gained();
            }
            match fault {
                Fault::Sink(error) => return Err(error.into()),
                Fault::Lie(cause) => {
                    progress.warn(format_args!(
                        "{server} is not trusted for layer {layer}: {cause}"
                    ));
                    attempts.leave(server);
                    match attempts.honest.first() {
                        Some(next) => progress.note(format_args!("going on with {next}")),
                        None => {
                            return Err(FetchError::EveryMirrorLies {
                                layer,
                                digest: manifest.digest,
                                cause: cause.into(),
                            });
                        }
                    }
                }
                Fault::Fetch(error) => {
                    attempts.measured(server, &error);
                    let (got, want) = (download.verified_bytes(), manifest.stored_bytes);
                    let next = attempts.failed(server, error.is_final());
                    let Some(next) = next else {
                        return Err(FetchError::GaveUp {
                            layer,
                            got,
                            want,
                            seconds: attempts.last_gain.elapsed().as_secs(),
                            cause: Box::new(error),
                        });
                    };
                    progress.warn(format_args!(
                        "layer {layer} from {server} stopped after {got} of {want} bytes ({}); trying {next}",
                        causes(&error)
                    ));
                    attempts.rest().await;
                }
            }
        }
    }
}

/// The mirrors with these URLs, but for those that this program cannot use.
fn usable(urls: &[String], progress: &dyn Progress) -> Vec<Server> {
    let parsed = urls.iter().filter_map(|url| {
        let unusable = |error: &FetchError| {
            progress.warn(format_args!("a mirror is passed over: {}", causes(error)));
        };
        Server::parse(url).inspect_err(unusable).ok()
    });
    parsed.collect()
}

/// Which mirror is asked next, and for how long.
struct Attempts<'a> {
    /// Those that sent no wrong bytes of this layer; the first is next.
    honest: Vec<&'a Server>,
    measured: Measured<'a>,
    last_gain: Instant,
    pauses: Pauses,
    patience: super::Patience,
    /// Failures since the last gain, and those of them in a row that are final.
    failures: usize,
    refusals: usize,
}

impl<'a> Attempts<'a> {
    fn new(mirrors: &'a Mirrors) -> Self {
        let patience = mirrors.client.patience();
        Self {
            honest: mirrors.in_order(),
            measured: Measured::default(),
            last_gain: Instant::now(),
            pauses: Pauses::new(patience),
            patience,
            failures: 0,
            refusals: 0,
        }
    }

    fn server(&self) -> Result<&'a Server, FetchError> {
        self.honest.first().copied().ok_or(FetchError::NoServer)
    }

    /// Bytes a second that `server` must deliver; 0 if there is nobody else.
    fn least_rate(&self, server: &Server) -> u64 {
        let others = self.honest.iter().copied().filter(|it| *it != server);
        self.measured
            .least_rate(others, self.patience, Instant::now())
    }

    /// `server` was left with this error.
    fn measured(&mut self, server: &'a Server, error: &FetchError) {
        let rate = match error {
            FetchError::TooSlow { rate, .. } => *rate,
            _ => 0,
        };
        self.measured.note(server, rate, Instant::now());
    }

    /// There is one more verified chunk.
    fn gained(&mut self) {
        self.last_gain = Instant::now();
        self.pauses.reset();
        (self.failures, self.refusals) = (0, 0);
    }

    /// `server` sent wrong bytes.
    fn leave(&mut self, server: &Server) {
        self.honest.retain(|it| *it != server);
        (self.failures, self.refusals) = (0, 0);
    }

    /// `server` failed: gives the one to try next, if it is worth it.
    fn failed(&mut self, server: &Server, is_final: bool) -> Option<&'a Server> {
        self.failures += 1;
        self.refusals = if is_final { self.refusals + 1 } else { 0 };
        let refused = self.refusals >= REFUSED_ROUNDS_MAX * self.honest.len();
        if refused || self.last_gain.elapsed() > self.patience.progress {
            return None;
        }
        if self.honest.first() == Some(&server) {
            self.honest.rotate_left(1);
        }
        self.honest.first().copied()
    }

    /// The next mirror is tried at once; all of them again after a pause.
    async fn rest(&mut self) {
        if self.failures.is_multiple_of(self.honest.len()) {
            self.pauses.rest().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Arguments;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);

    impl Progress for Warnings {
        fn step(&self, _: Arguments<'_>) {}
        fn transfer(&self, _: &str, _: u64, _: u64) {}
        fn note(&self, _: Arguments<'_>) {}
        fn warn(&self, text: Arguments<'_>) {
            self.0.lock().unwrap().push(text.to_string());
        }
    }

    #[test]
    fn a_mirror_that_cannot_be_used_is_passed_over_and_the_others_serve() {
        let urls = ["https://u@a.example", "https://b.example/", "https://c/?x"];
        let warnings = Warnings::default();
        let servers = usable(&urls.map(str::to_owned), &warnings);
        let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["https://b.example"]);
        let said = warnings.0.into_inner().unwrap();
        assert_eq!(said.len(), 2);
        let why = "\"https://u@a.example\" is no URL of a server: it has a user name";
        assert!(said[0].contains(why), "{said:?}");
    }
}
