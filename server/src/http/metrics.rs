//! `GET /metrics`: until when things are good, and how old the agents are, in the text format of Prometheus (version 0.0.4).
//! Nothing in it is secret, nor about hosts: they get the newest layer of their agent's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use towline_contract::Timestamp;
use towline_contract::manifest::Kind;

use super::answer::{Body, Fault, full};
use super::handlers::State;
use crate::catalogue::Published;
use crate::doctor::look;
use crate::doctor::site::SiteFacts;
use crate::tracked::record::{self, Record};
use crate::tracked::versions;

/// Answers with what has a date to keep.
pub(super) fn metrics(state: &State) -> Result<Response<Body>, Fault> {
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let records = record::all(&state.site).map_err(|error| Fault::ours(&error))?;
    let mut text = text(&look::dates(&state.site, Some(&current.view)));
    text.push_str(&agents(&current.layers, (state.clock)()));
    text.push_str(&looks(&records));
    let mut response = Response::new(full(text.into_bytes()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn text(facts: &SiteFacts) -> String {
    const NAME: &str = "towline_expiry_timestamp_seconds";
    let documents = facts.documents.iter();
    let documents = documents.map(|(role, header)| (role.as_str(), header.expires));
    let certificates = facts.certificates.iter();
    let certificates = certificates.filter_map(|it| Some((it.what, it.until?)));
    let mut text = format!(
        "# HELP {NAME} When a signed document or an authority expires, in seconds since 1970.\n# TYPE {NAME} gauge\n"
    );
    for (what, until) in documents.chain(certificates) {
        let seconds = until.as_second();
        // Names of roles are of letters, digits and hyphens.
        let _ = writeln!(text, "{NAME}{{what=\"{what}\"}} {seconds}");
    }
    text
}

/// The age of each agent that machines get now: of the newest of its files.
fn agents(layers: &[Published], now: Timestamp) -> String {
    const NAME: &str = "towline_agent_age_seconds";
    let agents = layers.iter().filter(|it| it.target.kind == Kind::Agent);
    let names = agents.map(|it| (it.target.name.as_str(), it.target.architecture.as_str()));
    let names: BTreeSet<_> = names.collect();
    let mut text = format!(
        "# HELP {NAME} Age of the newest file in the agent layer that machines get, in seconds.\n# TYPE {NAME} gauge\n"
    );
    for (agent, architecture) in names {
        if let Some(layer) = versions(layers, (Kind::Agent, agent, architecture)).first() {
            let (version, seconds) = (&layer.version, now.duration_since(layer.created).as_secs());
            // Parts of targets have no character that would need escaping.
            let _ = writeln!(
                text,
                "{NAME}{{agent=\"{agent}\",version=\"{version}\",architecture=\"{architecture}\"}} {seconds}"
            );
        }
    }
    text
}

/// How the last looks at the recipes that follow their packages went.
fn looks(records: &BTreeMap<String, Record>) -> String {
    const CURRENT: &str = "towline_recipe_current_timestamp_seconds";
    const FAILURES: &str = "towline_recipe_failures";
    let mut text = format!(
        "# HELP {CURRENT} When the published layer of a tracked recipe was last seen to be what upstream has, in seconds since 1970.\n# TYPE {CURRENT} gauge\n"
    );
    for (recipe, record) in records {
        if let Some(time) = record.current {
            let _ = writeln!(
                text,
                "{CURRENT}{{recipe=\"{recipe}\"}} {}",
                time.as_second()
            );
        }
    }
    let _ = write!(
        text,
        "# HELP {FAILURES} Looks at upstream in a row that failed.\n# TYPE {FAILURES} gauge\n"
    );
    for (recipe, record) in records {
        let failures = record.failures;
        let _ = writeln!(text, "{FAILURES}{{recipe=\"{recipe}\"}} {failures}");
    }
    text
}
