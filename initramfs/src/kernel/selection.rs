//! The selection of modules, with all that they depend on.

use std::collections::BTreeSet;

use super::{Kernel, KernelError};
use crate::filter::glob_set;

/// Which modules to take. What they depend on comes with them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of modules (`loop`), or globs over their paths below `kernel/`, which have a slash (`drivers/net/ethernet`,
    /// all below it). Each must name something.
    pub modules: Vec<String>,
    /// Globs over paths below `kernel/`: what they match is taken only when something else depends on it.
    pub without: Vec<String>,
}

impl Kernel {
    /// Names of the selected modules and all that they depend on, softly too.
    ///
    /// # Errors
    /// A line of the selection that names nothing, or a bad glob.
    pub fn select(&self, selection: &Selection) -> Result<BTreeSet<String>, KernelError> {
        let without = glob_set(&selection.without)?;
        let mut todo = Vec::new();
        for line in &selection.modules {
            let names = self.named(line)?;
            if names.is_empty() && !self.builtin.contains(&line.replace('-', "_")) {
                return Err(KernelError::Unknown {
                    release: self.release.clone(),
                    name: line.clone(),
                });
            }
            todo.extend(
                names
                    .into_iter()
                    .filter(|name| !without.is_match(self.place(name))),
            );
        }
        let mut selected = BTreeSet::new();
        while let Some(name) = todo.pop() {
            let Some(module) = self.modules.get(&name) else {
                continue;
            }; // built in
            if !selected.insert(name) {
                continue;
            }
            todo.extend(
                module
                    .info
                    .depends
                    .iter()
                    .map(|name| name.replace('-', "_")),
            );
            for soft in &module.info.soft {
                let name = soft.replace('-', "_");
                let by_alias = self.aliases.get(&name).cloned().unwrap_or_default();
                todo.extend(if self.modules.contains_key(&name) {
                    vec![name]
                } else {
                    by_alias
                });
            }
        }
        Ok(selected)
    }

    /// The modules that a line of a selection names.
    fn named(&self, line: &str) -> Result<Vec<String>, KernelError> {
        if !line.contains('/') {
            let name = line.replace('-', "_");
            return Ok(self
                .modules
                .contains_key(&name)
                .then_some(name)
                .into_iter()
                .collect());
        }
        let globs = glob_set(&[line.to_owned(), format!("{line}.ko")])?;
        Ok(self
            .modules
            .keys()
            .filter(|name| globs.is_match(self.place(name)))
            .cloned()
            .collect())
    }

    /// Path of a module below `kernel/`, without the ending of its compression.
    fn place(&self, name: &str) -> &str {
        let path = self
            .modules
            .get(name)
            .map_or("", |module| module.path.as_str());
        let path = path.strip_prefix("kernel/").unwrap_or(path);
        path.find(".ko").map_or(path, |at| &path[..at + 3])
    }
}
