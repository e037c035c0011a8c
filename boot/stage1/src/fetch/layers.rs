//! Layers: verified chunks in order, from mirrors that may stall, break off or lie.
//!
//! A chunk is used only after its digest matched, so whatever a mirror does costs time and never correctness. A broken
//! connection goes on at the first byte that is not verified; a mirror that sent wrong bytes is not asked for that layer
//! again.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use towline_contract::api;
use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::Manifest;
use towline_contract::trust::{Chain, ChunkError, TrustError, Verified};

use super::client::Stream;
use super::plan::chain as causes;
use super::{Client, FetchError, Planned, Server};
use crate::place::PlaceError;
use crate::progress::Progress;

/// Longest without a single verified chunk before the person is asked. A server restarts, a switch reboots within it.
const PATIENCE: Duration = Duration::from_secs(300);
/// First and longest pause between attempts.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Where layers are fetched from.
pub struct Mirrors {
    client: Client,
    servers: Vec<Server>,
}

impl Mirrors {
    /// The plan's mirrors, then the server that gave the plan.
    ///
    /// # Errors
    /// A mirror in the plan is no URL.
    pub fn of(planned: &Planned) -> Result<Self, FetchError> {
        let mut servers: Vec<Server> = planned
            .chain
            .plan
            .mirrors
            .iter()
            .map(|url| Server::parse(url))
            .collect::<Result<_, _>>()?;
        if !servers.contains(&planned.server) {
            servers.push(planned.server.clone());
        }
        Ok(Self {
            client: planned.client.clone(),
            servers,
        })
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
        let Some(layer) = chain.layers.get(index) else {
            let cause = Box::new(TrustError::Chain(format!("there is no layer {index}")));
            return Err(FetchError::Trust {
                server: "the plan".into(),
                cause,
            });
        };
        let started = Instant::now();
        let mut pause = PAUSE;
        loop {
            let mut last = FetchError::NoServer;
            for server in &self.servers {
                let fetched = self
                    .manifest_bytes(server, &layer.manifest, layer.manifest_bytes)
                    .await;
                let verified = fetched.and_then(|bytes| {
                    let untrusted = |cause| FetchError::Trust {
                        server: server.to_string(),
                        cause: Box::new(cause),
                    };
                    chain.manifest(index, &bytes).map_err(untrusted)
                });
                match verified {
                    Ok(manifest) => return Ok(manifest),
                    Err(error) => {
                        progress.warn(format_args!("{}", causes(&error)));
                        last = error;
                    }
                }
            }
            if started.elapsed() > PATIENCE
                || matches!(last, FetchError::Trust { .. } | FetchError::NoServer)
            {
                return Err(last);
            }
            rest(&mut pause).await;
        }
    }

    async fn manifest_bytes(
        &self,
        server: &Server,
        digest: &towline_contract::Digest,
        bytes: u64,
    ) -> Result<Vec<u8>, FetchError> {
        self.client
            .connect(server)
            .await?
            .get(&api::manifest_path(digest), bytes)
            .await
    }

    /// Fetches a layer and gives its verified chunks to `sink`, in order.
    ///
    /// # Errors
    /// Every mirror lies, none goes on, or the sink refuses the layer.
    pub async fn layer(
        &self,
        manifest: &Verified<Manifest>,
        sink: &mut dyn FnMut(Verified<Vec<u8>>) -> Result<(), PlaceError>,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let layer = manifest.target_name();
        let mut honest: Vec<&Server> = self.servers.iter().collect();
        let mut download = Download {
            manifest,
            layer: &layer,
            next: 0,
            progress,
        };
        let (mut last_gain, mut pause, mut which) = (Instant::now(), PAUSE, 0);
        loop {
            let server = honest[which % honest.len()];
            let before = download.next;
            let Err(fault) = download.run(&self.client, server, sink).await else {
                return Ok(());
            };
            if download.next > before {
                (last_gain, pause) = (Instant::now(), PAUSE);
            }
            match fault {
                Fault::Sink(error) => return Err(error.into()),
                Fault::Lie(cause) => {
                    progress.warn(format_args!(
                        "{server} is not trusted for layer {layer}: {cause}"
                    ));
                    honest.retain(|mirror| *mirror != server);
                    match honest.first() {
                        None => {
                            return Err(FetchError::EveryMirrorLies {
                                layer,
                                digest: manifest.digest,
                                cause: cause.into(),
                            });
                        }
                        Some(next) => progress.note(format_args!("going on with {next}")),
                    }
                }
                Fault::Fetch(error) => {
                    let (got, want) = (download.verified_bytes(), manifest.stored_bytes);
                    let seconds = last_gain.elapsed().as_secs();
                    if last_gain.elapsed() > PATIENCE {
                        return Err(FetchError::GaveUp {
                            layer,
                            got,
                            want,
                            seconds,
                            cause: Box::new(error),
                        });
                    }
                    progress.warn(format_args!(
                        "layer {layer} from {server} stopped after {got} of {want} bytes ({}); trying again",
                        causes(&error)
                    ));
                    which += 1;
                    rest(&mut pause).await;
                }
            }
        }
    }
}

/// Waits a little longer each time, by a random part, so that a hundred machines do not come back at once.
async fn rest(pause: &mut Duration) {
    let mut random = [0; 1];
    // Without randomness the pause is merely the same for all.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
    tokio::time::sleep(*pause + pause.mul_f32(f32::from(random[0]) / 256.0)).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

/// Why one attempt ended.
enum Fault {
    /// The network or the server: another attempt may go on.
    Fetch(FetchError),
    /// Wrong bytes: not from this mirror.
    Lie(ChunkError),
    /// The layer itself is refused, or there is no room for it.
    Sink(PlaceError),
}

/// One layer on its way.
struct Download<'a> {
    manifest: &'a Verified<Manifest>,
    layer: &'a str,
    /// Index of the first chunk that is not verified.
    next: usize,
    progress: &'a dyn Progress,
}

impl Download<'_> {
    fn verified_bytes(&self) -> u64 {
        (self.next as u64 * CHUNK_BYTES).min(self.manifest.stored_bytes)
    }

    async fn run(
        &mut self,
        client: &Client,
        server: &Server,
        sink: &mut dyn FnMut(Verified<Vec<u8>>) -> Result<(), PlaceError>,
    ) -> Result<(), Fault> {
        let start = self.verified_bytes();
        let connection = client.connect(server).await.map_err(Fault::Fetch)?;
        let path = api::layer_path(&self.manifest.digest);
        let mut stream = connection
            .stream(&path, start)
            .await
            .map_err(Fault::Fetch)?;
        if start > 0 {
            self.progress.note(format_args!(
                "resuming layer {} at byte {start} from {server}",
                self.layer
            ));
        }
        let mut rest = Bytes::new();
        while let Some(bytes) = self.manifest.chunk_bytes(self.next) {
            let chunk = self
                .chunk(&mut stream, &mut rest, bytes, server)
                .await
                .map_err(Fault::Fetch)?;
            let chunk = self.manifest.chunk(self.next, chunk).map_err(Fault::Lie)?;
            sink(chunk).map_err(Fault::Sink)?;
            self.next += 1;
            self.progress.transfer(
                self.layer,
                self.verified_bytes(),
                self.manifest.stored_bytes,
            );
        }
        Ok(())
    }

    /// The next `bytes` bytes of the stream; what came beyond them is left in `rest`.
    async fn chunk(
        &self,
        stream: &mut Stream,
        rest: &mut Bytes,
        bytes: u64,
        server: &Server,
    ) -> Result<Vec<u8>, FetchError> {
        let want = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::with_capacity(want);
        loop {
            let take = rest.len().min(want - chunk.len());
            chunk.extend_from_slice(&rest.split_to(take));
            if chunk.len() == want {
                return Ok(chunk.into());
            }
            match stream.next().await? {
                Some(piece) => *rest = piece,
                None => {
                    let got = self.verified_bytes() + chunk.len() as u64;
                    let want = self.manifest.stored_bytes;
                    return Err(FetchError::Truncated {
                        server: server.to_string(),
                        got,
                        want,
                    });
                }
            }
        }
    }
}
