//! The chain check: what one host would boot now, and what of it would keep it from being recovered. A pure function, but for
//! what layers hold, which [`Holdings`] reads when it is first asked for.

mod known;
mod needs;

use std::collections::BTreeSet;

use serde::Serialize;
use towline_contract::api::{Machine, PlanRequest};
use towline_contract::manifest::{Kind, Manifest, Placement, memory_bytes};
use towline_contract::plan::HandOver;
use towline_contract::session::Session;
use towline_contract::{Digest, Timestamp};

use super::{Finding, days, problem, warning};
use crate::catalogue::Published;
use crate::collisions::Hidden;
use crate::compose::{self, Refusal};
use crate::config::Config;
use crate::recoveries::open::chosen;
use crate::sessions::{self, Choice, Rules};
use known::Stack;
pub use known::{Holdings, Holds, Known};
pub use needs::{Drivers, Firmware, Memory};
use needs::{absent, devices, drivers, firmware, memory, missing_drivers, too_little, unresolved};

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
    /// Files of a layer that a later one takes the place of, as it may.
    pub hidden: Vec<Hidden>,
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
    /// Where it goes.
    pub placement: Placement,
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

/// What is checked.
#[derive(Clone, Copy)]
pub struct Question<'a, 'k> {
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
    /// The layers that hosts share.
    pub known: &'a Known<'k>,
}

/// Checks what the host would boot at `now`.
#[must_use]
pub fn check(question: &Question<'_, '_>, now: Timestamp) -> Chain {
    let mut found = Chain {
        host: question.host.into(),
        session: None,
        layers: Vec::new(),
        agent: None,
        drivers: Drivers::default(),
        memory: Memory::default(),
        hidden: Vec::new(),
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
        let (layers_of_all, config) = (question.layers, question.config);
        let gone = compose::missing_extras(&request, layers_of_all, config, &chosen);
        let without = |it: Refusal| warning(it.message, it.next.unwrap_or_default());
        found.findings.extend(gone.into_iter().map(without));
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
        question: &Question<'_, '_>,
        now: Timestamp,
    ) {
        let age = |it: &Manifest| days(now.duration_since(it.created));
        let row = |it: &&Manifest| LayerRow {
            target: it.target_name(),
            created: it.created,
            age_days: age(it),
            stored_bytes: it.stored_bytes,
            memory_bytes: memory_bytes(HandOver::InPlace, it),
            placement: it.placement,
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
        let stack = question.known.stack(layers);
        self.drivers = drivers(session, &stack);
        self.findings.extend(missing_drivers(&self.drivers, layers));
        self.findings.extend(devices(session, &stack));
        self.drivers.firmware = firmware(session, &stack);
        self.findings
            .extend(needs::missing_firmware(&self.drivers.firmware, &stack));
        self.findings.extend(unresolved(layers, &stack));
        self.findings.extend(absent(layers, question.absent));
        self.place(layers, question, &stack);
        self.memory = memory(session, layers);
        let how = question.config.plan.hand_over;
        self.findings.extend(needs::unread(layers, how));
        self.findings.extend(too_little(self.memory, how));
    }
}

impl Chain {
    /// Places the layers one over the other as a machine would, without those whose bytes are not there.
    fn place<'k>(&mut self, layers: &[&Manifest], question: &Question<'_, 'k>, stack: &Stack<'k>) {
        let is_there = |digest: &Digest| !question.absent.contains(digest);
        let mut unreadable: Vec<_> = stack.unreadable.clone();
        let mut verdict = stack.verdict();
        let own = layers.iter().find(|it| it.kind == Kind::Host);
        if let Some(host) = own.filter(|it| is_there(&it.digest)) {
            match question.known.placed(stack, host) {
                Ok(more) => {
                    verdict.collisions.extend(more.collisions);
                    verdict.hidden.extend(more.hidden);
                }
                Err(why) => unreadable.push((host.target_name(), why)),
            }
        }
        let names = layers.iter().filter(|it| is_there(&it.digest));
        let names: BTreeSet<_> = names.map(|it| it.target_name()).collect();
        for (target, why) in unreadable.into_iter().filter(|(it, _)| names.contains(it)) {
            let next =
                "publish the layer again, from its file; build it again if that is damaged too";
            self.findings
                .push(problem(format!("{target} cannot be used: {why}"), next));
        }
        for collision in verdict.collisions {
            let what = format!("a machine would refuse these layers: {collision}");
            self.findings.push(problem(
                what,
                "build the layer without it, and publish that",
            ));
        }
        self.hidden = verdict.hidden;
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

fn refused(refusal: Refusal) -> Finding {
    let next = refusal.next.unwrap_or_default();
    problem(refusal.message, next)
}

#[cfg(test)]
pub(super) mod tests;
