//! What one machine boots: a pure decision from its request, the catalogue and the configuration.

use towline_contract::Timestamp;
use towline_contract::api::{ErrorBody, PlanRequest};
use towline_contract::limits::CHAIN_LAYERS_MAX;
use towline_contract::manifest::Kind;
use towline_contract::plan::{BootPlan, HandOver, PLAN_FORMAT, PLAN_TYPE, PlanLayer, TimestampRef};

use crate::catalogue::Published;
use crate::config::{Config, HandOverChoice, Trial};
use crate::order::order;
use crate::recoveries::Chosen;
use crate::sessions;

mod recovery;

pub use recovery::{
    Secrets, lacking, missing_extras, recovery, recovery_chain, recovery_parts, unread,
};

/// Why there is no plan: a sentence for the console, and the next step.
pub type Refusal = ErrorBody;

/// What surrounds the decision.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The server's time.
    pub now: Timestamp,
    /// The catalogue's timestamp.
    pub timestamp: TimestampRef,
    /// Random bytes that name this boot.
    pub random: [u8; 8],
}

/// The plan for `request`.
///
/// # Errors
/// Something that the machine needs is not published, or what it asks for cannot be.
pub fn plan(
    request: &PlanRequest,
    layers: &[Published],
    config: &Config,
    moment: &Moment,
) -> Result<BootPlan, Refusal> {
    if let Some((trial, session)) = trial(request, config) {
        return recovery::on_trial(request, layers, config, moment, trial, session);
    }
    let boot = Boot {
        request,
        layers,
        config,
        host: request.host.clone(),
    };
    let kernel = boot.kernel()?;
    let mut chain = vec![kernel, boot.base()?];
    chain.extend(boot.all_named(Kind::Agent)?);
    chain.extend(boot.all_named(Kind::Extra)?);
    if let Some(host) = &request.host {
        let own = boot.of_kind(Kind::Host);
        let own = own.filter(|layer| layer.target.name == *host);
        chain.push(sessions::newest(own).ok_or_else(|| sessions::unknown(host))?);
    }
    boot.plan(kernel, chain, moment)
}

/// The drill that this machine is for, and its session.
fn trial<'a>(request: &PlanRequest, config: &'a Config) -> Option<(&'a Trial, &'a Chosen)> {
    let trial = config.trial.as_ref()?;
    let session = trial.session.as_ref()?;
    (request.host.as_ref() == Some(&trial.host)).then_some((trial, session))
}

/// One machine's request, and what it is answered from.
struct Boot<'a> {
    request: &'a PlanRequest,
    layers: &'a [Published],
    config: &'a Config,
    /// The host whose kernel and base are wanted; a recovery's, where the machine itself names none.
    host: Option<String>,
}

impl<'a> Boot<'a> {
    /// The layers of a kind that fit the machine.
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Published> + Clone + use<'a> {
        let (layers, request) = (self.layers, self.request);
        layers
            .iter()
            .filter(move |it| ["all", &request.architecture].contains(&&*it.target.architecture))
            .filter(move |it| it.target.kind == kind)
    }

    /// The kernel that the machine runs when it is published, else the newest.
    fn kernel(&self) -> Result<&'a Published, Refusal> {
        let running = |layer: &&Published| {
            layer.manifest.kernel_release.as_deref() == Some(&*self.request.kernel_release)
        };
        match newest(self.wanted(Kind::Kernel).into_iter().filter(running)) {
            Some(layer) => Ok(layer),
            None => self.only_name(Kind::Kernel),
        }
    }

    fn base(&self) -> Result<&'a Published, Refusal> {
        self.only_name(Kind::Base)
    }

    /// The kernels or bases that the configuration does not keep from this host.
    fn wanted(&self, kind: Kind) -> Vec<&'a Published> {
        let (plan, host) = (&self.config.plan, self.host.as_deref());
        let wants = |layer: &&Published| plan.wants(kind, host, &layer.target.name);
        self.of_kind(kind).filter(wants).collect()
    }

    /// The newest kernel or base of the wanted name; where none is set, of the only name there is.
    fn only_name(&self, kind: Kind) -> Result<&'a Published, Refusal> {
        let layers = self.wanted(kind);
        let mut names: Vec<_> = layers.iter().map(|it| it.target.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > 1 {
            return Err(refusal(
                format!(
                    "{kind} layers of several names are published: {}",
                    names.join(", ")
                ),
                &format!("say which to boot: plan.{kind} in towline.toml"),
            ));
        }
        newest(layers.into_iter()).ok_or_else(|| {
            let name = self.config.plan.named(kind, self.host.as_deref());
            let name = name
                .map(|name| format!(" called {name:?}"))
                .unwrap_or_default();
            refusal(
                format!("no {kind} layer{name} is published here"),
                "build one and publish it: towline layer build, towline publish",
            )
        })
    }

    /// Every agent or extra layer that is wanted, each in its newest version.
    fn all_named(&self, kind: Kind) -> Result<Vec<&'a Published>, Refusal> {
        self.each_named(kind).into_iter().collect()
    }

    /// Each of them by its name, or why there is none.
    fn each_named(&self, kind: Kind) -> Vec<Result<&'a Published, Refusal>> {
        let layers = self.of_kind(kind);
        let mut names: Vec<String> = match self.config.plan.names(kind) {
            Some(names) => names.to_vec(),
            None => layers.clone().map(|it| it.target.name.clone()).collect(),
        };
        names.sort();
        names.dedup();
        let find = |name: String| {
            newest(layers.clone().filter(|it| it.target.name == name)).ok_or_else(|| {
                refusal(
                    format!("no {kind} layer called {name:?} is published here"),
                    &format!("publish it, or change plan.{kind}s in towline.toml"),
                )
            })
        };
        names.into_iter().map(find).collect()
    }

    /// The plan of this chain, without an order.
    fn plan(
        &self,
        kernel: &Published,
        chain: Vec<&Published>,
        moment: &Moment,
    ) -> Result<BootPlan, Refusal> {
        if chain.len() > CHAIN_LAYERS_MAX {
            return Err(refusal(
                format!(
                    "the chain would have {} layers, and {CHAIN_LAYERS_MAX} is the most",
                    chain.len()
                ),
                "name the agents and extras that are needed in towline.toml: plan.agents, plan.extras",
            ));
        }
        let (request, config) = (self.request, self.config);
        let life = jiff::SignedDuration::from_mins(config.plan.minutes.into());
        Ok(BootPlan {
            type_: PLAN_TYPE.into(),
            format: PLAN_FORMAT,
            nonce: request.nonce,
            time: moment.now,
            expires: moment.now.saturating_add(life).unwrap_or(moment.now),
            timestamp: moment.timestamp.clone(),
            chain: chain.into_iter().map(plan_layer).collect(),
            command_line: config.plan.command_line.clone(),
            hand_over: hand_over(request, kernel, config)?,
            mirrors: config.mirrors.clone(),
            recovery: format!("r-{}", hex::encode(moment.random)),
            host: request.host.clone(),
            order: None,
        })
    }
}

fn hand_over(
    request: &PlanRequest,
    kernel: &Published,
    config: &Config,
) -> Result<HandOver, Refusal> {
    let same = kernel.manifest.kernel_release.as_deref() == Some(&*request.kernel_release);
    match (
        request.hand_over.map_or(config.plan.hand_over, Into::into),
        same,
    ) {
        (HandOverChoice::Kexec, _) | (HandOverChoice::Auto, false) => Ok(HandOver::Kexec),
        (HandOverChoice::Auto | HandOverChoice::InPlace, true) => Ok(HandOver::InPlace),
        (HandOverChoice::InPlace, false) => Err(refusal(
            format!(
                "the machine runs kernel {}, and the newest kernel layer is {}: it cannot be started in place",
                request.kernel_release,
                kernel
                    .manifest
                    .kernel_release
                    .as_deref()
                    .unwrap_or("unknown")
            ),
            "publish a kernel layer for the medium's kernel, or allow kexec",
        )),
    }
}

/// The layer whose sources are newest; of two alike, the one with the greater version.
fn newest<'a>(layers: impl Iterator<Item = &'a Published>) -> Option<&'a Published> {
    layers.max_by(|a, b| order(&a.manifest, &b.manifest))
}

fn plan_layer(layer: &Published) -> PlanLayer {
    PlanLayer {
        target: layer.target.to_string(),
        digest: layer.manifest.digest,
    }
}

fn refusal(message: String, next: &str) -> Refusal {
    ErrorBody {
        message,
        next: Some(next.into()),
    }
}

#[cfg(test)]
mod tests;
