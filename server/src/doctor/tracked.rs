//! Recipes that follow their packages: whether somebody looks, and how that goes. A pure function.

use std::collections::BTreeMap;

use towline_contract::Timestamp;

use super::{Finding, days, warning};
use crate::config::DoctorConfig;
use crate::tracked::record::{Record, State};

/// What is to be said of the recipes. What waits for signatures is said with the document that waits.
pub(super) fn tracked(
    records: &BTreeMap<String, Record>,
    ages: DoctorConfig,
    now: Timestamp,
) -> Vec<Finding> {
    let rows = records.iter();
    rows.filter_map(|(name, record)| one(name, record, ages, now))
        .collect()
}

fn one(name: &str, record: &Record, ages: DoctorConfig, now: Timestamp) -> Option<Finding> {
    let (looked, why) = (record.looked, record.why.as_deref().unwrap_or("unknown"));
    let (age, max) = (days(now.duration_since(looked)), ages.track_days);
    if age > i64::from(max) {
        return Some(warning(
            format!("recipe {name} was last looked at {age} days ago, and {max} are allowed"),
            format!(
                "have towline catalogue refresh run by a timer, or set track.hours in towline.toml; if it is tracked no more, remove state/tracked/{name}.json"
            ),
        ));
    }
    (record.state == State::Failed).then(|| {
        let times = match record.failures {
            0 | 1 => String::new(),
            failures => format!(", as the {} before", failures - 1),
        };
        warning(
            format!("the last look at recipe {name}, at {looked}, failed{times}: {why}"),
            format!("see what it says now: towline catalogue refresh recipes/{name}.toml"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::only;
    use super::*;
    use crate::doctor::Level;
    use towline_contract::Digest;

    fn found(record: Record, now: &str) -> Vec<Finding> {
        let records = BTreeMap::from([("agent-restic".to_owned(), record)]);
        tracked(&records, DoctorConfig::default(), now.parse().unwrap())
    }

    fn current() -> Record {
        let time = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut record = Record::new(time);
        record.is_current("agent/restic/1/amd64".into(), Digest::of(b""), time, time);
        record
    }

    #[test]
    fn a_recipe_that_nobody_has_looked_at_for_long_is_a_warning() {
        assert_eq!(found(current(), "2026-11-07T00:00:00Z"), []);
        let findings = found(current(), "2026-11-09T00:00:00Z");
        only(&findings, Level::Warning, "last looked at 8 days ago");
    }

    #[test]
    fn a_look_that_failed_is_a_warning_with_the_reason() {
        let mut record = current();
        let time = record.looked;
        record.is_not(State::Failed, "the archive is away", time);
        record.is_not(State::Failed, "the archive is away", time);
        let findings = found(record, "2026-11-02T00:00:00Z");
        only(
            &findings,
            Level::Warning,
            "failed, as the 1 before: the archive is away",
        );
    }
}
