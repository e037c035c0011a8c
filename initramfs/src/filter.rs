//! Include and exclude globs over paths of the tree.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Which paths to keep: all, less what `exclude` matches, but what `include` matches in any case.
///
/// `*` does not cross `/`, `**` does; a pattern that matches a directory speaks for all in it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: GlobSet,
    exclude: GlobSet,
    only_included: bool,
}

impl Filter {
    /// A filter from lists of globs, relative to the root of the layer.
    ///
    /// # Errors
    /// The text of a glob that is not valid, and why.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, globset::Error> {
        Ok(Self {
            include: glob_set(include)?,
            exclude: glob_set(exclude)?,
            only_included: false,
        })
    }

    /// A filter that keeps only what `include` matches, less what `exclude` matches.
    ///
    /// # Errors
    /// The text of a glob that is not valid, and why.
    pub fn only(include: &[String], exclude: &[String]) -> Result<Self, globset::Error> {
        Ok(Self {
            only_included: true,
            ..Self::new(include, exclude)?
        })
    }

    /// Whether an entry at `path` is kept.
    #[must_use]
    pub fn keeps(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        let path = path.trim_start_matches("./").trim_matches('/');
        if self.only_included {
            return self.include.is_match(path) && !self.exclude.is_match(path);
        }
        self.include.is_match(path) || !self.exclude.is_match(path)
    }
}

/// A set of globs, each of which also matches all that lies below what it matches.
///
/// # Errors
/// The text of a glob that is not valid, and why.
pub fn glob_set(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let glob = glob.trim_matches('/');
        set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        if !glob.ends_with("**") {
            set.add(
                GlobBuilder::new(&format!("{glob}/**"))
                    .literal_separator(true)
                    .build()?,
            );
        }
    }
    set.build()
}
