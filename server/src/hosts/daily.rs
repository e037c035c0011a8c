//! How much one host may send a day: its key may be in other hands.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use towline_contract::Timestamp;

/// Most sessions of one host in one day. One every 15 minutes is 96, and a host that was cut off sends what waited (32).
pub const SESSIONS_MAX: u32 = 400;

/// Seconds of a day.
const DAY: i64 = 24 * 3600;

/// Sessions of each host that were signed by it and looked at, in the day of the last one.
#[derive(Debug, Default)]
pub struct Daily(Mutex<BTreeMap<String, (i64, u32)>>);

impl Daily {
    /// Counts one of an approved host; false when it is one too many.
    pub fn count(&self, host: &str, now: Timestamp) -> bool {
        let today = now.as_second().div_euclid(DAY);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, count) = counts.entry(host.to_owned()).or_default();
        if *day != today {
            (*day, *count) = (today, 0);
        }
        *count = count.saturating_add(1);
        *count <= SESSIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_floods_the_store_waits_for_the_next_day() {
        let (daily, now) = (Daily::default(), Timestamp::UNIX_EPOCH);
        assert!((0..SESSIONS_MAX).all(|_| daily.count("web1", now)));
        assert!(!daily.count("web1", now));
        assert!(daily.count("web2", now));
        let tomorrow = Timestamp::from_second(DAY).unwrap();
        assert!(daily.count("web1", tomorrow));
    }
}
