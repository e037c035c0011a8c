//! All that one program needs to start and to work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::interpreter::interpreters;
use super::loader::{Flavour, Loader, More};
use super::root::Root;
use super::rules::{self, Wanted};
use super::walk::{Start, Walk, walk};
use super::{LibraryError, Missing, program};
use crate::elf::Elf;

/// Paths of what a program needs, relative to the root, as they are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// Itself, what its loader loads, that loader, and for a script its interpreters with theirs.
    pub loaded: BTreeSet<String>,
    /// What it finds by itself while it runs: modules for names of users and hosts, for character sets, and for PAM.
    pub by_rule: BTreeMap<String, Use>,
}

/// What a file of [`Closure::by_rule`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A library: found as others are.
    Library,
    /// Of the C library's folder of character sets.
    CharacterSets,
    /// Found at its own path, and nowhere else.
    Fixed,
}

/// What `program` (a path relative to the root) needs. `dlopen` names libraries that it loads while it runs, which its header
/// does not tell. What is missing and `excused`, by its name or path, comes from elsewhere.
///
/// # Errors
/// See [`LibraryError`]; something that is not found is one, and says who needs it.
pub fn closure(
    root: &dyn Root,
    program: &str,
    dlopen: &[String],
    excused: &dyn Fn(&str) -> bool,
) -> Result<Closure, LibraryError> {
    Search::new(root, true)?.run(program, dlopen, excused)
}

/// The same without what it finds by itself: what `ldd` tells of a program.
///
/// # Errors
/// As [`closure`].
pub fn loaded(
    root: &dyn Root,
    program: &str,
    dlopen: &[String],
) -> Result<BTreeSet<String>, LibraryError> {
    let found = Search::new(root, false)?.run(program, dlopen, &|_| false)?;
    Ok(found.loaded)
}

struct Search<'a> {
    root: &'a dyn Root,
    loader: Loader<'a>,
    rules: bool,
    closure: Closure,
    missing: BTreeMap<String, Missing>,
    /// Programs to look at, and who starts them.
    todo: Vec<(String, String)>,
}

impl<'a> Search<'a> {
    fn new(root: &'a dyn Root, rules: bool) -> Result<Self, LibraryError> {
        Ok(Self {
            root,
            loader: Loader::new(root, &[], More::Configured)?,
            rules,
            closure: Closure::default(),
            missing: BTreeMap::new(),
            todo: Vec::new(),
        })
    }

    fn run(
        mut self,
        program: &str,
        dlopen: &[String],
        excused: &dyn Fn(&str) -> bool,
    ) -> Result<Closure, LibraryError> {
        let path = relative(program);
        if self.root.find(path).is_none() {
            return Err(LibraryError::NoProgram(path.to_owned()));
        }
        self.visit(path, "", dlopen)?;
        while let Some((path, user)) = self.todo.pop() {
            if !self.closure.loaded.contains(&path) {
                self.visit(&path, &user, &[])?;
            }
        }
        self.missing.retain(|name, _| !excused(name));
        if self.missing.is_empty() {
            return Ok(self.closure);
        }
        Err(LibraryError::Missing(self.missing.into_values().collect()))
    }

    fn visit(&mut self, path: &str, user: &str, dlopen: &[String]) -> Result<(), LibraryError> {
        let Some((real, content)) = self.root.find(path) else {
            Missing::note(&mut self.missing, &format!("/{path}"), false, user);
            return Ok(());
        };
        self.closure.loaded.insert(path.to_owned());
        match self.loader.elf(&real, &content)? {
            Some(elf) => self.binary(path, &real, &elf, dlopen),
            None => {
                for interpreter in interpreters(path, &content)? {
                    self.program(&interpreter, path);
                }
                Ok(())
            }
        }
    }

    fn binary(
        &mut self,
        path: &str,
        real: &str,
        elf: &Arc<Elf>,
        dlopen: &[String],
    ) -> Result<(), LibraryError> {
        if let Some(interpreter) = &elf.interpreter {
            self.todo
                .push((relative(interpreter).to_owned(), path.to_owned()));
        }
        let flavour = Flavour::of(elf);
        let start = Start {
            path,
            real,
            elf: Arc::clone(elf),
            flavour: &flavour,
            dlopen,
        };
        let walk = walk(&mut self.loader, &start)?;
        self.note_missing(&walk);
        let files = walk.files.iter().map(|(path, _)| path.clone());
        self.closure.loaded.extend(files);
        if self.rules && flavour == Flavour::Glibc {
            for wanted in rules::wanted(&mut self.loader, path, &walk)? {
                self.by_rule(wanted)?;
            }
        }
        Ok(())
    }

    fn note_missing(&mut self, walk: &Walk) {
        let asks = walk.asks.iter();
        for ask in asks.filter(|it| it.found.is_none() && !it.optional) {
            Missing::note(&mut self.missing, &ask.name, true, &ask.user);
        }
    }

    /// A program by its path, or by its name.
    fn program(&mut self, name: &str, user: &str) {
        match program(self.root, name) {
            Some(path) => self.todo.push((path, user.to_owned())),
            None => Missing::note(&mut self.missing, name, false, user),
        }
    }

    fn by_rule(&mut self, wanted: Wanted) -> Result<(), LibraryError> {
        let (path, what) = match wanted {
            Wanted::Missing { what, needed_by } => {
                Missing::note(&mut self.missing, &what, true, &needed_by);
                return Ok(());
            }
            Wanted::File { path, what } => (path, what),
        };
        if self.closure.loaded.contains(&path) || self.closure.by_rule.contains_key(&path) {
            return Ok(());
        }
        let Some((real, content)) = self.root.find(&path) else {
            return Ok(()); // what is wanted has just been found
        };
        self.closure.by_rule.insert(path.clone(), what);
        let Some(elf) = self.loader.elf(&real, &content)? else {
            return Ok(());
        };
        let start = Start {
            path: &path,
            real: &real,
            elf,
            flavour: &Flavour::Glibc,
            dlopen: &[],
        };
        let walk = walk(&mut self.loader, &start)?;
        self.note_missing(&walk);
        for (library, _) in walk.files {
            if !self.closure.loaded.contains(&library) {
                let rules = &mut self.closure.by_rule;
                rules.entry(library).or_insert(Use::Library);
            }
        }
        Ok(())
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
