//! Variables of recipes: `${NAME}` in names, versions and paths of this machine, given with `--set`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The variable that a page gives its value to, where the recipe has one.
pub(super) const VERSION: &str = "version";

/// The same as it stands in a text.
pub(super) const VERSION_IN_TEXT: &str = "${version}";

/// A variable that cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfilled {
    /// It has no value.
    #[error("${{{0}}} has no value; give it with `--set {0}=VALUE`")]
    NoValue(String),
    /// Each new version would be another layer's, or another file of this machine.
    #[error(
        "{VERSION_IN_TEXT} is what track.page names, and can stand in the layer's `version`, in `url` and in `signature-url` alone"
    )]
    OfPage,
}

/// The values.
#[derive(Clone, Copy)]
pub(super) enum Variables<'a> {
    /// Each variable needs a value.
    Of(&'a BTreeMap<String, String>),
    /// The same, but for `${version}`, which stays: a page will say what it is.
    ButVersion(&'a BTreeMap<String, String>),
    /// None has a value; it is noted which are used.
    Noted(&'a RefCell<BTreeSet<String>>),
}

impl<'a> Variables<'a> {
    /// The same, but for the one that a page gives its value to; and the value that was given for that.
    pub(super) fn but_version(self) -> (Self, Option<&'a String>) {
        match self {
            Self::Of(values) => (Self::ButVersion(values), values.get(VERSION)),
            other => (other, None),
        }
    }

    /// `text` with the variables that have values filled in.
    pub(super) fn fill_known(self, text: &str) -> String {
        let mut filled = text.to_owned();
        match self {
            Self::Of(values) | Self::ButVersion(values) => {
                let is_later = |name: &str| matches!(self, Self::ButVersion(_)) && name == VERSION;
                for (name, value) in values.iter().filter(|(name, _)| !is_later(name)) {
                    filled = filled.replace(&format!("${{{name}}}"), value);
                }
            }
            Self::Noted(used) => used.borrow_mut().extend(names(text).map(str::to_owned)),
        }
        filled
    }

    /// `text` with all variables filled in.
    pub(super) fn fill(self, text: &str) -> Result<String, Unfilled> {
        let text = self.fill_known(text);
        match (unfilled(&text), self) {
            (None, _) | (_, Self::Noted(_)) => Ok(text),
            (Some(VERSION), Self::ButVersion(_)) => Err(Unfilled::OfPage),
            (Some(name), _) => Err(Unfilled::NoValue(name.to_owned())),
        }
    }

    /// A text whose `${version}` may be for a page to say, with all others filled in.
    pub(super) fn fill_but_version(self, text: &str) -> Result<String, Unfilled> {
        let Self::ButVersion(_) = self else {
            return self.fill(text);
        };
        let text = self.fill_known(text);
        match unfilled(&text.replace(VERSION_IN_TEXT, "")) {
            None => Ok(text),
            Some(name) => Err(Unfilled::NoValue(name.to_owned())),
        }
    }

    /// Fills all of `texts`.
    pub(super) fn fill_all<'t>(
        self,
        texts: impl IntoIterator<Item = &'t mut String>,
    ) -> Result<(), Unfilled> {
        for text in texts {
            *text = self.fill(text)?;
        }
        Ok(())
    }
}

/// The variables in `text`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let rests = text.split("${").skip(1);
    rests.filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// The first variable in `text`.
pub(crate) fn unfilled(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("${")?;
    rest.split('}').next()
}
