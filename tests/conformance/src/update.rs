//! The update workflow of TUF 1.0, section 5: what is fetched, and what is kept, in which order.
//!
//! A file is kept as soon as it is trusted, so that a repository that goes back later is caught.

use anyhow::{Context as _, Result, bail};
use towline_contract::trust::{
    DelegatedFile, Search, SignedView, Step, TIMESTAMP_FILE, TrustedRoot, TrustedSnapshot,
    TrustedTimestamp,
};
use towline_contract::{Digest, Timestamp};

use crate::fetch::{Repository, escaped};
use crate::files::Folder;

/// A client with a memory.
pub(crate) struct Client {
    metadata: Folder,
    repository: Repository,
    now: Timestamp,
}

impl Client {
    pub(crate) fn new(metadata: Folder, repository: Repository, now: Timestamp) -> Self {
        Self {
            metadata,
            repository,
            now,
        }
    }

    /// Brings the top roles up to date.
    pub(crate) fn refresh(&self) -> Result<SignedView> {
        let root = self.root()?;
        let timestamp = self.timestamp(&root)?;
        let snapshot = self.snapshot(&root, timestamp)?;
        self.targets(snapshot)
    }

    fn root(&self) -> Result<TrustedRoot> {
        let stored = self.metadata.get("root.json")?;
        let stored = stored.context("no root is trusted yet; next: init")?;
        let mut root = TrustedRoot::from_stamp(&stored)?;
        while let Some(bytes) = self.repository.find(&root.next_file(), root.max_bytes())? {
            root = root.rotate(&bytes)?;
            self.metadata.put("root.json", &bytes)?;
        }
        Ok(root.require_date(self.now)?)
    }

    fn timestamp(&self, root: &TrustedRoot) -> Result<TrustedTimestamp> {
        let stored = self.metadata.get(TIMESTAMP_FILE)?;
        let stored = stored.and_then(|bytes| root.clone().timestamp(&bytes).ok());
        let max = root.timestamp_max_bytes();
        let bytes = self.repository.get(TIMESTAMP_FILE, max)?;
        let timestamp = root.clone().timestamp(&bytes)?;
        let timestamp = timestamp.after(stored)?.require_date(self.now)?;
        if *timestamp.digest() == Digest::of(&bytes) {
            self.metadata.put(TIMESTAMP_FILE, &bytes)?;
        }
        Ok(timestamp)
    }

    fn snapshot(&self, root: &TrustedRoot, timestamp: TrustedTimestamp) -> Result<TrustedSnapshot> {
        let stored = self.metadata.get("snapshot.json")?;
        let kept = stored
            .as_ref()
            .and_then(|bytes| timestamp.clone().snapshot(bytes).ok());
        if let Some(kept) = kept {
            return Ok(kept.require_date(self.now)?);
        }
        let file = timestamp.next_file();
        let bytes = self.repository.get(&file, timestamp.max_bytes())?;
        let mut snapshot = timestamp.snapshot(&bytes)?;
        if let Some(stored) = stored.and_then(|bytes| root.stored_snapshot(&bytes).ok()) {
            snapshot = snapshot.not_before(&stored)?;
        }
        let snapshot = snapshot.require_date(self.now)?;
        self.metadata.put("snapshot.json", &bytes)?;
        Ok(snapshot)
    }

    fn targets(&self, snapshot: TrustedSnapshot) -> Result<SignedView> {
        let stored = self.metadata.get("targets.json")?;
        let kept = stored.and_then(|bytes| snapshot.clone().targets(&bytes).ok());
        if let Some(kept) = kept {
            return Ok(kept.require_date(self.now)?);
        }
        let file = snapshot.next_file();
        let bytes = self.repository.get(&file, snapshot.max_bytes())?;
        let view = snapshot.targets(&bytes)?.require_date(self.now)?;
        self.metadata.put("targets.json", &bytes)?;
        Ok(view)
    }

    /// Downloads a target, unless it is there.
    pub(crate) fn download(
        &self,
        view: &SignedView,
        name: &str,
        targets: &Repository,
        folder: &Folder,
    ) -> Result<()> {
        let mut search = view.search(name);
        let target = loop {
            match search.step()? {
                Step::Found(target) => break target,
                Step::Absent => bail!("no role signs a target {name:?}"),
                Step::Fetch(file) => self.delegated(&mut search, &file)?,
            }
        };
        // One name, one file, whatever is in the name.
        let local = escaped(name).replace('/', "%2F");
        if let Some(bytes) = folder.get(&local)?
            && target.verify(name, bytes).is_ok()
        {
            return Ok(());
        }
        let hashes = &target.hashes;
        let hash = hashes.get("sha256").or_else(|| hashes.get("sha512"));
        let hash = hash.with_context(|| format!("target {name:?} has no sha256 or sha512"))?;
        let (path, last) = match name.rsplit_once('/') {
            Some((path, last)) => (format!("{}/", escaped(path)), last),
            None => (String::new(), name),
        };
        let file = format!("{path}{}.{}", escaped(hash), escaped(last));
        let bytes = targets.get(&file, target.length)?;
        folder.put(&local, target.verify(name, bytes)?.as_ref())
    }

    /// Gives the search the file it asked for: the kept one if it is the right one.
    fn delegated(&self, search: &mut Search<'_>, file: &DelegatedFile) -> Result<()> {
        let local = format!("{}.json", file.role);
        if let Some(bytes) = self.metadata.get(&local)?
            && search.take(&bytes, Some(self.now)).is_ok()
        {
            return Ok(());
        }
        let bytes = self.repository.get(&file.file(), file.max_bytes)?;
        search.take(&bytes, Some(self.now))?;
        self.metadata.put(&local, &bytes)
    }
}
