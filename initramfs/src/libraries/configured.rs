//! Directories of libraries that a system names in its configuration: `ld.so.conf` of glibc (ldconfig(8)), `ld-musl-*.path` of
//! musl.

use std::collections::BTreeSet;
use std::io;

use super::LibraryError;
use super::root::Root;
use crate::filter::glob_set;

/// Largest configuration file, in bytes; most files, most that include one another, most directories. A distribution has a
/// dozen files of a line each.
const FILE_BYTES_MAX: u64 = 1 << 20;
const FILES_MAX: usize = 1024;
const DEPTH_MAX: usize = 16;
const DIRECTORIES_MAX: usize = 4096;

/// A line of `ld.so.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Directory(String),
    /// A glob of more files; relative to the file that it is in.
    Include(String),
}

/// The directories that `etc/ld.so.conf` and what it includes name, in order, relative to the root.
///
/// # Errors
/// A file of them cannot be read, or there is no end of them.
pub(super) fn glibc(root: &dyn Root) -> Result<Vec<String>, LibraryError> {
    let mut reader = Reader {
        root,
        seen: BTreeSet::new(),
        dirs: Vec::new(),
    };
    reader.file("etc/ld.so.conf", 0)?;
    Ok(reader.dirs)
}

struct Reader<'a> {
    root: &'a dyn Root,
    /// A file that includes itself is read once.
    seen: BTreeSet<String>,
    dirs: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, depth: usize) -> Result<(), LibraryError> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        if self.seen.len() > FILES_MAX || depth > DEPTH_MAX {
            let what = format!("more than {FILES_MAX} files, or {DEPTH_MAX} one in the other,");
            return Err(too_much(path, &what));
        }
        let Some(text) = text(self.root, path)? else {
            return Ok(());
        };
        for line in lines(&text) {
            match line {
                Line::Directory(dir) => self.dirs.push(dir),
                Line::Include(glob) => {
                    for file in matches(self.root, &beside(path, &glob), path)? {
                        self.file(&file, depth + 1)?;
                    }
                }
            }
        }
        match self.dirs.len() > DIRECTORIES_MAX {
            true => Err(too_much(
                path,
                &format!("more than {DIRECTORIES_MAX} directories"),
            )),
            false => Ok(()),
        }
    }
}

/// The directories of musl's configuration for this architecture; none when there is none, for musl has its own then.
///
/// # Errors
/// The file cannot be read.
pub(super) fn musl(root: &dyn Root, loader: &str) -> Result<Option<Vec<String>>, LibraryError> {
    let name = loader.rsplit('/').next().unwrap_or(loader);
    let name = name.split(".so").next().unwrap_or(name);
    let text = text(root, &format!("etc/{name}.path"))?;
    Ok(text.map(|text| {
        let dirs = text.split([':', '\n']).map(str::trim);
        let dirs = dirs.filter(|it| it.starts_with('/'));
        dirs.map(relative).take(DIRECTORIES_MAX).collect()
    }))
}

fn text(root: &dyn Root, path: &str) -> Result<Option<String>, LibraryError> {
    let Some((_, content)) = root.find(path) else {
        return Ok(None);
    };
    if content.len() > FILE_BYTES_MAX {
        return Err(too_much(path, &format!("{} bytes", content.len())));
    }
    let bytes = content.read().map_err(|cause| LibraryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn too_much(path: &str, found: &str) -> LibraryError {
    LibraryError::Read {
        path: path.to_owned(),
        cause: io::Error::other(format!(
            "{found} are too much for the loader's configuration"
        )),
    }
}

/// What the lines say. `hwcap` lines are of long ago, and mean nothing to today's loader.
fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("include") => words.map(|it| Line::Include(it.to_owned())).collect(),
            // A directory may have a blank in its name, and the kind of its libraries behind it.
            Some(word) if word.starts_with('/') => {
                let dir = line.split('=').next().unwrap_or(line).trim_end();
                vec![Line::Directory(relative(dir))]
            }
            _ => Vec::new(),
        }
    })
}

fn relative(dir: &str) -> String {
    dir.trim_matches('/').to_owned()
}

/// A path in the file at `path`, relative to the root.
fn beside(path: &str, glob: &str) -> String {
    match glob.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => match path.rsplit_once('/') {
            Some((dir, _)) => format!("{dir}/{glob}"),
            None => glob.to_owned(),
        },
    }
}

/// The files that a glob matches, sorted, as glob(3) finds them.
fn matches(root: &dyn Root, glob: &str, from: &str) -> Result<Vec<String>, LibraryError> {
    let mut found = vec![String::new()];
    for part in glob.split('/').filter(|it| !it.is_empty()) {
        let join = |dir: &String, name: &str| match dir.is_empty() {
            true => name.to_owned(),
            false => format!("{dir}/{name}"),
        };
        if !part.contains(['*', '?', '[']) {
            found = found.iter().map(|dir| join(dir, part)).collect();
            continue;
        }
        let bad = |cause: globset::Error| LibraryError::Read {
            path: from.to_owned(),
            cause: io::Error::other(cause),
        };
        let globs = glob_set(&[part.to_owned()]).map_err(bad)?;
        let named = |dir: &String| {
            let mut names = root.names(dir);
            names
                .retain(|it| globs.is_match(it) && (part.starts_with('.') || !it.starts_with('.')));
            names.sort();
            names
                .into_iter()
                .map(|it| join(dir, &it))
                .collect::<Vec<_>>()
        };
        found = found.iter().flat_map(named).take(FILES_MAX + 1).collect();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::tree::{Meta, Tree};

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            let content = Content::from_bytes(text.as_bytes());
            tree.file(path.as_bytes(), Meta::root(0o644), content)
                .unwrap();
        }
        tree
    }

    #[test]
    fn included_files_come_where_they_are_included_in_the_order_of_their_names() {
        let tree = tree(&[
            (
                "etc/ld.so.conf",
                "/first # a remark\ninclude ld.so.conf.d/*.conf\n\t/last dir/ = libc6\nhwcap 1 x\n",
            ),
            (
                "etc/ld.so.conf.d/b.conf",
                "/of/b\ninclude /etc/ld.so.conf.d/a.conf\n",
            ),
            (
                "etc/ld.so.conf.d/a.conf",
                "/of/a/\nrelative\ninclude /etc/ld.so.conf\n",
            ),
            ("etc/ld.so.conf.d/c.txt", "/of/c\n"),
            ("etc/ld.so.conf.d/.d.conf", "/of/d\n"),
        ]);
        let dirs = glibc(&tree).unwrap();
        assert_eq!(dirs, ["first", "of/a", "of/b", "last dir"]);
    }

    #[test]
    fn a_configuration_without_end_is_refused() {
        let many: String = (0..5000).map(|it| format!("/dir{it}\n")).collect();
        let error = glibc(&tree(&[("etc/ld.so.conf", &many)])).unwrap_err();
        assert!(matches!(error, LibraryError::Read { .. }), "{error}");
        let large = "#".repeat(2 << 20);
        glibc(&tree(&[("etc/ld.so.conf", &large)])).unwrap_err();
        assert_eq!(glibc(&Tree::new()).unwrap(), [""; 0]);
    }

    #[test]
    fn musl_has_a_file_of_its_own_by_the_name_of_its_loader() {
        let tree = tree(&[("etc/ld-musl-x86_64.path", "/a:/b\n/c/\n")]);
        let dirs = musl(&tree, "/lib/ld-musl-x86_64.so.1").unwrap();
        assert_eq!(dirs.unwrap(), ["a", "b", "c"]);
        assert_eq!(musl(&tree, "/lib/ld-musl-aarch64.so.1").unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_names_absolute_directories_or_none(text in "(?s).{0,300}") {
            for line in lines(&text) {
                if let Line::Directory(dir) = line {
                    proptest::prop_assert!(!dir.starts_with('/') && !dir.contains('#'));
                }
            }
            let _ = glibc(&tree(&[("etc/ld.so.conf", &text)]));
        }
    }
}
