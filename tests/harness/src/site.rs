//! A site in a temporary folder, served by the real server in this process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use jiff::SignedDuration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use towline_contract::stamp::Settings;
use towline_contract::trust::metadata::{
    FileRef, Snapshot, TargetFile, Targets, Timestamp as TimestampFile,
};
use towline_contract::trust::{SigningKey, TIMESTAMP_FILE, sign};
use towline_contract::{Digest, Timestamp};
use towline_server::catalogue::{FirstKeys, RoleKeys};
use towline_server::config::{
    Config, CredentialsConfig, DoctorConfig, DrillConfig, PlanConfig, SessionsConfig, TrackConfig,
    ValidDays,
};
use towline_server::hosts::retention::Retention;
use towline_server::site::{NewKeys, NewSite};
use towline_server::{Site, catalogue, http, keys};

use crate::layer::Layer;

/// A served site; it ends when dropped.
pub struct TestSite {
    /// The site.
    pub site: Site,
    /// Where it is served by HTTPS.
    pub https: SocketAddr,
    /// Where it is served by plain HTTP.
    pub http: SocketAddr,
    folder: tempfile::TempDir,
    _served: Served,
}

/// A server; it ends when dropped.
pub struct Served {
    /// Where it listens for HTTPS.
    pub https: SocketAddr,
    /// Where it listens for plain HTTP.
    pub http: SocketAddr,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

fn serve(site: &Site) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, bound) = std::sync::mpsc::channel();
    let served = site.clone();
    runtime.spawn(async move {
        let ready = |bound| ready.send(bound).expect("a reader");
        let stopped = async { drop(stopped.await) };
        http::serve(served, std::sync::Arc::new(Timestamp::now), ready, stopped)
            .await
            .expect("the server");
    });
    let bound = bound.recv().expect("the server listens");
    Served {
        https: bound.https,
        http: bound.http.expect("plain HTTP is configured"),
        _stop: stop,
        _runtime: runtime,
    }
}

impl TestSite {
    /// A site with these layers in its catalogue, whatever they hold.
    ///
    /// # Panics
    /// The site cannot be made or served.
    #[must_use]
    pub fn serving(layers: &[Layer]) -> Self {
        Self::with(layers, |_| {})
    }

    /// The same, after `adjust` has changed the configuration.
    ///
    /// # Panics
    /// The site cannot be made or served.
    #[must_use]
    pub fn with(layers: &[Layer], adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config {
            listen: loopback,
            http_listen: Some(loopback),
            server_names: vec!["127.0.0.1".into(), "localhost".into()],
            store: "store".into(),
            mirrors: Vec::new(),
            plan: PlanConfig::default(),
            valid_days: ValidDays::default(),
            sessions: SessionsConfig::default(),
            retention: Retention::default(),
            credentials: CredentialsConfig::default(),
            doctor: DoctorConfig::default(),
            drill: DrillConfig::default(),
            track: TrackConfig::default(),
            trial: None,
        };
        adjust(&mut config);
        let new = NewSite {
            name: "test".into(),
            config,
            root: NewKeys::plain(3, 2),
            targets: NewKeys::plain(1, 1),
            base_key: None,
            recipes: Vec::new(),
        };
        let dir = folder.path().join("site");
        let site = Site::create(&dir, &new, Timestamp::now()).expect("a site");
        add(&dir, layers);

        let served = serve(&site);
        Self {
            site,
            https: served.https,
            http: served.http,
            folder,
            _served: served,
        }
    }

    /// The same site, served once more: what a server knows that is started again.
    ///
    /// # Panics
    /// It cannot be served.
    #[must_use]
    pub fn served_again(&self) -> Served {
        serve(&self.site)
    }

    /// The site's folder.
    #[must_use]
    pub fn dir(&self) -> std::path::PathBuf {
        self.folder.path().join("site")
    }

    /// What a medium for this site is stamped with, for these servers.
    ///
    /// # Panics
    /// The site has no root or authority.
    #[must_use]
    pub fn settings(&self, servers: &[String]) -> Settings {
        Settings {
            servers: servers.to_vec(),
            root: Some(
                fs::read_to_string(self.dir().join("store/metadata/1.root.json")).expect("a root"),
            ),
            ca: vec![fs::read_to_string(self.dir().join("ca/ca.pem")).expect("an authority")],
            ..Settings::default()
        }
    }
}

/// Makes the catalogue of the site in `dir` anew and empty, as whoever took its server over could: the server's keys are the
/// site's, those of root, targets and base are the thief's own.
///
/// # Panics
/// There is no site.
pub fn usurp(dir: &Path) {
    let site = Site::open(dir).expect("a site");
    fs::remove_dir_all(dir.join("store")).expect("the store goes");
    let own = |name: &str| -> SigningKey {
        let _ = fs::remove_file(site.key_path(name));
        keys::create(&site.key_path(name)).expect("a key")
    };
    let stolen = |name: &str| keys::read(&site.key_path(name)).expect("a key");
    let all = FirstKeys {
        root: RoleKeys::here(vec![own("root-1")], 1),
        targets: RoleKeys::here(vec![own("targets")], 1),
        base: RoleKeys::here(vec![own("base")], 1),
        hosts: stolen("hosts"),
        snapshot: stolen("snapshot"),
        timestamp: stolen("timestamp"),
        plan: stolen("plan"),
    };
    let site = Site::open(dir).expect("a site without a catalogue");
    catalogue::create(&site, &all, Timestamp::now()).expect("a catalogue");
}

/// Signs `layers` into the catalogue of the site in `dir` with the site's own keys, as whoever holds them could: nothing of what
/// `towline publish` refuses is refused here.
///
/// # Panics
/// There is no site.
pub fn add(dir: &Path, layers: &[Layer]) {
    add_with(dir, layers, |_| {});
}

/// The same, after `adjust` has changed the document that is signed.
///
/// # Panics
/// There is no site.
pub fn add_with(dir: &Path, layers: &[Layer], adjust: impl FnOnce(&mut Targets)) {
    let site = Site::open(dir).expect("a site");
    let store = &site.store;
    let view = catalogue::view(store).expect("a catalogue");
    let key = |name: &str| -> SigningKey { keys::read(&site.key_path(name)).expect("a key") };
    let later = |hours| {
        Timestamp::now()
            .saturating_add(SignedDuration::from_hours(hours))
            .expect("a time")
    };

    let mut targets = view.targets().clone();
    targets.header.version += 1;
    for Layer { manifest, stored } in layers {
        let bytes = manifest.to_bytes();
        fs::write(store.layer_path(&manifest.digest), stored).expect("a layer is stored");
        fs::write(store.manifest_path(&Digest::of(&bytes)), &bytes).expect("a manifest is stored");
        targets.targets.insert(
            manifest.target_name(),
            TargetFile::of_layer(manifest, &bytes),
        );
    }
    adjust(&mut targets);
    let version = targets.header.version;
    let bytes = sign(&targets, &[&key("targets")]).expect("targets");
    fs::write(
        store.metadata_path(&format!("{version}.targets.json")),
        &bytes,
    )
    .expect("targets are stored");

    let reference = FileRef::of(version, &bytes);
    let version = view.snapshot_version() + 1;
    let mut snapshot = Snapshot::new(version, later(100), reference.clone());
    snapshot.meta = view.files().clone();
    snapshot.meta.insert("targets.json".into(), reference);
    let bytes = sign(&snapshot, &[&key("snapshot")]).expect("a snapshot");
    fs::write(
        store.metadata_path(&format!("{version}.snapshot.json")),
        &bytes,
    )
    .expect("a snapshot is stored");

    let timestamp = TimestampFile::new(
        view.timestamp_version() + 1,
        later(24),
        FileRef::of(version, &bytes),
    );
    let bytes = sign(&timestamp, &[&key("timestamp")]).expect("a timestamp");
    fs::write(store.metadata_path(TIMESTAMP_FILE), bytes).expect("a timestamp is stored");
}
