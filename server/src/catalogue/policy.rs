//! The site's layer policy: signed into the targets, once all that is published keeps to it.

use towline_contract::Timestamp;
use towline_contract::lanes::{LayerPolicy, POLICY_TARGET};
use towline_contract::trust::metadata::TargetFile;
use towline_initramfs::stored;

use super::change::{TARGETS, change};
use super::{CatalogueError, Published, Result, host_layers, layers, view};
use crate::site::Site;
use crate::store::Store;

/// Signs this policy, or takes the one away that there is. False if it is that already.
///
/// # Errors
/// The policy has a mistake, a published layer does not keep to it, or see [`CatalogueError`].
pub fn set_policy(site: &Site, policy: Option<&LayerPolicy>, now: Timestamp) -> Result<bool> {
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let target = policy.map(TargetFile::of_policy).transpose()?;
    if current.targets().targets.get(POLICY_TARGET) == target.as_ref() {
        return Ok(false);
    }
    if let Some(policy) = policy {
        let mut all = layers(&site.store, &current)?;
        for host in current.hosts() {
            all.extend(host_layers(&site.store, &current, host)?);
        }
        let broken = all.iter().filter_map(|it| broken(&site.store, it, policy));
        let broken: Vec<_> = broken.collect();
        if !broken.is_empty() {
            return Err(CatalogueError::Policy(broken));
        }
    }
    change(site, &current, now, &[TARGETS], |_, document| {
        match &target {
            Some(target) => document
                .targets
                .insert(POLICY_TARGET.into(), target.clone()),
            None => document.targets.remove(POLICY_TARGET),
        };
    })?;
    Ok(true)
}

/// What the layer has that the policy keeps out.
fn broken(store: &Store, layer: &Published, policy: &LayerPolicy) -> Option<String> {
    let mut manifest = layer.manifest.clone();
    manifest.bounds = policy.bounds(manifest.kind);
    if manifest.bounds.is_empty() {
        return None;
    }
    let verified = stored::verify(&store.layer_path(&manifest.digest), &manifest, &[]);
    verified
        .err()
        .map(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })
}
