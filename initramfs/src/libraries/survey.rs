//! What a whole tree brings and needs.

use std::collections::{BTreeMap, BTreeSet};

use towline_contract::manifest::Needs;

use super::loader::Loader;
use super::root::Root;
use super::{LibraryError, Missing, canonical, script_interpreter};
use crate::content::Content;
use crate::elf::Elf;
use crate::tree::{Node, Tree, display};

/// Directories of programs, in the order of the rescue's `PATH`.
const PROGRAM_DIRS: &[&str] = &[
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

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
    let private = private.iter().map(|dir| {
        (
            format!("{dir}/"),
            Loader::new(tree, &[format!("{dir}/lib")]),
        )
    });
    let mut survey = Survey {
        tree,
        common: Loader::new(tree, &[]),
        private: private.collect(),
        needs: BTreeMap::new(),
        libraries: BTreeSet::new(),
        programs: BTreeSet::new(),
    };
    for (path, entry) in tree.iter() {
        match &entry.node {
            Node::File(content) => survey.file(&display(path), entry.meta.mode, content)?,
            Node::Symlink(_) => survey.link(path)?,
            _ => {}
        }
    }
    Ok(survey.finish())
}

/// One need: whether it is there, and who has it.
#[derive(Default)]
struct Need {
    met: bool,
    by: BTreeSet<String>,
}

struct Survey<'a> {
    tree: &'a Tree,
    common: Loader<'a>,
    private: Vec<(String, Loader<'a>)>,
    /// Needs by whether they are libraries, and name.
    needs: BTreeMap<(bool, String), Need>,
    libraries: BTreeSet<String>,
    programs: BTreeSet<String>,
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
        let private = self
            .private
            .iter()
            .position(|(prefix, _)| path.starts_with(prefix.as_str()));
        let loader = private.map_or(&mut self.common, |index| &mut self.private[index].1);
        match loader.elf(path, content)? {
            Some(elf) => {
                if self.common.searches(dir) {
                    self.libraries.extend(elf.soname.clone());
                    self.libraries.insert(name.to_owned());
                }
                self.binary(path, &elf, private);
            }
            None if executable => {
                if let Some(interpreter) = script_interpreter(path, content)? {
                    self.need_program(&interpreter, path);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn binary(&mut self, path: &str, elf: &Elf, private: Option<usize>) {
        for name in &elf.needed {
            let loader = private.map_or(&mut self.common, |index| &mut self.private[index].1);
            let found = loader.find(name, path, elf, &[]);
            // What a file finds in a place of its own is no matter of the chain.
            if found
                .as_ref()
                .is_some_and(|found| !found.common || private.is_some())
            {
                continue;
            }
            self.need((true, name.clone()), found.is_some(), path);
        }
        // A private program is started through its own loader.
        if let Some(interpreter) = elf.interpreter.as_ref().filter(|_| private.is_none()) {
            self.need_program(interpreter, path);
        }
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
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let is_library = name.contains(".so") && self.common.searches(dir);
        if is_library && self.common.elf(&display(&real), content)?.is_some() {
            self.libraries.insert(name.to_owned());
        }
        if entry.meta.mode & 0o111 != 0 {
            self.programs.insert(canonical(&path));
        }
        Ok(())
    }

    fn need_program(&mut self, program: &str, user: &str) {
        let exists = |path: &str| Root::find(self.tree, path.trim_start_matches('/')).is_some();
        let (name, met) = if program.starts_with('/') {
            (canonical(program), exists(program))
        } else {
            (
                program.to_owned(),
                PROGRAM_DIRS
                    .iter()
                    .any(|dir| exists(&format!("{dir}/{program}"))),
            )
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
                findings.missing.push(Missing {
                    what,
                    library,
                    needed_by: need.by,
                });
            }
        }
        findings
    }
}
