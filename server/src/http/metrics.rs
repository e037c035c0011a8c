//! `GET /metrics`: until when things are good, in the text format of Prometheus (version 0.0.4). Nothing in it is secret, nor
//! about hosts.

use std::fmt::Write as _;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::answer::{Body, Fault, full};
use super::handlers::State;
use crate::doctor::look;
use crate::doctor::site::SiteFacts;

/// Answers with what has a date to keep.
pub(super) fn metrics(state: &State) -> Result<Response<Body>, Fault> {
    let current = state.catalogue().map_err(|error| Fault::ours(&error))?;
    let text = text(&look::dates(&state.site, Some(&current.view)));
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
