//! How long each wait may be, and the pauses between attempts.

use std::time::Duration;

/// How long each wait may be. [`Patience::default`] is for machines that boot; tests have less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To resolve a name, to connect to one address, or to shake hands for TLS (in software, on a slow machine).
    pub connect: Duration,
    /// Without a single byte. Satellite links and spanning tree come back within it.
    pub stall: Duration,
    /// For one small document, or one chunk of a layer, from request to last byte: a server that sends byte by byte is left.
    pub document: Duration,
    /// Without one more verified chunk from any mirror, before the person is asked. A server restarts, a switch reboots
    /// within it.
    pub progress: Duration,
    /// Bytes a second that a mirror must deliver while another may deliver more ([`super::pace`]).
    pub least_rate: u64,
    /// The time over which that rate is measured.
    pub rate_over: Duration,
    /// First pause between attempts.
    pub pause: Duration,
    /// Longest pause between attempts.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            document: Duration::from_secs(300),
            progress: Duration::from_secs(300),
            least_rate: 64 << 10,
            rate_over: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(15),
        }
    }
}

/// Pauses that grow, each by a random part longer, so that a hundred machines do not come back at once.
#[derive(Debug)]
pub(super) struct Pauses {
    patience: Patience,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            next: patience.pause,
        }
    }

    /// Begins with the shortest again.
    pub(super) fn reset(&mut self) {
        self.next = self.patience.pause;
    }

    pub(super) async fn rest(&mut self) {
        tokio::time::sleep(self.step(random_byte())).await;
    }

    /// The pause for this random byte: between once and twice its length.
    fn step(&mut self, random: u8) -> Duration {
        let pause = self.next + self.next.mul_f32(f32::from(random) / 256.0);
        self.next = (self.next * 2).min(self.patience.pause_max);
        pause
    }
}

/// Without randomness the pause is merely the same for all.
fn random_byte() -> u8 {
    let mut random = [0; 1];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
    random[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_begin_again() {
        let mut pauses = Pauses::new(Patience::default());
        let lengths: Vec<_> = (0..8).map(|_| pauses.step(0).as_millis()).collect();
        assert_eq!(lengths, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
        pauses.reset();
        assert_eq!(pauses.step(128).as_millis(), 750);
    }
}
