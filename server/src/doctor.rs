//! Is every protected host recoverable now? Pure functions of what the site knows; [`look`] reads that.
//!
//! [`chain`] is what one host would boot, [`host`] adds what must not be old, [`site`] is what all hosts need.

pub mod chain;
pub mod look;
pub mod site;
mod tracked;

use jiff::SignedDuration;
use serde::Serialize;
use towline_contract::Timestamp;

use crate::config::DoctorConfig;
use chain::Chain;

/// Days before an expiry at which it is a warning, and at which it is a problem.
const EXPIRY_WARNING_DAYS: i64 = 90;
const EXPIRY_PROBLEM_DAYS: i64 = 7;

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
    /// Its name.
    pub host: &'a str,
    /// Whether it waits for an operator to approve it.
    pub waiting: bool,
    /// When its key was revoked, if no other has taken its place.
    pub revoked: Option<Timestamp>,
    /// What it would boot for its newest session.
    pub chain: &'a Chain,
    /// What is wrong with the operator's files for its recoveries, if anything.
    pub credentials: Option<String>,
    /// Its last drill of each kind.
    pub drills: Vec<LastDrill>,
    /// When its agent's layer was last seen to be what upstream has, if anybody looks.
    pub seen_current: Option<Timestamp>,
}

/// How the last drill of a kind went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastDrill {
    /// When it began.
    pub time: Timestamp,
    /// Whether files were restored, and the host started from its disk.
    pub restore: bool,
    /// Whether it worked.
    pub passed: bool,
    /// What happened.
    pub what: String,
}

/// What stands in the way of recovering this host.
#[must_use]
pub fn host(facts: &HostFacts<'_>, ages: DoctorConfig, now: Timestamp) -> Vec<Finding> {
    let name = facts.host;
    if facts.waiting {
        let what = "it waits to be approved, so that it has no sessions";
        let next = format!("compare the fingerprint and run: towline host approve {name}");
        return vec![problem(what, next)];
    }
    let Some(session) = &facts.chain.session else {
        return vec![problem(
            "it has no session",
            "run on the host: towline capture",
        )];
    };
    let mut findings = Vec::new();
    match facts.revoked {
        Some(time) => findings.push(warning(
            format!("its key was revoked at {time}, and it adds no session"),
            format!("when it has a new key: towline host approve {name}"),
        )),
        None => findings.extend(session.time.and_then(|time| age(time, ages, now))),
    }
    findings.extend(facts.chain.findings.iter().cloned());
    // What is still to come is of a clock that was wrong.
    let looked = |time: Timestamp| {
        (0..=i64::from(ages.track_days)).contains(&days(now.duration_since(time)))
    };
    if !facts.seen_current.is_some_and(looked) {
        findings.extend(old_agent(facts.chain, ages));
    }
    if let Some(mistake) = &facts.credentials {
        let next = format!("put it right in credentials/{name} or credentials/_all");
        findings.push(problem(format!("no recovery is opened: {mistake}"), next));
    }
    findings.extend(drill(name, &facts.drills, ages, now));
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

fn age(time: Timestamp, ages: DoctorConfig, now: Timestamp) -> Option<Finding> {
    let age = now.duration_since(time);
    let (hours, max) = (age.as_hours(), ages.session_hours);
    (age > SignedDuration::from_hours(max.into())).then(|| {
        problem(
            format!("its newest session is {hours} hours old, and {max} are allowed"),
            "see on the host why backup or capture do not run: towline capture",
        )
    })
}

/// An agent layer of long ago may not know its server any more.
fn old_agent(chain: &Chain, ages: DoctorConfig) -> Option<Finding> {
    let agent = chain.agent.as_ref()?;
    let (days, max) = (agent.age_days, ages.agent_days);
    (days > i64::from(max)).then(|| {
        let packages = match agent.current.join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" ({names})"),
        };
        let target = &agent.target;
        warning(
            format!("{target}{packages} is of {days} days ago, and {max} are allowed"),
            "build it again and publish it: towline layer build, towline publish; of recipes with [track]: towline catalogue refresh",
        )
    })
}

/// A drill that failed counts until one passes that tried as much.
fn drill(host: &str, last: &[LastDrill], ages: DoctorConfig, now: Timestamp) -> Option<Finding> {
    let newest = last.iter().max_by_key(|it| it.time);
    let Some(newest) = newest else {
        let next = format!("try it: towline drill {host}");
        return Some(warning("its recovery was never tried", next));
    };
    let made_good = |failed: &LastDrill| {
        let covers = |it: &&LastDrill| it.passed && (it.restore || !failed.restore);
        let mut passed = last.iter().filter(covers);
        passed.any(|it| it.time > failed.time)
    };
    let mut failed = last.iter().filter(|it| !it.passed && !made_good(it));
    if let Some(LastDrill {
        time,
        restore,
        what,
        ..
    }) = failed.next()
    {
        let how = if *restore { " --restore" } else { "" };
        return Some(problem(
            format!("its recovery was tried at {time}, and failed: {what}"),
            format!("put it right, and try again: towline drill {host}{how}"),
        ));
    }
    let days = days(now.duration_since(newest.time));
    let old = days > i64::from(ages.drill_days);
    let next = format!("try it: towline drill {host}");
    old.then(|| warning(format!("its recovery was last tried {days} days ago"), next))
}

fn days(duration: SignedDuration) -> i64 {
    duration.as_hours().div_euclid(24)
}

fn problem(what: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        level: Level::Problem,
        what: what.into(),
        next: next.into(),
    }
}

fn warning(what: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        level: Level::Warning,
        ..problem(what, next)
    }
}

#[cfg(test)]
mod tests;
