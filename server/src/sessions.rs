//! Which session of a host is recovered: the newest, one by its name, or the nearest at or before a time.
//!
//! A pure decision over the published layers. It never takes another session than the one that was asked for: where there is
//! none, or where its files, its layout and its agent do not belong together, it says why and what there is.

use std::cmp::Reverse;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::api::ErrorBody;
use towline_contract::manifest::Kind;
use towline_contract::session::Session;

use crate::catalogue::Published;
use crate::compose::Refusal;

/// How far the clocks of a host, of its backup and of this server may differ, in minutes.
pub const CLOCK_MINUTES: i64 = 5;

/// Most sessions that a refusal names.
const NAMED_MAX: usize = 8;

/// Which session is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The newest point in time.
    Newest,
    /// The one whose host layer has this version, or whose agent calls it so.
    Id(String),
    /// The nearest at or before this time.
    At(Timestamp),
}

/// What is allowed.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Longest time from a session to the capture of its layout, in hours.
    pub capture_lag_hours: u32,
    /// Debian's name of the architecture of the machine that is to become the host; not compared when absent.
    pub architecture: Option<String>,
}

/// The host's session that `choice` names, out of all published layers.
///
/// # Errors
/// There is no such session, or several, or its parts do not belong together.
pub fn choose<'a>(
    host: &str,
    layers: &'a [Published],
    choice: &Choice,
    rules: &Rules,
) -> Result<&'a Published, Refusal> {
    let chosen = named(host, layers, choice)?;
    let session = belongs_together(chosen, rules)?;
    agent(chosen, session, layers)?;
    Ok(chosen)
}

/// The host's session that `choice` names, whether or not it can be recovered.
///
/// # Errors
/// There is no such session, or several.
pub fn named<'a>(
    host: &str,
    layers: &'a [Published],
    choice: &Choice,
) -> Result<&'a Published, Refusal> {
    let own: Vec<_> = of_host(host, layers).collect();
    let Some(newest) = newest(own.iter().copied()) else {
        return Err(unknown(host));
    };
    match choice {
        Choice::Newest => Ok(newest),
        Choice::Id(id) => by_id(host, &own, id),
        Choice::At(time) => at(host, &own, *time),
    }
}

/// The published sessions of a host.
pub fn of_host<'a>(host: &str, layers: &'a [Published]) -> impl Iterator<Item = &'a Published> {
    layers
        .iter()
        .filter(move |layer| layer.target.kind == Kind::Host && layer.target.name == host)
}

/// The newest of a host's sessions by the point in time that it brings back; of two alike, the one captured later.
pub fn newest<'a>(sessions: impl Iterator<Item = &'a Published>) -> Option<&'a Published> {
    sessions.max_by_key(|layer| order(layer))
}

/// Sorts a host's sessions, the newest first.
pub fn newest_first(sessions: &mut [Published]) {
    sessions.sort_by(|a, b| order(b).cmp(&order(a)));
}

/// Nothing is known of the host.
#[must_use]
pub fn unknown(host: &str) -> Refusal {
    refusal(
        format!("no host called {host:?} is known here, or it has no session yet"),
        "look at the name on the medium (towline media show); towline host list shows those that have sessions",
    )
}

/// The point in time of a session; of a host layer that says none, the time of its sources.
pub(crate) fn time(layer: &Published) -> Timestamp {
    let session = layer.manifest.session.as_ref();
    session.map_or(layer.manifest.created, |it| it.time)
}

fn order(layer: &Published) -> (Timestamp, Timestamp, &str) {
    let session = layer.manifest.session.as_ref();
    let captured = session.map_or(layer.manifest.created, |it| it.captured);
    (time(layer), captured, &layer.target.version)
}

fn by_id<'a>(host: &str, own: &[&'a Published], id: &str) -> Result<&'a Published, Refusal> {
    let backup = |layer: &Published| {
        let session = layer.manifest.session.as_ref();
        session.is_some_and(|it| it.backup.session == id)
    };
    let named = |is: &dyn Fn(&Published) -> bool| -> Vec<&'a Published> {
        own.iter().copied().filter(|layer| is(layer)).collect()
    };
    let mut found = named(&|layer| layer.target.version == id);
    if found.is_empty() {
        found = named(&backup);
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(ErrorBody {
            message: format!("host {host} has no session {id:?}"),
            next: Some(there_is(host, own)),
        }),
        _ => {
            let versions: Vec<_> = found.iter().map(|it| it.target.to_string()).collect();
            let message = format!(
                "session {id:?} of host {host} was captured several times: {}",
                versions.join(", ")
            );
            Err(refusal(message, "name one of them by its version"))
        }
    }
}

fn at<'a>(host: &str, own: &[&'a Published], wanted: Timestamp) -> Result<&'a Published, Refusal> {
    let before = own.iter().copied().filter(|layer| {
        let session = layer.manifest.session.as_ref();
        session.is_some_and(|it| it.time <= wanted)
    });
    newest(before).ok_or_else(|| ErrorBody {
        message: format!("host {host} has no session at or before {wanted}"),
        next: Some(there_is(host, own)),
    })
}

/// What could be asked for instead, newest first.
fn there_is(host: &str, own: &[&Published]) -> String {
    let mut rows = own.to_vec();
    rows.sort_by_key(|layer| Reverse(order(layer)));
    let named = rows.iter().take(NAMED_MAX);
    let mut texts: Vec<_> = named.map(|layer| in_words(layer)).collect();
    if rows.len() > NAMED_MAX {
        texts.push(format!("and {} older ones", rows.len() - NAMED_MAX));
    }
    format!(
        "there is {} (towline session list {host})",
        texts.join(", ")
    )
}

fn in_words(layer: &Published) -> String {
    let version = &layer.target.version;
    match &layer.manifest.session {
        None => format!("{version} without a time"),
        Some(session) => format!(
            "{version} of {} ({} {})",
            session.time, session.backup.agent, session.backup.session
        ),
    }
}

/// Whether the session's files, its layout and the machine are of one kind and time.
///
/// # Errors
/// They are not, or the layer does not say.
pub fn belongs_together<'a>(layer: &'a Published, rules: &Rules) -> Result<&'a Session, Refusal> {
    let Some(session) = &layer.manifest.session else {
        return Err(refusal(
            format!("{} does not say which backup it belongs to", layer.target),
            "capture the host again: towline capture",
        ));
    };
    times(&layer.target.to_string(), session, rules)?;
    architecture(layer, session, rules)?;
    Ok(session)
}

fn times(target: &str, session: &Session, rules: &Rules) -> Result<(), Refusal> {
    let Session { time, captured, .. } = session;
    let lag = captured.duration_since(*time);
    let why = if lag < SignedDuration::from_mins(-CLOCK_MINUTES) {
        "before".to_owned()
    } else if lag > SignedDuration::from_hours(rules.capture_lag_hours.into()) {
        format!("{} hours after", lag.as_hours())
    } else {
        return Ok(());
    };
    Err(ErrorBody {
        message: format!(
            "the layout of {target} was captured at {captured}, {why} the session's time {time}: they do not belong together"
        ),
        next: Some(format!(
            "choose another session, or allow more than {} hours by sessions.capture_lag_hours in towline.toml",
            rules.capture_lag_hours
        )),
    })
}

fn architecture(layer: &Published, session: &Session, rules: &Rules) -> Result<(), Refusal> {
    let host = &session.hardware.architecture;
    let own = Some(&layer.target.architecture).filter(|it| *it != "all");
    let sides = [
        ("its layer", own),
        ("the machine", rules.architecture.as_ref()),
    ];
    for (what, found) in sides {
        if let Some(found) = found.filter(|it| *it != host) {
            return Err(refusal(
                format!(
                    "the host of {} is {host}, and {what} is {found}",
                    layer.target
                ),
                "recover the host on a machine of its own architecture",
            ));
        }
    }
    Ok(())
}

/// The agent that made the backup must be published, for this architecture, and know how to restore.
fn agent(layer: &Published, session: &Session, layers: &[Published]) -> Result<(), Refusal> {
    let name = &session.backup.agent;
    let named = layers
        .iter()
        .filter(|it| it.target.kind == Kind::Agent && it.target.name == *name);
    let fits = |it: &&Published| {
        ["all", &session.hardware.architecture].contains(&&*it.target.architecture)
    };
    let newest = named
        .clone()
        .filter(fits)
        .max_by(|a, b| crate::order::order(&a.manifest, &b.manifest));
    let Some(newest) = newest else {
        let others: Vec<_> = named.map(|it| it.target.to_string()).collect();
        let but = match others.is_empty() {
            true => String::new(),
            false => format!(" (there is {})", others.join(", ")),
        };
        return Err(refusal(
            format!(
                "{} was backed up by agent {name:?}, and no layer of it for {} is published{but}",
                layer.target, session.hardware.architecture
            ),
            "build and publish it: towline layer build, towline publish",
        ));
    };
    if newest.manifest.agent.is_some() {
        return Ok(());
    }
    Err(refusal(
        format!("{} does not say how a session is restored", newest.target),
        "add [agent] to its recipe, build and publish it (docs/how-to/recipes.md)",
    ))
}

fn refusal(message: String, next: &str) -> Refusal {
    ErrorBody {
        message,
        next: Some(next.into()),
    }
}

#[cfg(test)]
mod tests;
