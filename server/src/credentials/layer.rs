//! Packing: files below `run/towline/credentials` as one uncompressed newc archive, readable by root only.
//!
//! Written by the contract's own encoder rather than by that for published layers, which keeps contents where nobody wipes
//! them and writes to a file.

use towline_contract::agent::CREDENTIALS_DIR;
use towline_contract::newc::{Entry, NewcError, mode, padding, trailer};
use zeroize::Zeroizing;

use super::Files;

/// Bytes of a header, name and padding, at most: what the archive's room is reckoned by.
pub(super) const RECORD_BYTES: usize = 512;

/// The archive, and its number of entries.
pub(super) fn pack(files: &Files) -> Result<(Zeroizing<Vec<u8>>, u64), NewcError> {
    let contents: usize = files.values().map(|it| it.len()).sum();
    let records = files.len() + CREDENTIALS_DIR.matches('/').count() + 1;
    // All of it at once: what grows leaves copies behind.
    let room = contents + records * RECORD_BYTES;
    let mut archive = Zeroizing::new(Vec::with_capacity(room));
    let mut entries = 0;
    let mut add = |name: &str, mode: u32, body: &[u8]| {
        entries += 1;
        let entry = Entry {
            name: name.into(),
            inode: entries,
            mode,
            links: 1,
            bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
            ..Entry::default()
        };
        archive.extend_from_slice(&entry.encode()?);
        archive.extend_from_slice(body);
        archive.extend_from_slice(padding(body.len() as u64));
        Ok(())
    };
    let directory = CREDENTIALS_DIR.trim_start_matches('/');
    for (at, _) in directory.match_indices('/') {
        // On the way, as the rest of the rescue system has them.
        add(&directory[..at], mode::S_IFDIR | 0o755, &[])?;
    }
    add(directory, mode::S_IFDIR | 0o700, &[])?;
    for (name, content) in files {
        let path = format!("{directory}/{name}");
        add(&path, mode::S_IFREG | 0o600, content)?;
    }
    archive.extend_from_slice(&trailer());
    Ok((archive, entries.into()))
}
