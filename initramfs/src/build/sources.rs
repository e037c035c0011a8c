//! The state of all that a layer is made of, told without reading it: whether a build would give another layer.
//!
//! Of files and folders of this machine it is what `stat` says of each; of packages, what the archives' signed lists say; of
//! a file that is fetched, its digest in the recipe; of the rest, the recipe's own fields. Invariant: whatever cannot be told
//! so makes no state at all, and the layer is built.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use towline_contract::Digest;
use towline_contract::digest::Hasher;

use crate::apt::Apt;
use crate::kernel::Reads;
use crate::listing::{self, Listings};
use crate::recipe::{Input, Recipe, Source};

/// A file that was changed so shortly before may be changed again without a sign: clocks of file systems tick every few
/// milliseconds, and some every second or two (FAT).
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The state of a recipe's sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) digest: Digest,
    newest: SystemTime,
}

impl State {
    /// The state now; none when a build alone can tell it. The folders that were looked at are added to `listings`.
    pub(super) fn of(recipe: &Recipe, cache: &Path, listings: &mut Listings) -> Option<Self> {
        let mut look = Look {
            hasher: Hasher::default(),
            newest: UNIX_EPOCH,
            listings,
        };
        look.program().ok()?;
        // All its fields, with the variables' values in them.
        look.text(&format!("{recipe:?}"));
        if let Some(kernel) = &recipe.for_kernel {
            let path = Reads::file_at(&recipe.beside(kernel));
            look.file(&path).ok()?;
        }
        for numbered in &recipe.sources {
            look.source(&numbered.source, recipe, cache)?;
        }
        Some(Self {
            digest: look.hasher.finish(),
            newest: look.newest,
        })
    }

    /// Whether every change after `now` will show.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let age = now.duration_since(self.newest);
        age.is_ok_and(|age| age >= SETTLED_AFTER)
    }
}

struct Look<'a> {
    hasher: Hasher,
    /// The newest change of anything that was looked at.
    newest: SystemTime,
    listings: &'a mut Listings,
}

impl Look<'_> {
    /// What builds: another version may build otherwise.
    fn program(&mut self) -> io::Result<()> {
        self.text(env!("CARGO_PKG_VERSION"));
        self.text(&stamp(&std::env::current_exe()?.metadata()?));
        Ok(())
    }

    fn source(&mut self, source: &Source, recipe: &Recipe, cache: &Path) -> Option<()> {
        for input in source.inputs() {
            match input {
                Input::Beside(path) => self.file(&recipe.beside(path)).ok()?,
                // Its digest is a field of the recipe; without one, its makers may have made another.
                Input::Fetched(download) => download.sha256.as_ref().map(drop)?,
            }
        }
        match source {
            Source::Apt(source) => self.packages(&source.packages, &source.without, cache),
            Source::Kernel(source) => {
                self.depmod().ok()?;
                self.packages(source.package.as_slice(), &[], cache)
            }
            Source::Certificates(source) => self.packages(source.package.as_slice(), &[], cache),
            Source::Directory(source) => self.directory(&recipe.beside(&source.path)).ok(),
            // Which libraries they need, from where, is found by building.
            Source::Program(_) => None,
            Source::Deb(_)
            | Source::Rpm(_)
            | Source::Tar(_)
            | Source::Run(_)
            | Source::Initrd(_)
            | Source::LiveImage(_)
            | Source::File(_)
            | Source::Links(_)
            | Source::Directories(_) => Some(()),
        }
    }

    /// Packages and all they depend on.
    fn packages(&mut self, packages: &[String], without: &[String], cache: &Path) -> Option<()> {
        if packages.is_empty() {
            return Some(());
        }
        let files = Apt::new(cache).and_then(|apt| apt.files(packages, without));
        for (file, digest) in files.ok()? {
            self.text(&file);
            self.text(&digest.to_string());
        }
        Some(())
    }

    /// The program that writes the modules' indexes, wherever it would be found, and its settings (depmod.d(5)).
    fn depmod(&mut self) -> io::Result<()> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        for dir in std::env::split_paths(&path) {
            self.if_there(&dir.join("depmod"), Self::file)?;
        }
        for dir in ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"] {
            self.if_there(&Path::new(dir).join("depmod.d"), Self::directory)?;
        }
        Ok(())
    }

    fn if_there(
        &mut self,
        path: &Path,
        look: fn(&mut Self, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        match look(self, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            looked => looked,
        }
    }

    /// A folder with all in it. A link may lead to it; those in it are not followed.
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let listing = listing::list(path).map_err(|(_, cause)| cause)?;
        for entry in &listing {
            self.bytes(entry.path.as_os_str().as_bytes());
            self.metadata(&entry.metadata);
            if let Some(target) = &entry.target {
                self.bytes(target.as_bytes());
            }
        }
        self.listings.insert(path.to_owned(), listing);
        Ok(())
    }

    /// A file or folder that is read, through whatever links lead to it.
    fn file(&mut self, path: &Path) -> io::Result<()> {
        self.bytes(path.as_os_str().as_bytes());
        let metadata = path.metadata()?;
        self.metadata(&metadata);
        Ok(())
    }

    /// All that [`stamp`] has.
    fn metadata(&mut self, metadata: &Metadata) {
        let times = [
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        ];
        let (uid, gid) = (metadata.uid().into(), metadata.gid().into());
        for number in [
            metadata.dev(),
            metadata.ino(),
            metadata.mode().into(),
            uid,
            gid,
            metadata.rdev(),
            metadata.nlink(),
            metadata.len(),
        ] {
            self.hasher.update(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in times {
            self.hasher.update(&seconds.to_le_bytes());
            self.hasher.update(&nanoseconds.to_le_bytes());
            let part = |number: i64| u64::try_from(number).unwrap_or(0);
            let since = Duration::from_secs(part(seconds))
                .saturating_add(Duration::from_nanos(part(nanoseconds)));
            let time = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
            self.newest = self.newest.max(time);
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// With the length, so that no two rows of texts are one row of bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// What changes with a file's content, owner, mode or place.
pub(super) fn stamp(metadata: &Metadata) -> String {
    let (mtime, ctime) = (
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    );
    let (dev, ino, mode) = (metadata.dev(), metadata.ino(), metadata.mode());
    let (uid, gid, rdev) = (metadata.uid(), metadata.gid(), metadata.rdev());
    let (links, bytes) = (metadata.nlink(), metadata.len());
    format!("{dev} {ino} {mode:o} {uid} {gid} {rdev} {links} {bytes} {mtime:?} {ctime:?}")
}
