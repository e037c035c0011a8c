//! Where libraries and programs are looked up: the tree of a layer, or this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::content::Content;
use crate::tree::{Node, Tree};

/// Where files are looked up.
pub trait Root {
    /// The regular file at `path` (relative to the root), all symbolic links followed, and its real path.
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)>;
    /// Directories named in `etc/ld.so.conf` and `etc/ld.so.conf.d`, relative to the root.
    fn library_dirs(&self) -> Vec<String>;
}

impl Root for Tree {
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)> {
        let (real, entry) = Self::find(self, path.as_bytes())?;
        match &entry.node {
            Node::File(content) => Some((String::from_utf8(real).ok()?, Arc::clone(content))),
            _ => None,
        }
    }

    fn library_dirs(&self) -> Vec<String> {
        let files = self
            .iter()
            .filter(|(path, _)| is_loader_configuration(path));
        let texts = files.filter_map(|(_, entry)| match &entry.node {
            Node::File(content) => content.read().ok(),
            _ => None,
        });
        texts
            .flat_map(|text| configured_dirs(&String::from_utf8_lossy(&text)))
            .collect()
    }
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Root for Machine {
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)> {
        let real = Path::new("/").join(path).canonicalize().ok()?;
        let metadata = real.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let name = real.to_str()?.trim_start_matches('/').to_owned();
        let bytes = metadata.len();
        Some((name, Arc::new(Content::Disk { path: real, bytes })))
    }

    fn library_dirs(&self) -> Vec<String> {
        let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
        let more = std::fs::read_dir("/etc/ld.so.conf.d")
            .into_iter()
            .flatten()
            .flatten();
        files.extend(more.map(|entry| entry.path()));
        files.sort();
        let texts = files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok());
        texts.flat_map(|text| configured_dirs(&text)).collect()
    }
}

fn is_loader_configuration(path: &[u8]) -> bool {
    path == b"etc/ld.so.conf"
        || (path.starts_with(b"etc/ld.so.conf.d/") && path.ends_with(b".conf"))
}

pub(super) fn configured_dirs(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| line.starts_with('/'))
        .map(|line| line.trim_matches('/').to_owned())
        .collect()
}
