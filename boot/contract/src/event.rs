//! Events: what a booting machine tells the server, step by step. Unsigned and unauthenticated: for people and progress
//! only, never a basis of a decision.

use serde::{Deserialize, Serialize};

/// Largest event body, in bytes.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// One event of one boot. Fields that are not known are ignored, so that a server shows what a newer medium says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// [`crate::plan::BootPlan::recovery`].
    pub recovery: String,
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
