//! Reads what the doctor's decisions are about: catalogue, store, keys, certificates, credentials and drills.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use serde::Serialize;
use towline_contract::manifest::Kind;
use towline_contract::trust::{HOSTS_ROLE, SignedView};
use towline_contract::{Digest, Timestamp};
use towline_initramfs::kernel::drives;
use towline_initramfs::places::places;

use super::chain::{self, AgentRow, Chain, Holdings, Holds, Known, Question};
use super::site::{KeyFacts, KeyUse, SiteFacts};
use super::{Finding, HostFacts, LastDrill, Level, problem, warning};
use crate::catalogue::{self, CatalogueError, Published};
use crate::credentials::{self, client_ca, dates};
use crate::drills::Drills;
use crate::hosts::registry::Registry;
use crate::hosts::{HostError, revoked};
use crate::private::PrivateError;
use crate::sessions::Choice;
use crate::site::{Site, offset};
use crate::store::Store;
use crate::tracked::record::Records;
use crate::{keys, tls};

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

/// What all hosts are looked at with.
struct Looking<'l> {
    site: &'l Site,
    view: &'l SignedView,
    /// How many layers all hosts share; the first of those that a host is checked with.
    shared: usize,
    known: Known<'l>,
    /// Those of them whose bytes are not there.
    absent: BTreeSet<Digest>,
}

impl<'l> Looking<'l> {
    fn new(
        site: &'l Site,
        view: &'l SignedView,
        layers: &'l [Published],
        holdings: &'l Holdings<'l>,
    ) -> Self {
        Self {
            site,
            view,
            shared: layers.len(),
            known: Known::of(layers, holdings),
            absent: absent(&site.store, layers),
        }
    }

    /// What is to be said of one host. `all` begins with the layers that hosts share; the host's own take the place of others'.
    fn one(
        &self,
        all: &mut Vec<Published>,
        records: &Records,
        host: &str,
        now: Timestamp,
    ) -> HostReport {
        let mut found = HostReport {
            host: host.into(),
            recoverable: false,
            findings: Vec::new(),
            chain: None,
            drills: Vec::new(),
        };
        match self.chain(all, host, &Choice::Newest, now) {
            Err(error) => found.findings.push(unreadable(&error)),
            Ok(chain) => {
                let agent = chain.agent.as_ref();
                let seen = agent.and_then(|it| records.seen_current(&it.target));
                self.host(&mut found, chain, seen, all, now);
            }
        }
        found.recoverable = !has_problem(&found.findings);
        found
    }

    fn host(
        &self,
        found: &mut HostReport,
        chain: Chain,
        seen_current: Option<Timestamp>,
        all: &[Published],
        now: Timestamp,
    ) {
        let (site, host) = (self.site, found.host.clone());
        let drills = Drills::of(site, &host).map_or(Ok(Vec::new()), |it| it.last());
        match drills {
            Ok(last) => {
                let last = last.into_iter().map(|(_, report)| report.in_short());
                found.drills = last.collect();
            }
            Err(error) => found.findings.push(unreadable(&error)),
        }
        let revoked = revoked::read(site, &host).unwrap_or_else(|error| {
            found.findings.push(unreadable(&error));
            None
        });
        let by_operators = all.iter().take(self.shared);
        let mut by_operators = by_operators.filter(|it| it.target.kind == Kind::Host);
        let facts = HostFacts {
            host: &host,
            waiting: self.view.host_key(&host).is_none()
                && !by_operators.any(|it| it.target.name == host),
            revoked: revoked.map(|it| it.time),
            chain: &chain,
            credentials: credentials::check(site, &host).err().map(|it| joined(&it)),
            drills: found.drills.clone(),
            seen_current,
        };
        let findings = super::host(&facts, site.config.doctor, now);
        found.findings.extend(findings);
        found.chain = Some(chain);
    }

    fn chain(
        &self,
        all: &mut Vec<Published>,
        host: &str,
        choice: &Choice,
        now: Timestamp,
    ) -> Result<Chain, CatalogueError> {
        let store = &self.site.store;
        all.truncate(self.shared);
        let own = catalogue::host_layers(store, self.view, host)?;
        let absent: BTreeSet<_> = self.absent.union(&absent(store, &own)).copied().collect();
        all.extend(own);
        let question = Question {
            host,
            choice,
            absent: &absent,
            layers: all,
            config: &self.site.config,
            known: &self.known,
        };
        Ok(chain::check(&question, now))
    }
}

/// Layers whose file is not there, or of another size.
fn absent(store: &Store, layers: &[Published]) -> BTreeSet<Digest> {
    let is_whole = |layer: &&Published| {
        let file = fs::metadata(store.layer_path(&layer.manifest.digest));
        file.is_ok_and(|it| it.len() == layer.manifest.stored_bytes)
    };
    let gone = layers.iter().filter(|layer| !is_whole(layer));
    gone.map(|it| it.manifest.digest).collect()
}

fn facts(site: &Site, view: Option<&SignedView>, now: Timestamp) -> SiteFacts {
    let authority = site.authority();
    let certificate = tls::server_config(&authority, &site.config.server_names, offset(now));
    SiteFacts {
        certificate: certificate.err().map(|it| joined(&it)),
        keys: all_keys(site, view),
        waiting: view.map_or(Ok(Vec::new()), |view| {
            catalogue::waiting(site, view).map_err(|it| joined(&it))
        }),
        ..dates(site, view)
    }
}

/// What of a site has a date to keep: signed documents and certificates.
#[must_use]
pub fn dates(site: &Site, view: Option<&SignedView>) -> SiteFacts {
    // A site of older date gets its authority for clients on first use.
    let is_due = |it: &dates::GoodUntil| it.until.is_some() || it.file.exists();
    SiteFacts {
        documents: view.map_or_else(Vec::new, |it| {
            let all = it.documents().into_iter();
            all.map(|(role, header)| (role.to_owned(), header.clone()))
                .collect()
        }),
        certificates: dates::of(site).into_iter().filter(is_due).collect(),
        certificate: None,
        keys: Vec::new(),
        waiting: Ok(Vec::new()),
    }
}

fn all_keys(site: &Site, view: Option<&SignedView>) -> Vec<KeyFacts> {
    let apart = ["root", "targets"].map(|role| keys::offline_keys(&site.keys(), role));
    let single = site.key_path("targets");
    let apart = apart
        .into_iter()
        .flatten()
        .filter(move |it| it.path != single);
    let roots = apart.map(|it| (it.name, KeyUse::Apart));
    let others = [
        ("targets", KeyUse::Targets),
        ("plan", KeyUse::Online),
        ("snapshot", KeyUse::Online),
        ("timestamp", KeyUse::Online),
    ];
    let others = others.map(|(name, what)| (name.to_owned(), what));
    let by_kind = view.map_or_else(Vec::new, SignedView::role_files);
    let by_kind = by_kind.into_iter().map(|file| match file.role.as_str() {
        HOSTS_ROLE => (file.role, KeyUse::Online),
        _ => (file.role, KeyUse::Targets),
    });
    let signing = roots
        .chain(others)
        .chain(by_kind)
        .map(|(name, what)| KeyFacts {
            file: format!("keys/{name}.key"),
            what,
            there: match keys::read(&site.key_path(&name)) {
                Ok(_) => Ok(true),
                Err(keys::KeyError::Encrypted(_)) if what != KeyUse::Online => Ok(true),
                Err(keys::KeyError::File { cause, .. }) if is_not_found(&cause) => Ok(false),
                Err(error) => Err(joined(&error)),
            },
        });
    // Made on first use, both of them.
    let clients = match site.authority().join(client_ca::CLIENT_CA_FILE).exists() {
        true => KeyUse::Online,
        false => KeyUse::Targets,
    };
    let authorities = [("ca.key", KeyUse::Online), ("client-ca.key", clients)];
    let authorities = authorities.map(|(name, what)| KeyFacts {
        file: format!("ca/{name}"),
        what,
        there: alone(fs::metadata(site.authority().join(name))),
    });
    signing.chain(authorities).collect()
}

/// Whether a file is there that its owner alone can read.
fn alone(file: io::Result<fs::Metadata>) -> Result<bool, String> {
    match file {
        Ok(file) if file.mode() & 0o077 == 0 => Ok(true),
        Ok(file) => Err(format!("it has mode {:04o}", file.mode() & 0o777)),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

fn is_not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
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
