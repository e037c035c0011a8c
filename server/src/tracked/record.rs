//! What is known of each recipe that follows its packages: a small document in `state/tracked`.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use serde::{Deserialize, Serialize};
use towline_contract::manifest::Manifest;
use towline_contract::{Digest, Timestamp};

use crate::private::{self, Locked, PrivateError};
use crate::site::Site;

/// Largest record, in bytes: an error message, and targets.
const RECORD_BYTES_MAX: u64 = 128 << 10;

/// Most records that are read for a report: a site has a handful of agents.
const RECORDS_MAX: usize = 256;

/// Most layers of a recipe that are known to be its own; of more the oldest are left to people.
const OWN_MAX: usize = 128;

/// Longest reason that is kept, in characters: apt names each of its archives.
const WHY_CHARS_MAX: usize = 2000;

/// How the last look at a recipe's packages went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// What is published is what upstream has.
    Current,
    /// Another layer waits for signatures.
    Waits,
    /// It did not get so far.
    Failed,
}

/// What is known of one recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How the last look went.
    pub state: State,
    /// When that was.
    pub looked: Timestamp,
    /// When a look began that has not ended.
    #[serde(default)]
    pub begun: Option<Timestamp>,
    /// Why it is not current, or why what is published is another layer than the recipe's.
    pub why: Option<String>,
    /// When what is published was last seen to be what upstream has: never later than the archives said that their lists are.
    pub current: Option<Timestamp>,
    /// The target that was.
    pub target: Option<String>,
    /// SHA-256 of the recipe that it was built by.
    pub recipe: Option<Digest>,
    /// Looks in a row that failed.
    pub failures: u32,
    /// The layers that were published by looks at the recipe, the first one first: no look takes out another.
    #[serde(default)]
    pub own: Vec<Own>,
    /// A layer that was built and is not published yet.
    pub built: Option<Waiting>,
}

/// A layer that was published by a look at its recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Its target.
    pub target: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A layer that was built and is not published yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Name of its file.
    pub layer: String,
    /// Its target.
    pub target: String,
    /// Whether somebody was asked to sign a document with it: that may be under way.
    pub asked: bool,
    /// SHA-256 of its recipe.
    pub recipe: Digest,
    /// How many versions stay published with it, as its recipe said.
    pub keep: Option<u32>,
    /// Why it was built: what had changed since the layer that was published then.
    pub changes: Vec<String>,
    /// When it was what upstream has.
    pub seen: Timestamp,
}

impl Record {
    /// That of a recipe which was never looked at, as if that had failed at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: State::Failed,
            looked: now,
            begun: None,
            why: None,
            current: None,
            target: None,
            recipe: None,
            failures: 0,
            own: Vec::new(),
            built: None,
        }
    }

    /// `target`, built by `recipe`, is what upstream had at `seen`, and that is the newest of it that can be had `now`.
    pub fn is_current(&mut self, target: String, recipe: Digest, seen: Timestamp, now: Timestamp) {
        *self = Self {
            state: State::Current,
            current: Some(seen),
            target: Some(target),
            recipe: Some(recipe),
            own: mem::take(&mut self.own),
            ..Self::new(now)
        };
    }

    /// `target`, which somebody published by hand, is before what upstream has, for this reason: it stays.
    pub fn stays(&mut self, target: String, why: String, now: Timestamp) {
        *self = Self {
            state: State::Current,
            target: Some(target),
            why: Some(why),
            own: mem::take(&mut self.own),
            ..Self::new(now)
        };
    }

    /// A look has published the layer, and taken out `gone`.
    pub fn has_published(&mut self, layer: &Manifest, gone: &[String]) {
        let target = layer.target_name();
        self.own
            .retain(|it| it.target != target && !gone.contains(&it.target));
        self.own.push(Own {
            target,
            digest: layer.digest,
        });
        let more = self.own.len().saturating_sub(OWN_MAX);
        self.own.drain(..more);
    }

    /// When it last had its turn: that of longest ago is the next. A look that was cut off was a turn, too.
    #[must_use]
    pub fn turn(&self) -> Timestamp {
        self.begun.unwrap_or(self.looked).max(self.looked)
    }

    /// It is not, or that cannot be said, for this reason.
    pub fn is_not(&mut self, state: State, why: &str, now: Timestamp) {
        self.failures = match state {
            State::Failed => self.failures.saturating_add(1),
            _ => 0,
        };
        self.state = state;
        self.looked = now;
        self.begun = None;
        self.why = Some(why.chars().take(WHY_CHARS_MAX).collect());
    }
}

/// The name of a recipe's record: that of its file. None of a file whose name could lead elsewhere, or would need escaping in
/// a metric.
#[must_use]
pub fn name_of(recipe: &Path) -> Option<String> {
    let name = recipe.file_stem()?.to_str()?;
    is_name(name).then(|| name.to_owned())
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    name.len() <= 128 && !name.starts_with('.') && name.chars().all(is_plain)
}

/// The record of this name.
///
/// # Errors
/// It cannot be read.
pub fn read(site: &Site, name: &str) -> Result<Option<Record>, PrivateError> {
    let path = site.tracked().join(format!("{name}.json"));
    private::read(&path, RECORD_BYTES_MAX)
}

/// All the records.
#[derive(Debug, Default)]
pub struct Records {
    /// By the names of their recipes.
    pub all: BTreeMap<String, Record>,
    /// Why others are not among them: one that is damaged hides no other.
    pub unreadable: Vec<PrivateError>,
}

impl Records {
    /// Reads them; files with other names are none of them.
    #[must_use]
    pub fn of(site: &Site) -> Self {
        let mut found = Self::default();
        let names = private::names(&site.tracked());
        let mut names = names.unwrap_or_else(|error| {
            found.unreadable.push(error);
            Vec::new()
        });
        names.retain(|it| is_name(it));
        names.sort();
        names.truncate(RECORDS_MAX);
        for name in names {
            match read(site, &name) {
                Ok(Some(record)) => drop(found.all.insert(name, record)),
                Ok(None) => {}
                Err(error) => found.unreadable.push(error),
            }
        }
        found
    }

    /// When `target` was last seen to be what upstream has; none if nobody looks.
    #[must_use]
    pub fn seen_current(&self, target: &str) -> Option<Timestamp> {
        let of_it = self.all.values();
        let of_it = of_it.filter(|it| it.target.as_deref() == Some(target));
        of_it.filter_map(|it| it.current).max()
    }
}

/// Writes the record of this name.
///
/// # Errors
/// It cannot be written.
pub fn write(folder: &Locked, name: &str, record: &Record) -> Result<(), PrivateError> {
    folder.write(&format!("{name}.json"), record, RECORD_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::manifest;
    use towline_contract::manifest::Kind;

    #[test]
    fn a_recipe_whose_name_could_lead_elsewhere_has_no_record() {
        assert_eq!(
            name_of(Path::new("recipes/agent-restic.toml")),
            Some("agent-restic".into())
        );
        for bad in ["..", "recipes/.hidden.toml", "a b.toml", "a\"b.toml", "/"] {
            assert_eq!(name_of(Path::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn what_a_recipe_has_published_is_known_until_it_is_taken_out() {
        let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let target = |it: &Own| it.target.clone();
        let mut record = Record::new(now);
        let layer = |version: usize| manifest(Kind::Agent, "restic", &version.to_string());
        record.has_published(&layer(1), &[]);
        record.has_published(&layer(2), &[]);
        record.is_not(State::Failed, "away", now);
        record.is_current(layer(2).target_name(), Digest::of(b""), now, now);
        record.stays("agent/restic/9/amd64".into(), "by hand".into(), now);
        assert_eq!((record.state, record.current), (State::Current, None));
        record.has_published(&layer(3), &[layer(1).target_name()]);
        let found: Vec<_> = record.own.iter().map(target).collect();
        assert_eq!(found, ["agent/restic/2/amd64", "agent/restic/3/amd64"]);
        for version in 4..4 + OWN_MAX {
            record.has_published(&layer(version), &[]);
        }
        assert_eq!(record.own.len(), OWN_MAX);
        assert_eq!(target(&record.own[0]), "agent/restic/4/amd64");
    }

    #[test]
    fn a_look_that_was_cut_off_was_a_turn_and_one_that_ends_says_when() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, second) = (time("2026-11-01T00:00:00Z"), time("2026-11-02T00:00:00Z"));
        let mut record = Record::new(first);
        assert_eq!(record.turn(), first);
        record.begun = Some(second);
        assert_eq!((record.turn(), record.looked), (second, first));
        let third = time("2026-11-03T00:00:00Z");
        record.is_not(State::Failed, "away", third);
        assert_eq!((record.turn(), record.begun), (third, None));
        // Of before there was a word for it.
        let mut json = serde_json::to_value(&record).unwrap();
        json.as_object_mut().unwrap().remove("begun");
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }

    #[test]
    fn looks_that_fail_are_counted_until_one_does_not() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, second) = (time("2026-11-01T00:00:00Z"), time("2026-11-02T00:00:00Z"));
        let mut record = Record::new(first);
        record.is_current("agent/restic/1/amd64".into(), Digest::of(b""), first, first);
        record.is_not(State::Failed, "away", second);
        record.is_not(State::Failed, "away", second);
        assert_eq!((record.failures, record.current), (2, Some(first)));
        assert_eq!(record.target.as_deref(), Some("agent/restic/1/amd64"));
        record.is_current(
            "agent/restic/2/amd64".into(),
            Digest::of(b""),
            first,
            second,
        );
        assert_eq!((record.failures, record.why), (0, None));
        assert_eq!((record.looked, record.current), (second, Some(first)));
    }
}
