//! Reads what the doctor's decisions are about: catalogue, store, keys, certificates, credentials and drills.

mod agents;
mod facts;
mod host;

use std::collections::BTreeSet;
use std::error::Error;

use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::manifest::Kind;
use towline_contract::trust::SignedView;
use towline_initramfs::kernel::drives;
use towline_initramfs::places::places;

use super::chain::{Chain, Holdings, Holds};
use super::{Finding, LastDrill, Level, problem, warning};
use crate::catalogue::{self, CatalogueError, Published};
use crate::hosts::HostError;
use crate::hosts::registry::Registry;
use crate::private::PrivateError;
use crate::sessions::Choice;
use crate::site::Site;
use crate::tracked::record::Records;

pub use agents::{HostAgent, agents};
pub use facts::dates;
use facts::facts;
use host::Looking;

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of what all hosts need.
    pub site: Vec<Finding>,
    /// Of each host.
    pub hosts: Vec<HostReport>,
}

/// What was found of one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// Its name.
    pub host: String,
    /// Whether it could be recovered now, as far as this host alone is concerned.
    pub recoverable: bool,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What it would boot; none when that cannot be read.
    pub chain: Option<Chain>,
    /// Its last drill of each kind, the newer one first.
    pub drills: Vec<LastDrill>,
}

impl Report {
    /// Whether nothing keeps any host from being recovered.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.hosts.iter().all(|it| it.recoverable) && !has_problem(&self.site)
    }
}

/// Looks at the site and at these of its hosts; at all of them when none is named.
///
/// # Errors
/// A host of that name is not known. What cannot be read is found, and no error.
pub fn all(site: &Site, wanted: &[String], now: Timestamp) -> Result<Report, HostError> {
    let mut report = Report {
        site: Vec::new(),
        hosts: Vec::new(),
    };
    let view = catalogue::view(&site.store);
    let layers = view
        .as_ref()
        .ok()
        .map(|view| catalogue::layers(&site.store, view));
    let facts = facts(site, view.as_ref().ok(), now);
    report.site = super::site::site(&facts, site.config.valid_days, now);
    let records = Records::of(site);
    let damaged = records.unreadable.iter().map(unreadable_record);
    report.site.extend(damaged);
    let tracked = super::tracked::tracked(&records.all, site.config.doctor, now);
    report.site.extend(tracked);
    let (view, layers) = match (view, layers) {
        (Ok(view), Some(Ok(layers))) => (view, layers),
        (Err(error), _) | (_, Some(Err(error))) => {
            report.site.push(unreadable(&error));
            return Ok(report);
        }
        (Ok(_), None) => return Ok(report),
    };
    let known = names(site, &view, &layers)?;
    if let Some(unknown) = wanted.iter().find(|it| !known.contains(*it)) {
        return Err(HostError::Unknown(unknown.clone()));
    }
    if known.is_empty() {
        report.site.push(problem(
            "it has no host: nothing is protected",
            "run on each host: towline host enrol",
        ));
    }
    let is_wanted = |name: &&String| wanted.is_empty() || wanted.contains(name);
    let holdings = holdings(site, &layers);
    let looking = Looking::new(site, &view, &layers, &holdings);
    let mut all = layers.clone();
    for name in known.iter().filter(is_wanted) {
        let host = looking.one(&mut all, &records, name, now);
        report.hosts.push(host);
    }
    Ok(report)
}

/// What one host would boot.
///
/// # Errors
/// The catalogue cannot be read.
pub fn chain(
    site: &Site,
    host: &str,
    choice: &Choice,
    now: Timestamp,
) -> Result<Chain, CatalogueError> {
    let view = catalogue::view(&site.store)?;
    let layers = catalogue::layers(&site.store, &view)?;
    let holdings = holdings(site, &layers);
    let looking = Looking::new(site, &view, &layers, &holdings);
    looking.chain(&mut layers.clone(), host, choice, now)
}

/// What the site's layers hold.
fn holdings<'s>(site: &'s Site, layers: &[Published]) -> Holdings<'s> {
    Holdings::new(layers, |manifest| {
        let path = site.store.layer_path(&manifest.digest);
        let places = places(&path, manifest).map_err(|it| joined(&it))?;
        let drives = (manifest.kind == Kind::Kernel).then(|| drives(&path, manifest));
        let drives = drives.transpose().map_err(|it| joined(&it))?;
        Ok(Holds { places, drives })
    })
}

/// Names of hosts that are approved, wait, or have sessions that operators signed.
fn names(
    site: &Site,
    view: &SignedView,
    layers: &[Published],
) -> Result<BTreeSet<String>, PrivateError> {
    let mut names: BTreeSet<_> = view.hosts().map(str::to_owned).collect();
    names.extend(Registry::of(site).names()?);
    let of_operators = layers.iter().filter(|it| it.target.kind == Kind::Host);
    names.extend(of_operators.map(|it| it.target.name.clone()));
    Ok(names)
}

fn has_problem(findings: &[Finding]) -> bool {
    findings.iter().any(|it| it.level == Level::Problem)
}

fn unreadable(error: &dyn Error) -> Finding {
    problem(
        joined(error),
        "run it as the server's user; restore what is damaged from a copy",
    )
}

/// What is known of one recipe alone keeps no host from being recovered.
fn unreadable_record(error: &PrivateError) -> Finding {
    warning(
        joined(error),
        "remove that file: the next towline catalogue refresh compares again what is published, and takes none of it out",
    )
}

/// An error with its causes.
fn joined(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
