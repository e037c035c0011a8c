//! Reads what is to be said of one host: what it would boot, its drills, its credentials and its key.

use std::collections::BTreeSet;
use std::fs;

use towline_contract::manifest::Kind;
use towline_contract::trust::SignedView;
use towline_contract::{Digest, Timestamp};

use super::{HostReport, has_problem, joined, unreadable};
use crate::catalogue::{self, CatalogueError, Published};
use crate::credentials;
use crate::doctor::chain::{self, Chain, Holdings, Known, Question};
use crate::doctor::{self, HostFacts};
use crate::drills::Drills;
use crate::hosts::revoked;
use crate::sessions::Choice;
use crate::site::Site;
use crate::store::Store;
use crate::tracked::record::Records;

/// What all hosts are looked at with.
pub(super) struct Looking<'l> {
    site: &'l Site,
    view: &'l SignedView,
    /// How many layers all hosts share; the first of those that a host is checked with.
    shared: usize,
    known: Known<'l>,
    /// Those of them whose bytes are not there.
    absent: BTreeSet<Digest>,
}

impl<'l> Looking<'l> {
    pub(super) fn new(
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
    pub(super) fn one(
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
        let findings = doctor::host(&facts, site.config.doctor, now);
        found.findings.extend(findings);
        found.chain = Some(chain);
    }

    /// What one host would boot.
    pub(super) fn chain(
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
