//! Reads what is known of the site: its documents, keys and certificates.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use towline_contract::Timestamp;
use towline_contract::trust::{HOSTS_ROLE, SignedView};

use super::joined;
use crate::catalogue;
use crate::credentials::{client_ca, dates};
use crate::doctor::site::{KeyFacts, KeyUse, SiteFacts};
use crate::site::{Site, offset};
use crate::{keys, tls};

/// All that is known of it.
pub(super) fn facts(site: &Site, view: Option<&SignedView>, now: Timestamp) -> SiteFacts {
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
