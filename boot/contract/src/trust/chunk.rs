//! Chunks: the pieces in which a layer is verified before a byte of it is used.

use zeroize::Zeroizing;

use super::verified::Verified;
use crate::Digest;
use crate::limits::CHUNK_BYTES;
use crate::manifest::Manifest;

/// A chunk of a layer that came sealed: wiped when dropped.
pub type SealedChunk = Verified<Zeroizing<Vec<u8>>>;

/// Why a chunk is not the layer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The layer has fewer chunks.
    #[error("layer {layer} has {chunks} chunks, and no chunk {index}")]
    NoSuchChunk {
        /// Target name.
        layer: String,
        /// Index, from 0.
        index: usize,
        /// Chunks that the manifest lists.
        chunks: usize,
    },
    /// More or fewer bytes than the chunk has.
    #[error("chunk {index} of layer {layer} has {found} bytes instead of {wanted}")]
    Length {
        /// Target name.
        layer: String,
        /// Index, from 0.
        index: usize,
        /// Bytes received.
        found: u64,
        /// Bytes the chunk has.
        wanted: u64,
    },
    /// Other bytes.
    #[error("chunk {index} of layer {layer} has digest {}, but {} is signed", found.short(), wanted.short())]
    Digest {
        /// Target name.
        layer: String,
        /// Index, from 0.
        index: usize,
        /// Digest of what was received.
        found: Digest,
        /// Digest in the manifest.
        wanted: Digest,
    },
}

impl Verified<Manifest> {
    /// Verifies one chunk of the layer's stored bytes.
    ///
    /// # Errors
    /// Not the bytes that the manifest says.
    pub fn chunk(&self, index: usize, bytes: Vec<u8>) -> Result<Verified<Vec<u8>>, ChunkError> {
        self.check_chunk(index, &bytes)?;
        Ok(Verified::new(bytes))
    }

    /// Verifies all of the layer's stored bytes, chunk by chunk.
    ///
    /// # Errors
    /// Not the bytes that the manifest says, from the first to the last.
    pub fn whole(&self, bytes: &[u8]) -> Result<Vec<SealedChunk>, ChunkError> {
        let size = usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX);
        let mut chunks: Vec<&[u8]> = bytes.chunks(size).collect();
        // Those that are missing have no bytes.
        chunks.resize(chunks.len().max(self.chunks.len()), &[]);
        let verified = |(index, chunk): (usize, &[u8])| {
            self.check_chunk(index, chunk)?;
            Ok(Verified::new(Zeroizing::new(chunk.to_vec())))
        };
        chunks.into_iter().enumerate().map(verified).collect()
    }
}

impl Manifest {
    /// Compares one chunk with this manifest, which itself may be anybody's: for tools that look at local files. What is
    /// to be *used* goes through [`Verified<Manifest>::chunk`].
    ///
    /// # Errors
    /// Not the bytes that the manifest says.
    pub fn check_chunk(&self, index: usize, bytes: &[u8]) -> Result<(), ChunkError> {
        let layer = || self.target_name();
        let (Some(wanted), Some(digest)) = (self.chunk_bytes(index), self.chunks.get(index)) else {
            return Err(ChunkError::NoSuchChunk {
                layer: layer(),
                index,
                chunks: self.chunks.len(),
            });
        };
        let found = bytes.len() as u64;
        if found != wanted {
            let layer = layer();
            return Err(ChunkError::Length {
                layer,
                index,
                found,
                wanted,
            });
        }
        let found = Digest::of(bytes);
        if found != *digest {
            let (layer, wanted) = (layer(), *digest);
            return Err(ChunkError::Digest {
                layer,
                index,
                found,
                wanted,
            });
        }
        Ok(())
    }
}
