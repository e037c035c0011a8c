//! Where libraries and programs are looked up: the tree of a layer, or this machine.

use std::path::Path;
use std::sync::Arc;

use crate::content::Content;
use crate::tree::{Node, Tree};

/// Where files are looked up. Paths are relative to the root; symbolic links and `..` are followed as Linux does.
pub trait Root {
    /// The regular file at `path`, and its real path.
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)>;
    /// The real path of the directory at `path`.
    fn directory(&self, path: &str) -> Option<String>;
    /// Names in the directory at `path`; none when there is no such directory.
    fn names(&self, path: &str) -> Vec<String>;
}

impl Root for Tree {
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)> {
        let (real, entry) = self.follow(path.as_bytes())?;
        match &entry.node {
            Node::File(content) => Some((String::from_utf8(real).ok()?, Arc::clone(content))),
            _ => None,
        }
    }

    fn directory(&self, path: &str) -> Option<String> {
        let (real, entry) = self.follow(path.as_bytes())?;
        let is_directory = matches!(entry.node, Node::Directory { .. });
        is_directory.then(|| String::from_utf8(real).ok())?
    }

    fn names(&self, path: &str) -> Vec<String> {
        let Some(dir) = self.directory(path) else {
            return Vec::new();
        };
        let names = self.below(dir.as_bytes());
        names
            .filter_map(|name| std::str::from_utf8(name).ok())
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
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
        Some((name, Arc::new(Content::of_file(real, &metadata))))
    }

    fn directory(&self, path: &str) -> Option<String> {
        let real = Path::new("/").join(path).canonicalize().ok()?;
        let name = real.to_str()?.trim_start_matches('/').to_owned();
        real.is_dir().then_some(name)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(Path::new("/").join(path));
        let entries = entries.into_iter().flatten().flatten();
        entries
            .filter_map(|it| it.file_name().into_string().ok())
            .collect()
    }
}
