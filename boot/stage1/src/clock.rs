//! The machine's clock: read here only, and moved here only.
//!
//! The hardware clock of a dead machine may be years off, either way. It is believed only when it is not below the floor;
//! a verified plan corrects it. The monotonic clock measures everything else.

use std::io;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use towline_contract::Timestamp;

/// Most that a believed clock may differ from a note written before kexec. Starting a kernel takes minutes at most.
const KEXEC_DRIFT_MAX: Duration = Duration::from_secs(3600);

/// Most that a plan's time may lie before the machine's clock without a word. Clocks of dead machines drift by minutes;
/// a server that hands out old metadata says a time at which that was valid.
const PLAN_BEHIND_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Most that a held time may differ before it is put back.
const HELD_DRIFT_MAX: Duration = Duration::from_secs(2);

/// The system's time now; the kernel has set it from the hardware clock.
#[must_use]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    // Nanoseconds of a second fit.
    let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp::new(time.tv_sec, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A time to the second, for people.
#[must_use]
pub fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Sets the system's time.
///
/// # Errors
/// Not permitted.
pub fn set(time: Timestamp) -> io::Result<()> {
    let time = Timespec {
        tv_sec: time.as_second(),
        tv_nsec: i64::from(time.subsec_nanosecond().max(0)),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// The time to go on with before any plan: what the hardware clock says, but never before `floor`.
#[must_use]
pub fn believed(now: Timestamp, floor: Timestamp) -> Timestamp {
    now.max(floor)
}

/// Whether a plan's time is so far before the machine's clock that a person should hear of it. It is no reason to refuse:
/// hardware clocks are wrong in either direction. `now` is never before the floor ([`believed`]).
#[must_use]
pub fn is_suspiciously_old(plan: Timestamp, now: Timestamp) -> bool {
    now.duration_since(plan) > PLAN_BEHIND_MAX
}

/// The time to go on with after kexec, which has read the hardware clock again: `now` if it is near what the note says.
#[must_use]
pub fn after_kexec(now: Timestamp, note: Timestamp, uptime: Duration) -> Timestamp {
    let apart = now.duration_since(note).unsigned_abs();
    if apart <= KEXEC_DRIFT_MAX {
        return now;
    }
    note.checked_add(uptime).unwrap_or(note)
}

/// The time at one moment, carried on by the clock that only counts, so that nothing else can move it.
///
/// udev's rules on Debian set the system's time from the hardware clock when they find one.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    time: Timestamp,
    since: Instant,
}

impl Held {
    /// Holds the system's time.
    #[must_use]
    pub fn take() -> Self {
        Self {
            time: now(),
            since: Instant::now(),
        }
    }

    /// Sets the system's time again if something has moved it; true if it was.
    ///
    /// # Errors
    /// Not permitted.
    pub fn put_back(self) -> io::Result<bool> {
        let wanted = self.time.checked_add(self.since.elapsed());
        let wanted = wanted.map_err(io::Error::other)?;
        let moved = now().duration_since(wanted).unsigned_abs() > HELD_DRIFT_MAX;
        if moved {
            set(wanted)?;
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_below_the_floor_is_not_believed() {
        let floor = time("2026-01-01T00:00:00Z");
        assert_eq!(believed(time("2012-01-01T00:00:00Z"), floor), floor);
        let later = time("2026-03-01T12:00:00Z");
        assert_eq!(believed(later, floor), later);
    }

    #[test]
    fn a_plan_from_long_before_the_hardware_clock_is_worth_a_word() {
        let now = time("2026-03-08T12:00:00Z");
        for (plan, suspicious) in [
            ("2025-03-08T12:00:00Z", true),
            ("2026-03-01T11:59:59Z", true),
            ("2026-03-01T12:00:00Z", false),
            ("2026-03-08T12:00:01Z", false),
            ("2038-01-19T00:00:00Z", false),
        ] {
            assert_eq!(is_suspiciously_old(time(plan), now), suspicious, "{plan}");
        }
        // A hardware clock below the floor says nothing: what counts is the floor, and no plan is before that.
        let floor = time("2026-01-01T00:00:00Z");
        let now = believed(time("2012-01-01T00:00:00Z"), floor);
        assert!(!is_suspiciously_old(floor, now));
    }

    #[test]
    fn after_kexec_the_note_outweighs_a_hardware_clock_that_is_years_off() {
        let note = time("2026-03-01T12:00:00Z");
        let uptime = Duration::from_secs(20);
        let corrected = time("2026-03-01T12:00:20Z");
        for wrong in ["2012-01-01T00:00:00Z", "2038-01-19T00:00:00Z"] {
            assert_eq!(after_kexec(time(wrong), note, uptime), corrected);
        }
        let right = time("2026-03-01T12:00:31Z");
        assert_eq!(after_kexec(right, note, uptime), right);
    }

    #[test]
    fn a_time_that_nothing_has_moved_is_left_alone() {
        assert!(!Held::take().put_back().unwrap());
    }
}
