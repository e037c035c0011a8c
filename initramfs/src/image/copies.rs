//! Files whose bytes are those of another one, which the image has once.

use std::collections::HashMap;
use std::io::{self, Read};

use towline_contract::Digest;
use towline_contract::digest::Hasher;

use super::ImageError;
use super::plan::files;
use crate::content::Content;
use crate::parallel;
use crate::tree::Tree;

/// Smaller files are not compared: together they are little, and there are so many that opening them would take longer than
/// storing the copies.
const BYTES_MIN: u64 = 16 << 10;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Which files are copies.
#[derive(Default)]
pub(super) struct Copies(HashMap<*const Content, *const Content>);

impl Copies {
    /// Looks for copies among the files of a tree. Only files of one size are read for it, and only equal SHA-256 makes a copy.
    ///
    /// # Errors
    /// A file cannot be read or has changed.
    pub(super) fn find(tree: &Tree, workers: usize) -> Result<Self, ImageError> {
        let mut alike: Vec<_> = files(tree)
            .filter(|(_, it)| it.len() >= BYTES_MIN)
            .collect();
        let mut sizes: HashMap<u64, u32> = HashMap::new();
        for (_, content) in &alike {
            *sizes.entry(content.len()).or_default() += 1;
        }
        alike.retain(|(_, content)| sizes[&content.len()] > 1);
        let worker = || {
            let mut buffer = vec![0; BUFFER_BYTES];
            let alike = &alike;
            move |number: usize| {
                let (path, content) = alike[number];
                digest(content, &mut buffer).map_err(|cause| ImageError::content(path, cause))
            }
        };
        let mut originals: HashMap<_, *const Content> = HashMap::new();
        let mut copies = HashMap::new();
        parallel::in_order(alike.len(), workers, parallel::MANY, worker, |digests| {
            for (digest, (_, content)) in digests.zip(&alike) {
                let original = *originals
                    .entry((content.len(), digest?))
                    .or_insert(*content);
                if original != &raw const **content {
                    copies.insert(&raw const **content, original);
                }
            }
            Ok(Self(copies))
        })
    }

    /// The file that has the bytes, which is this one if it is no copy.
    pub(super) fn original(&self, content: &Content) -> *const Content {
        let content = &raw const *content;
        self.0.get(&content).copied().unwrap_or(content)
    }
}

/// The digest of a file.
fn digest(content: &Content, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut reader = content.reader()?;
    let mut hasher = Hasher::default();
    loop {
        match reader.read(buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
