//! Programs with all they need, out of packages or of this machine; if wanted, in a directory of their own.
//!
//! An agent must not replace the base's libraries and should not depend on their versions. So it can bring its own, and
//! its loader, into a private directory; a script at the program's path starts it there.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::elf::{self, Elf};
use crate::filter::glob_set;
use crate::libraries::{self, Closure, FirstLine, Folder, LibraryError, Machine, Root, Use};
use crate::recipe::{ProgramSource, Recipe};
use crate::tree::{Entry, Meta, Node};

use super::{Assembler, SourceError};

/// Which programs to take, and how.
pub(super) struct Wanted<'a> {
    /// Absolute paths.
    pub(super) programs: &'a [String],
    /// Libraries that they load while they run.
    pub(super) dlopen: &'a [String],
    /// The directory of their own.
    pub(super) private: Option<&'a str>,
}

impl Assembler<'_> {
    pub(super) fn programs_of_machine(
        &mut self,
        source: &ProgramSource,
    ) -> Result<(), SourceError> {
        let wanted = Wanted {
            programs: &source.programs,
            dlopen: &source.dlopen,
            private: source.private.as_deref(),
        };
        let root = root_of(self.recipe, source)?;
        self.take_programs(&*root, &wanted).map(drop)
    }

    /// Takes programs and what they need out of `root`; gives real paths there and in the tree.
    pub(super) fn take_programs(
        &mut self,
        root: &dyn Root,
        wanted: &Wanted<'_>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, SourceError> {
        let private = wanted.private.map(|dir| dir.trim_matches('/'));
        let earlier = glob_set(&self.recipe.from_earlier_layers)?;
        let excused = |what: &str| earlier.is_match(what.trim_start_matches('/'));
        let mut taken = BTreeMap::new();
        for program in wanted.programs {
            let program = program.trim_start_matches('/');
            let closure = libraries::closure(root, program, wanted.dlopen, &excused)?;
            for path in &closure.loaded {
                let place = match private {
                    Some(dir) if path == program => format!("{dir}/{}", name(path)),
                    Some(dir) => format!("{dir}/lib/{}", name(path)),
                    None if path == program => self.place_of_program(root, path)?,
                    None => path.clone(),
                };
                self.take(root, path, &place, 0o755, &mut taken)?;
            }
            for (path, what) in &closure.by_rule {
                let (place, mode) = match (private, what) {
                    // At its own path is the base's.
                    (Some(_), Use::Fixed) => continue,
                    (Some(dir), Use::Library) => (format!("{dir}/lib/{}", name(path)), 0o755),
                    (Some(dir), Use::CharacterSets) => (character_sets(dir, path), 0o644),
                    (None, Use::Library) => (path.clone(), 0o755),
                    _ => (path.clone(), 0o644),
                };
                self.take(root, path, &place, mode, &mut taken)?;
            }
            if let Some(dir) = private {
                self.launcher(root, program, dir, &closure)?;
            }
        }
        self.assembly.private.extend(private.map(str::to_owned));
        Ok(taken)
    }

    /// Puts the file at `path` of `root` to `place`.
    fn take(
        &mut self,
        root: &dyn Root,
        path: &str,
        place: &str,
        mode: u32,
        taken: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), SourceError> {
        let (real, content) = find(root, path)?;
        let entry = Entry {
            meta: Meta::root(mode),
            node: Node::File(content),
        };
        let place = self.assembly.tree.insert(place.as_bytes(), entry)?;
        taken.insert(real.into_bytes(), place);
        Ok(())
    }

    /// Where a program goes that stays where it is: a link's target, with the link, when it finds libraries beside itself, and
    /// the path that it is asked for by otherwise.
    fn place_of_program(&mut self, root: &dyn Root, path: &str) -> Result<String, SourceError> {
        let (real, content) = find(root, path)?;
        let elf = elf::read(&content).map_err(|cause| LibraryError::Read {
            path: real.clone(),
            cause,
        })?;
        let beside = |it: &Elf| {
            it.rpath
                .iter()
                .chain(&it.runpath)
                .any(|dir| dir.contains("ORIGIN"))
        };
        let folder = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let is_there = root
            .directory(folder)
            .is_some_and(|dir| real == format!("{dir}/{}", name(path)));
        if is_there || !elf.is_some_and(|it| beside(&it)) {
            return Ok(path.to_owned());
        }
        let target = format!("/{real}");
        self.assembly
            .tree
            .symlink(path.as_bytes(), Meta::root(0o777), target.as_bytes())?;
        Ok(real)
    }

    /// A script at the program's own path that starts it with its own loader and libraries.
    fn launcher(
        &mut self,
        root: &dyn Root,
        program: &str,
        dir: &str,
        closure: &Closure,
    ) -> Result<(), SourceError> {
        let place = format!("/{dir}/{}", name(program));
        let command = Command { root, dir }.of(program, &place, 0)?;
        let own = closure.by_rule.values().any(|it| *it == Use::CharacterSets);
        let variable = match own {
            true => format!("export GCONV_PATH={}\n", quoted(&format!("/{dir}/gconv"))),
            false => String::new(),
        };
        let name = name(program);
        let script = format!(
            "#!/bin/sh\n# {name}, with the loader and libraries it came with.\n{variable}exec {command} \"$@\"\n"
        );
        let content = Content::from_bytes(script.into_bytes());
        self.assembly
            .tree
            .file(program.as_bytes(), Meta::root(0o755), content)?;
        Ok(())
    }
}

/// Where the programs of a source are looked up.
///
/// # Errors
/// Its folder cannot be read.
pub(super) fn root_of(
    recipe: &Recipe,
    source: &ProgramSource,
) -> Result<Box<dyn Root>, SourceError> {
    let Some(root) = &source.root else {
        return Ok(Box::new(Machine));
    };
    let path = recipe.beside(root);
    match Folder::open(&path) {
        Ok(folder) => Ok(Box::new(folder)),
        Err(cause) => Err(SourceError::Read { path, cause }),
    }
}

/// Most interpreters of scripts that are scripts themselves, one of the other: as many as Linux starts (fs/exec.c).
const INTERPRETERS_MAX: usize = 5;

/// How the programs of a directory of their own are started: by their own loader, and scripts by their own interpreters.
struct Command<'a> {
    root: &'a dyn Root,
    dir: &'a str,
}

impl Command<'_> {
    /// Words for a shell that start the file at `path` of the root, which lies in `place`.
    fn of(&self, path: &str, place: &str, depth: usize) -> Result<String, LibraryError> {
        let (real, content) = find(self.root, path)?;
        let elf = elf::read(&content).map_err(|cause| LibraryError::Read { path: real, cause })?;
        let file = quoted(place);
        if let Some(elf) = elf {
            return Ok(self.by_loader(&elf, file));
        }
        let line = libraries::first_line(path, &content)?;
        match line.filter(|_| depth < INTERPRETERS_MAX) {
            Some(line) => self.by_interpreter(&line, &file, depth),
            None => Ok(file),
        }
    }

    fn by_loader(&self, elf: &Elf, file: String) -> String {
        let Some(loader) = &elf.interpreter else {
            return file;
        };
        let lib = format!("/{}/lib", self.dir);
        let own = quoted(&format!("{lib}/{}", name(loader)));
        // The machine's cache may name libraries of other versions.
        format!(
            "{own} --inhibit-cache --library-path {} {file}",
            quoted(&lib)
        )
    }

    /// What `env` starts comes with the script as well, and is put in the place of its name.
    fn by_interpreter(
        &self,
        line: &FirstLine,
        file: &str,
        depth: usize,
    ) -> Result<String, LibraryError> {
        let mut words = vec![self.own(&line.interpreter, depth)?];
        for (at, argument) in line.arguments.iter().enumerate() {
            words.push(match line.started == Some(at) {
                true => self.own(argument, depth)?,
                false => quoted(argument),
            });
        }
        words.push(file.to_owned());
        Ok(words.join(" "))
    }

    /// Words that start an interpreter; one that comes from an earlier layer as it is called.
    fn own(&self, interpreter: &str, depth: usize) -> Result<String, LibraryError> {
        match libraries::program(self.root, interpreter) {
            Some(path) => {
                let place = format!("/{}/lib/{}", self.dir, name(&path));
                self.of(&path, &place, depth + 1)
            }
            None => Ok(quoted(interpreter)),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// The place of a file of the C library's folder of character sets in a directory of its own.
fn character_sets(dir: &str, path: &str) -> String {
    let inside = path
        .rsplit_once("/gconv/")
        .map_or(path, |(_, inside)| inside);
    format!("{dir}/gconv/{inside}")
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn find(root: &dyn Root, path: &str) -> Result<(String, std::sync::Arc<Content>), LibraryError> {
    root.find(path)
        .ok_or_else(|| LibraryError::NoProgram(path.to_owned()))
}
