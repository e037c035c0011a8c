//! Programs with all they need, out of packages or of this machine; if wanted, in a directory of their own.
//!
//! An agent must not replace the base's libraries and should not depend on their versions. So it can bring its own, and
//! its loader, into a private directory; a script at the program's path starts it there.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::elf;
use crate::libraries::{self, Folder, LibraryError, Machine, Root};
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
        let mut taken = BTreeMap::new();
        for program in wanted.programs {
            let program = program.trim_start_matches('/');
            for path in libraries::closure(root, program, wanted.dlopen)? {
                let (real, content) = find(root, &path)?;
                let name = path.rsplit('/').next().unwrap_or(&path);
                let place = match private {
                    Some(dir) if path == program => format!("{dir}/{name}"),
                    Some(dir) => format!("{dir}/lib/{name}"),
                    None => path.clone(),
                };
                let entry = Entry {
                    meta: Meta::root(0o755),
                    node: Node::File(content),
                };
                taken.insert(
                    real.into_bytes(),
                    self.assembly.tree.insert(place.as_bytes(), entry)?,
                );
            }
            if let Some(dir) = private {
                self.launcher(root, program, dir)?;
            }
        }
        self.assembly.private.extend(private.map(str::to_owned));
        Ok(taken)
    }

    /// A script at the program's own path that starts it with its own loader and libraries.
    fn launcher(&mut self, root: &dyn Root, program: &str, dir: &str) -> Result<(), SourceError> {
        let (path, content) = find(root, program)?;
        let elf = elf::read(&content).map_err(|cause| LibraryError::Read { path, cause })?;
        let name = program.rsplit('/').next().unwrap_or(program);
        let command = match elf.and_then(|elf| elf.interpreter) {
            Some(loader) => {
                let loader = loader.rsplit('/').next().unwrap_or(&loader).to_owned();
                // The machine's cache may name libraries of other versions.
                format!(
                    "/{dir}/lib/{loader} --inhibit-cache --library-path /{dir}/lib /{dir}/{name}"
                )
            }
            None => format!("/{dir}/{name}"),
        };
        let script = format!(
            "#!/bin/sh\n# {name}, with the loader and libraries it came with.\nexec {command} \"$@\"\n"
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

fn find(root: &dyn Root, path: &str) -> Result<(String, std::sync::Arc<Content>), LibraryError> {
    root.find(path)
        .ok_or_else(|| LibraryError::NoProgram(path.to_owned()))
}
