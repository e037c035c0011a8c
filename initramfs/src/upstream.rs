//! What a recipe would be made of now, beside what a layer was made of: without downloading or building anything.

use std::collections::BTreeMap;

use towline_contract::manifest::Package;

use crate::apt::{Apt, AptError, Listed};
use crate::recipe::{Input, Recipe, Source};
use crate::release::{self, is_release};

/// The packages that a recipe would take from the archives now, and the release that its page names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Versions by name.
    packages: BTreeMap<String, String>,
    /// The release, as manifests have it.
    release: Option<Package>,
    /// Whether the recipe takes packages from nowhere else.
    is_all: bool,
    /// Whether recipe and packages are all that the layer is made of.
    is_all_told: bool,
}

/// Whether a recipe takes packages from archives, so that it needs their lists.
#[must_use]
pub fn asks_archives(recipe: &Recipe) -> bool {
    recipe.sources.iter().any(|it| match &it.source {
        Source::Apt(_) => true,
        Source::Certificates(source) => source.package.is_some(),
        Source::Kernel(source) => source.package.is_some(),
        _ => false,
    })
}

/// A package or release that is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its version in the layer.
    pub was: String,
    /// Its version in the archives, or on the page; none when the recipe would not take it any more.
    pub is: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, was) = (&self.name, &self.was);
        match &self.is {
            Some(is) => write!(f, "{name} {was} is {is} now"),
            None => write!(f, "{name} {was} is not needed any more"),
        }
    }
}

impl Upstream {
    /// Looks what the lists say of the packages that the recipe names and of all they depend on. Which release is the newest the
    /// recipe has to say: [`crate::release::of_newest`].
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn of(recipe: &Recipe, apt: &Apt) -> Result<Self, AptError> {
        let mut found = Self {
            packages: BTreeMap::new(),
            release: release::package(recipe),
            is_all: true,
            // What a kernel reads is in a file of this machine.
            is_all_told: recipe.for_kernel.is_none(),
        };
        for source in recipe.sources.iter().map(|it| &it.source) {
            found.is_all_told &= source.inputs().into_iter().all(Input::is_told);
            match source {
                Source::Apt(source) => {
                    found.take(apt.listed(&source.packages, &source.without)?, |_| true);
                }
                Source::Certificates(source) => {
                    if let Some(name) = &source.package {
                        let listed = apt.listed(std::slice::from_ref(name), &[])?;
                        found.take(listed, |it| it.name == *name);
                    }
                }
                Source::Kernel(source) => match &source.package {
                    Some(name) => {
                        let listed = apt.listed(std::slice::from_ref(name), &[])?;
                        found.take(listed, Listed::is_kernel);
                    }
                    None => found.is_all = false,
                },
                Source::Tar(_)
                | Source::Run(_)
                | Source::Initrd(_)
                | Source::File(_)
                | Source::Links(_)
                | Source::Directories(_) => {}
                Source::Directory(_) | Source::Program(_) => found.is_all_told = false,
                // Packages that no archive may have.
                Source::Deb(_) | Source::Rpm(_) | Source::LiveImage(_) => found.is_all = false,
            }
        }
        Ok(found)
    }

    /// Whether there is nothing that the recipe could follow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.release.is_none()
    }

    /// The release that the page names, as manifests have it; none of a recipe without a page.
    #[must_use]
    pub fn release(&self) -> Option<&Package> {
        self.release.as_ref()
    }

    /// Whether packages, release and recipe tell all that a layer is made of. Else files of this machine are in it too, and
    /// whether they are others now only a build can say.
    #[must_use]
    pub fn is_all_told(&self) -> bool {
        self.is_all_told
    }

    /// Which of a layer's packages are others now. Packages of which it has no file are not in its manifest, and do not count.
    #[must_use]
    pub fn changes(&self, packages: &[Package]) -> Vec<Change> {
        let changed = packages.iter().filter_map(|package| {
            let is = match is_release(package) {
                true => self.release.as_ref().map(|it| &it.version),
                false => self.packages.get(&package.name),
            };
            match is {
                Some(version) if *version == package.version => None,
                None if !self.is_all => None,
                _ => Some(Change {
                    name: package.name.clone(),
                    was: package.version.clone(),
                    is: is.cloned(),
                }),
            }
        });
        changed.collect()
    }

    fn take(&mut self, listed: Vec<Listed>, is_wanted: impl Fn(&Listed) -> bool) {
        let wanted = listed.into_iter().filter(is_wanted);
        self.packages.extend(wanted.map(|it| (it.name, it.version)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn upstream(is_all: bool, packages: &[(&str, &str)]) -> Upstream {
        let packages = packages.iter();
        Upstream {
            packages: packages.map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            release: None,
            is_all,
            is_all_told: is_all,
        }
    }

    fn layer(packages: &[(&str, &str)]) -> Vec<Package> {
        let package = |(name, version): &(&str, &str)| Package {
            name: (*name).into(),
            version: (*version).into(),
            architecture: "amd64".into(),
        };
        packages.iter().map(package).collect()
    }

    #[test]
    fn only_packages_that_the_layer_has_files_of_can_change_it() {
        let layer = layer(&[("restic", "1"), ("libc6", "2")]);
        let same = upstream(true, &[("restic", "1"), ("libc6", "2"), ("fuse", "9")]);
        assert_eq!(same.changes(&layer), []);
        let other = upstream(true, &[("restic", "1"), ("libc6", "3"), ("fuse", "9")]);
        let changes = other.changes(&layer);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].to_string(), "libc6 2 is 3 now");
    }

    #[test]
    fn whether_the_configuration_of_a_kernel_is_another_one_only_a_build_can_say() {
        let dir = tempfile::tempdir().unwrap();
        let apt = Apt::new(dir.path()).unwrap();
        let is_all_told = |more: &str| {
            let text = format!(
                "kind = \"extra\"\nname = \"x\"\nversion = \"1\"\n{more}\n[[source]]\ntype = \"directories\"\npaths = [\"opt\"]\n"
            );
            let recipe = Recipe::parse(Path::new("x.toml"), &text, &BTreeMap::new()).unwrap();
            Upstream::of(&recipe, &apt).unwrap().is_all_told()
        };
        assert!(is_all_told(""));
        assert!(!is_all_told("for-kernel = \"config\""));
    }

    #[test]
    fn a_package_of_another_source_is_not_missed_in_the_archives() {
        let layer = layer(&[("own-agent", "1"), ("libc6", "2")]);
        let packages = [("libc6", "2")];
        assert_eq!(upstream(false, &packages).changes(&layer), []);
        let changes = upstream(true, &packages).changes(&layer);
        assert_eq!(changes[0].to_string(), "own-agent 1 is not needed any more");
    }

    #[test]
    fn a_release_is_compared_with_what_the_page_names_and_not_with_a_package_of_its_name() {
        let release = |version: &str| Package {
            name: "agent".into(),
            version: version.into(),
            architecture: release::ARCHITECTURE.into(),
        };
        let page = |version: &str| Upstream {
            release: Some(release(version)),
            ..upstream(true, &[("agent", "7"), ("libc6", "2")])
        };
        let mut layer = layer(&[("libc6", "2")]);
        layer.push(release("1.9"));
        assert_eq!(page("1.9").changes(&layer), []);
        let changes = page("1.10").changes(&layer);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].to_string(), "agent 1.9 is 1.10 now");
    }
}
