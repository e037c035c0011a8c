//! A session: one point in time of one host's backup, and what the host was at that time.
//!
//! It is part of a host layer's manifest, so that the host's own signature covers it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::manifest::Package;

/// One captured session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The point in time that a restore of this session brings back.
    pub time: Timestamp,
    /// When the layout was captured; at or after `time` (as far as clocks agree), and near it.
    pub captured: Timestamp,
    /// The host's own name (`/etc/hostname`).
    pub hostname: String,
    /// The backup that belongs to it.
    pub backup: Backup,
    /// Version of ReaR that described the layout.
    pub rear: String,
    /// What the host consisted of.
    pub hardware: Hardware,
}

/// What restores the session's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Name of the agent layer, such as `restic`.
    pub agent: String,
    /// Version of the agent that made the backup.
    pub version: String,
    /// The agent's own name of the session, such as a snapshot id.
    pub session: String,
    /// Bytes of all files in it, if the agent said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
}

/// What a host consisted of: for the chain check, the comparison before disks are overwritten, and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Started by UEFI rather than BIOS.
    pub uefi: bool,
    /// Secure Boot was enforcing.
    pub secure_boot: bool,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// `modalias` of each PCI device, sorted.
    pub pci: Vec<String>,
    /// Kernel modules that its storage, file systems and network use, by name (with `_`), sorted.
    pub modules: Vec<String>,
    /// Disks of the layout, in its order.
    pub disks: Vec<Disk>,
    /// Boot loader packages and their versions.
    pub boot_loaders: Vec<Package>,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its device, such as `/dev/sda`.
    pub device: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Its serial number or WWN.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
}
