//! Slow mirrors: how fast one delivers, and whether another may be faster.
//!
//! A mirror that sends a little, again and again, could keep a machine for hours. It is left while another is untried, or was
//! measured to be twice as fast; the only one, or the fastest, keeps all the patience there is: a virtual medium or a VPN
//! may have no more than 50 KB/s.

use std::time::{Duration, Instant};

use super::{Patience, Server};

/// The rate of one stream, over the time that was spent waiting for it: a slow machine does not make its mirrors slow.
#[derive(Debug)]
pub(super) struct Pace {
    over: Duration,
    /// Bytes a second below which the stream is given up; 0 for any.
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(patience: Patience, least: u64) -> Self {
        Self {
            over: patience.rate_over,
            least,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts bytes and the wait for them; gives the rate if it has been too low for long enough.
    pub(super) fn add(&mut self, bytes: u64, waited: Duration) -> Option<u64> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.over {
            return None;
        }
        let milliseconds = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        let rate = self.bytes.saturating_mul(1000) / milliseconds.max(1);
        (self.bytes, self.waited) = (0, Duration::ZERO);
        (rate < self.least).then_some(rate)
    }
}

/// What was measured of the mirrors of one layer.
#[derive(Debug, Default)]
pub(super) struct Measured<'a>(Vec<(&'a Server, u64, Instant)>);

impl<'a> Measured<'a> {
    /// `server` delivered so many bytes a second; 0 if it failed.
    pub(super) fn note(&mut self, server: &'a Server, rate: u64, now: Instant) {
        self.0.retain(|(it, ..)| *it != server);
        self.0.push((server, rate, now));
    }

    /// The rate below which `server` is left for one of the `others`. One that failed counts as untried again after a while.
    pub(super) fn least_rate<'s>(
        &self,
        others: impl Iterator<Item = &'s Server>,
        patience: Patience,
        now: Instant,
    ) -> u64 {
        let least = others.map(|other| match self.0.iter().find(|(it, ..)| *it == other) {
            Some((_, 0, since)) if now - *since > patience.progress => patience.least_rate,
            Some((_, rate, _)) => (rate / 2).min(patience.least_rate),
            None => patience.least_rate,
        });
        least.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_counts_once_it_was_too_low_for_long_enough() {
        let patience = Patience::default();
        let mut pace = Pace::new(patience, patience.least_rate);
        for _ in 0..29 {
            assert_eq!(pace.add(1000, SECOND), None);
        }
        assert_eq!(pace.add(1000, SECOND), Some(1000));
        for _ in 0..120 {
            assert_eq!(pace.add(64 << 10, SECOND), None);
        }
        let mut only = Pace::new(patience, 0);
        assert_eq!(only.add(0, 60 * SECOND), None);
    }

    #[test]
    fn a_mirror_is_left_for_an_untried_or_a_faster_one_and_the_only_one_never() {
        let server = |url| Server::parse(url).unwrap();
        let (slow, slower) = (server("http://a"), server("http://b"));
        let (patience, now) = (Patience::default(), Instant::now());
        let mut measured = Measured::default();
        let least = |measured: &Measured<'_>, others: &[&Server], now| {
            measured.least_rate(others.iter().copied(), patience, now)
        };
        assert_eq!(least(&measured, &[], now), 0);
        assert_eq!(least(&measured, &[&slower], now), patience.least_rate);
        measured.note(&slow, 50_000, now);
        measured.note(&slower, 1000, now);
        // The slower one is left for the other, and that one is kept.
        assert_eq!(least(&measured, &[&slow], now), 25_000);
        assert_eq!(least(&measured, &[&slower], now), 500);
        measured.note(&slower, 0, now);
        assert_eq!(least(&measured, &[&slower], now), 0);
        let later = now + 2 * patience.progress;
        assert_eq!(least(&measured, &[&slower], later), patience.least_rate);
    }
}
