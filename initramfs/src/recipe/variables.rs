//! Variables of recipes: `${NAME}` in names, versions and paths of this machine, given with `--set`.

use std::collections::BTreeMap;

/// A variable that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("${{{0}}} has no value; give it with `--set {0}=VALUE`")]
pub(super) struct NoValue(pub(super) String);

/// The values.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a>(pub(super) &'a BTreeMap<String, String>);

impl Variables<'_> {
    /// `text` with the variables that have values filled in.
    pub(super) fn fill_known(self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.0 {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    /// `text` with all variables filled in.
    pub(super) fn fill(self, text: &str) -> Result<String, NoValue> {
        let text = self.fill_known(text);
        match unfilled(&text) {
            None => Ok(text),
            Some(name) => Err(NoValue(name.to_owned())),
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
