//! Events: what a booting machine tells the server, step by step. Unsigned and unauthenticated: for people and progress
//! only, never a basis of a decision.

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::trust::PublicKey;

/// Largest event body, in bytes.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// One event of one boot. Fields that are not known are ignored, so that a server shows what a newer medium says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// [`crate::plan::BootPlan::recovery`].
    pub recovery: String,
    /// [`crate::recovery::Order::report_token`]: events of a recovery that change what the server shows of it need it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<Secret>,
    /// Seconds since this machine's kernel started.
    pub uptime_seconds: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
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
