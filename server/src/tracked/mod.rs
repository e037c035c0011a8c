//! Recipes that follow what they are made of (`[track]`): how a new layer takes the place of old ones, and what is known of
//! each recipe.
//!
//! The decisions are here, and pure; the work is done by `towline catalogue refresh`. What a layer was made of is in its
//! signed manifest, so nothing that is decided needs a [`record`]: they tell people how the last look went, and lead an
//! interrupted or unsigned change to its end.

pub mod record;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use towline_contract::manifest::{Kind, Manifest, Package};

use crate::catalogue::Published;
use crate::order::{order, versions as compare};

/// Before the number of a layer whose version is taken. To dpkg a letter comes after the end of a version and before whatever
/// Debian or Ubuntu put there for a change of their own (`+b1`, `+deb12u1`, `build1`, `ubuntu1`, `.1`), and this one before theirs.
const AGAIN: &str = "again";

/// A package that would go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneBack {
    /// Its name.
    pub package: String,
    /// The published layer that has it newer.
    pub target: String,
    /// Its version there.
    pub was: String,
    /// Its version in the new layer.
    pub is: String,
}

impl std::fmt::Display for GoneBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (package, target) = (&self.package, &self.target);
        write!(f, "{package} {} of {target} is {} now", self.was, self.is)
    }
}

/// The published versions of the layer that this would be one of, those that machines take first at the beginning.
#[must_use]
pub fn versions<'a>(layers: &'a [Published], of: (Kind, &str, &str)) -> Vec<&'a Manifest> {
    let is_one = |it: &&Published| {
        let target = &it.target;
        (target.kind, &*target.name, &*target.architecture) == of
    };
    let mut found: Vec<_> = layers
        .iter()
        .filter(is_one)
        .map(|it| &it.manifest)
        .collect();
    found.sort_by(|a, b| order(b, a));
    found
}

/// Whether `new` is the one of `published` that machines get: but for its number, and the site's policy.
#[must_use]
pub fn is_same(new: &Manifest, published: &Manifest) -> bool {
    let as_published = Manifest {
        version: published.version.clone(),
        bounds: published.bounds.clone(),
        ..new.clone()
    };
    as_published == *published
}

/// The version by which `new` is published. One that was `ever` published is of that layer for good, also when it is no more:
/// then this one gets the next number. The packages of a layer may have changed, and not the one that it has its version of.
#[must_use]
pub fn version_for(new: &Manifest, ever: &BTreeSet<String>) -> String {
    let version = &new.version;
    let number_of = |it: &String| {
        let rest = it.strip_prefix(version.as_str())?;
        match rest {
            "" => Some(1),
            rest => rest.strip_prefix(AGAIN)?.parse::<u32>().ok(),
        }
    };
    match ever.iter().filter_map(number_of).max() {
        None => version.clone(),
        Some(last) => format!("{version}{AGAIN}{}", last.saturating_add(1)),
    }
}

/// The packages of `new` that a `published` version of it has newer, as dpkg compares them: an archive that has gone back must
/// not take machines back, whatever the dates of its files.
#[must_use]
pub fn gone_back(new: &Manifest, published: &[&Manifest]) -> Vec<GoneBack> {
    let found = new.packages.iter().filter_map(|package| {
        let is_newer = |had: &Package| {
            (&had.name, &had.architecture) == (&package.name, &package.architecture)
                && compare(&had.version, &package.version) == Ordering::Greater
        };
        let (layer, had) = published
            .iter()
            .find_map(|it| Some((it, it.packages.iter().find(|had| is_newer(had))?)))?;
        Some(GoneBack {
            package: package.name.clone(),
            target: layer.target_name(),
            was: had.version.clone(),
            is: package.version.clone(),
        })
    });
    found.collect()
}

/// Targets of the `published` versions that go when `new` comes: those that machines would take before it, and what is more
/// than the `keep` newest with it. What sessions and plans need is one layer of the name, the newest: that is the one that
/// comes.
#[must_use]
pub fn gone(new: &Manifest, published: &[&Manifest], keep: Option<u32>) -> Vec<String> {
    let most = keep.map_or(usize::MAX, |keep| keep.saturating_sub(1) as usize);
    let others = published
        .iter()
        .copied()
        .filter(|it| it.version != new.version);
    let is_ahead = |it: &&Manifest| order(it, new) == Ordering::Greater;
    let (ahead, before): (Vec<&Manifest>, Vec<&Manifest>) = others.partition(is_ahead);
    let gone = ahead.into_iter().chain(before.into_iter().skip(most));
    gone.map(|it| it.target_name()).collect()
}

#[cfg(test)]
mod tests;
