//! Finding a library the way the dynamic loader does (ld.so(8)).

use std::collections::HashMap;

use super::LibraryError;
use super::root::Root;
use crate::content::Content;
use crate::elf::{self, Elf};

/// Directories that the loader searches when nothing else says where: Debian's multiarch ones, then glibc's own.
const DEFAULT_DIRS: &[&str] = &[
    "usr/local/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
    "usr/local/lib",
];

/// Where a library was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The path it is looked up at, links not followed.
    pub(super) path: String,
    /// Whether that is a directory in which every program finds it.
    pub(super) common: bool,
}

/// Finds libraries in one [`Root`]; remembers what it read.
pub(super) struct Loader<'a> {
    root: &'a dyn Root,
    dirs: Vec<String>,
    found: HashMap<(String, (u16, u8)), Option<String>>,
    parsed: HashMap<String, Option<Elf>>,
}

impl<'a> Loader<'a> {
    /// A loader that looks in `first`, then in the configured and the default directories of `root`.
    pub(super) fn new(root: &'a dyn Root, first: &[String]) -> Self {
        let mut dirs = first.to_vec();
        dirs.extend(root.library_dirs());
        dirs.extend(DEFAULT_DIRS.iter().map(|dir| (*dir).to_owned()));
        Self {
            root,
            dirs,
            found: HashMap::new(),
            parsed: HashMap::new(),
        }
    }

    /// Whether every program finds libraries in `dir`.
    pub(super) fn searches(&self, dir: &str) -> bool {
        self.dirs.iter().any(|known| known == dir)
    }

    /// What the ELF file at this real path asks for; none when it is none.
    pub(super) fn elf(
        &mut self,
        path: &str,
        content: &Content,
    ) -> Result<Option<Elf>, LibraryError> {
        if let Some(elf) = self.parsed.get(path) {
            return Ok(elf.clone());
        }
        let elf = elf::read(content).map_err(|cause| LibraryError::Read {
            path: path.to_owned(),
            cause,
        })?;
        self.parsed.insert(path.to_owned(), elf.clone());
        Ok(elf)
    }

    /// Where the loader finds `name` for the file at `user`. `inherited` are the `RPATH` directories of those that loaded
    /// it, nearest first; they count only while it has no `RUNPATH`.
    pub(super) fn find(
        &mut self,
        name: &str,
        user: &str,
        elf: &Elf,
        inherited: &[String],
    ) -> Option<Found> {
        if name.contains('/') {
            let path = name.trim_start_matches('/').to_owned();
            return self.fits(&path, elf.machine).then_some(Found {
                path,
                common: false,
            });
        }
        for dir in own_dirs(elf, user, inherited) {
            let path = format!("{dir}/{name}");
            if self.fits(&path, elf.machine) {
                return Some(Found {
                    path,
                    common: false,
                });
            }
        }
        let key = (name.to_owned(), elf.machine);
        if !self.found.contains_key(&key) {
            let paths: Vec<_> = self
                .dirs
                .iter()
                .map(|dir| format!("{dir}/{name}"))
                .collect();
            let found = paths.into_iter().find(|path| self.fits(path, elf.machine));
            self.found.insert(key.clone(), found);
        }
        let path = self.found.get(&key).cloned().flatten()?;
        Some(Found { path, common: true })
    }

    fn fits(&mut self, path: &str, machine: (u16, u8)) -> bool {
        let Some((real, content)) = self.root.find(path) else {
            return false;
        };
        matches!(self.elf(&real, &content), Ok(Some(elf)) if elf.machine == machine)
    }
}

/// The directories that `elf` itself adds to the search.
fn own_dirs(elf: &Elf, user: &str, inherited: &[String]) -> Vec<String> {
    if !elf.runpath.is_empty() {
        return elf.runpath.iter().map(|dir| expand(dir, user)).collect();
    }
    let own = elf.rpath.iter().map(|dir| expand(dir, user));
    own.chain(inherited.iter().cloned()).collect()
}

/// The `RPATH` directories that libraries of the file at `user` inherit.
pub(super) fn heritage(elf: &Elf, user: &str, inherited: &[String]) -> Vec<String> {
    let own = if elf.runpath.is_empty() {
        elf.rpath.as_slice()
    } else {
        &[]
    };
    own.iter()
        .map(|dir| expand(dir, user))
        .chain(inherited.iter().cloned())
        .collect()
}

/// A directory of `RPATH` or `RUNPATH` of the file at `user`, relative to the root.
fn expand(dir: &str, user: &str) -> String {
    let origin = user.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dir = dir
        .replace("${ORIGIN}", "$ORIGIN")
        .replace("$ORIGIN", &format!("/{origin}"));
    let dir = dir
        .replace("${LIB}", "$LIB")
        .replace("$LIB", "lib/x86_64-linux-gnu");
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/') {
        match part {
            "" | "." => {}
            // As text: `user` is a real path, so no link is crossed on the way up from it.
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_the_directory_of_the_file_that_asks() {
        assert_eq!(
            expand("$ORIGIN/../lib", "opt/agent/bin/agent"),
            "opt/agent/lib"
        );
        assert_eq!(expand("${ORIGIN}", "opt/agent"), "opt");
        assert_eq!(
            expand("/usr/lib/systemd", "usr/bin/udevadm"),
            "usr/lib/systemd"
        );
    }

    #[test]
    fn a_runpath_keeps_inherited_rpaths_out() {
        let inherited = ["opt/old".to_owned()];
        let mut elf = Elf {
            rpath: vec!["/opt/own".into()],
            ..Elf::default()
        };
        assert_eq!(
            own_dirs(&elf, "usr/bin/x", &inherited),
            ["opt/own", "opt/old"]
        );
        elf.runpath = vec!["/opt/new".into()];
        assert_eq!(own_dirs(&elf, "usr/bin/x", &inherited), ["opt/new"]);
    }
}
