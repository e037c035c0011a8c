//! Where paths lead through the symbolic links of a tree, as a process in the layer would find it.

use super::path::{components, normalise, parents};
use super::{Entry, Node, Tree, TreeError, display};

/// Most symbolic links followed for one path: Linux's own limit (path_resolution(7)).
pub(super) const LINKS_FOLLOWED_MAX: usize = 40;

impl Tree {
    /// The entry that a process would find at `path`, all symbolic links followed, and its real path.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<(Vec<u8>, &Entry)> {
        let real = self.resolve(&normalise(path)?, true).ok()?;
        let entry = self.entries.get(&real)?;
        Some((real, entry))
    }

    /// The entry that a process would find at `path`, which may go up with `..`, and its real path.
    #[must_use]
    pub fn follow(&self, path: &[u8]) -> Option<(Vec<u8>, &Entry)> {
        let real = self.resolve(path, true).ok()?;
        let entry = self.entries.get(&real)?;
        Some((real, entry))
    }

    /// Whether a symbolic link at `path` to `target` would lead to its own place, through the links that the tree has.
    #[must_use]
    pub fn leads_to_itself(&self, path: &[u8], target: &[u8]) -> bool {
        let place = normalise(path).and_then(|path| self.resolve(&path, false).ok());
        let Some(place) = place else { return false };
        let (folder, _) = place.split_at(place.iter().rposition(|b| *b == b'/').unwrap_or(0));
        let from = if target.starts_with(b"/") {
            b""
        } else {
            folder
        };
        let goal = [from, target].join(b"/".as_slice());
        self.resolve(&goal, false).is_ok_and(|goal| goal == place)
    }

    /// Whether `path` is known to be a real one without a look at each of its parents: those of an entry are directories.
    fn is_real(&self, path: &[u8], follow_last: bool) -> bool {
        match self.entries.get(path).map(|entry| &entry.node) {
            Some(Node::Symlink(_)) => !follow_last,
            Some(_) => true,
            None => {
                let parent = parents(path).next_back();
                let name = parent.map_or(path, |it| &path[it.len() + 1..]);
                let is_name = ![b"".as_slice(), b".", b".."].contains(&name);
                is_name && parent.is_none_or(|it| self.is_directory(it))
            }
        }
    }

    /// The real path that `path` leads to through the links of the tree; what does not exist is taken as it is.
    pub(super) fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, TreeError> {
        match self.is_real(path, follow_last) {
            true => Ok(path.to_vec()),
            false => self.resolve_by_parts(path, follow_last),
        }
    }

    fn resolve_by_parts(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, TreeError> {
        let mut todo: Vec<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut done: Vec<u8> = Vec::with_capacity(path.len());
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            let parent_length = done.len();
            if part == b".." {
                done.truncate(done.iter().rposition(|b| *b == b'/').unwrap_or(0));
                continue;
            }
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(&part);
            let Some(Node::Symlink(target)) = self.entries.get(&done).map(|entry| &entry.node)
            else {
                continue;
            };
            if todo.is_empty() && !follow_last {
                continue;
            }
            followed += 1;
            if followed > LINKS_FOLLOWED_MAX {
                return Err(TreeError::Links(display(path)));
            }
            done.truncate(if target.starts_with(b"/") {
                0
            } else {
                parent_length
            });
            todo.extend(components(target).map(<[u8]>::to_vec).rev());
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    proptest::proptest! {
        #[test]
        fn a_path_that_is_taken_for_real_is_the_one_that_its_parts_lead_to(
            entries in proptest::collection::vec(("[ab/.]{1,6}", proptest::option::of("[ab/.]{1,4}")), 0..12),
            path in "[ab/.]{0,8}",
            follow_last: bool,
        ) {
            let mut tree = Tree::new();
            let meta = Meta::root(0o755);
            for (path, link) in entries {
                let _ = match link {
                    Some(target) => tree.symlink(path.as_bytes(), meta, target.as_bytes()),
                    None => tree.directory(path.as_bytes(), meta),
                };
            }
            if tree.is_real(path.as_bytes(), follow_last) {
                let parts = tree.resolve_by_parts(path.as_bytes(), follow_last);
                proptest::prop_assert_eq!(parts.unwrap(), path.as_bytes());
            }
        }
    }
}
