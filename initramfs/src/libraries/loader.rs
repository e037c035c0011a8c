//! Finding one library the way the dynamic loader does: ld.so(8) of glibc, or musl's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::root::Root;
use super::system::{System, platforms};
use super::{LibraryError, cache, configured};
use crate::content::Content;
use crate::elf::{self, Elf};

/// Directories of musl when `etc/ld-musl-*.path` is not there (musl ldso/dynlink.c).
const MUSL_DIRS: [&str; 3] = ["lib", "usr/local/lib", "usr/lib"];

/// Which loader a program is started by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flavour {
    /// glibc's.
    Glibc,
    /// musl's, by its path.
    Musl(String),
}

impl Flavour {
    /// The one that a program names.
    pub(super) fn of(elf: &Elf) -> Self {
        let is_musl = |path: &&String| {
            let name = path.rsplit('/').next();
            name.is_some_and(|it| it.starts_with("ld-musl-"))
        };
        let path = elf.interpreter.as_ref().filter(is_musl);
        path.map_or(Self::Glibc, |path| Self::Musl(path.clone()))
    }
}

/// Where a library was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The path it is looked up at, links not followed.
    pub(super) path: String,
    /// Whether that is a directory in which every program finds it.
    pub(super) common: bool,
}

/// A file that is loaded, and where those that loaded it say that libraries are.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// The path it was looked up at: glibc takes `$ORIGIN` from that, links not followed, but a program's from its real path.
    pub(super) path: String,
    /// What it asks for.
    pub(super) elf: Arc<Elf>,
    /// Directories of those that loaded it, nearest first.
    pub(super) inherited: Vec<String>,
}

/// Where more libraries are than in the directories that the loader knows by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// Nowhere.
    None,
    /// In directories that `ld.so.conf` names: of packages, before their `ldconfig` was run.
    Configured,
    /// Where `ld.so.cache` says: in a system as it starts.
    Cached,
}

/// Finds libraries in one [`Root`]; remembers what it read.
pub(super) struct Loader<'a> {
    pub(super) root: &'a dyn Root,
    /// Directories that are searched before any common one.
    first: Vec<String>,
    /// Those that the loader knows by itself.
    system: System,
    configured: Vec<String>,
    /// Paths of the loader's table by name; and where these are, with the real paths of their directories.
    cached: HashMap<String, Vec<String>>,
    listed: HashSet<String>,
    /// Libraries in common directories, by name and the kind of program.
    found: HashMap<(String, (u16, u8), Flavour), Option<String>>,
    parsed: HashMap<String, Option<Arc<Elf>>>,
    musl: HashMap<String, Vec<String>>,
}

impl<'a> Loader<'a> {
    /// A loader that looks in `first` before the directories that all programs have in common, and in `more` of the root's.
    ///
    /// # Errors
    /// The root's configuration cannot be read.
    pub(super) fn new(
        root: &'a dyn Root,
        first: &[String],
        more: More,
    ) -> Result<Self, LibraryError> {
        let mut loader = Self {
            root,
            first: first.to_vec(),
            system: System::of(root),
            configured: Vec::new(),
            cached: HashMap::new(),
            listed: HashSet::new(),
            found: HashMap::new(),
            parsed: HashMap::new(),
            musl: HashMap::new(),
        };
        match more {
            More::None => {}
            More::Configured => loader.configured = configured::glibc(root)?,
            More::Cached => {
                for (name, path) in cache::libraries(root)? {
                    let (dir, file) = path.rsplit_once('/').unwrap_or(("", &path));
                    if let Some(dir) = root.directory(dir) {
                        loader.listed.insert(format!("{dir}/{file}"));
                    }
                    loader.cached.entry(name).or_default().push(path);
                }
            }
        }
        Ok(loader)
    }

    /// Whether every program of some machine finds the library at `path`.
    pub(super) fn offers(&self, path: &str) -> bool {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.searches(dir) || self.listed.contains(path)
    }

    /// Whether every program of some machine finds libraries in `dir`.
    pub(super) fn searches(&self, dir: &str) -> bool {
        self.configured.iter().any(|known| known == dir) || self.system.searches(dir)
    }

    /// What the ELF file at this real path asks for; none when it is none.
    pub(super) fn elf(
        &mut self,
        path: &str,
        content: &Content,
    ) -> Result<Option<Arc<Elf>>, LibraryError> {
        if let Some(elf) = self.parsed.get(path) {
            return Ok(elf.clone());
        }
        let elf = elf::read(content).map_err(|cause| LibraryError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let elf = elf.map(Arc::new);
        self.parsed.insert(path.to_owned(), elf.clone());
        Ok(elf)
    }

    /// Where the loader finds `name` for `user`.
    ///
    /// # Errors
    /// The root's configuration cannot be read.
    pub(super) fn find(
        &mut self,
        name: &str,
        user: &User,
        flavour: &Flavour,
    ) -> Result<Option<Found>, LibraryError> {
        let machine = user.elf.machine;
        if name.contains('/') {
            let paths = self.expand(name, user);
            return Ok(self.first_fit(paths.into_iter(), machine));
        }
        let in_dir = |dir: &String| format!("{dir}/{name}");
        let (before, after) = self.own_dirs(user, flavour);
        let own: Vec<_> = before
            .iter()
            .chain(&self.first)
            .chain(&after)
            .map(in_dir)
            .collect();
        if let Some(found) = self.first_fit(own.into_iter(), machine) {
            return Ok(Some(found));
        }
        let key = (name.to_owned(), machine, flavour.clone());
        if !self.found.contains_key(&key) {
            let dirs = self.common_dirs(machine, flavour)?;
            let cached = self.cached.get(name).filter(|_| *flavour == Flavour::Glibc);
            let mut paths = cached.cloned().unwrap_or_default();
            paths.extend(dirs.iter().map(in_dir));
            let found = self.first_fit(paths.into_iter(), machine);
            self.found.insert(key.clone(), found.map(|it| it.path));
        }
        let path = self.found.get(&key).cloned().flatten();
        Ok(path.map(|path| Found { path, common: true }))
    }

    fn first_fit(
        &mut self,
        mut paths: impl Iterator<Item = String>,
        machine: (u16, u8),
    ) -> Option<Found> {
        let path = paths.find(|path| self.fits(path, machine))?;
        Some(Found {
            path,
            common: false,
        })
    }

    /// Whether a library of that machine is at `path`: the loader passes over others.
    fn fits(&mut self, path: &str, machine: (u16, u8)) -> bool {
        let Some((real, content)) = self.root.find(path) else {
            return false;
        };
        matches!(self.elf(&real, &content), Ok(Some(elf)) if elf.machine == machine)
    }

    /// The directories that all programs of this kind search.
    fn common_dirs(
        &mut self,
        machine: (u16, u8),
        flavour: &Flavour,
    ) -> Result<Vec<String>, LibraryError> {
        if let Flavour::Musl(loader) = flavour {
            if !self.musl.contains_key(loader) {
                let dirs = configured::musl(self.root, loader)?;
                let dirs = dirs.unwrap_or_else(|| MUSL_DIRS.map(str::to_owned).into());
                self.musl.insert(loader.clone(), dirs);
            }
            return Ok(self.musl.get(loader).cloned().unwrap_or_default());
        }
        let mut dirs = self.configured.clone();
        dirs.extend(self.system.directories(machine.0));
        Ok(dirs)
    }

    /// The directories that `user` and those that loaded it add: those before the directories that are searched first, and
    /// those after them. glibc passes over all `RPATH`s for a file with a `RUNPATH`, which holds for that file alone; musl
    /// makes no difference between the two.
    fn own_dirs(&self, user: &User, flavour: &Flavour) -> (Vec<String>, Vec<String>) {
        match flavour {
            Flavour::Glibc if !user.elf.runpath.is_empty() => {
                (Vec::new(), self.expand_all(&user.elf.runpath, user))
            }
            Flavour::Glibc => (self.heritage(user, flavour), Vec::new()),
            Flavour::Musl(_) => (Vec::new(), self.heritage(user, flavour)),
        }
    }

    /// The directories that what `user` loads inherits.
    pub(super) fn heritage(&self, user: &User, flavour: &Flavour) -> Vec<String> {
        let (elf, is_musl) = (&user.elf, *flavour != Flavour::Glibc);
        let own = match elf.runpath.is_empty() {
            true => elf.rpath.as_slice(),
            false if is_musl => elf.runpath.as_slice(),
            false => &[],
        };
        let own = self.expand_all(own, user);
        own.into_iter()
            .chain(user.inherited.iter().cloned())
            .collect()
    }

    fn expand_all(&self, dirs: &[String], user: &User) -> Vec<String> {
        dirs.iter().flat_map(|dir| self.expand(dir, user)).collect()
    }

    /// A directory of `RPATH` or `RUNPATH`, or a library's path, relative to the root: one for each thing that `$LIB` and
    /// `$PLATFORM` may stand for.
    fn expand(&self, text: &str, user: &User) -> Vec<String> {
        let origin = user.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let machine = user.elf.machine.0;
        let platforms = platforms(machine).iter().map(|it| (*it).to_owned());
        let mut found = vec![replaced(text, "ORIGIN", &format!("/{origin}"))];
        for (name, values) in [
            ("LIB", self.system.lib(machine)),
            ("PLATFORM", platforms.collect()),
        ] {
            let each = |text: &String| match replaced(text, name, "") == *text {
                true => vec![text.clone()],
                false => values.iter().map(|it| replaced(text, name, it)).collect(),
            };
            found = found.iter().flat_map(each).collect();
        }
        found.iter().map(|path| self.upwards(path)).collect()
    }

    /// The path with its `..` gone up. Where that crosses a link it leads elsewhere than its text: then the real directory.
    fn upwards(&self, path: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        let text = parts.join("/");
        if !path.split('/').any(|it| it == "..") {
            return text;
        }
        match (self.root.directory(path), self.root.directory(&text)) {
            (Some(real), of_text) if of_text.as_ref() != Some(&real) => real,
            _ => text,
        }
    }
}

/// `$NAME` and `${NAME}` replaced. A longer name that begins alike is another one.
fn replaced(text: &str, name: &str, value: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, token) = rest.split_at(at);
        out += before;
        let braced = format!("${{{name}}}");
        let plain = token[1..].strip_prefix(name);
        let plain =
            plain.filter(|it| !it.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        match (token.strip_prefix(&braced), plain) {
            (Some(after), _) | (None, Some(after)) => {
                out += value;
                rest = after;
            }
            (None, None) => {
                out.push('$');
                rest = &token[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Tree};
    use goblin::elf::header::EM_X86_64;

    fn user(path: &str, elf: Elf, inherited: &[&str]) -> User {
        User {
            path: path.into(),
            elf: Arc::new(elf),
            inherited: inherited.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn elf() -> Elf {
        Elf {
            machine: (EM_X86_64, 2),
            ..Elf::default()
        }
    }

    fn expanded(tree: &Tree, dir: &str, of: &str) -> Vec<String> {
        let loader = Loader::new(tree, &[], More::None).unwrap();
        loader.expand(dir, &user(of, elf(), &[]))
    }

    #[test]
    fn origin_is_the_directory_of_the_file_that_asks() {
        let tree = Tree::new();
        for (dir, of, wanted) in [
            ("$ORIGIN/../lib", "opt/agent/bin/agent", "opt/agent/lib"),
            ("${ORIGIN}", "opt/agent", "opt"),
            ("/usr/lib/systemd", "usr/bin/udevadm", "usr/lib/systemd"),
            ("$ORIGINAL/x", "opt/agent", "$ORIGINAL/x"),
        ] {
            assert_eq!(expanded(&tree, dir, of), [wanted]);
        }
    }

    #[test]
    fn going_up_behind_a_link_leads_to_where_the_link_leads() {
        let mut tree = Tree::new();
        tree.symlink(b"opt/now", Meta::root(0o777), b"v2/bin")
            .unwrap();
        for dir in ["opt/v2/bin", "opt/v2/lib", "opt/lib"] {
            Tree::directory(&mut tree, dir.as_bytes(), Meta::root(0o755)).unwrap();
        }
        assert_eq!(
            expanded(&tree, "$ORIGIN/../lib", "opt/now/x"),
            ["opt/v2/lib"]
        );
        assert_eq!(
            expanded(&tree, "$ORIGIN/../lib", "opt/v2/bin/x"),
            ["opt/v2/lib"]
        );
    }

    #[test]
    fn lib_and_platform_are_tried_for_all_that_they_may_be() {
        let tree = Tree::new();
        let dirs = expanded(&tree, "/opt/$LIB", "x");
        assert_eq!(dirs, ["opt/lib/x86_64-linux-gnu", "opt/lib64", "opt/lib"]);
        let dirs = expanded(&tree, "/opt/${PLATFORM}", "x");
        assert_eq!(dirs, ["opt/x86_64", "opt/haswell", "opt/xeon_phi"]);
    }

    #[test]
    fn a_runpath_keeps_inherited_rpaths_out_but_not_with_musl() {
        let tree = Tree::new();
        let loader = Loader::new(&tree, &[], More::None).unwrap();
        let dirs = |elf: Elf, flavour: &Flavour| {
            let (mut before, after) =
                loader.own_dirs(&user("usr/bin/x", elf, &["opt/old"]), flavour);
            before.extend(after);
            before
        };
        let mut elf = elf();
        elf.rpath = vec!["/opt/own".into()];
        assert_eq!(dirs(elf.clone(), &Flavour::Glibc), ["opt/own", "opt/old"]);
        elf.runpath = vec!["/opt/new".into()];
        assert_eq!(dirs(elf.clone(), &Flavour::Glibc), ["opt/new"]);
        let musl = Flavour::Musl("/lib/ld-musl-x86_64.so.1".into());
        assert_eq!(dirs(elf, &musl), ["opt/new", "opt/old"]);
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_expanded_to_one_below_the_root(text in "(?s).{0,80}") {
            for path in expanded(&Tree::new(), &text, "usr/bin/x") {
                let bad = |part: &str| part == ".." || part == ".";
                proptest::prop_assert!(!path.starts_with('/') && !path.split('/').any(bad));
            }
        }
    }
}
