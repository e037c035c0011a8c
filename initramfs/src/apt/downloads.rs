//! The files of packages: which apt names, and that those in the folder are the ones.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use towline_contract::Digest;
use towline_contract::digest::Hasher;

use super::{Apt, AptError, Listed, unresolved};

/// One package of a closure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Download {
    pub(super) file: String,
    pub(super) digest: Digest,
}

impl Download {
    pub(super) fn package(&self) -> &str {
        self.file.split('_').next().unwrap_or_default()
    }

    pub(super) fn listed(&self) -> Option<Listed> {
        Listed::of_file(&self.file)
    }
}

impl Apt {
    /// What apt would download for these packages, by the lists.
    pub(super) fn resolve(
        &self,
        packages: &[String],
        status: &NamedTempFile,
    ) -> Result<BTreeSet<Download>, AptError> {
        let arguments = ["-qq", "--yes", "--print-uris", "install", "--"];
        let listing = self.run("apt-get", status, &arguments, packages)?;
        let listing = listing.map_err(|talk| unresolved(packages, talk))?;
        let lines = listing.lines().filter(|line| line.starts_with('\''));
        lines
            .map(|line| parse_uri(line).ok_or_else(|| AptError::NoDigest(line.to_owned())))
            .collect()
    }

    /// Makes sure that the folder has all of `downloads`, as the signed lists describe them; gives their paths.
    pub(super) fn fetch(
        &self,
        downloads: &BTreeSet<Download>,
        packages: &[String],
        status: &NamedTempFile,
    ) -> Result<Vec<PathBuf>, AptError> {
        let path = |download: &Download| self.cache.join(&download.file);
        let has = |download: &Download| {
            digest_of(&path(download)).is_ok_and(|found| found == download.digest)
        };
        let missing: Vec<_> = downloads.iter().filter(|download| !has(download)).collect();
        if !missing.is_empty() {
            for download in &missing {
                let _ = fs::remove_file(path(download)); // a damaged one, which apt would take for good
            }
            let arguments = ["--quiet", "--yes", "--download-only", "install", "--"];
            let files = missing.len();
            self.run("apt-get", status, &arguments, packages)?
                .map_err(|talk| AptError::Download { files, talk })?;
        }
        for download in missing {
            let found = digest_of(&path(download)).map_err(|cause| AptError::File {
                path: path(download),
                cause,
            })?;
            if found != download.digest {
                return Err(AptError::Digest {
                    file: download.file.clone(),
                    found,
                    wanted: download.digest,
                });
            }
        }
        Ok(downloads.iter().map(path).collect())
    }
}

/// File name and digest of `'URI' FILE BYTES SHA256:DIGEST`.
fn parse_uri(line: &str) -> Option<Download> {
    let mut words = line.rsplit_once('\'')?.1.split_whitespace();
    let file = words
        .next()
        .filter(|file| !file.contains('/') && !file.starts_with('.'))?;
    let digest = words.nth(1)?.strip_prefix("SHA256:")?.parse().ok()?;
    Some(Download {
        file: file.to_owned(),
        digest,
    })
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_file_needs_a_sha256_and_a_plain_name() {
        let digest = Digest::of(b"");
        let line = format!("'http://a/b.deb' b_1%3a2_amd64.deb 10 SHA256:{digest}");
        let wanted = Download {
            file: "b_1%3a2_amd64.deb".into(),
            digest,
        };
        assert_eq!(parse_uri(&line), Some(wanted));
        assert_eq!(parse_uri("'http://a/b.deb' b.deb 10 MD5Sum:aa"), None);
        assert_eq!(parse_uri(&line.replace(" b_1", " ../b_1")), None);
    }
}
