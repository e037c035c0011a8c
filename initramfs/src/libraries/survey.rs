//! What a whole tree brings and needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use towline_contract::manifest::Needs;

use super::interpreter::interpreters;
use super::loader::{Flavour, Loader, More};
use super::root::Root;
use super::walk::{Start, Walk, walk};
use super::{LibraryError, Missing, canonical, program};
use crate::content::Content;
use crate::elf::Elf;
use crate::rear::required_programs;
use crate::tree::{Node, Tree, display};

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
    let mut loaders = vec![(String::new(), Loader::new(tree, &[], More::Cached)?)];
    for dir in private {
        let first = [format!("{dir}/lib")];
        // It is started without the loader's table.
        loaders.push((format!("{dir}/"), Loader::new(tree, &first, More::None)?));
    }
    let mut survey = Survey {
        tree,
        loaders,
        needs: BTreeMap::new(),
        libraries: BTreeSet::new(),
        programs: BTreeSet::new(),
        alone: Vec::new(),
        walked: BTreeSet::new(),
        own: BTreeSet::new(),
        paths: BTreeMap::new(),
    };
    for (path, entry) in tree.iter() {
        match &entry.node {
            Node::File(content) => survey.file(&display(path), entry.meta.mode, content)?,
            Node::Symlink(_) => survey.link(path)?,
            _ => {}
        }
    }
    survey.those_alone()?;
    for (program, file) in required_programs(tree)? {
        survey.need_program(&program, &file);
    }
    Ok(survey.finish())
}

/// One need: whether it is there, and who has it.
#[derive(Default)]
struct Need {
    met: bool,
    by: BTreeSet<String>,
}

/// A library or program that no other file of the tree loads.
struct Alone {
    path: String,
    elf: Arc<Elf>,
    loader: usize,
}

struct Survey<'a> {
    tree: &'a Tree,
    /// Loaders by the directory that they are for; the first is everyone's.
    loaders: Vec<(String, Loader<'a>)>,
    /// Needs by whether they are libraries, and name.
    needs: BTreeMap<(bool, String), Need>,
    libraries: BTreeSet<String>,
    programs: BTreeSet<String>,
    /// Libraries, until it is known that a program loads them.
    alone: Vec<Alone>,
    /// Real paths of files that a program loads.
    walked: BTreeSet<String>,
    /// Names of libraries that programs find in places of their own.
    own: BTreeSet<String>,
    /// Where libraries are, by name.
    paths: BTreeMap<String, String>,
}

impl Survey<'_> {
    fn file(&mut self, path: &str, mode: u32, content: &Content) -> Result<(), LibraryError> {
        let executable = mode & 0o111 != 0;
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if executable {
            self.programs.insert(canonical(path));
        }
        if !executable && !name.contains(".so") {
            return Ok(());
        }
        let loaders = self.loaders.iter().skip(1);
        let mut private = loaders.map(|(prefix, _)| path.starts_with(prefix.as_str()));
        let loader = private.position(|is| is).map_or(0, |index| index + 1);
        match self.loaders[loader].1.elf(path, content)? {
            Some(elf) => {
                if name.contains(".so") {
                    self.paths.insert(name.to_owned(), path.to_owned());
                    if self.loaders[0].1.offers(path) {
                        self.libraries.insert(name.to_owned());
                    }
                }
                // A private program is started through its own loader.
                if let Some(interpreter) = elf.interpreter.as_ref().filter(|_| loader == 0) {
                    self.need_program(interpreter, path);
                }
                let path = path.to_owned();
                let alone = Alone { path, elf, loader };
                match alone.elf.interpreter {
                    Some(_) => drop(self.binary(&alone)?),
                    None => self.alone.push(alone),
                }
            }
            None if executable => {
                for interpreter in interpreters(path, content)? {
                    if !self.brings(loader, dir, &interpreter) {
                        self.need_program(&interpreter, path);
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Whether a script in a directory of its own is started there by an interpreter of its own (see `assemble`).
    fn brings(&self, loader: usize, dir: &str, interpreter: &str) -> bool {
        let prefix = &self.loaders[loader].0;
        let lib = format!("{prefix}lib");
        let is_started = loader > 0 && (dir == lib || dir == prefix.trim_end_matches('/'));
        let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
        is_started && Root::find(self.tree, &format!("{lib}/{name}")).is_some()
    }

    /// Looks at all that a file loads.
    fn binary(&mut self, file: &Alone) -> Result<Walk, LibraryError> {
        let flavour = Flavour::of(&file.elf);
        let start = Start {
            path: &file.path,
            real: &file.path,
            elf: Arc::clone(&file.elf),
            flavour: &flavour,
            dlopen: &[],
        };
        let walk = walk(&mut self.loaders[file.loader].1, &start)?;
        let is_program = file.elf.interpreter.is_some();
        for ask in walk.asks.iter().filter(|it| !it.optional) {
            // What a file finds in a place of its own is no matter of the chain.
            match &ask.found {
                Some(found) if !found.common || file.loader > 0 => {
                    self.own.extend(is_program.then(|| ask.name.clone()));
                }
                None if !is_program && self.own.contains(&ask.name) => {}
                found => self.need((true, ask.name.clone()), found.is_some(), &ask.user),
            }
        }
        let files = walk.files.iter().map(|(_, real)| real.clone());
        self.walked.extend(files.filter(|_| is_program));
        Ok(walk)
    }

    /// Libraries that no program of the tree loads: what they need must be there for whoever does, or be something that a
    /// program has loaded before, as plug-ins count on.
    fn those_alone(&mut self) -> Result<(), LibraryError> {
        for file in std::mem::take(&mut self.alone) {
            if !self.walked.contains(&file.path) {
                self.binary(&file)?;
            }
        }
        Ok(())
    }

    /// A link in a directory of libraries or programs is another name for what it leads to.
    fn link(&mut self, path: &[u8]) -> Result<(), LibraryError> {
        let Some((real, entry)) = self.tree.find(path) else {
            return Ok(());
        };
        let Node::File(content) = &entry.node else {
            return Ok(());
        };
        let path = display(path);
        let name = path.rsplit('/').next().unwrap_or(&path);
        let common = &mut self.loaders[0].1;
        let is_library = name.contains(".so") && common.offers(&path);
        if is_library && common.elf(&display(&real), content)?.is_some() {
            self.libraries.insert(name.to_owned());
        }
        if entry.meta.mode & 0o111 != 0 {
            self.programs.insert(canonical(&path));
        }
        Ok(())
    }

    fn need_program(&mut self, name: &str, user: &str) {
        let met = program(self.tree, name).is_some();
        let name = match name.starts_with('/') {
            true => canonical(name),
            false => name.to_owned(),
        };
        self.need((false, name), met, user);
    }

    /// One that is met for some and not for others (of another machine, say) is not met.
    fn need(&mut self, key: (bool, String), met: bool, user: &str) {
        let need = self.needs.entry(key).or_insert_with(|| Need {
            met: true,
            by: BTreeSet::new(),
        });
        if met && need.met {
            return;
        }
        need.met = false;
        if !met {
            need.by.insert(user.to_owned());
        }
    }

    fn finish(self) -> Findings {
        let mut findings = Findings {
            provides: Needs {
                libraries: self.libraries.into_iter().collect(),
                programs: self.programs.into_iter().collect(),
                modules: Vec::new(),
            },
            ..Findings::default()
        };
        for ((library, what), need) in self.needs {
            let list = if library {
                &mut findings.requires.libraries
            } else {
                &mut findings.requires.programs
            };
            list.push(what.clone());
            if !need.met {
                let elsewhere = self.paths.get(&what).filter(|_| library);
                findings.missing.push(Missing {
                    elsewhere: elsewhere.cloned(),
                    what,
                    library,
                    needed_by: need.by,
                });
            }
        }
        findings
    }
}
