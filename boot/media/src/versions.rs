//! What the documents of a site's catalogue are when a medium is stamped: it believes no older ones from then on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::{HOSTS_ROLE, TIMESTAMP_FILE, TrustError, TrustedRoot, role_paths};

/// The role whose document names the others.
const TARGETS: &str = "targets";

/// Why a folder is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// A document cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A document does not verify.
    #[error("the catalogue in {folder} is not trusted")]
    Trust {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: Box<TrustError>,
    },
}

/// What lies beside a root.
#[derive(Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// The newest root that this one leads to, byte for byte.
    pub root: Vec<u8>,
    /// Versions of the targets and of the roles that sign layers, by role; none if there is no catalogue. Not of what a server
    /// signs by itself, which begins anew when a server does.
    pub versions: BTreeMap<String, u64>,
}

/// Looks at the folder where `root`, whose content is `bytes`, lies.
///
/// # Errors
/// There is a catalogue, and it cannot be read, or `root` and those after it do not lead to it.
pub fn beside(root: &Path, bytes: &[u8]) -> Result<Catalogue, VersionsError> {
    let folder = root.parent().unwrap_or(Path::new("")).to_owned();
    let trust = |cause: TrustError| VersionsError::Trust {
        folder: folder.clone(),
        cause: Box::new(cause),
    };
    let read = |name: &str| read(&folder.join(name));
    let mut newest = bytes.to_vec();
    let Some(timestamp) = find(&folder.join(TIMESTAMP_FILE))? else {
        return Ok(Catalogue {
            root: newest,
            versions: BTreeMap::new(),
        });
    };
    let mut root = TrustedRoot::from_stamp(bytes).map_err(trust)?;
    while let Some(next) = find(&folder.join(root.next_file()))? {
        root = root.rotate(&next).map_err(trust)?;
        newest = next;
    }
    let timestamp = root.timestamp(&timestamp).map_err(trust)?;
    let snapshot = read(&timestamp.next_file())?;
    let snapshot = timestamp.snapshot(&snapshot).map_err(trust)?;
    let targets = read(&snapshot.next_file())?;
    let mut view = snapshot.targets(&targets).map_err(trust)?;
    // By what their own keys signed: a snapshot can name any number.
    for file in view.role_files() {
        view = view
            .with_role(&file.role, &read(&file.file())?)
            .map_err(trust)?;
    }
    let mut versions = BTreeMap::from([(TARGETS.to_owned(), view.targets().header.version)]);
    for (role, header) in view.documents() {
        if role_paths(role).is_some() && role != HOSTS_ROLE {
            versions.insert(role.to_owned(), header.version);
        }
    }
    Ok(Catalogue {
        root: newest,
        versions,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, VersionsError> {
    let none = || VersionsError::Read {
        path: path.to_owned(),
        cause: io::ErrorKind::NotFound.into(),
    };
    find(path)?.ok_or_else(none)
}

/// The file, of which no more is read than a document may have; none if there is none.
fn find(path: &Path) -> Result<Option<Vec<u8>>, VersionsError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|it| it.take(METADATA_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(VersionsError::Read {
            path: path.to_owned(),
            cause,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn by_kind() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/tests/golden/by-kind")
    }

    fn of(folder: &Path) -> Result<Catalogue, VersionsError> {
        let root = folder.join("1.root.json");
        beside(&root, &fs::read(&root).unwrap())
    }

    #[test]
    fn a_root_beside_its_catalogue_brings_the_versions_of_what_operators_sign() {
        let versions = of(&by_kind()).unwrap().versions;
        let wanted = [("targets", 3), ("base", 2), ("agent-restic", 6)];
        assert_eq!(
            versions,
            wanted
                .map(|(role, version)| (role.to_owned(), version))
                .into()
        );
    }

    #[test]
    fn a_root_alone_brings_none_and_a_catalogue_that_is_not_its_own_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| fs::copy(by_kind().join(name), folder.path().join(name)).unwrap();
        copy("1.root.json");
        assert_eq!(of(folder.path()).unwrap().versions, BTreeMap::new());
        copy("timestamp.json");
        assert!(matches!(of(folder.path()), Err(VersionsError::Read { .. })));
        copy("5.snapshot.json");
        fs::write(folder.path().join("3.targets.json"), "{}").unwrap();
        assert!(matches!(
            of(folder.path()),
            Err(VersionsError::Trust { .. })
        ));
    }

    #[test]
    fn a_snapshot_that_names_another_version_than_was_signed_brings_none() {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(by_kind()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        // The documents stay what their keys signed, whatever number a file has.
        fs::write(
            folder.path().join("2.base.json"),
            fs::read(by_kind().join("8.hosts.json")).unwrap(),
        )
        .unwrap();
        assert!(matches!(
            of(folder.path()),
            Err(VersionsError::Trust { .. })
        ));
    }
}
