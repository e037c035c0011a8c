//! `GET /metrics`: until when things are good, and how old agents and extras are, in the text format of Prometheus (version 0.0.4).
//! Nothing in it is secret, nor about hosts: they get the newest layer of their agent's name.

use std::collections::BTreeSet;
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
use crate::tracked::record::Records;
use crate::tracked::versions;

/// Answers with what has a date to keep.
pub(super) fn metrics(state: &State) -> Result<Response<Body>, Fault> {
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let records = Records::of(&state.site);
    let mut text = text(&look::dates(&state.site, Some(&current.view)));
    let now = (state.clock)();
    text.push_str(&ages(&current.layers, Kind::Agent, now));
    text.push_str(&ages(&current.layers, Kind::Extra, now));
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
    let help = "When a signed document or an authority expires, in seconds since 1970.";
    let mut text = gauge(NAME, help);
    for (what, until) in documents.chain(certificates) {
        let seconds = until.as_second();
        // Names of roles are of letters, digits and hyphens.
        let _ = writeln!(text, "{NAME}{{what=\"{what}\"}} {seconds}");
    }
    text
}

/// The head of a gauge.
fn gauge(name: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n")
}

/// The age of each layer of a kind that machines get now: of the newest of its files. Its version is beside it, so that another
/// one does not make another series of ages.
fn ages(layers: &[Published], kind: Kind, now: Timestamp) -> String {
    let (age, info) = (
        format!("towline_{kind}_age_seconds"),
        format!("towline_{kind}_info"),
    );
    let of_kind = layers.iter().filter(|it| it.target.kind == kind);
    let names = of_kind.map(|it| (it.target.name.as_str(), it.target.architecture.as_str()));
    let names: BTreeSet<_> = names.collect();
    let help = format!("Age of the newest file in the {kind} layer that machines get, in seconds.");
    let mut ages = gauge(&age, &help);
    let help = format!("The {kind} layer that machines get; always 1.");
    let mut infos = gauge(&info, &help);
    for (name, architecture) in names {
        if let Some(layer) = versions(layers, (kind, name, architecture)).first() {
            let (version, seconds) = (&layer.version, now.duration_since(layer.created).as_secs());
            // Parts of targets have no character that would need escaping.
            let of = format!("{kind}=\"{name}\",architecture=\"{architecture}\"");
            let _ = writeln!(ages, "{age}{{{of}}} {seconds}");
            let _ = writeln!(infos, "{info}{{{of},version=\"{version}\"}} 1");
        }
    }
    ages + &infos
}

/// How the last looks at the recipes that follow their packages went. Names of records have no character that would need
/// escaping.
fn looks(records: &Records) -> String {
    const CURRENT: &str = "towline_recipe_current_timestamp_seconds";
    const FAILURES: &str = "towline_recipe_failures";
    const UNREADABLE: &str = "towline_recipe_records_unreadable";
    let help = "When the published layer of a tracked recipe was last seen to be what upstream has, in seconds since 1970.";
    let mut current = gauge(CURRENT, help);
    let mut failures = gauge(FAILURES, "Looks at upstream in a row that failed.");
    for (recipe, record) in &records.all {
        if let Some(time) = record.current {
            let seconds = time.as_second();
            let _ = writeln!(current, "{CURRENT}{{recipe=\"{recipe}\"}} {seconds}");
        }
        let count = record.failures;
        let _ = writeln!(failures, "{FAILURES}{{recipe=\"{recipe}\"}} {count}");
    }
    let help = "Records of tracked recipes that cannot be read, and are not among the others.";
    let unreadable = gauge(UNREADABLE, help);
    let count = records.unreadable.len();
    format!("{current}{failures}{unreadable}{UNREADABLE} {count}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::manifest;

    fn published(kind: Kind, version: &str, created: &str) -> Published {
        let mut manifest = manifest(kind, "ca", version);
        manifest.created = created.parse().unwrap();
        Published {
            target: manifest.target_name().parse().unwrap(),
            manifest,
        }
    }

    #[test]
    fn agents_and_extras_have_the_age_of_the_layer_that_machines_get() {
        let layers = [
            published(Kind::Extra, "1", "2026-11-01T00:00:00Z"),
            published(Kind::Extra, "2", "2026-11-02T00:00:00Z"),
            published(Kind::Agent, "3", "2026-11-02T23:00:00Z"),
        ];
        let now = "2026-11-03T00:00:00Z".parse().unwrap();
        let text = ages(&layers, Kind::Extra, now);
        let age = "towline_extra_age_seconds{extra=\"ca\",architecture=\"amd64\"} 86400\n";
        let info = "towline_extra_info{extra=\"ca\",architecture=\"amd64\",version=\"2\"} 1\n";
        assert!(text.contains(age) && text.contains(info), "{text}");
        assert_eq!(text.matches("extra=").count(), 2);
        let text = ages(&layers, Kind::Agent, now);
        let age = "towline_agent_age_seconds{agent=\"ca\",architecture=\"amd64\"} 3600\n";
        assert!(text.contains(age), "{text}");
    }
}
