//! A whole site in memory: keys, metadata, one chain of layers, plans. Tests change one thing and see it refused.

use std::collections::BTreeMap;

use towline_contract::lanes::Bounds;
use towline_contract::manifest::{Compression, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement};
use towline_contract::plan::{
    BootPlan, HandOver, PLAN_FORMAT, PLAN_ROLE, PLAN_TYPE, PlanLayer, TimestampRef,
};
use towline_contract::trust::metadata::{
    FileRef, RoleName, Root, Snapshot, TargetFile, Targets, Timestamp,
};
use towline_contract::trust::{
    Asked, Chain, ExpiryPolicy, FreshNonce, PublicKey, SignedView, SigningKey, TrustError,
    TrustedRoot, Verified, sign,
};
use towline_contract::{Digest, Timestamp as Time};

pub(crate) const NONCE: [u8; 32] = [7; 32];

/// A medium that knows of no documents.
pub(crate) static NO_VERSIONS: BTreeMap<String, u64> = BTreeMap::new();

pub(crate) fn time(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::generate([number; 32])
}

pub(crate) fn public(keys: &[&SigningKey]) -> Vec<PublicKey> {
    keys.iter().map(|key| key.public()).collect()
}

/// A layer: its stored bytes, and its manifest as stored.
pub(crate) struct Layer {
    pub(crate) stored: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
}

impl Layer {
    pub(crate) fn new(kind: Kind, name: &str, stored: Vec<u8>) -> Self {
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            kind,
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            created: time("2026-11-01T00:00:00Z"),
            digest: Digest::of(&stored),
            stored_bytes: stored.len() as u64,
            unpacked_bytes: stored.len() as u64,
            entries: 0,
            compression: Compression::None,
            chunks: stored.chunks(1 << 20).map(Digest::of).collect(),
            placement: Placement::Ram,
            image: None,
            kernel_release: (kind == Kind::Kernel).then(|| "6.1.0".into()),
            provides: Needs::default(),
            requires: Needs::default(),
            replaceable: vec![],
            packages: vec![],
            checks: vec![],
            agent: None,
            session: None,
            bounds: Bounds::default(),
        };
        let manifest_bytes = manifest.to_bytes();
        Self {
            stored,
            manifest,
            manifest_bytes,
        }
    }
}

/// The metadata files, as a server gives them.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) root: Vec<u8>,
    pub(crate) timestamp: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) targets: Vec<u8>,
}

impl Files {
    pub(crate) fn view(&self) -> Result<SignedView, TrustError> {
        TrustedRoot::from_stamp(&self.root)?
            .timestamp(&self.timestamp)?
            .snapshot(&self.snapshot)?
            .targets(&self.targets)
    }
}

/// What a machine asks for that names no host.
pub(crate) fn asked() -> Asked<'static> {
    Asked {
        host: None,
        architecture: "amd64",
        floor: time("2026-11-01T00:00:00Z"),
        versions: &NO_VERSIONS,
        expiry: ExpiryPolicy::Refuse,
    }
}

pub(crate) struct Site {
    pub(crate) layers: Vec<Layer>,
    pub(crate) root: Root,
    pub(crate) targets: Targets,
    pub(crate) expires: Time,
}

/// Keys 1, 2 and 3 are root's (two of them must sign), 4 and 5 the targets' (both), 6 snapshot's, 7 timestamp's, 8 the plan's.
impl Site {
    pub(crate) fn new() -> Self {
        let expires = time("2027-01-01T00:00:00Z");
        let layers = vec![
            Layer::new(Kind::Kernel, "linux", b"a kernel".to_vec()),
            Layer::new(Kind::Base, "debian", vec![5; (1 << 20) + 3]),
            Layer::new(Kind::Agent, "restic", b"an agent".to_vec()),
            Layer::new(Kind::Host, "web1", b"a host".to_vec()),
        ];
        let mut root = Root::new(1, expires);
        root.set_role(RoleName::Root, &public(&[&key(1), &key(2), &key(3)]), 2);
        root.set_role(RoleName::Targets, &public(&[&key(4), &key(5)]), 2);
        root.set_role(RoleName::Snapshot, &public(&[&key(6)]), 1);
        root.set_role(RoleName::Timestamp, &public(&[&key(7)]), 1);
        let mut targets = Targets::new(3, expires);
        for layer in &layers {
            targets.targets.insert(
                layer.manifest.target_name(),
                TargetFile::of_layer(&layer.manifest, &layer.manifest_bytes),
            );
        }
        targets.set_delegation(PLAN_ROLE, &public(&[&key(8)]), 1, &["plan/*"]);
        Self {
            layers,
            root,
            targets,
            expires,
        }
    }

    pub(crate) fn files(&self) -> Files {
        let targets = sign(&self.targets, &[&key(4), &key(5)]).unwrap();
        let reference = FileRef::of(self.targets.header.version, &targets);
        let snapshot = sign(&Snapshot::new(5, self.expires, reference), &[&key(6)]).unwrap();
        let reference = FileRef::of(5, &snapshot);
        let timestamp = sign(&Timestamp::new(9, self.expires, reference), &[&key(7)]).unwrap();
        Files {
            root: sign(&self.root, &[&key(1), &key(2)]).unwrap(),
            timestamp,
            snapshot,
            targets,
        }
    }

    pub(crate) fn boot_plan(&self) -> BootPlan {
        let layer = |layer: &Layer| PlanLayer {
            target: layer.manifest.target_name(),
            digest: layer.manifest.digest,
        };
        BootPlan {
            type_: PLAN_TYPE.into(),
            format: PLAN_FORMAT,
            nonce: NONCE.into(),
            time: time("2026-11-23T22:30:00Z"),
            expires: time("2026-11-23T22:35:00Z"),
            timestamp: TimestampRef {
                version: 9,
                digest: Digest::of(&self.files().timestamp),
            },
            chain: self.layers.iter().map(layer).collect(),
            command_line: "console=ttyS0 rootfstype=ramfs".into(),
            hand_over: HandOver::InPlace,
            mirrors: vec!["https://mirror.example/towline".into()],
            recovery: "r-1".into(),
            host: Some("web1".into()),
            order: None,
        }
    }

    /// What becomes of the site's plan after `change`, signed by the right key.
    pub(crate) fn plan(
        &self,
        change: impl FnOnce(&mut BootPlan),
    ) -> Result<Verified<Chain>, TrustError> {
        let mut plan = self.boot_plan();
        change(&mut plan);
        self.signed_plan(&sign(&plan, &[&key(8)]).unwrap(), ExpiryPolicy::Refuse)
    }

    pub(crate) fn signed_plan(
        &self,
        bytes: &[u8],
        expiry: ExpiryPolicy,
    ) -> Result<Verified<Chain>, TrustError> {
        self.answer(bytes, &Asked { expiry, ..asked() })
    }

    /// What becomes of an answer to a machine that asked for this.
    pub(crate) fn answer(
        &self,
        bytes: &[u8],
        asked: &Asked<'_>,
    ) -> Result<Verified<Chain>, TrustError> {
        let view = self.files().view().unwrap();
        view.plan(bytes, FreshNonce::new(NONCE), asked)
    }
}
