//! The chain: what a verified plan boots, and the manifests of its layers.

use std::collections::BTreeSet;

use super::dates::ExpiredRole;
use super::error::TrustError;
use super::target::{ManifestRef, TargetName};
use super::verified::Verified;
use super::view::SignedView;
use crate::lanes::LayerPolicy;
use crate::limits::{CHAIN_LAYERS_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::{Kind, Manifest};
use crate::plan::{BootPlan, HandOver, PlanLayer};
use crate::{Digest, Timestamp};

/// A plan with what the signed catalogue says of its layers. Only [`SignedView::plan`] makes a `Verified<Chain>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The plan.
    pub plan: BootPlan,
    /// The layers in order; the later wins.
    pub layers: Vec<ChainLayer>,
    /// Metadata that is past its date and was accepted all the same.
    pub expired: Vec<ExpiredRole>,
    /// What the site keeps layers to, beside the rules of every site.
    pub policy: LayerPolicy,
}

/// One layer as it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLayer {
    /// Its name in the catalogue.
    pub target: TargetName,
    /// What it is for.
    pub kind: Kind,
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// Size as stored, in bytes.
    pub stored_bytes: u64,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// Size of its manifest, in bytes.
    pub manifest_bytes: u64,
}

impl Chain {
    /// The time that the plan brings: signed, and fresh because the plan echoes the nonce.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.plan.time
    }

    /// Size of all layers as stored, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.stored_bytes).sum()
    }
}

impl Verified<Chain> {
    /// Verifies the manifest of the layer with this index.
    ///
    /// # Errors
    /// Not the signed bytes, no usable manifest, or about another layer than the one signed; or there is no such layer.
    pub fn manifest(&self, index: usize, bytes: &[u8]) -> Result<Verified<Manifest>, TrustError> {
        let layer = self.layers.get(index).ok_or_else(|| {
            TrustError::Chain(format!(
                "layer {index} of {} was asked for",
                self.layers.len()
            ))
        })?;
        let what = format!("the manifest of layer {}", layer.target);
        let (found, wanted) = (bytes.len() as u64, layer.manifest_bytes);
        if found != wanted {
            return Err(TrustError::Length {
                what,
                found,
                wanted,
            });
        }
        let (found, wanted) = (Digest::of(bytes), layer.manifest);
        if found != wanted {
            return Err(TrustError::Digest {
                what,
                found,
                wanted,
            });
        }
        let mut manifest = Manifest::parse(bytes).map_err(|source| TrustError::Manifest {
            layer: layer.target.to_string(),
            source,
        })?;
        agrees(layer, &manifest)?;
        manifest.bounds = self.policy.bounds(manifest.kind);
        Ok(Verified::new(manifest))
    }
}

fn agrees(layer: &ChainLayer, manifest: &Manifest) -> Result<(), TrustError> {
    let rows = [
        ("name", manifest.target_name(), layer.target.to_string()),
        (
            "digest",
            manifest.digest.to_string(),
            layer.digest.to_string(),
        ),
        (
            "stored_bytes",
            manifest.stored_bytes.to_string(),
            layer.stored_bytes.to_string(),
        ),
    ];
    match rows.into_iter().find(|(_, found, wanted)| found != wanted) {
        None => Ok(()),
        Some((field, found, wanted)) => Err(TrustError::ManifestDisagrees {
            layer: layer.target.to_string(),
            field,
            found,
            wanted,
        }),
    }
}

/// The layers that `plan` asks for, as `view` signs them, all for machines of `architecture`.
pub(super) fn layers(
    view: &SignedView,
    plan: &BootPlan,
    architecture: &str,
) -> Result<Vec<ChainLayer>, TrustError> {
    let count = plan.chain.len();
    if count > CHAIN_LAYERS_MAX {
        return Err(TrustError::Chain(format!(
            "{count} layers are more than {CHAIN_LAYERS_MAX}"
        )));
    }
    let layers: Vec<_> = plan
        .chain
        .iter()
        .map(|wanted| signed_layer(view, wanted))
        .collect::<Result<_, _>>()?;
    check_shape(&layers, plan.hand_over)?;
    let other = |layer: &&ChainLayer| ![architecture, "all"].contains(&&*layer.target.architecture);
    if let Some(layer) = layers.iter().find(other) {
        return Err(TrustError::Architecture {
            target: layer.target.to_string(),
            wanted: architecture.to_owned(),
        });
    }
    let foreign = |layer: &&ChainLayer| {
        layer.kind == Kind::Host && plan.host.as_deref() != Some(&layer.target.name)
    };
    match layers.iter().find(foreign) {
        None => Ok(layers),
        Some(layer) => Err(TrustError::ForeignHost {
            target: layer.target.to_string(),
            host: plan.host.clone(),
        }),
    }
}

fn signed_layer(view: &SignedView, wanted: &PlanLayer) -> Result<ChainLayer, TrustError> {
    let malformed = |why| TrustError::Malformed {
        what: format!("signed target {:?}", wanted.target),
        why,
    };
    let signed = view.layers().get(&wanted.target);
    let signed = signed.filter(|file| file.sha256() == Some(wanted.digest));
    let signed = signed.ok_or_else(|| TrustError::NotInView {
        target: wanted.target.escape_debug().to_string(),
        digest: wanted.digest,
    })?;
    let target: TargetName = wanted.target.parse().map_err(malformed)?;
    let custom = signed
        .layer()
        .ok_or_else(|| malformed("its custom part names no kind and manifest".into()))?;
    if custom.kind != target.kind {
        let why = format!(
            "its name says {}, its custom part {}",
            target.kind, custom.kind
        );
        return Err(malformed(why));
    }
    let ManifestRef { length, sha256 } = custom.manifest;
    if length > MANIFEST_BYTES_MAX {
        let why = format!("a manifest of {length} bytes is larger than {MANIFEST_BYTES_MAX}");
        return Err(malformed(why));
    }
    Ok(ChainLayer {
        target,
        kind: custom.kind,
        digest: wanted.digest,
        stored_bytes: signed.length,
        manifest: sha256,
        manifest_bytes: length,
    })
}

/// Kernel, base, agents and extras, host, credentials, in this order; one base, and one of the others at most except
/// agents and extras.
fn check_shape(layers: &[ChainLayer], hand_over: HandOver) -> Result<(), TrustError> {
    let rank = |kind| match kind {
        Kind::Kernel => 0,
        Kind::Base => 1,
        Kind::Agent | Kind::Extra => 2,
        Kind::Host => 3,
        Kind::Credentials => 4,
    };
    let count = |kind| layers.iter().filter(|layer| layer.kind == kind).count();
    let names: BTreeSet<_> = layers
        .iter()
        .map(|layer| layer.target.to_string())
        .collect();
    let broken = if let Some(pair) = layers
        .windows(2)
        .find(|pair| rank(pair[0].kind) > rank(pair[1].kind))
    {
        format!("{} comes before {}", pair[0].target, pair[1].target)
    } else if count(Kind::Base) != 1 {
        format!("there are {} base layers, not one", count(Kind::Base))
    } else if let Some(kind) = [Kind::Kernel, Kind::Host, Kind::Credentials]
        .into_iter()
        .find(|kind| count(*kind) > 1)
    {
        format!("there are {} {kind} layers", count(kind))
    } else if hand_over == HandOver::Kexec && count(Kind::Kernel) == 0 {
        "there is no kernel layer to start by kexec".into()
    } else if names.len() != layers.len() {
        "a layer is in it twice".into()
    } else {
        return Ok(());
    };
    Err(TrustError::Chain(broken))
}
