//! Parts of a tree: what is kept of it, and what is taken out into a tree of its own.

use std::collections::{BTreeSet, HashSet};

use super::path::parents;
use super::{Entry, Tree};

impl Tree {
    /// Keeps the entries for which `keep` says so. A directory stays while something that is kept lies in it.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &Entry) -> bool) {
        let mut needed: HashSet<Vec<u8>> = HashSet::new();
        let mut gone = Vec::new();
        // Backwards, what lies in a directory comes before it.
        for (path, entry) in self.entries.iter().rev() {
            if needed.contains(path) || keep(path, entry) {
                needed.extend(parents(path).map(<[u8]>::to_vec));
            } else {
                gone.push(path.clone());
            }
        }
        for path in gone {
            self.entries.remove(&path);
        }
    }

    /// Takes out the entries for which `take` says so and what lies in them, with directories leading to them, into a tree of their
    /// own.
    #[must_use]
    pub fn split(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> Self {
        let mut taken = Self::new();
        let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in self.entries.keys() {
            if parents(path).any(|parent| paths.contains(parent)) || take(path) {
                paths.insert(path.clone());
            }
        }
        for path in paths {
            for parent in parents(&path) {
                if let Some(entry) = self.entries.get(parent) {
                    taken
                        .entries
                        .entry(parent.to_vec())
                        .or_insert_with(|| entry.clone());
                }
            }
            if let Some(entry) = self.entries.remove(&path) {
                taken.entries.insert(path, entry);
            }
        }
        taken
    }
}
