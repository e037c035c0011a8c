//! Small layers with any content, well-formed or not.

use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::{Compression, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement};
use towline_contract::newc::{Entry, mode, padding, trailer};
use towline_contract::{Digest, Timestamp};

/// A layer's stored bytes and its manifest.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it is.
    pub manifest: Manifest,
    /// The bytes.
    pub stored: Vec<u8>,
}

/// A file of a layer: path, mode, content. A path that ends with `/` is a directory.
pub type File<'a> = (&'a str, u32, &'a [u8]);

/// A layer of plain files; directories on the way to them are added. What it holds is not checked.
///
/// # Panics
/// A path that newc cannot hold.
#[must_use]
pub fn layer(kind: Kind, name: &str, compression: Compression, files: &[File<'_>]) -> Layer {
    let mut archive = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (path, permissions, content) in files {
        for (at, _) in path.match_indices('/') {
            if seen.insert(path[..at].to_owned()) {
                add(&mut archive, &path[..at], mode::S_IFDIR | 0o755, &[]);
            }
        }
        if !path.ends_with('/') {
            add(&mut archive, path, mode::S_IFREG | permissions, content);
            seen.insert((*path).to_owned());
        }
    }
    archive.extend(trailer());
    let mut stored = match compression {
        Compression::None => archive.clone(),
        Compression::Zstd => zstd::encode_all(archive.as_slice(), 3).expect("zstd"),
        Compression::Gzip => panic!("the harness makes no gzip layers"),
    };
    stored.resize(stored.len().next_multiple_of(4), 0);
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        kind,
        name: name.into(),
        version: "1".into(),
        architecture: "amd64".into(),
        created: Timestamp::UNIX_EPOCH,
        digest: Digest::of(&stored),
        stored_bytes: stored.len() as u64,
        unpacked_bytes: archive.len() as u64,
        entries: seen.len() as u64,
        compression,
        chunks: stored
            .chunks(usize::try_from(CHUNK_BYTES).expect("usize"))
            .map(Digest::of)
            .collect(),
        placement: Placement::Ram,
        image: None,
        kernel_release: (kind == Kind::Kernel).then(|| "6.1.0-test".into()),
        provides: Needs::default(),
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
    };
    Layer { manifest, stored }
}

/// Bytes that do not compress, the same for the same seed.
#[must_use]
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(bytes)
        .collect()
}

fn add(archive: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) {
    let entry = Entry {
        name: path.as_bytes().to_vec(),
        mode,
        links: 1,
        bytes: u32::try_from(content.len()).expect("a small file"),
        ..Entry::default()
    };
    archive.extend(entry.encode().expect("a name"));
    archive.extend_from_slice(content);
    archive.extend_from_slice(padding(content.len() as u64));
}
