//! What a recipe says of entries whatever their source: owners and permission bits, and what is stripped.

use serde::Deserialize;

use super::sources::octal;

/// Owner, group and permission bits of some entries, in place of those that their sources gave them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Permissions {
    /// Globs of entries.
    pub paths: Vec<String>,
    /// Number of the owner.
    pub owner: Option<u32>,
    /// Number of the group.
    pub group: Option<u32>,
    /// Permission bits of all but directories and links.
    #[serde(default, deserialize_with = "octal")]
    pub mode: Option<u32>,
    /// Permission bits of directories.
    #[serde(default, deserialize_with = "octal")]
    pub directory_mode: Option<u32>,
}

impl Permissions {
    /// Refuses what would change nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        let modes = self.mode.or(self.directory_mode);
        if self.paths.is_empty() {
            return Err("permissions: `paths` is empty".into());
        }
        match modes.or(self.owner).or(self.group) {
            Some(_) => Ok(()),
            None => Err(
                "permissions: none of `mode`, `directory-mode`, `owner` and `group` is there"
                    .into(),
            ),
        }
    }
}

/// What nobody reads in a rescue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strip {
    /// Manuals and documents; the packages' copyright files stay.
    Docs,
    /// Translations.
    Locales,
}

impl Strip {
    /// Globs of what goes.
    #[must_use]
    pub fn exclude(self) -> &'static [&'static str] {
        match self {
            Self::Docs => &[
                "usr/share/doc",
                "usr/share/doc-base",
                "usr/share/man",
                "usr/share/info",
                "usr/share/help",
                "usr/share/gtk-doc",
                "usr/share/lintian",
                "usr/share/bug",
                "usr/local/share/{doc,man,info}",
            ],
            Self::Locales => &[
                "usr/share/locale",
                "usr/share/locale-langpack",
                "usr/share/i18n/locales",
                "usr/local/share/locale",
            ],
        }
    }

    /// Globs of what stays all the same: whoever passes packages on passes their licences on.
    #[must_use]
    pub fn include(self) -> &'static [&'static str] {
        match self {
            Self::Docs => &[
                "usr/share/doc/*/copyright",
                "usr/share/doc/*/{LICENSE,LICENCE,COPYING}*",
            ],
            Self::Locales => &[],
        }
    }
}
