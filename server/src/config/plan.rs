//! What an operator decides about what machines boot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use towline_contract::manifest::Kind;
use towline_contract::plan::HandOver;

/// What machines boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// Name of the kernel layer; needed when several names are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Name of the base layer; needed when several names are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Names of the agent layers; all that are published when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// Names of the extra layers; all that are published when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extras: Option<Vec<String>>,
    /// How to start the rescue system.
    pub hand_over: HandOverChoice,
    /// Kernel command line of the rescue system when it is started by kexec.
    pub command_line: String,
    /// Minutes that a plan is valid for.
    pub minutes: u8,
    /// Hosts that boot a kernel or a base of their own, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, HostPlan>,
}

/// What one host boots instead of what the others do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostPlan {
    /// Name of its kernel layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Name of its base layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl PlanConfig {
    /// The name that is set for the kernel or base of `host`, or else of every host.
    #[must_use]
    pub fn named(&self, kind: Kind, host: Option<&str>) -> Option<&str> {
        let own = host.and_then(|host| self.hosts.get(host));
        let of_all = match kind {
            Kind::Kernel => &self.kernel,
            _ => &self.base,
        };
        own.and_then(|own| own.named(kind)).or(of_all.as_deref())
    }

    /// The names that are set for the agents or extras that machines boot.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Option<&[String]> {
        match kind {
            Kind::Agent => self.agents.as_deref(),
            Kind::Extra => self.extras.as_deref(),
            _ => None,
        }
    }

    /// Whether machines boot the newest layer of this kind and name, if it is an agent or an extra.
    #[must_use]
    pub fn boots(&self, kind: Kind, name: &str) -> bool {
        let names = self.names(kind);
        names.is_none_or(|names| names.iter().any(|it| it == name))
    }

    /// Whether the kernel or base called `name` is one for `host`; without a host, for those that have none of their own.
    /// Where nothing is set, any is but those that are set for single hosts.
    #[must_use]
    pub fn wants(&self, kind: Kind, host: Option<&str>, name: &str) -> bool {
        match self.named(kind, host) {
            Some(wanted) => wanted == name,
            None => !self.hosts.values().any(|own| own.named(kind) == Some(name)),
        }
    }
}

impl HostPlan {
    fn named(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Kernel => self.kernel.as_deref(),
            _ => self.base.as_deref(),
        }
    }
}

/// How to start the rescue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOverChoice {
    /// In place when the machine already runs the chain's kernel, else by kexec.
    Auto,
    /// Always in place; refused when the machine runs another kernel.
    InPlace,
    /// Always by kexec.
    Kexec,
}

impl From<HandOver> for HandOverChoice {
    fn from(how: HandOver) -> Self {
        match how {
            HandOver::InPlace => Self::InPlace,
            HandOver::Kexec => Self::Kexec,
        }
    }
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            kernel: None,
            base: None,
            agents: None,
            extras: None,
            hand_over: HandOverChoice::Auto,
            command_line: "console=tty0 console=ttyS0,115200".into(),
            minutes: 5,
            hosts: BTreeMap::new(),
        }
    }
}
