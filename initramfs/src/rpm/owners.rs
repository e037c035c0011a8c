//! Whose a package's files are: packages have names, layers have numbers.

use std::collections::{BTreeSet, HashMap};

use towline_contract::limits::NAME_BYTES_MAX;

use super::header::{Fault, Header, tag};
use crate::tree::{Node, Tree, display};

/// Most bytes of all paths of a package. One of 100,000 files has 8 MB.
const PATHS_BYTES_MAX: usize = 64 << 20;

/// Numbers of users and groups by name: packages have names only.
#[derive(Clone, Debug, Default)]
pub struct Names {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Names {
    /// The names in `etc/passwd` and `etc/group` of a layer.
    #[must_use]
    pub fn of(tree: &Tree) -> Self {
        let numbers = |path: &[u8]| {
            let found = tree.find(path).and_then(|(_, entry)| match &entry.node {
                Node::File(content) => content.read().ok(),
                _ => None,
            });
            let text = found.unwrap_or_default();
            let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
                let mut fields = line.split(|byte| *byte == b':');
                let name = fields.next()?.to_vec();
                let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
                Some((name, number))
            });
            lines.collect()
        };
        Self {
            users: numbers(b"etc/passwd"),
            groups: numbers(b"etc/group"),
        }
    }
}

/// Owner and group of the files that are not root's, by path; notes what the layer does not have.
pub(super) fn owners(
    header: &Header,
    names: &Names,
    package: &str,
    notes: &mut Vec<String>,
) -> Result<HashMap<Vec<u8>, (u32, u32)>, Fault> {
    let users = header.texts(tag::FILE_USERS)?;
    let groups = header.texts(tag::FILE_GROUPS)?;
    let capabilities = header.texts(tag::FILE_CAPABILITIES)?;
    let mut unknown = BTreeSet::new();
    let mut number = |names: &HashMap<Vec<u8>, u32>, name: Option<&&[u8]>| match name {
        None | Some(&b"root") => 0,
        Some(name) => names.get(*name).copied().unwrap_or_else(|| {
            unknown.insert(display(name));
            0
        }),
    };
    let mut owners = HashMap::new();
    for (n, path) in paths(header)?.into_iter().enumerate() {
        let owner = (
            number(&names.users, users.get(n)),
            number(&names.groups, groups.get(n)),
        );
        if let Some(found) = capabilities.get(n).filter(|it| !it.is_empty()) {
            notes.push(format!(
                "{package}: {} comes without its capabilities ({}), which layers do not have",
                display(&path),
                display(found)
            ));
        }
        if owner != (0, 0) {
            owners.insert(path, owner);
        }
    }
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.into_iter().collect();
        notes.push(format!(
            "{package}: what belongs to {} becomes root's, for the layer's etc/passwd and etc/group have no such name",
            unknown.join(", ")
        ));
    }
    Ok(owners)
}

/// The paths of the package's files, relative to the root, in the order of its header.
fn paths(header: &Header) -> Result<Vec<Vec<u8>>, Fault> {
    let bases = header.texts(tag::BASE_NAMES)?;
    let directories = header.texts(tag::DIRECTORIES)?;
    let indexes = header.numbers(tag::FILE_DIRECTORIES)?;
    if bases.len() != indexes.len() {
        let (bases, indexes) = (bases.len(), indexes.len());
        return Err(Fault::Format(format!(
            "it has {bases} names of files, and {indexes} folders for them"
        )));
    }
    let mut bytes = 0;
    let path = |(base, index): (&&[u8], u32)| {
        let directory = usize::try_from(index).ok().and_then(|n| directories.get(n));
        let directory =
            directory.ok_or_else(|| Fault::Format(format!("it has no folder {index}")))?;
        let path = [relative(directory), base];
        let length = directory.len() + base.len();
        if length > NAME_BYTES_MAX {
            return Err(Fault::Format(format!(
                "it has a path of more than {NAME_BYTES_MAX} bytes"
            )));
        }
        bytes += length;
        // Any number of files may lie in one folder, whose long name the header has once.
        match bytes > PATHS_BYTES_MAX {
            true => Err(Fault::Format(format!(
                "the paths of its files have more than {PATHS_BYTES_MAX} bytes"
            ))),
            false => Ok(path.concat()),
        }
    };
    bases.iter().zip(indexes).map(path).collect()
}

pub(super) fn relative(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b".").unwrap_or(path);
    path.strip_prefix(b"/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::header;
    use super::*;

    /// A header of `files` files, all in one folder whose name has `bytes` bytes.
    fn in_one_folder(files: u32, bytes: usize) -> Header {
        let count = usize::try_from(files).unwrap();
        let folder = [vec![b'/'; 1], vec![b'x'; bytes - 2], b"/\0".to_vec()].concat();
        header(&[
            (tag::BASE_NAMES, 8, files, b"f\0".repeat(count)),
            (tag::DIRECTORIES, 8, 1, folder),
            (tag::FILE_DIRECTORIES, 4, files, vec![0; 4 * count]),
        ])
    }

    #[test]
    fn paths_that_are_longer_together_than_a_package_has_any_are_refused() {
        assert_eq!(
            paths(&in_one_folder(16_000, 4_000))
                .unwrap_or_default()
                .len(),
            16_000
        );
        let Err(Fault::Format(what)) = paths(&in_one_folder(17_000, 4_000)) else {
            panic!("refused")
        };
        assert_eq!(what, "the paths of its files have more than 67108864 bytes");
    }
}
