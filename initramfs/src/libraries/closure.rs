//! All that one program needs to start.

use std::collections::{BTreeMap, BTreeSet};

use super::loader::{Loader, heritage};
use super::root::Root;
use super::{LibraryError, Missing, script_interpreter};
use crate::content::Content;

/// The files that `program` (a path relative to the root) needs to start, by the paths they are looked up at: itself, its
/// libraries and theirs, its loader, and for a script its interpreter. `dlopen` names libraries that it loads while it
/// runs, which its header does not tell.
///
/// # Errors
/// See [`LibraryError`]; a library that is not found is one, and says who needs it.
pub fn closure(
    root: &dyn Root,
    program: &str,
    dlopen: &[String],
) -> Result<BTreeSet<String>, LibraryError> {
    let mut search = Search {
        root,
        loader: Loader::new(root, &[]),
        found: BTreeSet::new(),
        missing: BTreeMap::new(),
        todo: vec![(relative(program), Vec::new())],
    };
    let mut first = true;
    while let Some((path, inherited)) = search.todo.pop() {
        if search.found.insert(path.clone()) {
            search.visit(&path, &inherited, if first { dlopen } else { &[] })?;
        }
        first = false;
    }
    if search.missing.is_empty() {
        return Ok(search.found);
    }
    Err(LibraryError::Missing(
        search.missing.into_values().collect(),
    ))
}

fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

struct Search<'a> {
    root: &'a dyn Root,
    loader: Loader<'a>,
    found: BTreeSet<String>,
    missing: BTreeMap<String, Missing>,
    /// Paths to look at, and the `RPATH` directories they inherit.
    todo: Vec<(String, Vec<String>)>,
}

impl Search<'_> {
    fn visit(
        &mut self,
        path: &str,
        inherited: &[String],
        more: &[String],
    ) -> Result<(), LibraryError> {
        let (real, content) = self
            .root
            .find(path)
            .ok_or_else(|| LibraryError::NoProgram(path.to_owned()))?;
        let Some(elf) = self.loader.elf(&real, &content)? else {
            return self.script(path, &content);
        };
        if let Some(interpreter) = &elf.interpreter {
            self.todo.push((relative(interpreter), Vec::new()));
        }
        let heritage = heritage(&elf, &real, inherited);
        for name in elf.needed.iter().chain(more) {
            match self.loader.find(name, &real, &elf, inherited) {
                Some(found) => self.todo.push((found.path, heritage.clone())),
                None => Missing::note(&mut self.missing, name, path),
            }
        }
        Ok(())
    }

    fn script(&mut self, path: &str, content: &Content) -> Result<(), LibraryError> {
        let interpreter = script_interpreter(path, content)?;
        self.todo.extend(
            interpreter
                .filter(|name| name.starts_with('/'))
                .map(|path| (relative(&path), Vec::new())),
        );
        Ok(())
    }
}
