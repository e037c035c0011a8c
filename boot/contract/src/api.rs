//! The paths and bodies of the API, HTTP/1.1. `docs/formats/api.md` specifies it.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/plan` [`PlanRequest`] | a signed plan ([`crate::plan::BootPlan`] in an envelope) |
//! | `POST /v1/recovery` [`RecoveryRequest`], sealed | [`RecoveryAnswer`], sealed: a plan with an order, credentials, the host's layer |
//! | `POST /v1/hosts` [`Enrolment`] | [`Enrolled`] |
//! | `GET /v1/hosts/ID` | [`HostState`] |
//! | `POST /v1/hosts/ID/sessions` [`NewSession`] | 201 |
//! | `GET /v1/metadata/N.host-ID.json` | a host's signed sessions |
//! | `GET /v1/metadata/N.root.json`, `timestamp.json`, `N.snapshot.json`, `N.targets.json` | TUF metadata, consistent snapshots |
//! | `GET /v1/layers/DIGEST` | a stored layer; Range is honoured |
//! | `GET /v1/manifests/DIGEST.json` | a manifest |
//! | `POST /v1/events` [`crate::event::Event`] | 204 |

use serde::{Deserialize, Serialize};

use crate::limits::{CREDENTIALS_BYTES_MAX, PLAN_BYTES_MAX};
use crate::plan::Nonce;
use crate::seal::{SEALED_EXTRA_BYTES, SealTo};
use crate::{Digest, Secret};

/// Path of the plan request.
pub const PLAN_PATH: &str = "/v1/plan";
/// Path of the request with a recovery code.
pub const RECOVERY_PATH: &str = "/v1/recovery";
/// Path of enrolments; each host's own path is below it.
pub const HOSTS_PATH: &str = "/v1/hosts";
/// Path below which views are.
pub const VIEW_PATH: &str = "/v1/view";
/// Path that takes events.
pub const EVENTS_PATH: &str = "/v1/events";
/// Header of an event that its machine has signed ([`crate::trust::EventSigner::header`]).
pub const EVENT_SIGNATURE_HEADER: &str = "towline-signature";

/// Path of a metadata file, such as `timestamp.json`.
#[must_use]
pub fn metadata_path(file: &str) -> String {
    format!("/v1/metadata/{file}")
}

/// Path of a metadata file in the view of one host, or of a machine that is no host: the same catalogue, without what is about
/// other hosts.
#[must_use]
pub fn view_path(host: Option<&str>, file: &str) -> String {
    match host {
        Some(host) => format!("{VIEW_PATH}/{host}/{file}"),
        None => format!("{VIEW_PATH}/{file}"),
    }
}

/// Path of a stored layer.
#[must_use]
pub fn layer_path(digest: &Digest) -> String {
    format!("/v1/layers/{digest}")
}

/// Path of a manifest, by the digest of the manifest's bytes.
#[must_use]
pub fn manifest_path(digest: &Digest) -> String {
    format!("/v1/manifests/{digest}.json")
}

/// Largest request body the server reads, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Largest body of a new session, in bytes: a layer with a ReaR of its own has 1 MB, a list of 2,000 sessions as much.
pub const NEW_SESSION_BYTES_MAX: usize = 4 << 20;

/// Largest body of an enrolment, in bytes: a machine with a hundred network interfaces has 4 KB.
pub const ENROLMENT_BYTES_MAX: usize = 16 << 10;

/// Path that takes a host's sessions.
#[must_use]
pub fn sessions_path(host: &str) -> String {
    format!("{HOSTS_PATH}/{host}/sessions")
}

/// What a machine asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Fresh random bytes.
    pub nonce: Nonce,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// `uname -r` of the kernel that asks.
    pub kernel_release: String,
    /// The host to recover, when the medium or the operator named one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// How the operator wants to start it (`towline.handover=` on the command line); the server's choice when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hand_over: Option<crate::plan::HandOver>,
    /// The machine, for people who must recognise it.
    pub machine: Machine,
}

/// What identifies a machine to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// MAC addresses of its network interfaces.
    pub macs: Vec<String>,
    /// `/sys/class/dmi/id/product_uuid`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uuid: Option<String>,
    /// `/sys/class/dmi/id/product_serial`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// `/sys/class/dmi/id/sys_vendor` and `product_name`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Started by UEFI rather than BIOS.
    pub uefi: bool,
}

/// Most network interfaces of a machine. Servers with many ports have a dozen.
pub const MACHINE_MACS_MAX: usize = 64;

/// Longest text of a machine, in bytes. SMBIOS has strings of at most 64 characters in practice, and two of them make a model.
pub const MACHINE_TEXT_BYTES_MAX: usize = 128;

impl Machine {
    /// What of it is larger than any machine has: whoever describes it so is not believed.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        let count = self.macs.len();
        if count > MACHINE_MACS_MAX {
            return Some(format!(
                "the machine has {count} network interfaces, and {MACHINE_MACS_MAX} is the most"
            ));
        }
        let texts = [&self.uuid, &self.serial, &self.model];
        let texts = texts.into_iter().flatten().chain(&self.macs);
        let longest = texts.map(String::len).max().unwrap_or_default();
        (longest > MACHINE_TEXT_BYTES_MAX).then(|| {
            format!("a text of the machine has {longest} bytes, and {MACHINE_TEXT_BYTES_MAX} is the most")
        })
    }

    /// The same, with what is larger left out or cut: what a machine may say of itself.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.macs.retain(|it| it.len() <= MACHINE_TEXT_BYTES_MAX);
        self.macs.truncate(MACHINE_MACS_MAX);
        for text in [&mut self.uuid, &mut self.serial, &mut self.model] {
            while text
                .as_ref()
                .is_some_and(|it| it.len() > MACHINE_TEXT_BYTES_MAX)
            {
                text.as_mut().and_then(String::pop);
            }
        }
        self
    }
}

/// Body of every answer with a 4xx or 5xx status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// A sentence for the person at the console.
    pub message: String,
    /// What they can do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What a machine asks whose operator typed a recovery code. It is sealed to the key that an earlier plan named, and sent
/// only over TLS, with the certificate's dates checked at that plan's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryRequest {
    /// The code, as [`crate::recovery::Code`] prints it.
    pub code: Secret,
    /// A key that the machine made for this request alone: the answer is sealed to it.
    pub seal_to: SealTo,
    /// The request for a plan, with a nonce of its own.
    pub request: PlanRequest,
}

/// Largest host layer that is in the answer to a code, in bytes: those of hosts come in requests of at most
/// [`NEW_SESSION_BYTES_MAX`], in base64. A larger one, which an operator published, is fetched like any other layer.
pub const HOST_LAYER_BYTES_MAX: u64 = 3 << 20;

/// Largest answer to a code, sealed, in bytes: a plan as text in JSON, credentials and a host layer in base64.
pub const RECOVERY_ANSWER_BYTES_MAX: u64 = 2 * PLAN_BYTES_MAX
    + (CREDENTIALS_BYTES_MAX + HOST_LAYER_BYTES_MAX) * 4 / 3
    + 1024
    + SEALED_EXTRA_BYTES as u64;

/// The answer to a right code, sealed to the key of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryAnswer {
    /// The signed plan, the envelope as text: its bytes are what is verified.
    pub plan: String,
    /// The credentials layer, uncompressed newc in base64; its digest is in the plan's order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credentials: Option<Secret>,
    /// The host that the code recovers, for a machine that named none: it says whose sessions to fetch, and nothing more.
    /// What is recovered is what the plan says, once it is verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// The stored bytes of the plan's host layer in base64, when they are at most [`HOST_LAYER_BYTES_MAX`]: what the catalogue
    /// and its manifest say of it is verified as ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_layer: Option<Secret>,
}

/// A protected host asks to be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The host's identifier, a part of target names.
    pub host: String,
    /// Its own name.
    pub hostname: String,
    /// The public half of the key it made.
    pub key: crate::trust::PublicKey,
    /// The machine, for the person who approves.
    pub machine: Machine,
}

/// What became of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// Whether an operator has approved it.
    pub state: EnrolmentState,
}

/// Where an enrolment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolmentState {
    /// An operator must compare the fingerprint and approve.
    Waiting,
    /// The catalogue names the host's key.
    Approved,
}

/// What a host needs to know before it adds a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostState {
    /// Identifier of the key that the catalogue or the enrolment names.
    pub key: crate::trust::KeyId,
    /// Whether an operator has approved it.
    pub state: EnrolmentState,
    /// The newest file of the host's role, the envelope as text; none before the first session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions: Option<String>,
    /// The key that signed that file, when it is the one before the host's own: the host signs its next file over it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub predecessor: Option<crate::trust::PublicKey>,
    /// Versions of the sessions that the retention rules let go: the host leaves them out of the next file.
    #[serde(default)]
    pub retired: Vec<String>,
}

/// A new session: kilobytes, so all of it in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// The next file of the host's role, the envelope as text.
    pub sessions: String,
    /// The manifest, as text.
    pub manifest: String,
    /// The stored layer in base64.
    pub layer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_larger_than_any_is_named_with_both_sides_and_one_that_is_bounded_is_not() {
        let mac = || "52:54:00:00:00:01".to_owned();
        let many = Machine {
            macs: vec![mac(); MACHINE_MACS_MAX + 1],
            ..Machine::default()
        };
        let long = Machine {
            macs: vec![mac(); MACHINE_MACS_MAX],
            model: Some("é".repeat(MACHINE_TEXT_BYTES_MAX)),
            ..Machine::default()
        };
        for (machine, both) in [(many, ["65", "64"]), (long, ["256", "128"])] {
            let mistake = machine.mistake().unwrap();
            assert!(both.iter().all(|it| mistake.contains(it)), "{mistake}");
            let bounded = machine.bounded();
            assert_eq!(bounded.mistake(), None);
            assert_eq!(bounded.macs.len(), MACHINE_MACS_MAX);
        }
    }
}
