//! The lists of what archives have: the machine's own, and those in the folder for downloads.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use towline_contract::Timestamp;

use super::{Apt, AptError, dated};

/// Where apt keeps the archive's package lists.
pub(super) const LISTS: &str = "/var/lib/apt/lists";

/// Folder below the cache for lists of our own.
const OWN_LISTS: &str = "lists";

/// The same until all of them are there for the first time.
const FIRST_LISTS: &str = "lists.first";

impl Apt {
    /// Asks the archives for their newest lists, into the folder: this needs no root. From then on those count for all that
    /// use the folder, and not the machine's own. Lists that are not signed by a key of this machine are refused by apt.
    ///
    /// # Errors
    /// An archive cannot be reached, or its lists are not taken; those of before stay.
    pub fn update(&self) -> Result<(), AptError> {
        let _lock = self.lock()?;
        let own = self.own_lists();
        let lists = own.clone().unwrap_or_else(|| self.cache.join(FIRST_LISTS));
        let failed = |cause| AptError::File {
            path: lists.clone(),
            cause,
        };
        fs::create_dir_all(lists.join("partial")).map_err(failed)?;
        let nothing = self.pretend_installed(&[])?;
        let arguments = ["-qq", "-o", "APT::Update::Error-Mode=any", "update"];
        let done = self.run_by(Some(&lists), "apt-get", &nothing, &arguments, &[])?;
        done.map_err(AptError::Update)?;
        if own.is_none() {
            fs::rename(&lists, self.cache.join(OWN_LISTS)).map_err(failed)?;
        }
        Ok(())
    }

    /// Of when the lists are that [`Apt::update`] has made, by the newest of them; none when they do not say.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn lists_dated(&self) -> Result<Option<Timestamp>, AptError> {
        let path = self.cache.join(OWN_LISTS);
        dated::newest(&path).map_err(|cause| AptError::File { path, cause })
    }

    /// The folder of lists that [`Apt::update`] has made.
    pub(super) fn own_lists(&self) -> Option<PathBuf> {
        let lists = self.cache.join(OWN_LISTS);
        lists.exists().then_some(lists)
    }
}

/// Whether this machine has package lists at all.
pub(super) fn has_lists() -> bool {
    let is_list = |name: OsString| name.to_string_lossy().contains("_Packages");
    fs::read_dir(LISTS)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_list(entry.file_name())))
}
