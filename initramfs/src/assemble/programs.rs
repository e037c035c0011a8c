//! Programs with all they need, out of packages or of this machine; if wanted, in a directory of their own.
//!
//! An agent must not replace the base's libraries and should not depend on their versions. So it can bring its own, and
//! its loader, into a private directory; a script at the program's path starts it there.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::elf::{self, Elf};
use crate::filter::glob_set;
use crate::libraries::{self, Closure, LibraryError, Machine, Root, Use};
use crate::recipe::ProgramSource;
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
        self.take_programs(&Machine, &wanted).map(drop)
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
        let command = command(root, program, dir)?;
        let own = closure.by_rule.values().any(|it| *it == Use::CharacterSets);
        let variable = match own {
            true => format!("export GCONV_PATH=/{dir}/gconv\n"),
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

/// How a program in a directory of its own is started: by its own loader, and a script by its own interpreter.
fn command(root: &dyn Root, program: &str, dir: &str) -> Result<String, LibraryError> {
    let read = |path: &str| {
        let (path, content) = find(root, path)?;
        let elf = elf::read(&content).map_err(|cause| LibraryError::Read { path, cause })?;
        Ok::<_, LibraryError>((content, elf))
    };
    let own = format!("/{dir}/{}", name(program));
    // The machine's cache may name libraries of other versions.
    let by_loader = |elf: &Elf, file: &str| {
        elf.interpreter.as_ref().map_or(file.to_owned(), |loader| {
            let loader = name(loader);
            format!("/{dir}/lib/{loader} --inhibit-cache --library-path /{dir}/lib {file}")
        })
    };
    let (content, elf) = read(program)?;
    if let Some(elf) = elf {
        return Ok(by_loader(&elf, &own));
    }
    let Some(interpreter) = libraries::interpreter(program, &content)? else {
        return Ok(own);
    };
    let (_, elf) = read(interpreter.trim_start_matches('/'))?;
    let file = format!("/{dir}/lib/{}", name(&interpreter));
    let interpreter = elf.map_or(file.clone(), |elf| by_loader(&elf, &file));
    Ok(format!("{interpreter} {own}"))
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
