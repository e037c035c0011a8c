//! The plan of a recovery: kernel, base, the agent of the chosen session, extras, and the very layer of that session.

use towline_contract::Digest;
use towline_contract::api::PlanRequest;
use towline_contract::manifest::Kind;
use towline_contract::plan::{BootPlan, HandOver};
use towline_contract::recovery::{CredentialsRef, Order, Recover};
use towline_initramfs::chain::{self, Unread};

use super::{Boot, Moment, Refusal, newest, refusal};
use crate::catalogue::Published;
use crate::config::{Config, Trial};
use crate::recoveries::{Chosen, Recovery};

/// What is made for one boot of a recovery.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The credentials layer.
    pub credentials: CredentialsRef,
    /// SHA-256 of the token for reports.
    pub report_token: Digest,
}

/// The layers of a recovery of `session` on the machine that asks, in order: kernel, base, agent, extras, host.
///
/// # Errors
/// The session, its agent, or what any plan needs is not published for this machine.
pub fn recovery_chain<'a>(
    request: &'a PlanRequest,
    layers: &'a [Published],
    config: &'a Config,
    session: &Chosen,
) -> Result<Vec<&'a Published>, Refusal> {
    let parts = recovery_parts(request, layers, config, session);
    parts.into_iter().collect()
}

/// Each layer of [`recovery_chain`], or why there is none. Extras that are not there are left out ([`missing_extras`] has them): no
/// recovery waits for them.
pub fn recovery_parts<'a>(
    request: &'a PlanRequest,
    layers: &'a [Published],
    config: &'a Config,
    session: &Chosen,
) -> Vec<Result<&'a Published, Refusal>> {
    let boot = boot(request, layers, config, session);
    let mut parts = vec![boot.kernel(), boot.base(), agent(&boot, &session.agent)];
    let extras = boot.each_named(Kind::Extra).into_iter();
    parts.extend(extras.filter(Result::is_ok));
    parts.push(the_very(&boot, session));
    parts
}

/// What is said of each extra layer that the configuration names and that is not published for the machine.
#[must_use]
pub fn missing_extras(
    request: &PlanRequest,
    layers: &[Published],
    config: &Config,
    session: &Chosen,
) -> Vec<Refusal> {
    let extras = boot(request, layers, config, session).each_named(Kind::Extra);
    extras.into_iter().filter_map(Result::err).collect()
}

/// What layers of that chain need and none of them has: target name of the layer, and what. Nothing when there is no such chain.
#[must_use]
pub fn lacking(
    request: &PlanRequest,
    layers: &[Published],
    config: &Config,
    session: &Chosen,
) -> Vec<(String, String)> {
    let chain = recovery_chain(request, layers, config, session);
    chain.map_or_else(
        |_| Vec::new(),
        |chain| chain::check(chain.iter().map(|it| &it.manifest)).unresolved,
    )
}

/// What the kernel of that chain has to read and cannot, when it is started so.
#[must_use]
pub fn unread<'a>(
    request: &'a PlanRequest,
    layers: &'a [Published],
    config: &'a Config,
    session: &Chosen,
    how: HandOver,
) -> Vec<Unread<'a>> {
    let Ok(chain) = recovery_chain(request, layers, config, session) else {
        return Vec::new();
    };
    let chain: Vec<_> = chain.iter().map(|it| &it.manifest).collect();
    let found = crate::unread::unread(&chain, how.into());
    found.into_iter().map(|(_, it)| it).collect()
}

/// The plan that recovers.
///
/// # Errors
/// As [`recovery_chain`], or the machine asks for a start that cannot be.
pub fn recovery(
    request: &PlanRequest,
    layers: &[Published],
    config: &Config,
    moment: &Moment,
    recovery: &Recovery,
    secrets: Secrets,
) -> Result<BootPlan, Refusal> {
    let chain = recovery_chain(request, layers, config, &recovery.session)?;
    let boot = boot(request, layers, config, &recovery.session);
    let options = recovery.options;
    Ok(BootPlan {
        recovery: recovery.id.clone(),
        host: Some(recovery.host.clone()),
        order: Some(Order::Recover(Recover {
            unattended: options.unattended,
            overwrite: options.overwrite,
            then: options.then,
            credentials: Some(secrets.credentials),
            report_token: secrets.report_token,
        })),
        ..boot.plan(chain[0], chain, moment)?
    })
}

/// The plan of a drill: the chain of a recovery of `session`, without an order and without secrets.
pub(super) fn on_trial(
    request: &PlanRequest,
    layers: &[Published],
    config: &Config,
    moment: &Moment,
    trial: &Trial,
    session: &Chosen,
) -> Result<BootPlan, Refusal> {
    let chain = recovery_chain(request, layers, config, session)?;
    let boot = boot(request, layers, config, session);
    Ok(BootPlan {
        recovery: trial.id.clone(),
        ..boot.plan(chain[0], chain, moment)?
    })
}

/// The request of a machine that becomes the host of `session`, whatever host it names.
fn boot<'a>(
    request: &'a PlanRequest,
    layers: &'a [Published],
    config: &'a Config,
    session: &Chosen,
) -> Boot<'a> {
    Boot {
        request,
        layers,
        config,
        host: session.host().map(str::to_owned),
    }
}

/// The newest layer of the agent that made the backup, whatever other agents there are.
fn agent<'a>(boot: &Boot<'a>, name: &str) -> Result<&'a Published, Refusal> {
    let named = boot.of_kind(Kind::Agent);
    let found = newest(named.filter(|layer| layer.target.name == name));
    let layer = found.ok_or_else(|| {
        refusal(
            format!(
                "the session was backed up by agent {name:?}, and no layer of it for {} is published here",
                boot.request.architecture
            ),
            "build and publish it: towline layer build, towline publish",
        )
    })?;
    match layer.manifest.agent {
        Some(_) => Ok(layer),
        None => Err(refusal(
            format!("{} does not say how a session is restored", layer.target),
            "add [agent] to its recipe, build and publish it",
        )),
    }
}

/// The layer that was chosen when the recovery was opened; never another one.
fn the_very<'a>(boot: &Boot<'a>, chosen: &Chosen) -> Result<&'a Published, Refusal> {
    let is_it = |layer: &&Published| {
        layer.target.to_string() == chosen.target && layer.manifest.digest == chosen.digest
    };
    let found = boot.of_kind(Kind::Host).find(is_it);
    found.ok_or_else(|| {
        refusal(
            format!(
                "the session that this recovery is for, {} ({}), is not published any more, or not for {}",
                chosen.target,
                chosen.digest.short(),
                boot.request.architecture
            ),
            "open a recovery of another session on the server: towline recovery open HOST",
        )
    })
}
