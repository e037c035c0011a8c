//! One layer on its way from one mirror after the other: the first byte that is not verified, and the pass over one stream.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use towline_contract::api;
use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::Manifest;
use towline_contract::trust::{ChunkError, Verified};

use super::connection::Stream;
use super::layers::Sink;
use super::pace::Pace;
use super::{Client, FetchError, Server};
use crate::place::PlaceError;
use crate::progress::Progress;

/// Why one attempt ended.
pub(super) enum Fault {
    /// The network or the server: another attempt may go on.
    Fetch(FetchError),
    /// Wrong bytes: not from this mirror.
    Lie(ChunkError),
    /// The layer itself is refused, or there is no room for it.
    Sink(PlaceError),
}

/// One layer on its way.
pub(super) struct Download<'a> {
    manifest: &'a Verified<Manifest>,
    layer: &'a str,
    /// Index of the first chunk that is not verified.
    next: usize,
    /// Most chunks that are wanted.
    chunks: usize,
    progress: &'a dyn Progress,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        manifest: &'a Verified<Manifest>,
        layer: &'a str,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            manifest,
            layer,
            next: 0,
            chunks: usize::MAX,
            progress,
        }
    }

    /// Of the first chunk alone.
    pub(super) fn beginning(self) -> Self {
        Self { chunks: 1, ..self }
    }

    /// How many bytes from the layer's beginning are verified, and with the sink.
    pub(super) fn verified_bytes(&self) -> u64 {
        (self.next as u64 * CHUNK_BYTES).min(self.manifest.stored_bytes)
    }

    /// Goes on from the first byte that is not verified, to the end if `server` lets it and delivers `least_rate` bytes a
    /// second.
    pub(super) async fn run(
        &mut self,
        client: &Client,
        server: &Server,
        least_rate: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), Fault> {
        let start = self.verified_bytes();
        let path = api::layer_path(&self.manifest.digest);
        let connection = client.connect(server).await.map_err(Fault::Fetch)?;
        let stream = connection.stream(&path, start).await;
        let mut stream = stream.map_err(Fault::Fetch)?;
        if start > 0 {
            self.progress.note(format_args!(
                "resuming layer {} at byte {start} from {server}",
                self.layer
            ));
        }
        let mut rest = Bytes::new();
        let mut pace = Pace::new(client.patience(), least_rate);
        while let Some(bytes) = self.manifest.chunk_bytes(self.next)
            && self.next < self.chunks
        {
            // What a server sends before the range it was asked for takes its time, too.
            let parts = u32::try_from(stream.skip().div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
            let limit = client
                .patience()
                .document
                .saturating_mul(parts.saturating_add(1));
            let chunk = timeout(
                limit,
                self.chunk(&mut stream, &mut rest, &mut pace, bytes, server),
            )
            .await;
            let slow = |_| FetchError::slow(server, &path, limit);
            let chunk = chunk.map_err(slow).and_then(|it| it);
            let chunk = chunk.map_err(Fault::Fetch)?;
            let chunk = self.manifest.chunk(self.next, chunk).map_err(Fault::Lie)?;
            sink(chunk).map_err(Fault::Sink)?;
            self.next += 1;
            self.show(0);
        }
        Ok(())
    }

    /// Shows `more` bytes beside the verified ones.
    fn show(&self, more: usize) {
        let done = self.verified_bytes() + more as u64;
        self.progress
            .transfer(self.layer, done, self.manifest.stored_bytes);
    }

    /// The next `bytes` bytes of the stream; what came beyond them is left in `rest`.
    async fn chunk(
        &self,
        stream: &mut Stream,
        rest: &mut Bytes,
        pace: &mut Pace,
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
            let (asked, skip) = (Instant::now(), stream.skip());
            match stream.next().await? {
                Some(piece) => {
                    *rest = piece;
                    // What came before the wanted range was delivered, too.
                    let came = rest.len() as u64 + skip - stream.skip();
                    if let Some(rate) = pace.add(came, asked.elapsed()) {
                        let server = server.to_string();
                        return Err(FetchError::TooSlow { server, rate });
                    }
                }
                None => {
                    return Err(FetchError::Truncated {
                        server: server.to_string(),
                        got: self.verified_bytes() + chunk.len() as u64,
                        want: self.manifest.stored_bytes,
                    });
                }
            }
            self.show(chunk.len());
        }
    }
}
