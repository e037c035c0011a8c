//! Variables of recipes: `${NAME}` in names, versions and paths of this machine, given with `--set`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A variable that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("${{{0}}} has no value; give it with `--set {0}=VALUE`")]
pub(super) struct NoValue(pub(super) String);

/// The values.
#[derive(Clone, Copy)]
pub(super) enum Variables<'a> {
    /// Each variable needs a value.
    Of(&'a BTreeMap<String, String>),
    /// None has a value; it is noted which are used.
    Noted(&'a RefCell<BTreeSet<String>>),
}

impl Variables<'_> {
    /// `text` with the variables that have values filled in.
    pub(super) fn fill_known(self, text: &str) -> String {
        let mut filled = text.to_owned();
        match self {
            Self::Of(values) => {
                for (name, value) in values {
                    filled = filled.replace(&format!("${{{name}}}"), value);
                }
            }
            Self::Noted(used) => {
                let names = text
                    .split("${")
                    .skip(1)
                    .filter_map(|rest| rest.split_once('}'));
                let names = names.map(|(name, _)| name.to_owned());
                used.borrow_mut().extend(names);
            }
        }
        filled
    }

    /// `text` with all variables filled in.
    pub(super) fn fill(self, text: &str) -> Result<String, NoValue> {
        let text = self.fill_known(text);
        match (unfilled(&text), self) {
            (Some(name), Self::Of(_)) => Err(NoValue(name.to_owned())),
            _ => Ok(text),
        }
    }

    /// Fills all of `texts`.
    pub(super) fn fill_all<'t>(
        self,
        texts: impl IntoIterator<Item = &'t mut String>,
    ) -> Result<(), NoValue> {
        for text in texts {
            *text = self.fill(text)?;
        }
        Ok(())
    }
}

/// The first variable in `text`.
pub(crate) fn unfilled(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("${")?;
    rest.split('}').next()
}
