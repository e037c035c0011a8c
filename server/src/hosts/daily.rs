//! How much one host may send a day: its key may be in other hands.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use towline_contract::Timestamp;

/// Most sessions of one host in one day. One every 15 minutes is 96, and a host that was cut off sends what waited (32).
pub const SESSIONS_MAX: u32 = 400;

/// Seconds of a day.
const DAY: i64 = 24 * 3600;

/// Sessions of each host that were added, in the day of the last one.
#[derive(Debug, Default)]
pub struct Daily(Mutex<BTreeMap<String, (i64, u32)>>);

impl Daily {
    /// Whether one more of the host may be added. What is refused takes nothing of its day.
    #[must_use]
    pub fn has_room(&self, host: &str, now: Timestamp) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(day, count): &(i64, u32)| *day == today(now) && *count >= SESSIONS_MAX;
        !counts.get(host).is_some_and(full)
    }

    /// Counts one that was added.
    pub fn count(&self, host: &str, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, count) = counts.entry(host.to_owned()).or_default();
        if *day != today(now) {
            (*day, *count) = (today(now), 0);
        }
        *count = count.saturating_add(1);
    }
}

fn today(now: Timestamp) -> i64 {
    now.as_second().div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_floods_the_store_waits_for_the_next_day() {
        let (daily, now) = (Daily::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..SESSIONS_MAX {
            assert!(daily.has_room("web1", now));
            daily.count("web1", now);
        }
        assert!(!daily.has_room("web1", now));
        assert!(daily.has_room("web2", now));
        let tomorrow = Timestamp::from_second(DAY).unwrap();
        assert!(daily.has_room("web1", tomorrow));
        daily.count("web1", tomorrow);
        assert!(daily.has_room("web1", tomorrow));
    }
}
