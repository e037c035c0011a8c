//! Events: what a booting machine tells the server, step by step. Those of a recovery are signed ([`crate::trust::EventSigner`]) and
//! move it; others are for people, never a basis of a decision.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trust::PublicKey;

/// Largest event body, in bytes.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// From the first number of one [`Part`] to that of the next: the microseconds of 31 years.
const PART_NUMBERS: u64 = 1_000_000_000_000_000;

/// Parts of a recovery, in their order. By kexec and on the recovered disk another kernel runs, which counts its time from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stage 1.
    Stage1,
    /// The rescue system.
    Rescue,
    /// The recovered host, from its own disk.
    FirstBoot,
}

impl Part {
    /// The number of an event at this uptime. That of the first boot is always the same: it is told once, however often the
    /// host has to start until a server hears it.
    fn number(self, uptime: Duration) -> u64 {
        let since_start = u64::try_from(uptime.as_micros()).unwrap_or(u64::MAX);
        let since_start = since_start.min(PART_NUMBERS - 1);
        match self {
            Self::Stage1 => since_start,
            Self::Rescue => PART_NUMBERS + since_start,
            Self::FirstBoot => 2 * PART_NUMBERS,
        }
    }
}

/// One event of one boot. Fields that are not known are ignored, so that a server shows what a newer medium says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// [`crate::plan::BootPlan::recovery`].
    pub recovery: String,
    /// Rises from each event of a recovery to the next, so that an older one cannot be sent again; what is sent again, since its
    /// answer was lost, has its old number. Media of before events were signed send none.
    #[serde(default)]
    pub number: u64,
    /// Seconds since this machine's kernel started.
    pub uptime_seconds: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

impl Event {
    /// What happened in `part` of a recovery, `uptime` after its kernel started.
    #[must_use]
    pub fn new(recovery: &str, part: Part, uptime: Duration, what: What) -> Self {
        Self {
            recovery: recovery.to_owned(),
            number: part.number(uptime),
            uptime_seconds: uptime.as_secs(),
            what,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The plan was verified.
    PlanVerified,
    /// A layer is verified and in its place.
    LayerPlaced {
        /// Target name.
        target: String,
        /// Stored bytes.
        bytes: u64,
        /// Milliseconds it took.
        milliseconds: u64,
    },
    /// Stage 1 is about to hand over.
    HandOver {
        /// `in-place` or `kexec`.
        how: crate::plan::HandOver,
    },
    /// The rescue system is up; the outcome of each layer's checks.
    RescueReady {
        /// Results in chain order.
        checks: Vec<CheckResult>,
        /// Memory in use when the rescue was ready, in KiB (`MemTotal - MemAvailable`).
        memory_used_kib: u64,
    },
    /// The recovery began: the disks are still as they were.
    RecoveryStarted {
        /// Version of the host layer.
        session: String,
    },
    /// Partitions and file systems are recreated and mounted.
    LayoutRecreated {
        /// Seconds since the recovery began.
        seconds: u64,
    },
    /// The restore is going on.
    Restoring {
        /// Bytes on the recreated file systems.
        bytes: u64,
        /// Bytes there will be, when known.
        total: Option<u64>,
    },
    /// The agent is done, and said so.
    Restored {
        /// Bytes on the recreated file systems.
        bytes: u64,
        /// Seconds it took.
        seconds: u64,
    },
    /// The recovery is complete but for the first boot.
    Recovered {
        /// Seconds since the recovery began.
        seconds: u64,
        /// What was checked at the end.
        checks: Vec<CheckResult>,
    },
    /// The recovered host started from its own disk.
    FirstBoot {
        /// Its host name.
        hostname: String,
        /// `uname -r`.
        kernel_release: String,
        /// The host's new key, when its own did not come back with its files. Whoever opened the recovery has approved it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        key: Option<PublicKey>,
    },
    /// Something failed and the machine asks its operator.
    Failed {
        /// Message with its causes.
        message: String,
    },
}

/// Outcome of one [`crate::manifest::Check`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Target name of the layer.
    pub layer: String,
    /// The check's name.
    pub name: String,
    /// Whether the command ended with status 0.
    pub passed: bool,
    /// First line of its output (at most 200 bytes).
    pub output: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_within_a_part_and_from_part_to_part_whatever_the_uptime_is() {
        let number = |part, micros| {
            let uptime = Duration::from_micros(micros);
            Event::new("r-1", part, uptime, What::PlanVerified).number
        };
        let rising = [
            number(Part::Stage1, 0),
            number(Part::Stage1, 1),
            number(Part::Stage1, u64::MAX),
            number(Part::Rescue, 0),
            number(Part::Rescue, 60_000_000),
            number(Part::Rescue, u64::MAX),
            number(Part::FirstBoot, 0),
        ];
        assert!(rising.is_sorted_by(|one, next| one < next), "{rising:?}");
        let again = number(Part::FirstBoot, 60_000_000);
        assert_eq!(again, number(Part::FirstBoot, 0), "the host started twice");
    }
}
