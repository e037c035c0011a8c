//! Which layer of a role goes first: who has the role's key may have the document that it is in.

use std::collections::BTreeMap;

use towline_contract::trust::{TargetName, layer_role};
use towline_server::tracked::record::{Records, Waiting};

use super::followed::Followed;
use super::one::Work;

/// A layer that others of its role wait for.
#[derive(Clone, Debug)]
pub(super) struct First {
    pub(super) target: String,
    /// Name of its recipe.
    pub(super) recipe: String,
}

impl First {
    fn of(recipe: &str, waiting: &Waiting) -> (String, Self) {
        let first = Self {
            target: waiting.target.clone(),
            recipe: recipe.to_owned(),
        };
        (role_of(&waiting.target), first)
    }
}

/// The role that signs the target.
fn role_of(target: &str) -> String {
    let target = target.parse::<TargetName>().ok();
    let role = target.and_then(|it| layer_role(it.kind, &it.name));
    role.unwrap_or_default()
}

/// A layer of each role that waits: of these recipes, and of any other whose layer somebody was asked to sign.
pub(super) fn waiting(work: &Work<'_>, followed: &[Followed]) -> BTreeMap<String, First> {
    let waiting = followed.iter().filter_map(|it| {
        let waiting = it.record.built.as_ref()?;
        Some(First::of(&it.name, waiting))
    });
    waiting.chain(asked_for(work, followed)).collect()
}

/// A layer of each role that somebody was asked to sign, by what is known of other recipes than these: one that is broken, or was
/// not named, may have its layer in the very document. Of records that cannot be read nothing is known; that is told.
pub(super) fn asked_for(work: &Work<'_>, others_than: &[Followed]) -> BTreeMap<String, First> {
    let records = Records::of(work.site).all.into_iter();
    let others = records.filter(|(name, _)| others_than.iter().all(|it| it.name != *name));
    let asked = others.filter_map(|(name, record)| {
        let waiting = record.built.filter(|it| it.asked)?;
        Some(First::of(&name, &waiting))
    });
    asked.collect()
}

impl Followed {
    /// Its layer that somebody was asked to sign, with the role.
    pub(super) fn asked(&self) -> Option<(String, First)> {
        let waiting = self.record.built.as_ref().filter(|it| it.asked)?;
        Some(First::of(&self.name, waiting))
    }
}
