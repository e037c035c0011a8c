//! Recipes that follow what they are made of (`[track]`): how a new layer takes the place of old ones, and what is known of
//! each recipe.
//!
//! The decisions are here, and pure; the work is done by `towline catalogue refresh`. What a layer was made of is in its
//! signed manifest, so whether it is current needs no [`record`]: they tell people how the last look went, lead an
//! interrupted or unsigned change to its end, and know which layers a recipe has published. Only those are ever taken out:
//! what somebody published by hand stays, and so does what nothing is known of.

pub mod record;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use towline_contract::manifest::{Kind, Manifest, Package};

use crate::catalogue::Published;
use crate::order::{order, versions as compare};
use record::Own;

/// Before the number of a layer whose version is taken. To dpkg a letter comes after the end of a version and before whatever
/// Debian or Ubuntu put there for a change of their own (`+b1`, `+deb12u1`, `build1`, `ubuntu1`, `.1`), and this one before
/// theirs.
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

/// The packages that a `published` version of the layer has newer than `new` has, as dpkg compares them: an archive, or a page
/// that names releases, that has gone back must not take machines back, whatever the dates of its files. What is not published
/// any more does not count, nor does a package that is called otherwise by now.
#[must_use]
pub fn gone_back(new: &[Package], published: &[&Manifest]) -> Vec<GoneBack> {
    let found = new.iter().filter_map(|package| {
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

/// The versions of `published` that machines would take before `new`, and that the recipe has not published (`own` are those
/// that it has): somebody did by hand. They stay, and `new` does not come, for no machine would get it.
#[must_use]
pub fn ahead_by_hand<'a>(
    new: &Manifest,
    published: &[&'a Manifest],
    own: &[Own],
) -> Vec<&'a Manifest> {
    let found = published.iter().copied();
    found
        .filter(|it| is_ahead(it, new) && !is_of(it, own))
        .collect()
}

/// Those of the `published` versions that the recipe has published.
#[must_use]
pub fn of_recipe<'a>(published: &[&'a Manifest], own: &[Own]) -> Vec<&'a Manifest> {
    let published = published.iter().copied();
    published.filter(|it| is_of(it, own)).collect()
}

/// Targets of the recipe's `own` among the `published` versions that go when `new` comes: those that machines would take before
/// it, and what is more than its `keep` newest with it. What sessions and plans need is one layer of the name, the newest: that
/// is the one that comes, where nothing is [`ahead_by_hand`].
#[must_use]
pub fn gone(
    new: &Manifest,
    published: &[&Manifest],
    own: &[Own],
    keep: Option<u32>,
) -> Vec<String> {
    let most = keep.map_or(usize::MAX, |keep| keep.saturating_sub(1) as usize);
    let others = published
        .iter()
        .copied()
        .filter(|it| it.version != new.version && is_of(it, own));
    let (ahead, before): (Vec<&Manifest>, Vec<&Manifest>) =
        others.partition(|it| is_ahead(it, new));
    let gone = ahead.into_iter().chain(before.into_iter().skip(most));
    gone.map(|it| it.target_name()).collect()
}

/// Whether machines take `layer` before `new`.
fn is_ahead(layer: &Manifest, new: &Manifest) -> bool {
    order(layer, new) == Ordering::Greater
}

/// Whether a recipe has published this very layer. The name alone does not say: it may have been taken out, and given by hand to
/// another one.
fn is_of(layer: &Manifest, own: &[Own]) -> bool {
    let target = layer.target_name();
    own.iter()
        .any(|it| (&it.target, it.digest) == (&target, layer.digest))
}

#[cfg(test)]
mod tests;
