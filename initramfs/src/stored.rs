//! Reading a stored layer: its bytes against the manifest, its entries against the rules of its kind.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::lanes::{LaneError, LayerReader};
use towline_contract::limits::{
    CHUNK_BYTES, GZIP_FLAGS, GZIP_FLAGS_AT, MANIFEST_BYTES_MAX, ZSTD_WINDOW_LOG_MAX,
};
use towline_contract::manifest::{Compression, Manifest, ManifestError};
use towline_contract::newc::{Decoder, Entry, Item, NewcError};

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 18;

/// Why a stored layer cannot be read, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The manifest is not valid.
    #[error("{path} is no usable manifest")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ManifestError,
    },
    /// Another size than the manifest says.
    #[error("{path} has {found} bytes, but its manifest says {wanted}")]
    Size {
        /// The layer.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size in the manifest.
        wanted: u64,
    },
    /// Another digest than the manifest says.
    #[error("{path} has SHA-256 {found}, but its manifest says {wanted}; different: {chunks}", chunks = chunk_list(.chunks))]
    Digest {
        /// The layer.
        path: PathBuf,
        /// Its digest.
        found: Digest,
        /// The digest in the manifest.
        wanted: Digest,
        /// Numbers of the chunks that differ, from 0.
        chunks: Vec<usize>,
    },
    /// It breaks a rule of its kind.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// Not a newc archive.
    #[error("{path} holds no valid archive")]
    Newc {
        /// The layer.
        path: PathBuf,
        /// Why.
        #[source]
        cause: NewcError,
    },
    /// Its image cannot be read.
    #[error("the image of {path} is no squashfs of zstd blocks")]
    Image {
        /// The layer.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is no place for the image while it is looked at.
    #[error("cannot write a temporary file in {path}")]
    Temporary {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What is stored cannot be unpacked.
    #[error("{path} is no whole {} frame with a window that Linux takes", format!("{compression:?}").to_lowercase())]
    Frame {
        /// The layer.
        path: PathBuf,
        /// What it should be compressed with.
        compression: Compression,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A gzip header with fields that Linux takes for compressed data.
    #[error(
        "{path} has a gzip header with other fields than a name, which Linux takes for data; compress it with `gzip -n`"
    )]
    GzipHeader {
        /// The layer.
        path: PathBuf,
    },
    /// Bytes other than zero padding after the compressed frame.
    #[error("{path} goes on after its compressed frame; a layer is one frame and zero padding")]
    AfterFrame {
        /// The layer.
        path: PathBuf,
    },
}

fn chunk_list(chunks: &[usize]) -> String {
    if chunks.is_empty() {
        return "no chunk of 1 MiB, so the manifest contradicts itself".into();
    }
    let first: Vec<_> = chunks.iter().take(8).map(usize::to_string).collect();
    let more = if chunks.len() > 8 {
        format!(" and {} more", chunks.len() - 8)
    } else {
        String::new()
    };
    format!("chunks of 1 MiB number {}{more}", first.join(", "))
}

/// Where the manifest of the layer at `path` lies: beside it, `.manifest.json` for `.layer`.
#[must_use]
pub fn manifest_path(path: &Path) -> PathBuf {
    path.with_extension("manifest.json")
}

/// Reads the manifest file at `path`.
///
/// # Errors
/// It cannot be read or is not valid.
pub fn read_manifest(path: &Path) -> Result<Manifest, StoredError> {
    let file = File::open(path).map_err(|cause| read_error(path, cause))?;
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| read_error(path, cause))?;
    Manifest::parse(&bytes).map_err(|cause| StoredError::Manifest {
        path: path.to_owned(),
        cause,
    })
}

/// Checks the layer at `path`: size, digest, chunks, one frame, the rules of its kind. `replaceable` is the base's list.
///
/// # Errors
/// What differs, with both sides; see [`StoredError`].
pub fn verify(path: &Path, manifest: &Manifest, replaceable: &[String]) -> Result<(), StoredError> {
    verify_bytes(path, manifest)?;
    let mut reader = LayerReader::new(manifest, replaceable);
    unpack(path, manifest.compression, |mut bytes| {
        while reader.next(&mut bytes)?.is_some() {}
        Ok(())
    })?;
    Ok(reader.finish()?)
}

/// Checks size, digest and chunks of the layer at `path`.
///
/// # Errors
/// What differs, with both sides.
pub fn verify_bytes(path: &Path, manifest: &Manifest) -> Result<(), StoredError> {
    let mut file = File::open(path).map_err(|cause| read_error(path, cause))?;
    let (mut whole, mut different, mut found) = (Hasher::default(), Vec::new(), 0);
    let mut chunk = vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(1 << 20)];
    for number in 0.. {
        let filled = fill(&mut file, &mut chunk).map_err(|cause| read_error(path, cause))?;
        if filled == 0 {
            break;
        }
        found += filled as u64;
        whole.update(&chunk[..filled]);
        if manifest.chunks.get(number) != Some(&Digest::of(&chunk[..filled])) {
            different.push(number);
        }
    }
    if found != manifest.stored_bytes {
        return Err(StoredError::Size {
            path: path.to_owned(),
            found,
            wanted: manifest.stored_bytes,
        });
    }
    let digest = whole.finish();
    if digest == manifest.digest && different.is_empty() {
        return Ok(());
    }
    Err(StoredError::Digest {
        path: path.to_owned(),
        found: digest,
        wanted: manifest.digest,
        chunks: different,
    })
}

/// Calls `each` for every entry of the layer at `path`, of whatever compression; a link's target comes with it.
///
/// # Errors
/// It cannot be read, or is no archive.
pub fn list(path: &Path, mut each: impl FnMut(&Entry, &[u8])) -> Result<(), StoredError> {
    let mut decoder = Decoder::new();
    let mut current: Option<(Entry, Vec<u8>)> = None;
    let newc = |cause| StoredError::Newc {
        path: path.to_owned(),
        cause,
    };
    unpack(path, compression(path)?, |mut bytes| {
        while let Some(item) = decoder.next(&mut bytes).map_err(newc)? {
            match item {
                Item::Entry(entry) => current = Some((entry, Vec::new())),
                Item::Data(data) => {
                    if let Some((entry, target)) = &mut current
                        && entry.file_type() == towline_contract::newc::mode::S_IFLNK
                    {
                        target.extend_from_slice(data);
                    }
                }
                Item::EntryEnd => {
                    if let Some((entry, target)) = current.take() {
                        each(&entry, &target);
                    }
                }
            }
        }
        Ok(())
    })?;
    decoder.finish().map_err(newc)
}

/// The compression of the file at `path`, by its first bytes.
///
/// # Errors
/// It cannot be read.
pub fn compression(path: &Path) -> Result<Compression, StoredError> {
    let mut start = [0; 4];
    let mut file = File::open(path).map_err(|cause| read_error(path, cause))?;
    let filled = fill(&mut file, &mut start).map_err(|cause| read_error(path, cause))?;
    Ok(match &start[..filled] {
        [0x28, 0xB5, 0x2F, 0xFD] => Compression::Zstd,
        [0x1F, 0x8B, ..] => Compression::Gzip,
        _ => Compression::None,
    })
}

/// Unpacks the file and gives its bytes to `take` in pieces; what follows the frame must be zeros.
pub(crate) fn unpack(
    path: &Path,
    compression: Compression,
    mut take: impl FnMut(&[u8]) -> Result<(), StoredError>,
) -> Result<(), StoredError> {
    let failed = |cause| read_error(path, cause);
    let unpacked = |cause: io::Error| match cause.raw_os_error() {
        Some(_) => read_error(path, cause),
        None => StoredError::Frame {
            path: path.to_owned(),
            compression,
            cause,
        },
    };
    let file = File::open(path).map_err(failed)?;
    let mut stored = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut pump = |reader: &mut dyn Read| -> Result<(), StoredError> {
        loop {
            match reader.read(&mut buffer).map_err(unpacked)? {
                0 => return Ok(()),
                n => take(&buffer[..n])?,
            }
        }
    };
    match compression {
        Compression::None => return pump(&mut stored), // the padding is the archive's own
        Compression::Gzip => {
            let flags = stored.fill_buf().map_err(failed)?.get(GZIP_FLAGS_AT);
            if flags.is_some_and(|flags| flags & !GZIP_FLAGS != 0) {
                return Err(StoredError::GzipHeader {
                    path: path.to_owned(),
                });
            }
            pump(&mut flate2::bufread::GzDecoder::new(&mut stored))?;
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&mut stored)
                .map_err(failed)?
                .single_frame();
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(failed)?;
            pump(&mut decoder)?;
        }
    }
    loop {
        let rest = stored.fill_buf().map_err(failed)?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(StoredError::AfterFrame {
                path: path.to_owned(),
            });
        }
        let length = rest.len();
        stored.consume(length);
    }
}

fn read_error(path: &Path, cause: io::Error) -> StoredError {
    StoredError::Read {
        path: path.to_owned(),
        cause,
    }
}

/// Fills `buffer` as far as there are bytes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
