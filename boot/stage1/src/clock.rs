//! The machine's clock: read here only, and moved here only.
//!
//! The hardware clock of a dead machine may be years off, either way. It is believed only when it is not below the floor;
//! a verified plan corrects it. The monotonic clock measures everything else.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use towline_contract::Timestamp;

/// Most that a believed clock may differ from a note written before kexec. Starting a kernel takes minutes at most.
const KEXEC_DRIFT_MAX: Duration = Duration::from_secs(3600);

/// The system's time now; the kernel has set it from the hardware clock.
#[must_use]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    // Nanoseconds of a second fit.
    let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp::new(time.tv_sec, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
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

/// The time to go on with after kexec, which has read the hardware clock again: `now` if it is near what the note says.
#[must_use]
pub fn after_kexec(now: Timestamp, note: Timestamp, uptime: Duration) -> Timestamp {
    let apart = now.duration_since(note).unsigned_abs();
    if apart <= KEXEC_DRIFT_MAX {
        return now;
    }
    note.checked_add(uptime).unwrap_or(note)
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
}
