//! What one machine boots: a pure decision from its request, the catalogue and the configuration.

use towline_contract::api::{ErrorBody, PlanRequest};
use towline_contract::limits::CHAIN_LAYERS_MAX;
use towline_contract::manifest::Kind;
use towline_contract::plan::{BootPlan, HandOver, PLAN_FORMAT, PLAN_TYPE, PlanLayer, TimestampRef};
use towline_contract::{Digest, Timestamp};

use crate::catalogue::Published;
use crate::config::{Config, HandOverChoice};
use crate::sessions;

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
    let fits =
        |layer: &&Published| ["all", &request.architecture].contains(&&*layer.target.architecture);
    let of_kind = |kind: Kind| {
        layers
            .iter()
            .filter(fits)
            .filter(move |layer| layer.target.kind == kind)
    };

    let kernel = kernel(of_kind(Kind::Kernel), request, config)?;
    let base = only_name(
        "base",
        "plan.base",
        of_kind(Kind::Base),
        config.plan.base.as_deref(),
    )?;
    let mut chain = vec![kernel, base];
    chain.extend(agents(&of_kind(Kind::Agent), config)?);
    if let Some(host) = &request.host {
        let own = of_kind(Kind::Host).filter(|layer| layer.target.name == *host);
        chain.push(sessions::newest(own).ok_or_else(|| sessions::unknown(host))?);
    }
    if chain.len() > CHAIN_LAYERS_MAX {
        return Err(refusal(
            format!(
                "the chain would have {} layers, and {CHAIN_LAYERS_MAX} is the most",
                chain.len()
            ),
            "name the agents that are needed in plan.agents of towline.toml",
        ));
    }
    let hand_over = hand_over(request, kernel, config)?;
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
        hand_over,
        mirrors: config.mirrors.clone(),
        recovery: format!("r-{}", &Digest::from(pad(moment.random)).to_string()[..16]),
        host: request.host.clone(),
        order: None,
    })
}

/// The kernel that the machine runs when it is published, else the newest.
fn kernel<'a>(
    kernels: impl Iterator<Item = &'a Published> + Clone,
    request: &PlanRequest,
    config: &Config,
) -> Result<&'a Published, Refusal> {
    let running = |layer: &&Published| {
        layer.manifest.kernel_release.as_deref() == Some(&*request.kernel_release)
    };
    let wanted = config.plan.kernel.as_deref();
    let named = kernels
        .clone()
        .filter(|layer| wanted.is_none_or(|name| layer.target.name == name));
    match newest(named.filter(running)) {
        Some(layer) => Ok(layer),
        None => only_name("kernel", "plan.kernel", kernels, wanted),
    }
}

/// Every agent that is wanted, each in its newest version.
fn agents<'a>(
    agents: &(impl Iterator<Item = &'a Published> + Clone),
    config: &Config,
) -> Result<Vec<&'a Published>, Refusal> {
    let mut names: Vec<String> = match &config.plan.agents {
        Some(names) => names.clone(),
        None => agents
            .clone()
            .map(|layer| layer.target.name.clone())
            .collect(),
    };
    names.sort();
    names.dedup();
    let find = |name: String| {
        newest(agents.clone().filter(|layer| layer.target.name == name)).ok_or_else(|| {
            refusal(
                format!("no agent layer called {name:?} is published here"),
                "publish it, or change plan.agents in towline.toml",
            )
        })
    };
    names.into_iter().map(find).collect()
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

/// The newest layer of the wanted name; without one, of the only name there is.
fn only_name<'a>(
    what: &str,
    setting: &str,
    layers: impl Iterator<Item = &'a Published> + Clone,
    wanted: Option<&str>,
) -> Result<&'a Published, Refusal> {
    let mut names: Vec<_> = layers
        .clone()
        .map(|layer| layer.target.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if wanted.is_none() && names.len() > 1 {
        return Err(refusal(
            format!(
                "{what} layers of several names are published: {}",
                names.join(", ")
            ),
            &format!("say which to boot: {setting} in towline.toml"),
        ));
    }
    newest(layers.filter(|layer| wanted.is_none_or(|name| layer.target.name == name))).ok_or_else(
        || {
            let name = wanted
                .map(|name| format!(" called {name:?}"))
                .unwrap_or_default();
            refusal(
                format!("no {what} layer{name} is published here"),
                "build one and publish it: towline layer build, towline publish",
            )
        },
    )
}

/// The layer whose sources are newest; of two alike, the one with the greater version.
fn newest<'a>(layers: impl Iterator<Item = &'a Published>) -> Option<&'a Published> {
    layers.max_by_key(|layer| (layer.manifest.created, layer.target.version.clone()))
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

fn pad(random: [u8; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&random);
    bytes
}

#[cfg(test)]
mod tests;
