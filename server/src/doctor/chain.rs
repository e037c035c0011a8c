//! The chain check: what one host would boot now, and what of it would keep it from being recovered. A pure function.

use std::collections::BTreeSet;

use serde::Serialize;
use towline_contract::api::{Machine, PlanRequest};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::session::Session;
use towline_contract::{Digest, Timestamp};
use towline_initramfs::chain;

use super::{Finding, days, problem, warning};
use crate::catalogue::Published;
use crate::compose::{self, Refusal};
use crate::config::{Config, HandOverChoice};
use crate::recoveries::open::chosen;
use crate::sessions::{self, Choice, Rules};

/// Memory that kernel, rescue system and a restore need beside the layers, in KiB: 128 MiB are asked for before a restore,
/// restic takes 90 MiB, the rest is kernel, ReaR and what the medium's drivers take.
const WORKING_KIB: u64 = 300 << 10;

/// Copies of the stored layers that are in memory at a time when the chain's own kernel is started by kexec.
const KEXEC_COPIES: u64 = 3;

/// What one host would boot.
#[derive(Clone, Debug, Serialize)]
pub struct Chain {
    /// The host.
    pub host: String,
    /// The session; none when there is none.
    pub session: Option<SessionRow>,
    /// Its layers in their order, as far as there are any.
    pub layers: Vec<LayerRow>,
    /// The agent that restores it.
    pub agent: Option<AgentRow>,
    /// Drivers.
    pub drivers: Drivers,
    /// Memory.
    pub memory: Memory,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// The session that is brought back.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// Target name of its layer.
    pub target: String,
    /// The point in time; none when the layer does not say which backup it belongs to.
    pub time: Option<Timestamp>,
    /// The whole of what the host said of it.
    pub captured: Option<Session>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRow {
    /// Target name.
    pub target: String,
    /// When the newest of its files was made.
    pub created: Timestamp,
    /// Days since then.
    pub age_days: i64,
    /// Bytes that are downloaded.
    pub stored_bytes: u64,
    /// Bytes that it takes in memory.
    pub memory_bytes: u64,
}

/// The agent, then and now.
#[derive(Clone, Debug, Serialize)]
pub struct AgentRow {
    /// Target name of its layer.
    pub target: String,
    /// Version that made the backup.
    pub then: String,
    /// Version of the layer.
    pub now: String,
    /// Days since the newest of its files was made.
    pub age_days: i64,
    /// Packages that must be the newest ones, with their versions.
    pub current: Vec<String>,
}

/// Drivers of storage, file systems and network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drivers {
    /// What the host's disks, file systems and network use.
    pub needed: Vec<String>,
    /// What of it the kernel layer does not have.
    pub missing: Vec<String>,
}

/// Memory in KiB: an estimate, with what a restore needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Needed when the rescue system starts in the medium's kernel.
    pub in_place_kib: u64,
    /// Needed when the chain's own kernel is started.
    pub kexec_kib: u64,
    /// What the host had; none when it did not say.
    pub host_kib: Option<u64>,
}

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The host.
    pub host: &'a str,
    /// Which of its sessions.
    pub choice: &'a Choice,
    /// All published layers, the host's own sessions among them.
    pub layers: &'a [Published],
    /// Layers whose bytes the store does not have as they are published.
    pub absent: &'a BTreeSet<Digest>,
    /// The site's configuration.
    pub config: &'a Config,
}

/// Checks what the host would boot at `now`.
#[must_use]
pub fn check(question: &Question<'_>, now: Timestamp) -> Chain {
    let mut found = Chain {
        host: question.host.into(),
        session: None,
        layers: Vec::new(),
        agent: None,
        drivers: Drivers::default(),
        memory: Memory::default(),
        findings: Vec::new(),
    };
    let layer = match sessions::named(question.host, question.layers, question.choice) {
        Ok(layer) => layer,
        Err(refusal) => {
            found.findings.push(refused(refusal));
            return found;
        }
    };
    let session = layer.manifest.session.as_ref();
    found.session = Some(SessionRow {
        target: layer.target.to_string(),
        time: session.map(|it| it.time),
        captured: session.cloned(),
    });
    let rules = Rules {
        capture_lag_hours: question.config.sessions.capture_lag_hours,
        architecture: None,
    };
    if let Err(refusal) = sessions::belongs_together(layer, &rules) {
        found.findings.push(refused(refusal));
    }
    if let (Some(session), Some(chosen)) = (session, chosen(layer)) {
        let request = request(session);
        let parts = compose::recovery_parts(&request, question.layers, question.config, &chosen);
        let mut layers = Vec::new();
        for part in parts {
            match part {
                Ok(part) => layers.push(&part.manifest),
                Err(refusal) => found.findings.push(refused(refusal)),
            }
        }
        found.take(session, &layers, question, now);
    }
    found
}

impl Chain {
    /// Whether nothing keeps the host from being recovered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_problem = |it: &Finding| it.level == super::Level::Problem;
        !self.findings.iter().any(is_problem)
    }

    fn take(
        &mut self,
        session: &Session,
        layers: &[&Manifest],
        question: &Question<'_>,
        now: Timestamp,
    ) {
        let age = |it: &Manifest| days(now.duration_since(it.created));
        let row = |it: &&Manifest| LayerRow {
            target: it.target_name(),
            created: it.created,
            age_days: age(it),
            stored_bytes: it.stored_bytes,
            memory_bytes: it.image.as_ref().map_or(it.unpacked_bytes, |it| it.bytes),
        };
        self.layers = layers.iter().map(row).collect();
        if let Some(layer) = layers.iter().find(|it| it.kind == Kind::Agent) {
            self.agent = Some(AgentRow {
                target: layer.target_name(),
                then: session.backup.version.clone(),
                now: layer.version.clone(),
                age_days: age(layer),
                current: current(layer),
            });
            self.findings.extend(not_there(layer));
        }
        self.drivers = drivers(session, layers);
        self.findings.extend(missing_drivers(&self.drivers, layers));
        self.findings.extend(unresolved(layers));
        self.findings.extend(absent(layers, question.absent));
        self.memory = memory(session, layers);
        let how = question.config.plan.hand_over;
        self.findings.extend(too_little(self.memory, how));
    }
}

/// The request of a machine that is as the host was. Of kernels the newest is taken.
fn request(session: &Session) -> PlanRequest {
    PlanRequest {
        nonce: [0; 32].into(),
        architecture: session.hardware.architecture.clone(),
        kernel_release: String::new(),
        host: None,
        hand_over: None,
        machine: Machine::default(),
    }
}

/// Packages of the agent that must be the newest ones, with their versions.
fn current(layer: &Manifest) -> Vec<String> {
    let wanted = layer.agent.iter().flat_map(|it| &it.current);
    let version = |name: &String| {
        let package = layer.packages.iter().find(|it| it.name == *name)?;
        Some(format!("{name} {}", package.version))
    };
    wanted.filter_map(version).collect()
}

/// Packages that must be the newest ones, and are not in the layer at all.
fn not_there(layer: &Manifest) -> Option<Finding> {
    let wanted = layer.agent.iter().flat_map(|it| &it.current);
    let is_absent = |name: &&String| !layer.packages.iter().any(|it| it.name == **name);
    let names: Vec<_> = wanted.filter(is_absent).map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        let (target, names) = (layer.target_name(), names.join(", "));
        warning(
            format!("{target} should have the newest {names}, and has none"),
            "correct agent.current in its recipe, build and publish it",
        )
    })
}

fn drivers(session: &Session, layers: &[&Manifest]) -> Drivers {
    let kernel = layers.iter().find(|it| it.kind == Kind::Kernel);
    let needed = &session.hardware.modules;
    let is_missing = |name: &&String| kernel.is_some_and(|it| !it.provides.modules.contains(name));
    Drivers {
        missing: needed.iter().filter(is_missing).cloned().collect(),
        needed: needed.clone(),
    }
}

fn missing_drivers(drivers: &Drivers, layers: &[&Manifest]) -> Option<Finding> {
    let kernel = layers.iter().find(|it| it.kind == Kind::Kernel)?;
    let (names, target) = (drivers.missing.join(", "), kernel.target_name());
    (!names.is_empty()).then(|| {
        problem(
            format!("the host's disks, file systems or network need {names}, which {target} does not have"),
            "add the modules to the kernel's recipe, build and publish it",
        )
    })
}

/// Libraries, programs and interpreters that no layer has; drivers are told apart.
fn unresolved(layers: &[&Manifest]) -> Vec<Finding> {
    let mut layers: Vec<Manifest> = layers.iter().copied().cloned().collect();
    for host in layers.iter_mut().filter(|it| it.kind == Kind::Host) {
        host.requires.modules.clear();
    }
    // What should be in a layer that is not there is no news.
    let both = [Kind::Kernel, Kind::Base].map(|kind| layers.iter().any(|it| it.kind == kind));
    if both.contains(&false) {
        return Vec::new();
    }
    let told = |(layer, need): &(String, String)| {
        let what = format!("{layer} needs {need}, which no layer of its chain has");
        problem(what, "add it to a layer, build and publish that")
    };
    chain::check(&layers).unresolved.iter().map(told).collect()
}

fn absent(layers: &[&Manifest], absent: &BTreeSet<Digest>) -> Vec<Finding> {
    let gone = layers.iter().filter(|it| absent.contains(&it.digest));
    let told = |it: &&Manifest| {
        let (target, digest) = (it.target_name(), it.digest);
        problem(
            format!(
                "the store does not have the {} bytes of {target} ({digest})",
                it.stored_bytes
            ),
            "restore store/layers from a copy, or publish the layer again",
        )
    };
    gone.map(told).collect()
}

fn memory(session: &Session, layers: &[&Manifest]) -> Memory {
    let layers: Vec<Manifest> = layers.iter().copied().cloned().collect();
    let report = chain::check(&layers);
    let loading = KEXEC_COPIES.saturating_mul(report.stored_bytes);
    let kib = |bytes: u64| bytes.div_ceil(1024) + WORKING_KIB;
    Memory {
        in_place_kib: kib(report.memory_bytes),
        kexec_kib: kib(report.memory_bytes.max(loading)),
        host_kib: Some(session.hardware.memory_kib).filter(|it| *it > 0),
    }
}

fn too_little(memory: Memory, how: HandOverChoice) -> Option<Finding> {
    let have = memory.host_kib?;
    let need = match how {
        HandOverChoice::Kexec => memory.kexec_kib,
        HandOverChoice::Auto | HandOverChoice::InPlace => memory.in_place_kib,
    };
    let mib = |kib: u64| kib >> 10;
    if need > have {
        return Some(problem(
            format!(
                "its recovery needs about {} MiB of memory, and the host has {}",
                mib(need),
                mib(have)
            ),
            "recover it on a machine with more memory, or make its layers smaller",
        ));
    }
    let by_kexec = how == HandOverChoice::Auto && memory.kexec_kib > have;
    by_kexec.then(|| {
        warning(
            format!(
                "from a medium with another kernel its recovery needs about {} MiB of memory, and the host has {}",
                mib(memory.kexec_kib),
                mib(have)
            ),
            "keep a medium with the kernel that is published, or make the layers smaller",
        )
    })
}

fn refused(refusal: Refusal) -> Finding {
    let next = refusal.next.unwrap_or_default();
    problem(refusal.message, next)
}

#[cfg(test)]
pub(super) mod tests;
