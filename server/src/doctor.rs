//! Is every protected host recoverable now? A pure function of what the site knows.

use jiff::SignedDuration;
use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::chain;

/// Memory that kernel, rescue system and a restore need beside the layers, in KiB. Measured: docs/benchmarks.md.
const WORKING_KIB: u64 = 300 << 10;

/// Days before an expiry at which it is a warning, and at which it is a problem.
const EXPIRY_WARNING_DAYS: i64 = 90;
const EXPIRY_PROBLEM_DAYS: i64 = 7;

/// Longest time between a backup and the capture of its layout that is not worth a word.
const CAPTURE_LAG_HOURS: i64 = 24;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It works, and somebody should look at it.
    Warning,
    /// The host could not be recovered, or not as it should.
    Problem,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found, with both sides.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

/// What is known of one host.
#[derive(Clone, Debug)]
pub struct HostFacts<'a> {
    /// Whether it waits for an operator to approve it.
    pub waiting: bool,
    /// Its newest session's layer.
    pub newest: Option<&'a Manifest>,
    /// The layers that it would boot besides: kernel, base and its agent, as far as they are published.
    pub chain: Vec<&'a Manifest>,
    /// When it was last recovered on trial, and whether that worked.
    pub drill: Option<(Timestamp, bool)>,
}

/// How old things may be.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// The newest session, in hours.
    pub session_hours: u32,
    /// The last drill, in days.
    pub drill_days: u32,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            session_hours: 48,
            drill_days: 90,
        }
    }
}

/// What stands in the way of recovering this host.
#[must_use]
pub fn host(facts: &HostFacts<'_>, ages: Ages, now: Timestamp) -> Vec<Finding> {
    if facts.waiting {
        let what = "it waits to be approved, so that it has no sessions".into();
        let next = "compare the fingerprint and run: towline host approve HOST";
        return vec![problem(what, next)];
    }
    let Some(newest) = facts.newest else {
        let what = "it has no session".into();
        return vec![problem(what, "run on the host: towline capture")];
    };
    let mut findings = Vec::new();
    findings.extend(session(newest, ages, now));
    findings.extend(agent(newest, &facts.chain));
    findings.extend(whole_chain(newest, &facts.chain));
    findings.extend(drill(facts.drill, ages, now));
    findings
}

/// What is to be said of a document or certificate that expires then.
#[must_use]
pub fn expiry(what: &str, expires: Timestamp, now: Timestamp, next: &str) -> Option<Finding> {
    let days = days(expires.duration_since(now));
    let level = match days {
        ..EXPIRY_PROBLEM_DAYS => Level::Problem,
        EXPIRY_PROBLEM_DAYS..EXPIRY_WARNING_DAYS => Level::Warning,
        _ => return None,
    };
    let when = if expires <= now { "expired" } else { "expires" };
    Some(Finding {
        level,
        what: format!("{what} {when} at {expires}, {days} days from now"),
        next: next.into(),
    })
}

fn session(newest: &Manifest, ages: Ages, now: Timestamp) -> Vec<Finding> {
    let Some(session) = &newest.session else {
        let what = format!(
            "{} does not say which backup it belongs to",
            newest.target_name()
        );
        return vec![problem(what, "capture the host again: towline capture")];
    };
    let mut findings = Vec::new();
    let age = now.duration_since(session.time);
    if age > SignedDuration::from_hours(ages.session_hours.into()) {
        let (hours, max) = (age.as_hours(), ages.session_hours);
        let what = format!("its newest session is {hours} hours old, and {max} are allowed");
        findings.push(problem(
            what,
            "see on the host why backup or capture do not run: towline capture",
        ));
    }
    let lag = session.captured.duration_since(session.time);
    if lag > SignedDuration::from_hours(CAPTURE_LAG_HOURS) {
        let hours = lag.as_hours();
        let what = format!("its layout was captured {hours} hours after the backup");
        findings.push(warning(
            what,
            "run towline capture after every backup (docs/guide/hosts.md)",
        ));
    }
    findings
}

fn agent(newest: &Manifest, chain: &[&Manifest]) -> Option<Finding> {
    let backup = &newest.session.as_ref()?.backup;
    let is_agent = |layer: &&&Manifest| layer.kind == Kind::Agent && layer.name == backup.agent;
    match chain.iter().find(is_agent) {
        None => Some(problem(
            format!("no agent layer {:?} is published", backup.agent),
            "build and publish it: towline layer build, towline publish",
        )),
        Some(layer) if layer.agent.is_none() => Some(problem(
            format!(
                "{} does not say how a session is restored",
                layer.target_name()
            ),
            "add [agent] to its recipe, build and publish it (docs/how-to/recipes.md)",
        )),
        Some(_) => None,
    }
}

fn whole_chain(newest: &Manifest, chain: &[&Manifest]) -> Vec<Finding> {
    let mut layers: Vec<Manifest> = chain.iter().copied().cloned().collect();
    layers.push(newest.clone());
    let report = chain::check(&layers);
    let mut findings = Vec::new();
    for kind in [Kind::Kernel, Kind::Base] {
        if !chain.iter().any(|layer| layer.kind == kind) {
            let what = format!("no {kind} layer is published");
            findings.push(problem(what, "build and publish one"));
        }
    }
    for (layer, need) in &report.unresolved {
        let what = format!("{layer} needs {need}, which no layer of its chain has");
        findings.push(problem(what, "add it to a layer and publish that"));
    }
    let need_kib = report.memory_bytes.div_ceil(1024) + WORKING_KIB;
    let have_kib = newest
        .session
        .as_ref()
        .map_or(u64::MAX, |it| it.hardware.memory_kib);
    if need_kib > have_kib {
        let (need, have) = (need_kib >> 10, have_kib >> 10);
        let what =
            format!("its recovery needs about {need} MiB of memory, and the host has {have}");
        findings.push(problem(
            what,
            "recover it on a machine with more memory, or make its layers smaller",
        ));
    }
    findings
}

fn drill(last: Option<(Timestamp, bool)>, ages: Ages, now: Timestamp) -> Option<Finding> {
    let next = "try it: towline drill HOST";
    match last {
        None => Some(warning("its recovery was never tried".into(), next)),
        Some((time, false)) => Some(problem(
            format!("its recovery was tried at {time}, and failed"),
            "towline drill HOST tries again and shows why",
        )),
        Some((time, true)) => {
            let days = days(now.duration_since(time));
            let old = days > i64::from(ages.drill_days);
            let what = format!("its recovery was last tried {days} days ago");
            old.then(|| warning(what, next))
        }
    }
}

fn days(duration: SignedDuration) -> i64 {
    duration.as_hours() / 24
}

fn problem(what: String, next: &str) -> Finding {
    Finding {
        level: Level::Problem,
        what,
        next: next.into(),
    }
}

fn warning(what: String, next: &str) -> Finding {
    Finding {
        level: Level::Warning,
        ..problem(what, next)
    }
}

#[cfg(test)]
mod tests;
