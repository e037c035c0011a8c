//! Turns the byte counts of a transfer into an occasional line with rate and time left. Reads no clock.

use std::fmt::Write as _;
use std::time::Duration;

/// Time between two lines of one transfer.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// A transfer that took less has no rate worth reading.
const SHORT: Duration = Duration::from_millis(100);

/// One transfer.
#[derive(Debug)]
pub(crate) struct Meter {
    what: String,
    started: Duration,
    start_bytes: u64,
    shown: Duration,
    shown_bytes: u64,
    finished: bool,
}

impl Meter {
    /// A transfer of `what` that is at `done` bytes at the moment `now` (since any fixed moment).
    pub(crate) fn new(what: &str, done: u64, now: Duration) -> Self {
        Self {
            what: what.to_owned(),
            started: now,
            start_bytes: done,
            shown: now,
            shown_bytes: done,
            finished: false,
        }
    }

    /// Whether a report belongs to this transfer: same thing, not begun anew.
    pub(crate) fn is_of(&self, what: &str, done: u64) -> bool {
        self.what == what && !(self.finished && done < self.shown_bytes)
    }

    /// Takes a report; the line to show, if it is time for one.
    pub(crate) fn report(&mut self, done: u64, total: u64, now: Duration) -> Option<String> {
        if self.finished {
            return None;
        }
        if done >= total {
            self.finished = true;
            self.shown_bytes = done;
            return Some(self.end_line(done, now));
        }
        // A piece that is fetched again moves the count back; the rate counts from there.
        if done < self.shown_bytes {
            self.shown_bytes = done;
            self.shown = now;
        }
        if now.saturating_sub(self.shown) < BETWEEN_LINES {
            return None;
        }
        let rate = rate(done - self.shown_bytes, now - self.shown);
        self.shown = now;
        self.shown_bytes = done;
        let mut line = format!(
            "{}: {} of {} ({} %), {}/s",
            self.what,
            Size(done),
            Size(total),
            done.saturating_mul(100) / total.max(1),
            Size(rate)
        );
        match (total - done).checked_div(rate) {
            Some(seconds) => {
                let _ = write!(line, ", {} left", Time(seconds));
            }
            None => line.push_str(", stalled"),
        }
        Some(line)
    }

    fn end_line(&self, done: u64, now: Duration) -> String {
        let took = now.saturating_sub(self.started);
        if took < SHORT {
            return format!("{}: {}", self.what, Size(done));
        }
        let (rate, took) = (
            rate(done.saturating_sub(self.start_bytes), took),
            took.as_secs_f64(),
        );
        format!(
            "{}: {} in {took:.1} s, {}/s",
            self.what,
            Size(done),
            Size(rate)
        )
    }
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / milliseconds
}

/// A size for people.
struct Size(u64);

impl std::fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            bytes if bytes >= 1 << 10 => write!(f, "{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// Seconds for people.
struct Time(u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            seconds if seconds >= 3600 => {
                write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60)
            }
            seconds if seconds >= 60 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_comes_every_five_seconds_with_rate_and_time_left() {
        let mut meter = Meter::new("base", 0, at(0));
        assert_eq!(meter.report(MIB, 100 * MIB, at(1)), None);
        let line = meter.report(10 * MIB, 100 * MIB, at(5)).unwrap();
        assert_eq!(
            line,
            "base: 10.0 MiB of 100.0 MiB (10 %), 2.0 MiB/s, 45 s left"
        );
        assert_eq!(meter.report(11 * MIB, 100 * MIB, at(6)), None);
    }

    #[test]
    fn a_transfer_that_stands_still_says_so() {
        let mut meter = Meter::new("base", MIB, at(0));
        let line = meter.report(MIB, 100 * MIB, at(6)).unwrap();
        assert_eq!(line, "base: 1.0 MiB of 100.0 MiB (1 %), 0 B/s, stalled");
    }

    #[test]
    fn the_last_byte_always_gives_one_line() {
        let mut meter = Meter::new("host", 0, at(0));
        let line = meter
            .report(2048, 2048, Duration::from_millis(500))
            .unwrap();
        assert_eq!(line, "host: 2.0 KiB in 0.5 s, 4.0 KiB/s");
        assert_eq!(meter.report(2048, 2048, at(9)), None);
        assert!(!meter.is_of("host", 0));
        let mut quick = Meter::new("host", 0, at(0));
        assert_eq!(quick.report(10, 10, at(0)).unwrap(), "host: 10 B");
    }

    #[test]
    fn a_piece_fetched_again_moves_the_count_back() {
        let mut meter = Meter::new("base", 0, at(0));
        let _ = meter.report(50 * MIB, 100 * MIB, at(5));
        assert_eq!(meter.report(40 * MIB, 100 * MIB, at(6)), None);
        let line = meter.report(50 * MIB, 100 * MIB, at(11)).unwrap();
        assert!(line.contains("2.0 MiB/s, 25 s left"), "{line}");
    }
}
