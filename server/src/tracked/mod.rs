//! Recipes that follow what they are made of (`[track]`): how a new layer takes the place of old ones, and what is known of
//! each recipe.
//!
//! The decisions are here, and pure; the work is done by `towline catalogue refresh`. What a layer was made of is in its
//! signed manifest, so nothing that is decided needs a [`record`]: they tell people how the last look went, and lead an
//! interrupted or unsigned change to its end.

pub mod record;

use towline_contract::Timestamp;
use towline_contract::manifest::{Kind, Manifest};

use crate::catalogue::Published;
use crate::order::{by, order};

/// Most numbers that are tried to tell a layer from one of the same version.
const NUMBER_MAX: u32 = 999;

/// What becomes of a layer that was built of what upstream has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the one that machines get already.
    Same,
    /// It is published by this version, and machines get it.
    As(String),
    /// Machines would still get this layer, whose newest file is newer.
    Behind {
        /// Its target.
        target: String,
        /// When its newest file was made.
        created: Timestamp,
    },
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

/// Where `new` goes among the `published` versions of it, in their order. A version that is taken by other content gets a
/// number: the packages of a layer may have changed, and not the one that it has its version of.
#[must_use]
pub fn place(new: &Manifest, published: &[&Manifest]) -> Place {
    let Some(newest) = published.first() else {
        return Place::As(new.version.clone());
    };
    let as_newest = Manifest {
        version: newest.version.clone(),
        bounds: newest.bounds.clone(),
        ..new.clone()
    };
    if as_newest == **newest {
        return Place::Same;
    }
    let numbered = (2..=NUMBER_MAX).map(|number| format!("{}+r{number}", new.version));
    let mut versions = std::iter::once(new.version.clone()).chain(numbered);
    let is_good = |version: &String| {
        let is_free = !published.iter().any(|it| it.version == *version);
        is_free && by((new.created, version), (newest.created, &newest.version)).is_gt()
    };
    match versions.find(is_good) {
        Some(version) => Place::As(version),
        None => Place::Behind {
            target: newest.target_name(),
            created: newest.created,
        },
    }
}

/// Targets of the `published` versions that go when another one comes and `keep` of all stay. What sessions and plans need is
/// one layer of the name, the newest: that is the one that comes.
#[must_use]
pub fn surplus(published: &[&Manifest], keep: Option<u32>) -> Vec<String> {
    let Some(keep) = keep else {
        return Vec::new();
    };
    let before = usize::try_from(keep.saturating_sub(1)).unwrap_or(usize::MAX);
    let gone = published.iter().skip(before);
    gone.map(|it| it.target_name()).collect()
}

#[cfg(test)]
mod tests;
