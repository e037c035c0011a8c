//! Libraries and interpreters: what programs need to start, found the way the dynamic loader finds it (ld.so(8)).
//!
//! A [`Root`] is where files are looked up: the tree of a layer, or this machine. What is found is checked to be of the
//! same machine and class; what is not found is reported with those who need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::manifest::Needs;

use crate::content::Content;
use crate::elf::{self, Elf};
use crate::tree::{Node, Tree, display};

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

/// Directories of programs, in the order of the rescue's `PATH`.
const PROGRAM_DIRS: &[&str] = &[
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

/// Longest first line of a script that the kernel reads, in bytes (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const SCRIPT_LINE_BYTES_MAX: u64 = 256;

/// Where files are looked up.
pub trait Root {
    /// The regular file at `path` (relative to the root), all symbolic links followed, and its real path.
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)>;
    /// Directories named in `etc/ld.so.conf`, relative to the root.
    fn library_dirs(&self) -> Vec<String>;
}

impl Root for Tree {
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)> {
        let (real, entry) = Tree::find(self, path.as_bytes())?;
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

fn configured_dirs(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| line.starts_with('/'))
        .map(|line| line.trim_matches('/').to_owned())
        .collect()
}

/// Something needed that is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The library's name or the program's path.
    pub what: String,
    /// Whether it is a library.
    pub library: bool,
    /// A few of the files that need it.
    pub needed_by: BTreeSet<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by: Vec<_> = self.needed_by.iter().take(3).map(String::as_str).collect();
        let more = self.needed_by.len().saturating_sub(by.len());
        write!(f, "{} (needed by {}", self.what, by.join(", "))?;
        if more > 0 {
            write!(f, " and {more} more)")
        } else {
            f.write_str(")")
        }
    }
}

/// Why needs cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file that cannot be read, or is damaged ELF.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A program that is asked for and is not there.
    #[error("program {0} is not there")]
    NoProgram(String),
    /// Needs that cannot be met.
    #[error("{0} is missing: {list}", list = list(.1))]
    Missing(&'static str, Vec<Missing>),
}

fn list(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Finds libraries the way the loader does.
pub struct Loader<'a> {
    root: &'a dyn Root,
    dirs: Vec<String>,
    found: HashMap<(String, (u16, u8)), Option<String>>,
    parsed: HashMap<String, Option<Elf>>,
}

impl<'a> Loader<'a> {
    /// A loader that looks in `first`, then in the configured and the default directories of `root`.
    #[must_use]
    pub fn new(root: &'a dyn Root, first: &[String]) -> Self {
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

    /// What the ELF file at this real path asks for; none when it is none.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn elf(&mut self, path: &str, content: &Content) -> Result<Option<Elf>, LibraryError> {
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

    /// The path at which the loader finds `name` for the file at `user`, and whether that came from the directories
    /// that everyone searches.
    pub fn find(&mut self, name: &str, user: &str, elf: &Elf) -> Option<(String, bool)> {
        if name.contains('/') {
            let path = name.trim_start_matches('/');
            return self
                .fits(path, elf.machine)
                .then(|| (path.to_owned(), false));
        }
        let own = if elf.runpath.is_empty() {
            &elf.rpath
        } else {
            &elf.runpath
        };
        for dir in own {
            let path = format!("{}/{name}", expand(dir, user));
            if self.fits(&path, elf.machine) {
                return Some((path, false));
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
        self.found
            .get(&key)
            .cloned()
            .flatten()
            .map(|path| (path, true))
    }

    fn fits(&mut self, path: &str, machine: (u16, u8)) -> bool {
        let Some((real, content)) = self.root.find(path) else {
            return false;
        };
        matches!(self.elf(&real, &content), Ok(Some(elf)) if elf.machine == machine)
    }
}

/// A directory of `RPATH` or `RUNPATH` of the file at `user`, relative to the root.
fn expand(dir: &str, user: &str) -> String {
    let origin = user.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dir = dir
        .replace("${ORIGIN}", "$ORIGIN")
        .replace("$ORIGIN", &format!("/{origin}"));
    let dir = dir
        .replace("${LIB}", "lib/x86_64-linux-gnu")
        .replace("$LIB", "lib/x86_64-linux-gnu");
    // `..` here is of the loader's own text, where links do not matter in practice: Debian's are all of one level.
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The files that `program` (a path relative to the root) needs to start, by the paths they are looked up at: libraries
/// by name, its loader, and for a script its interpreter.
///
/// # Errors
/// See [`LibraryError`]; a library that is not found is one.
pub fn closure(
    root: &dyn Root,
    program: &str,
    first: &[String],
) -> Result<BTreeSet<String>, LibraryError> {
    let mut loader = Loader::new(root, first);
    let mut closure = BTreeSet::new();
    let mut missing = BTreeMap::new();
    let mut todo = vec![program.trim_start_matches('/').to_owned()];
    while let Some(path) = todo.pop() {
        if !closure.insert(path.clone()) {
            continue;
        }
        let (real, content) = root
            .find(&path)
            .ok_or_else(|| LibraryError::NoProgram(path.clone()))?;
        let Some(elf) = loader.elf(&real, &content)? else {
            todo.extend(
                script_interpreter(&path, &content)?.map(|i| i.trim_start_matches('/').to_owned()),
            );
            continue;
        };
        todo.extend(
            elf.interpreter
                .as_ref()
                .map(|path| path.trim_start_matches('/').to_owned()),
        );
        for name in &elf.needed {
            match loader.find(name, &real, &elf) {
                Some((path, _)) => todo.push(path),
                None => note(&mut missing, name, true, &path),
            }
        }
    }
    if missing.is_empty() {
        Ok(closure)
    } else {
        Err(LibraryError::Missing(
            "a library",
            missing.into_values().collect(),
        ))
    }
}

fn note(missing: &mut BTreeMap<String, Missing>, what: &str, library: bool, user: &str) {
    let entry = missing.entry(what.to_owned()).or_insert_with(|| Missing {
        what: what.to_owned(),
        library,
        needed_by: BTreeSet::new(),
    });
    entry.needed_by.insert(user.to_owned());
}

/// The interpreter in a script's first line: an absolute path, or a bare name after `env`.
fn script_interpreter(path: &str, content: &Content) -> Result<Option<String>, LibraryError> {
    let bytes = usize::try_from(content.len().min(SCRIPT_LINE_BYTES_MAX)).unwrap_or(0);
    let mut start = vec![0; bytes];
    let read = content
        .open()
        .and_then(|open| open.read_exact_at(&mut start, 0));
    read.map_err(|cause| LibraryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let Some(line) = start
        .strip_prefix(b"#!")
        .and_then(|rest| rest.split(|b| *b == b'\n').next())
    else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let Some(interpreter) = words.next() else {
        return Ok(None);
    };
    if interpreter.ends_with("/env") {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
        return Ok(name.map(str::to_owned));
    }
    Ok(Some(interpreter.to_owned()))
}

/// What a whole tree brings and needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Libraries in the directories that everyone searches, and programs.
    pub provides: Needs,
    /// Libraries and interpreters that its files need, wherever they come from.
    pub requires: Needs,
    /// Those that are not in the tree.
    pub missing: Vec<Missing>,
}

/// Looks at every program and library of `tree`. Files below a directory of `private` get their libraries from that
/// directory's `lib` first.
///
/// # Errors
/// A file that cannot be read, or is damaged ELF.
pub fn survey(tree: &Tree, private: &[String]) -> Result<Findings, LibraryError> {
    let mut survey = Survey {
        tree,
        common: Loader::new(tree, &[]),
        private: private
            .iter()
            .map(|dir| {
                (
                    format!("{dir}/"),
                    Loader::new(tree, &[format!("{dir}/lib")]),
                )
            })
            .collect(),
        needs: BTreeMap::new(),
        libraries: BTreeSet::new(),
        programs: BTreeSet::new(),
    };
    for (path, entry) in tree.iter() {
        match &entry.node {
            Node::File(content) => survey.file(&display(path), entry.meta.mode, content)?,
            Node::Symlink(_) => survey.link(path),
            _ => {}
        }
    }
    Ok(survey.finish())
}

struct Survey<'a> {
    tree: &'a Tree,
    common: Loader<'a>,
    private: Vec<(String, Loader<'a>)>,
    /// Needs by name: whether it is a library, whether it is there, and by whom.
    needs: BTreeMap<(bool, String), (bool, BTreeSet<String>)>,
    libraries: BTreeSet<String>,
    programs: BTreeSet<String>,
}

impl Survey<'_> {
    fn file(&mut self, path: &str, mode: u32, content: &Content) -> Result<(), LibraryError> {
        let executable = mode & 0o111 != 0;
        let name = path.rsplit('/').next().unwrap_or(path);
        let in_library_dir = self.is_library_dir(path);
        if executable {
            self.programs.insert(canonical(path));
        }
        if !executable && !name.contains(".so") {
            return Ok(());
        }
        let private = self
            .private
            .iter_mut()
            .find(|(prefix, _)| path.starts_with(prefix.as_str()));
        let is_private = private.is_some();
        let loader = private.map_or(&mut self.common, |(_, loader)| loader);
        let Some(elf) = loader.elf(path, content)? else {
            if executable && let Some(interpreter) = script_interpreter(path, content)? {
                self.need_program(&interpreter, path);
            }
            return Ok(());
        };
        let mut needs = Vec::new();
        for needed in &elf.needed {
            match loader.find(needed, path, &elf) {
                Some((_, true)) if is_private => {}
                Some((_, false)) => {}
                found => needs.push((needed.clone(), found.is_some())),
            }
        }
        for (name, found) in needs {
            let need = self
                .needs
                .entry((true, name))
                .or_insert((found, BTreeSet::new()));
            need.1.insert(path.to_owned());
        }
        // A private program is started through its own loader.
        if let Some(interpreter) = elf.interpreter.filter(|_| !is_private) {
            self.need_program(&interpreter, path);
        }
        if in_library_dir {
            self.libraries.extend(elf.soname);
            self.libraries.insert(name.to_owned());
        }
        Ok(())
    }

    /// A link in a directory of libraries or programs is another name for what it leads to.
    fn link(&mut self, path: &[u8]) {
        let path = display(path);
        let Some((real, entry)) = self.tree.find(path.as_bytes()) else {
            return;
        };
        let Node::File(content) = &entry.node else {
            return;
        };
        let name = path.rsplit('/').next().unwrap_or(&path);
        let is_elf = || {
            matches!(
                self.common.parsed.get(&display(&real)),
                Some(Some(_)) | None
            )
        };
        if name.contains(".so") && self.is_library_dir(&path) && is_elf() && !content.is_empty() {
            self.libraries.insert(name.to_owned());
        }
        if entry.meta.mode & 0o111 != 0 {
            self.programs.insert(canonical(&path));
        }
    }

    fn is_library_dir(&self, path: &str) -> bool {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.common.dirs.iter().any(|known| known == dir)
    }

    fn need_program(&mut self, program: &str, user: &str) {
        let found = if program.starts_with('/') {
            Root::find(self.tree, program.trim_start_matches('/')).is_some()
        } else {
            PROGRAM_DIRS
                .iter()
                .any(|dir| Root::find(self.tree, &format!("{dir}/{program}")).is_some())
        };
        let name = if program.starts_with('/') {
            canonical(program)
        } else {
            program.to_owned()
        };
        let need = self
            .needs
            .entry((false, name))
            .or_insert((found, BTreeSet::new()));
        need.1.insert(user.to_owned());
    }

    fn finish(self) -> Findings {
        let mut findings = Findings {
            provides: Needs {
                libraries: self.libraries.into_iter().collect(),
                programs: self.programs.into_iter().collect(),
            },
            ..Findings::default()
        };
        for ((library, name), (found, needed_by)) in self.needs {
            let list = if library {
                &mut findings.requires.libraries
            } else {
                &mut findings.requires.programs
            };
            list.push(name.clone());
            if !found {
                findings.missing.push(Missing {
                    what: name,
                    library,
                    needed_by,
                });
            }
        }
        findings
    }
}

/// An absolute path with the directories that a merged `/usr` has: `/bin/sh` and `/usr/bin/sh` are one program there, and
/// manifests name it once.
#[must_use]
pub fn canonical(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let merged = ["bin/", "sbin/", "lib/", "lib64/"]
        .iter()
        .any(|dir| path.starts_with(dir));
    if merged {
        format!("/usr/{path}")
    } else {
        format!("/{path}")
    }
}
