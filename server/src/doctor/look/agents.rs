//! Reads which agent each host would get.

use serde::Serialize;
use towline_contract::Timestamp;

use super::host::Looking;
use super::{holdings, names};
use crate::catalogue;
use crate::doctor::chain::AgentRow;
use crate::hosts::HostError;
use crate::sessions::Choice;
use crate::site::Site;
use crate::tracked::record::Records;

/// Which agent one host would get now.
#[derive(Clone, Debug, Serialize)]
pub struct HostAgent {
    /// The host.
    pub host: String,
    /// The agent that restores its newest session; none if it would not be recovered.
    pub agent: Option<AgentRow>,
    /// When that layer was last seen to be what upstream has; none if nobody looks.
    pub seen_current: Option<Timestamp>,
    /// What keeps the host from getting one, if anything does.
    pub why: Option<String>,
}

/// Which agent each of these hosts would get now; of all hosts when none is named.
///
/// # Errors
/// The catalogue cannot be read, or a host of that name is not known.
pub fn agents(site: &Site, wanted: &[String], now: Timestamp) -> Result<Vec<HostAgent>, HostError> {
    let view = catalogue::view(&site.store)?;
    let layers = catalogue::layers(&site.store, &view)?;
    let records = Records::of(site);
    let known = names(site, &view, &layers)?;
    if let Some(unknown) = wanted.iter().find(|it| !known.contains(*it)) {
        return Err(HostError::Unknown(unknown.clone()));
    }
    let is_wanted = |name: &&String| wanted.is_empty() || wanted.contains(name);
    let holdings = holdings(site, &layers);
    let looking = Looking::new(site, &view, &layers, &holdings);
    let mut all = layers.clone();
    let of = |host: &String| {
        let chain = looking.chain(&mut all, host, &Choice::Newest, now)?;
        let seen = |it: &AgentRow| records.seen_current(&it.target);
        Ok(HostAgent {
            host: host.clone(),
            seen_current: chain.agent.as_ref().and_then(seen),
            why: match chain.agent {
                None => chain.findings.first().map(|it| it.what.clone()),
                Some(_) => None,
            },
            agent: chain.agent,
        })
    };
    known.iter().filter(is_wanted).map(of).collect()
}
