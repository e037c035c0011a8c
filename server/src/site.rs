//! A site: one folder with keys, certificate authority, configuration, recipes and store.
//!
//! ```text
//! towline.toml              what the operator decides
//! keys/root-1.key …         offline: take them away after `init` (keys/README)
//! keys/targets.key          names the other keys; needed when an agent is published for the first time
//! keys/{base,agent-NAME}.key   sign layers; needed to publish them
//! keys/{hosts,plan,snapshot,timestamp}.key   online: the server needs them
//! ca/{ca.pem,ca.key}        authority of the server's TLS certificate
//! ca/client-ca.{pem,key}    authority of the client certificates that recoveries are given
//! credentials/HOST/         what recoveries of a host are given; credentials/_all/ for every host
//! recipes/                  ready recipes, to be changed
//! to-sign/                  documents that wait for keys which are elsewhere
//! store/                    layers, manifests, metadata
//! state/events.jsonl        what machines reported
//! state/hosts/              hosts that asked to be known
//! state/sessions/           sessions that are kept by hand
//! state/revoked/            hosts whose key was revoked
//! state/recoveries/         each recovery, and its journal
//! state/drills/HOST/        the last drills, and the consoles of their machines
//! state/tracked/            recipes that follow their packages: how the last look went, and what waits to be published
//! ```

mod building;
mod first;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use towline_contract::Timestamp;
use towline_contract::trust::{BASE_ROLE, PublicKey, SigningKey, TIMESTAMP_FILE};

use crate::catalogue::CatalogueError;
use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::credentials::client_ca;
use crate::keys::{self, KeyError, Passphrase};
use crate::recoveries::Recoveries;
use crate::store::{Store, StoreError};
use crate::tls::{self, TlsError};
use building::Building;

/// Why a site cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// There is something already.
    #[error("{0} exists already, and a site is only made anew")]
    Exists(PathBuf),
    /// Another process makes it just now.
    #[error("another towline init works on {0} just now")]
    Busy(PathBuf),
    /// There is no site.
    #[error("there is no site's configuration {0}")]
    NotASite(PathBuf),
    /// A file or folder cannot be made.
    #[error("cannot make {path}")]
    Make {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The thresholds do not fit the number of keys.
    #[error("{threshold} of {keys} {role} keys cannot be required")]
    Threshold {
        /// Whose.
        role: &'static str,
        /// Number of keys.
        keys: usize,
        /// How many must sign.
        threshold: u8,
    },
    /// One key was given twice.
    #[error("one {role} key was given twice")]
    Twice {
        /// Whose.
        role: &'static str,
    },
    /// See the cause.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the cause.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// See the cause.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// See the cause.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See the cause.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// What a new site is to be like.
#[derive(Clone, Debug)]
pub struct NewSite {
    /// Name, shown in the authority's certificate.
    pub name: String,
    /// The configuration to write.
    pub config: Config,
    /// The root's keys.
    pub root: NewKeys,
    /// The keys of the targets.
    pub targets: NewKeys,
    /// Public half of the key that signs rescue systems and kernels, if it was made elsewhere.
    pub base_key: Option<PublicKey>,
    /// Recipes to write, by file name.
    pub recipes: Vec<(String, Vec<u8>)>,
}

/// Keys of a role that people sign for.
#[derive(Clone, Debug)]
pub struct NewKeys {
    /// Number of keys to make here.
    pub here: u8,
    /// How many must sign.
    pub threshold: u8,
    /// What encrypts each key that is made here, in their order; a key without one is not encrypted.
    pub passphrases: Vec<Passphrase>,
    /// Public halves of keys that were made elsewhere; then none is made here.
    pub elsewhere: Vec<PublicKey>,
}

impl NewKeys {
    /// So many keys that are made here and not encrypted.
    #[must_use]
    pub fn plain(here: u8, threshold: u8) -> Self {
        Self {
            here,
            threshold,
            passphrases: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self.elsewhere.len() {
            0 => self.here.into(),
            elsewhere => elsewhere,
        }
    }

    fn check(&self, role: &'static str) -> Result<(), SiteError> {
        let (keys, threshold) = (self.count(), self.threshold);
        if threshold == 0 || usize::from(threshold) > keys {
            return Err(SiteError::Threshold {
                role,
                keys,
                threshold,
            });
        }
        let mut seen = BTreeSet::new();
        match self.elsewhere.iter().all(|it| seen.insert(it.id())) {
            true => Ok(()),
            false => Err(SiteError::Twice { role }),
        }
    }
}

/// A site's folder.
#[derive(Clone, Debug)]
pub struct Site {
    dir: PathBuf,
    /// What the operator decided.
    pub config: Config,
    /// Layers, manifests, metadata.
    pub store: Store,
}

const KEYS_README: &str = "\
The keys of this site. Whoever holds them decides what machines boot.

root-N.key     sign the root of trust, so many of them together as `towline key show` says, each encrypted with a passphrase
               of its own. Not needed in daily work: move each to a place of its own, off this machine, and keep a copy.
               root-N.pub, the public half, stays.
targets.key    (or targets-N.key, several, like those of the root) names the keys below. Needed by `towline publish` when it publishes an agent for the first time, and for host
               layers of your own; otherwise it can be elsewhere.
base.key       signs rescue systems and kernels, agent-NAME.key the agent NAME. Needed by `towline publish` and
               `towline catalogue retire` only; they can live on another machine that has the store.
hosts.key      names the keys of hosts. Needed by `towline host approve`, and by `towline serve` to keep that fresh.
plan.key, snapshot.key, timestamp.key
               needed by `towline serve`. With these and hosts.key a thief can serve older signed layers, and host layers
               of their own, but no base, kernel or agent.

A key that was stolen, lost, or is old is replaced by one command: `towline key rotate ROLE`. The media go on as they are.
";

impl Site {
    /// Makes a site in `dir`, all of it or nothing: it is built beside and renamed at the end. When keys that are elsewhere must
    /// sign its first catalogue, the site is there and that waits; the same again goes on.
    ///
    /// # Errors
    /// See [`SiteError`]; [`CatalogueError::ToSign`] when the catalogue waits.
    pub fn create(dir: &Path, new: &NewSite, now: Timestamp) -> Result<Self, SiteError> {
        new.root.check("root")?;
        new.targets.check("targets")?;
        if let Ok(site) = Self::open(dir)
            && site.is_unfinished()
        {
            first::go_on(&site, new, now)?;
            return Ok(site);
        }
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file() {
            return Err(SiteError::Exists(dir.into()));
        }
        let building = Building::beside(dir)?;
        fill(&building.path, new, now)?;
        building.finish(dir)?;
        let site = Self::open(dir)?;
        if site.is_unfinished() {
            first::go_on(&site, new, now)?;
        }
        Ok(site)
    }

    /// Whether the first catalogue waits for signatures.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        let waits = |role| self.to_sign().join(format!("1.{role}.json")).exists();
        let started = self.store.metadata_path(TIMESTAMP_FILE).exists();
        !started && ["root", "targets", BASE_ROLE].into_iter().any(waits)
    }

    /// Opens the site in `dir`.
    ///
    /// # Errors
    /// See [`SiteError`].
    pub fn open(dir: &Path) -> Result<Self, SiteError> {
        Self::with_config(&dir.join(CONFIG_FILE))
    }

    /// Opens the site whose configuration is `file`; its folder is the site's.
    ///
    /// # Errors
    /// See [`SiteError`].
    pub fn with_config(file: &Path) -> Result<Self, SiteError> {
        if !file.exists() {
            return Err(SiteError::NotASite(file.into()));
        }
        // Of a plain file name this is empty, which names files here without a `./` before them.
        let dir = file.parent().unwrap_or(Path::new("")).to_owned();
        let config = Config::read(file)?;
        let store = Store::open(&dir.join(&config.store))?;
        Ok(Self { dir, config, store })
    }

    /// Folder of the signing keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// Where the signing key `name` is kept.
    #[must_use]
    pub fn key_path(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    /// Where the key that follows `name` is kept while it is being rotated.
    #[must_use]
    pub fn next_key_path(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key.next"))
    }

    /// The keys that sign for `role` on this machine: its own, and the one that follows while it is being rotated, so that what
    /// is signed meanwhile is right before and after.
    ///
    /// # Errors
    /// See [`KeyError`]. The one that follows signs nothing alone.
    pub fn signing_keys(&self, role: &str) -> Result<Vec<SigningKey>, KeyError> {
        let own = self.key_path(role);
        let several = keys::offline_keys(&self.keys(), role).into_iter();
        let several = several.map(|it| it.path).filter(|it| *it != own);
        let (mut found, mut elsewhere) = (Vec::new(), None);
        for path in std::iter::once(own.clone()).chain(several) {
            match keys::read(&path) {
                Err(error) if error.is_elsewhere() => elsewhere = elsewhere.or(Some(error)),
                key => found.push(key?),
            }
        }
        match elsewhere {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found.into_iter().chain(self.next_key(role)?).collect()),
        }
    }

    /// The key that follows the role's own, while it is being rotated.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn next_key(&self, role: &str) -> Result<Option<SigningKey>, KeyError> {
        match keys::read(&self.next_key_path(role)) {
            Err(error) if error.is_elsewhere() => Ok(None),
            next => next.map(Some),
        }
    }

    /// Folder of documents that wait for a key which is elsewhere.
    #[must_use]
    pub fn to_sign(&self) -> PathBuf {
        self.dir.join("to-sign")
    }

    /// Folder of the certificate authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// Folder of what the server knows and nobody signs.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Folder of what recoveries are given.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.dir.join("credentials")
    }

    /// A file that the configuration names.
    #[must_use]
    pub fn relative(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// The recoveries.
    #[must_use]
    pub fn recoveries(&self) -> Recoveries {
        Recoveries::new(self.state().join("recoveries"))
    }

    /// Folder of recipes that follow what they are made of.
    #[must_use]
    pub fn tracked(&self) -> PathBuf {
        self.state().join("tracked")
    }

    /// Folder of the recipes.
    #[must_use]
    pub fn recipes(&self) -> PathBuf {
        self.dir.join("recipes")
    }

    /// File that events are appended to.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.dir.join("state/events.jsonl")
    }
}

/// Fills the new site's folder.
fn fill(dir: &Path, new: &NewSite, now: Timestamp) -> Result<(), SiteError> {
    let private = |name: &str| {
        let path = dir.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|cause| SiteError::Make { path, cause })
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|cause| SiteError::Make {
                path: path.clone(),
                cause,
            })
    };
    for name in ["keys", "ca", "credentials", "state"] {
        private(name)?;
    }
    write("keys/README", KEYS_README.as_bytes())?;
    write(CONFIG_FILE, config_text(&new.config).as_bytes())?;
    for (name, bytes) in &new.recipes {
        write(&format!("recipes/{name}"), bytes)?;
    }
    tls::create_authority(&dir.join("ca"), &new.name, offset(now))?;
    client_ca::create(&dir.join("ca"), offset(now))?;

    let site = Site {
        dir: dir.into(),
        config: new.config.clone(),
        store: Store::open(&dir.join(&new.config.store))?,
    };
    first::start(&site, new, now)
}

/// The configuration with a word on each part.
fn config_text(config: &Config) -> String {
    let body = toml::to_string_pretty(config).unwrap_or_default();
    format!(
        "# What `towline serve` does at this site. docs/guide/site.md explains every line.\n\
         # hand_over: auto, in-place or kexec. More: http_listen, mirrors, plan.{{kernel,base,agents,hosts}}.\n\n{body}"
    )
}

/// The same moment for the crates that make certificates.
pub fn offset(now: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
