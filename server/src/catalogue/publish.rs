//! What goes into the catalogue and out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use towline_contract::digest::Hasher;
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::trust::metadata::{TargetFile, Targets};
use towline_contract::trust::{BASE_ROLE, PublicKey, SignedView, TargetName, layer_role};
use towline_contract::{Digest, Timestamp};

use super::change::{Signing, TARGETS, change, delegate};
use super::placing::refuse_collisions;
use super::{CatalogueError, Result, layers, view};
use crate::keys;
use crate::private;
use crate::review::{Review, review};
use crate::site::Site;
use crate::store::Store;

/// A layer to publish: a file and its manifest, as [`crate::intake`] has verified them.
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// The stored bytes.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
}

/// What to do when the chain check finds that something would be missing on the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Publish nothing.
    Refuse,
    /// Publish all the same.
    Accept,
}

/// What came of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Targets that were new.
    pub added: Vec<String>,
    /// Targets that were published already.
    pub unchanged: Vec<String>,
    /// Those of them whose bytes in the store were gone or damaged, and are there again.
    pub stored_again: Vec<String>,
    /// The chain check; with [`Missing::Refuse`] it found nothing.
    pub review: Review,
}

/// Checks the chain, stores layers and signs them into the catalogue. All of them or none.
///
/// # Errors
/// See [`CatalogueError`]. A name and version that is taken by another layer is refused, and so is an entry that machines
/// could not place; nothing is changed.
pub fn publish(site: &Site, new: &[NewLayer], missing: Missing, now: Timestamp) -> Result<Outcome> {
    let _lock = site.store.lock()?;
    published(&Signing::now(site)?, new, &[], missing, now)
}

/// The same for layers that nobody asked for just now, if machines would lack nothing, and takes `gone` out in the very
/// documents that bring the new ones: there is one change to sign. Those are targets of the same names as new ones, so that
/// the same roles sign.
///
/// # Errors
/// As [`publish`]. When nothing is new, nothing is taken out. When a document of another change waits for signatures, that goes
/// first, whether somebody has signed it or not.
pub fn publish_instead(
    site: &Site,
    new: &[NewLayer],
    gone: &[String],
    now: Timestamp,
) -> Result<Outcome> {
    let _lock = site.store.lock()?;
    let signing = Signing::now(site)?.leaving_others();
    published(&signing, new, gone, Missing::Refuse, now)
}

/// What both of them do, under the store's lock.
fn published(
    signing: &Signing<'_>,
    new: &[NewLayer],
    gone: &[String],
    missing: Missing,
    now: Timestamp,
) -> Result<Outcome> {
    let site = signing.site;
    let store = &site.store;
    let current = view(store)?;
    let (mut unchanged, mut stored_again) = (BTreeSet::new(), BTreeSet::new());
    let mut added = BTreeMap::new();
    for layer in new {
        let target = layer.manifest.target_name();
        let file = TargetFile::of_layer(&layer.manifest, &layer.manifest_bytes);
        let before = current.layers().get(&target);
        match before.or(added.get(&target).map(|(file, _)| file)) {
            Some(before) => {
                same(&target, before, &file)?;
                if !added.contains_key(&target) && store_again(store, layer)? {
                    stored_again.insert(target.clone());
                }
                unchanged.insert(target);
            }
            None => {
                added.insert(target, (file, layer));
            }
        }
    }
    unchanged.retain(|target| !added.contains_key(target));
    let published: Vec<_> = layers(store, &current)?
        .into_iter()
        .map(|layer| layer.manifest)
        .collect();
    let manifests: Vec<_> = added.values().map(|(_, l)| l.manifest.clone()).collect();
    let review = review(&published, &manifests, &site.config.plan);
    match &review {
        Review::Checked(unmet) if missing == Missing::Refuse && !unmet.is_empty() => {
            return Err(CatalogueError::Unmet(unmet.clone()));
        }
        _ => {}
    }
    let layers: Vec<_> = added.values().map(|(_, layer)| *layer).collect();
    refuse_collisions(store, &published, &layers, &site.config.plan)?;
    let names = added.keys().cloned().collect();
    if !added.is_empty() {
        sign_in(signing, &current, &added, gone, now)?;
    }
    Ok(Outcome {
        added: names,
        unchanged: unchanged.into_iter().collect(),
        stored_again: stored_again.into_iter().collect(),
        review,
    })
}

/// Layers to sign, by target.
type Added<'a> = BTreeMap<String, (TargetFile, &'a NewLayer)>;

/// Has the role of each layer sign it, and stores all of them. The first layer of an agent makes a role of its own for that agent, which the targets
/// key signs; a site of before roles by kind goes on with the targets role for all.
fn sign_in(
    signing: &Signing<'_>,
    current: &SignedView,
    added: &Added<'_>,
    gone: &[String],
    now: Timestamp,
) -> Result<()> {
    let by_kind = current.delegates_to(BASE_ROLE);
    let role_of = |manifest: &Manifest| {
        let role = layer_role(manifest.kind, &manifest.name);
        let role = role.filter(|it| by_kind || current.delegates_to(it));
        role.unwrap_or_else(|| TARGETS.into())
    };
    let signed = added
        .iter()
        .map(|(target, (file, layer))| (role_of(&layer.manifest), target, file));
    let signed: Vec<_> = signed.collect();
    let mut roles: BTreeSet<&str> = signed.iter().map(|(role, _, _)| role.as_str()).collect();
    let is_new = |role: &&str| *role != TARGETS && !current.delegates_to(role);
    let mut new = Vec::new();
    for role in roles.iter().copied().filter(is_new) {
        new.push((role, first_key(signing.site, role)?));
    }
    if !new.is_empty() {
        roles.insert(TARGETS);
    }
    let roles: Vec<_> = roles.into_iter().collect();
    let edit = |role: &str, document: &mut Targets| {
        if role == TARGETS {
            for (role, key) in &new {
                delegate(document, role, from_ref(key), 1);
            }
        }
        let own = signed.iter().filter(|(it, _, _)| it == role);
        let own = own.map(|(_, target, file)| ((*target).clone(), (*file).clone()));
        document.targets.retain(|target, _| !gone.contains(target));
        document.targets.extend(own);
    };
    let signed = signing.signed(current, now, &roles, edit)?;
    // Not before: of a layer that waits for signatures nobody knows whether it ever gets them.
    for (_, layer) in added.values() {
        put_layer(&signing.site.store, layer)?;
    }
    signing.put(current, now, &signed, None)
}

/// The key of an agent that is new: the one whose public half was put here, or one that is made.
fn first_key(site: &Site, role: &str) -> Result<PublicKey> {
    let path = site.key_path(role);
    let public = keys::public_path(&path);
    match public.exists() {
        true => Ok(keys::read_public(&public)?),
        false => Ok(keys::read_or_create(&path)?.public()),
    }
}

/// A published layer never changes: it is the same, or it needs another version.
fn same(target: &str, before: &TargetFile, found: &TargetFile) -> Result<()> {
    let target = target.to_owned();
    let none = Digest::of(b"");
    let (was, is) = (before.sha256(), found.sha256());
    if was != is {
        return Err(CatalogueError::Taken {
            target,
            published: was.unwrap_or(none),
            found: is.unwrap_or(none),
        });
    }
    let manifest = |file: &TargetFile| file.layer().map(|custom| custom.manifest.sha256);
    let (was, is) = (manifest(before), manifest(found));
    if was != is {
        return Err(CatalogueError::OtherManifest {
            target,
            published: was.unwrap_or(none),
            found: is.unwrap_or(none),
        });
    }
    Ok(())
}

/// Takes the layers called `name` with `version` out of the catalogue, of one kind or of any; returns their targets.
/// Their bytes stay in the store: machines that boot just now may still fetch them.
///
/// # Errors
/// See [`CatalogueError`].
pub fn retire(
    site: &Site,
    kind: Option<Kind>,
    name: &str,
    version: &str,
    now: Timestamp,
) -> Result<Vec<String>> {
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let matches = |target: &TargetName| {
        target.name == name
            && target.version == version
            && kind.is_none_or(|kind| kind == target.kind)
    };
    let gone: Vec<String> = current
        .layers()
        .keys()
        .filter(|key| key.parse().is_ok_and(|target| matches(&target)))
        .cloned()
        .collect();
    if gone.is_empty() {
        return Err(CatalogueError::Unknown {
            name: name.into(),
            version: version.into(),
        });
    }
    let by_kind = current.role_files();
    let by_kind = by_kind.iter().map(|it| it.role.as_str());
    let documents = by_kind.filter_map(|role| Some((role, current.role(role)?)));
    let documents = documents.chain([(TARGETS, current.targets())]);
    let has_one = |(_, it): &(&str, &Targets)| gone.iter().any(|key| it.targets.contains_key(key));
    let roles: Vec<_> = documents.filter(has_one).map(|(role, _)| role).collect();
    change(site, &current, now, &roles, |_, document| {
        document.targets.retain(|key, _| !gone.contains(key));
    })?;
    Ok(gone)
}

/// Puts the layer in place of what is in the store, if that is gone or damaged.
fn store_again(store: &Store, layer: &NewLayer) -> Result<bool> {
    let manifest = Digest::of(&layer.manifest_bytes);
    let files = [
        (
            store.layer_path(&layer.manifest.digest),
            layer.manifest.digest,
        ),
        (store.manifest_path(&manifest), manifest),
    ];
    let bad = files
        .into_iter()
        .filter(|(path, wanted)| digest_of(path).ok() != Some(*wanted));
    let bad: Vec<_> = bad.map(|(path, _)| path).collect();
    for path in bad.iter().filter(|it| it.exists()) {
        fs::remove_file(path).map_err(private::failed("remove", path))?;
    }
    if !bad.is_empty() {
        put_layer(store, layer)?;
    }
    Ok(!bad.is_empty())
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher) = (File::open(path)?, Hasher::default());
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&piece[..read]),
        }
    }
}

pub(super) fn put_layer(store: &Store, layer: &NewLayer) -> Result<()> {
    let digest = layer.manifest.digest;
    let missing = |_| CatalogueError::Missing(layer.path.display().to_string());
    let file = File::open(&layer.path).map_err(missing)?;
    store.create(&store.layer_path(&digest), &mut Exactly::new(file, digest))?;
    let path = store.manifest_path(&Digest::of(&layer.manifest_bytes));
    store.create(&path, &mut layer.manifest_bytes.as_slice())?;
    Ok(())
}

/// Reads on, and fails at the end when the bytes were not those of the digest: the file may have changed since it was
/// looked at, and what is stored must be what its name says.
struct Exactly<R> {
    source: R,
    hasher: Hasher,
    digest: Digest,
}

impl<R: Read> Exactly<R> {
    fn new(source: R, digest: Digest) -> Self {
        Self {
            source,
            hasher: Hasher::default(),
            digest,
        }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(buffer)?;
        self.hasher.update(&buffer[..bytes]);
        if bytes == 0 && !buffer.is_empty() {
            let found = self.hasher.clone().finish();
            if found != self.digest {
                return Err(io::Error::other(format!(
                    "the layer's bytes have digest {found}, not {}: the file changed while it was read",
                    self.digest
                )));
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Put;

    #[test]
    fn a_file_that_changed_after_it_was_verified_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"what was verified");
        let path = store.layer_path(&digest);
        let mut other = Exactly::new(&b"something else"[..], digest);
        assert!(store.create(&path, &mut other).is_err());
        assert!(!path.exists());
        let mut same = Exactly::new(&b"what was verified"[..], digest);
        assert_eq!(store.create(&path, &mut same).unwrap(), Put::Created);
    }
}
