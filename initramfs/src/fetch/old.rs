//! Fetched files of long ago: they are removed, and one that cannot be keeps no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::folder;

/// Removes what was fetched before this time: each new release leaves one more behind. A build that wants it fetches it again.
///
/// # Errors
/// The folder cannot be read, or a file not be removed: the last of them, once the others are gone.
pub fn forget_old(cache: &Path, before: SystemTime) -> io::Result<()> {
    match fs::read_dir(folder(cache)) {
        Ok(entries) => forget(entries.map(|it| Ok(it?.path())), before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes those of the files that are of before this time.
fn forget(
    paths: impl IntoIterator<Item = io::Result<PathBuf>>,
    before: SystemTime,
) -> io::Result<()> {
    let remove = |path: io::Result<PathBuf>| {
        let path = path?;
        let metadata = fs::symlink_metadata(&path)?;
        // Folders are of builds that are at work.
        match metadata.is_file() && metadata.modified()? < before {
            true => fs::remove_file(path),
            false => Ok(()),
        }
    };
    let mut done = Ok(());
    for path in paths {
        match remove(path) {
            // Another one was as quick.
            Err(error) if error.kind() != io::ErrorKind::NotFound => done = Err(error),
            _ => {}
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_fetched_long_ago_is_forgotten_and_the_rest_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000);
        forget_old(cache.path(), now).unwrap();
        let folder = folder(cache.path());
        fs::create_dir_all(folder.join("of-a-build")).unwrap();
        for (name, age) in [("old", 1), ("new", 0)] {
            let file = File::create_new(folder.join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        forget_old(cache.path(), now).unwrap();
        let names = fs::read_dir(&folder)
            .unwrap()
            .map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["new", "of-a-build"]);
    }

    #[test]
    fn a_file_that_is_gone_already_or_cannot_be_removed_keeps_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000);
        let old = |name: &str| {
            let path = folder.path().join(name);
            let file = File::create_new(&path).unwrap();
            file.set_modified(now - Duration::from_secs(1)).unwrap();
            path
        };
        let gone = folder.path().join("gone");
        let first = old("first");
        forget([gone, first.clone()].map(Ok), now).unwrap();
        assert!(!first.exists());
        let second = old("second");
        let no_folder = old("third").join("x");
        let error = forget([no_folder, second.clone()].map(Ok), now).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(!second.exists());
    }
}
