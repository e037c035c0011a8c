//! The site's own layer policy: what its operators keep layers of a kind out of, beside the rules of every site.
//!
//! A signed target ([`POLICY_TARGET`]) of the targets role alone; its `custom` part has the policy. It narrows, and cannot widen
//! what this code allows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::item::EntryPath;
use super::policy::is_below;
use super::rule::Rule;
use crate::limits::{POLICY_PATH_BYTES_MAX, POLICY_PATHS_MAX};
use crate::manifest::Kind;

/// Its name among the signed targets.
pub const POLICY_TARGET: &str = "policy/lanes";

/// The format version this code writes, and the only one it reads.
pub const POLICY_FORMAT: u32 = 1;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPolicy {
    /// [`POLICY_FORMAT`].
    pub format: u32,
    /// What layers of a kind are kept to. Other kinds have the rules of every site.
    pub kinds: BTreeMap<Kind, Bounds>,
}

/// What layers of one kind are kept to: paths without a leading slash, each with all that lies below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Where entries may lie, and directories on the way there; anywhere, if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    /// Where none may lie.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
}

impl LayerPolicy {
    /// What layers of this kind are kept to.
    #[must_use]
    pub fn bounds(&self, kind: Kind) -> Bounds {
        self.kinds.get(&kind).cloned().unwrap_or_default()
    }

    /// What is wrong with it, in words; none if nothing is.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        if self.format != POLICY_FORMAT {
            let found = self.format;
            return Some(format!(
                "its format is {found}, and this program reads {POLICY_FORMAT}"
            ));
        }
        if self.kinds.contains_key(&Kind::Credentials) {
            return Some("credentials layers are made by the server for one boot".into());
        }
        let mut all = self.kinds.values().flat_map(|it| [&it.within, &it.never]);
        if all.any(|it| it.len() > POLICY_PATHS_MAX) {
            return Some(format!("a list has more than {POLICY_PATHS_MAX} paths"));
        }
        let all = self
            .kinds
            .values()
            .flat_map(|it| it.within.iter().chain(&it.never));
        let mut bad = all.filter(|it| !is_path(it));
        let bad = bad.next().map(|path| {
            format!(
                "{path:?} is no path: relative, without empty, . or .. components or any of *?[, of at most {POLICY_PATH_BYTES_MAX} bytes"
            )
        });
        let mut kinds = self.kinds.iter();
        let empty = kinds.find(|(_, it)| it.is_empty());
        bad.or_else(|| {
            empty.map(|(kind, _)| format!("it says nothing of {kind} layers: name paths"))
        })
    }
}

fn is_path(text: &str) -> bool {
    // Not that somebody takes them for patterns.
    let is_plain = !text.contains(['*', '?', '[']);
    is_plain
        && text.len() <= POLICY_PATH_BYTES_MAX
        && EntryPath::parse(text.as_bytes().to_vec()).is_some()
}

impl Bounds {
    /// Whether they allow everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.within.is_empty() && self.never.is_empty()
    }

    pub(super) fn check(
        &self,
        kind: Kind,
        path: &EntryPath,
        is_directory: bool,
    ) -> Result<(), Rule> {
        let path = path.as_bytes();
        let below = |lane: &String| is_below(path, lane);
        let on_the_way = |lane: &String| {
            let rest = lane.as_bytes().strip_prefix(path);
            is_directory && rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let mut within = self.within.iter();
        let inside = self.within.is_empty() || within.any(|it| below(it) || on_the_way(it));
        match inside && !self.never.iter().any(below) {
            true => Ok(()),
            false => Err(Rule::Policy(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kinds: &str) -> LayerPolicy {
        serde_json::from_str(&format!("{{\"format\": 1, \"kinds\": {kinds}}}")).unwrap()
    }

    fn allows(bounds: &Bounds, path: &str, is_directory: bool) -> bool {
        let path = EntryPath::parse(path.into()).unwrap();
        bounds.check(Kind::Agent, &path, is_directory).is_ok()
    }

    #[test]
    fn entries_lie_within_and_never_where_they_may_not_and_directories_lead_there() {
        let policy =
            policy(r#"{ "agent": { "within": ["usr", "etc/ssl/certs"], "never": ["usr/sbin"] } }"#);
        assert_eq!(policy.mistake(), None);
        let bounds = policy.bounds(Kind::Agent);
        for path in ["usr/bin/agent", "etc/ssl/certs/ca.crt"] {
            assert!(allows(&bounds, path, false), "{path}");
        }
        for path in [
            "usr/sbin/agent",
            "usr/sbin",
            "opt/agent",
            "etc/ssl/other",
            "etc",
            "usrlocal",
        ] {
            assert!(!allows(&bounds, path, false), "{path}");
        }
        assert!(allows(&bounds, "etc/ssl", true) && !allows(&bounds, "etc/cron.d", true));
        // A kind that it does not name has the rules of every site.
        assert!(policy.bounds(Kind::Extra).is_empty());
    }

    #[test]
    fn a_policy_that_is_not_understood_in_full_is_a_mistake() {
        let newer = LayerPolicy {
            format: 2,
            ..LayerPolicy::default()
        };
        assert!(newer.mistake().unwrap().contains("format is 2"));
        for bad in ["/usr", "usr/", "", "..", "usr/../etc", "a//b", "usr/*"] {
            let policy = policy(&format!("{{\"agent\": {{\"never\": [{bad:?}]}}}}"));
            assert!(policy.mistake().is_some(), "{bad}");
        }
        for bad in [
            r#"{ "credentials": {} }"#,
            r#"{ "agent": { "within": [] } }"#,
        ] {
            assert!(policy(bad).mistake().is_some(), "{bad}");
        }
        let unknown = serde_json::json!({ "format": 1, "kinds": {}, "allow": ["init"] });
        assert!(serde_json::from_value::<LayerPolicy>(unknown).is_err());
    }
}
