//! Which sessions are let go: a pure function of the sessions that there are, the same on every day.
//!
//! Of each of the last days, weeks, months and years *that have sessions*, the newest session is kept, and the last ones
//! whatever their time. So a host that was off for a year loses nothing by it. Times are UTC, weeks are those of ISO 8601.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;

/// Most sessions that the rules may keep of one host. A machine reads the list of all in one file of at most 4 MiB, and a
/// host sends it with each session ([`towline_contract::api::NEW_SESSION_BYTES_MAX`]); a session takes 500 bytes in it.
pub const SESSIONS_MAX: u32 = 2000;

/// How many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The last sessions, whatever their time.
    pub keep_last: u32,
    /// Days with a session of which the newest is kept.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

/// A day of sessions every 15 minutes, then two months of days, half a year of weeks, three years of months, ten years.
impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_last: 96,
            daily: 62,
            weekly: 26,
            monthly: 36,
            yearly: 10,
        }
    }
}

impl Retention {
    /// Most sessions that these rules keep.
    #[must_use]
    pub fn most(&self) -> u64 {
        let Self {
            keep_last,
            daily,
            weekly,
            monthly,
            yearly,
        } = *self;
        [keep_last, daily, weekly, monthly, yearly]
            .into_iter()
            .map(u64::from)
            .sum()
    }
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Version of its layer.
    pub version: String,
    /// The point in time that it brings back.
    pub time: Timestamp,
}

/// Versions of the sessions that are let go, oldest first: never the newest, and none of those kept by hand.
#[must_use]
pub fn retired(sessions: &[Point], kept: &BTreeSet<String>, rules: &Retention) -> Vec<String> {
    let mut newest_first: Vec<_> = sessions.iter().collect();
    newest_first.sort_by(|a, b| (b.time, &b.version).cmp(&(a.time, &a.version)));
    let mut stays = kept.clone();
    let last = usize::try_from(rules.keep_last.max(1)).unwrap_or(usize::MAX);
    stays.extend(newest_first.iter().take(last).map(|it| it.version.clone()));
    keep(&newest_first, rules.daily, |day| day, &mut stays);
    keep(&newest_first, rules.weekly, week, &mut stays);
    keep(
        &newest_first,
        rules.monthly,
        |day| (day.year(), day.month()),
        &mut stays,
    );
    keep(&newest_first, rules.yearly, Date::year, &mut stays);
    let gone = newest_first.iter().rev().map(|it| &it.version);
    gone.filter(|it| !stays.contains(*it)).cloned().collect()
}

/// Keeps the newest session of each of the last `periods` that have one.
fn keep<P: PartialEq>(
    newest_first: &[&Point],
    periods: u32,
    period: impl Fn(Date) -> P,
    stays: &mut BTreeSet<String>,
) {
    let (mut found, mut last) = (0, None);
    for point in newest_first {
        let this = Some(period(point.time.to_zoned(TimeZone::UTC).date()));
        if this == last {
            continue;
        }
        if found == periods {
            return;
        }
        found += 1;
        last = this;
        stays.insert(point.version.clone());
    }
}

fn week(day: Date) -> (i16, i8) {
    let week = day.iso_week_date();
    (week.year(), week.week())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(times: &[&str]) -> Vec<Point> {
        let point = |time: &&str| Point {
            version: time.to_string(),
            time: format!("{time}:00Z").parse().unwrap(),
        };
        times.iter().map(point).collect()
    }

    const NONE: Retention = Retention {
        keep_last: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };

    fn stays(times: &[&str], rules: Retention) -> Vec<String> {
        let gone = retired(&points(times), &BTreeSet::new(), &rules);
        let stay = times.iter().map(ToString::to_string);
        stay.filter(|it| !gone.contains(it)).collect()
    }

    #[test]
    fn the_newest_session_is_never_let_go() {
        let times = ["2026-06-01T02:00", "2026-06-03T02:00", "2026-06-02T02:00"];
        assert_eq!(stays(&times, NONE), ["2026-06-03T02:00"]);
        assert_eq!(stays(&times[..1], NONE), ["2026-06-01T02:00"]);
        assert!(retired(&[], &BTreeSet::new(), &NONE).is_empty());
    }

    #[test]
    fn a_session_that_is_kept_by_hand_is_not_let_go_whatever_the_rules() {
        let times = ["2020-06-01T02:00", "2021-06-01T02:00", "2026-06-03T02:00"];
        let kept = BTreeSet::from(["2020-06-01T02:00".to_owned()]);
        assert_eq!(retired(&points(&times), &kept, &NONE), ["2021-06-01T02:00"]);
    }

    #[test]
    fn of_each_period_that_has_sessions_the_newest_stays() {
        let times = [
            "2024-03-01T02:00",
            "2025-12-30T02:00",
            "2026-01-01T02:00",
            "2026-06-01T23:59",
            "2026-06-02T00:00",
            "2026-06-02T12:00",
        ];
        let daily = Retention { daily: 2, ..NONE };
        assert_eq!(
            stays(&times, daily),
            ["2026-06-01T23:59", "2026-06-02T12:00"]
        );
        // 30 December 2025 and 1 January 2026 are of one week.
        let weekly = Retention { weekly: 3, ..NONE };
        let weeks = ["2024-03-01T02:00", "2026-01-01T02:00", "2026-06-02T12:00"];
        assert_eq!(stays(&times, weekly), weeks);
        let monthly = Retention { monthly: 3, ..NONE };
        let months = ["2025-12-30T02:00", "2026-01-01T02:00", "2026-06-02T12:00"];
        assert_eq!(stays(&times, monthly), months);
        let yearly = Retention { yearly: 2, ..NONE };
        assert_eq!(
            stays(&times, yearly),
            ["2025-12-30T02:00", "2026-06-02T12:00"]
        );
    }

    #[test]
    fn years_without_the_host_take_nothing_from_it() {
        let times = ["2016-06-01T02:00", "2016-06-02T02:00", "2016-06-03T02:00"];
        let daily = Retention { daily: 3, ..NONE };
        assert_eq!(stays(&times, daily), times);
    }

    #[test]
    fn letting_go_twice_lets_nothing_more_go() {
        let times: Vec<_> = (1..=28)
            .flat_map(|day| (0..24).map(move |hour| format!("2026-02-{day:02}T{hour:02}:30")))
            .collect();
        let times: Vec<_> = times.iter().map(String::as_str).collect();
        let rules = Retention {
            keep_last: 30,
            daily: 7,
            weekly: 4,
            ..NONE
        };
        let once = stays(&times, rules);
        // Two of the seven days and two of the four weeks are among those already.
        assert_eq!(once.len(), 30 + 5 + 2, "{once:?}");
        let once: Vec<_> = once.iter().map(String::as_str).collect();
        assert_eq!(stays(&once, rules), once);
    }
}
