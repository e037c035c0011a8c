//! What all hosts need: signed metadata, certificates and keys. A pure function.

use towline_contract::Timestamp;
use towline_contract::trust::HOSTS_ROLE;
use towline_contract::trust::metadata::Header;

use super::{Finding, Level, expiry, problem, warning};
use crate::catalogue::WaitingDocument;
use crate::config::ValidDays;
use crate::credentials::dates::GoodUntil;

/// A key of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyUse {
    /// Signs with others: the root, or the targets. Each belongs in a place of its own.
    Apart,
    /// Signs layers, or names who does; may be elsewhere.
    Targets,
    /// The server needs it.
    Online,
}

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct KeyFacts {
    /// Its file, relative to the site's folder.
    pub file: String,
    /// What it is for.
    pub what: KeyUse,
    /// Whether it is there; when it cannot be used, why.
    pub there: Result<bool, String>,
}

/// What is known of the site.
#[derive(Clone, Debug)]
pub struct SiteFacts {
    /// The signed documents, by their roles.
    pub documents: Vec<(String, Header)>,
    /// The authorities.
    pub certificates: Vec<GoodUntil>,
    /// Why the server's own certificate cannot be made, if so.
    pub certificate: Option<String>,
    /// The keys.
    pub keys: Vec<KeyFacts>,
    /// Documents that wait for signatures; or why that cannot be said.
    pub waiting: Result<Vec<WaitingDocument>, String>,
}

/// What is wrong with the site.
#[must_use]
pub fn site(facts: &SiteFacts, valid: ValidDays, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(
        facts
            .documents
            .iter()
            .filter_map(|(role, header)| document(role, header, valid, now)),
    );
    findings.extend(
        facts
            .certificates
            .iter()
            .filter_map(|it| authority(it, now)),
    );
    if let Some(why) = &facts.certificate {
        findings.push(problem(
            format!("the server's certificate cannot be made: {why}"),
            "see ca/ and server_names in towline.toml",
        ));
    }
    findings.extend(facts.keys.iter().filter_map(key));
    match &facts.waiting {
        Ok(all) => findings.extend(all.iter().map(waits)),
        Err(why) => findings.push(warning(
            format!("what waits in to-sign/ cannot be read: {why}"),
            "remove what is no document there, and run the command that left it again",
        )),
    }
    findings
}

fn document(role: &str, header: &Header, valid: ValidDays, now: Timestamp) -> Option<Finding> {
    let what = format!("version {} of the {role}", header.version);
    let online = |days| fresh(&what, header.expires, days, now);
    match role {
        "timestamp" => online(valid.timestamp),
        "snapshot" | HOSTS_ROLE => online(valid.snapshot),
        _ => {
            let next = format!("sign it again: towline key rotate {role} --renew");
            expiry(&what, header.expires, now, &next)
        }
    }
}

/// What a server signs again when half of its time is over, as long as one runs.
fn fresh(what: &str, expires: Timestamp, valid_days: u32, now: Timestamp) -> Option<Finding> {
    let quarter = jiff::SignedDuration::from_hours(i64::from(valid_days) * 6);
    let next = "run the server, which signs it again by itself: towline serve";
    let left = expires.duration_since(now);
    if expires <= now {
        return Some(problem(format!("{what} expired at {expires}"), next));
    }
    let told = || {
        warning(
            format!("{what} expires at {expires}, and no server has signed it again"),
            next,
        )
    };
    (left < quarter).then(told)
}

fn authority(row: &GoodUntil, now: Timestamp) -> Option<Finding> {
    let (what, file) = (row.what, row.file.display());
    let name = format!("the {what} ({file})");
    match row.until {
        Some(until) => expiry(
            &name,
            until,
            now,
            "make a new one, and stamp the media with it",
        ),
        None => Some(problem(
            format!("{name} has no certificate that can be read"),
            "restore it from a copy",
        )),
    }
}

/// Somebody has begun a change, and machines see nothing of it yet.
fn waits(document: &WaitingDocument) -> Finding {
    let (file, since) = (document.file.display(), document.since);
    let rows = document.lacking.iter().map(|it| {
        let by = it.by.join(", ");
        let (valid, threshold) = (it.valid, it.threshold);
        format!("{valid} of {threshold} signatures (it can be signed by {by})")
    });
    match rows.collect::<Vec<_>>().join(", and ") {
        none if none.is_empty() => warning(
            format!("{file} waits since {since}, and is signed"),
            "run the command that left it again",
        ),
        lacking => warning(
            format!("{file} waits since {since} with {lacking}"),
            format!(
                "where the keys are: towline key sign {file} --key KEY; then run the command that left it again"
            ),
        ),
    }
}

fn key(key: &KeyFacts) -> Option<Finding> {
    let file = &key.file;
    match (key.what, &key.there) {
        (_, Err(why)) => Some(problem(
            format!("the key {file} cannot be used: {why}"),
            "keys have mode 0600, belong to the server's user, and are restored from a copy",
        )),
        (KeyUse::Apart, Ok(true)) => Some(Finding {
            level: Level::Warning,
            what: format!("the key {file}, which belongs elsewhere, is on this machine"),
            next: "take it away, to a place of its own, and keep a copy".into(),
        }),
        (KeyUse::Online, Ok(false)) => Some(problem(
            format!("the key {file} is not there, and the server needs it"),
            "restore it from a copy",
        )),
        (KeyUse::Apart | KeyUse::Targets, Ok(false))
        | (KeyUse::Targets | KeyUse::Online, Ok(true)) => None,
    }
}

#[cfg(test)]
mod tests;
