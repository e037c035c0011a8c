//! Certificate authorities, of a package and of the operator's own files, in one file that programs read.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use towline_contract::manifest::Package;

use crate::content::Content;
use crate::deb;
use crate::filter::Filter;
use crate::recipe::CertificatesSource;
use crate::tree::{Meta, Node, Tree, display};

use super::{Assembler, SourceError};

/// Largest file of authorities, in bytes: all those of Mozilla have 220 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a file of certificate authorities cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesFault {
    /// It is none.
    #[error("it has no certificate in PEM")]
    None,
    /// One of them is damaged.
    #[error("its certificate number {0} cannot be read as PEM: {1}")]
    Damaged(usize, String),
    /// Layers are public.
    #[error("it has a private key, and layers are public")]
    Key,
    /// It is something else.
    #[error("it has {0} bytes, and {FILE_BYTES_MAX} is the most")]
    TooLarge(u64),
}

/// The file that is made.
#[derive(Default)]
struct Bundle {
    bytes: Vec<u8>,
}

impl Bundle {
    /// Adds a file's certificates as they stand there.
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        if self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
    }
}

impl Assembler<'_> {
    /// Adds one file with all certificates of a package, in the order of their names, as `update-ca-certificates` does; then those
    /// of the files.
    pub(super) fn certificates(&mut self, source: &CertificatesSource) -> Result<(), SourceError> {
        let mut bundle = Bundle::default();
        let (mut packages, mut mtime) = (Vec::new(), None);
        if let Some(package) = &source.package {
            let tree = self.authorities_of(package, &mut packages)?;
            add_tree(&mut bundle, &tree, package)?;
            mtime = tree.newest();
            self.note_time(mtime.unwrap_or(0));
        }
        for input in &source.files {
            let path = self.input(input)?;
            bundle.add(&read(&path)?);
        }
        let meta = Meta {
            mtime,
            ..Meta::root(0o644)
        };
        let content = Content::from_bytes(bundle.bytes);
        let tree = &mut self.assembly.tree;
        let path = tree.file(source.path.as_bytes(), meta, content)?;
        for package in packages {
            let files = self.assembly.packages.entry(package).or_default();
            files.insert(path.clone());
        }
        Ok(())
    }

    /// The certificates of a package, and which package it was.
    fn authorities_of(
        &mut self,
        package: &str,
        packages: &mut Vec<Package>,
    ) -> Result<Tree, SourceError> {
        let files = self.apt()?.only(&[package.to_owned()])?;
        let wanted = Filter::only(&["usr/share/ca-certificates/**/*.crt".to_owned()], &[])?;
        let mut tree = Tree::new();
        for file in &files {
            let spool = &mut self.spool;
            packages.push(deb::unpack(file, &wanted, spool, &mut tree, &mut |_| {})?);
        }
        Ok(tree)
    }
}

fn add_tree(bundle: &mut Bundle, tree: &Tree, package: &str) -> Result<(), SourceError> {
    for (path, entry) in tree.iter() {
        let Node::File(content) = &entry.node else {
            continue;
        };
        let read = content.read().map_err(|cause| SourceError::Read {
            path: display(path).into(),
            cause,
        });
        bundle.add(&read?);
    }
    if bundle.bytes.is_empty() {
        let (package, what) = (package.to_owned(), "certificates".into());
        return Err(SourceError::Lacks { package, what });
    }
    Ok(())
}

/// An operator's file.
fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let unread = |cause| SourceError::Read {
        path: path.to_owned(),
        cause,
    };
    let faulty = |fault| SourceError::Certificates {
        path: path.to_owned(),
        fault,
    };
    let bytes = path.metadata().map_err(unread)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(faulty(CertificatesFault::TooLarge(bytes)));
    }
    let text = std::fs::read(path).map_err(unread)?;
    check(&text).map_err(faulty)?;
    Ok(text)
}

/// Whether there are certificates, and nothing secret.
fn check(text: &[u8]) -> Result<(), CertificatesFault> {
    // Whatever kind of key it is, encrypted ones and those of other programs too.
    if String::from_utf8_lossy(text).contains("PRIVATE KEY-----") {
        return Err(CertificatesFault::Key);
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text) {
        count += 1;
        certificate.map_err(|cause| CertificatesFault::Damaged(count, cause.to_string()))?;
    }
    match count {
        0 => Err(CertificatesFault::None),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_is_no_certificate_or_has_a_key_is_refused() {
        check(CERTIFICATE.as_bytes()).unwrap();
        check(format!("# ours\n{CERTIFICATE}{CERTIFICATE}").as_bytes()).unwrap();
        let said = |text: &str| check(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(said("ours"), "it has no certificate in PEM");
        for label in ["", "RSA ", "EC ", "DSA ", "ENCRYPTED ", "OPENSSH "] {
            let key = CERTIFICATE.replace("CERTIFICATE", &format!("{label}PRIVATE KEY"));
            let both = said(&format!("{CERTIFICATE}{key}"));
            assert_eq!(
                both, "it has a private key, and layers are public",
                "{label}"
            );
        }
        let cut = format!("{CERTIFICATE}-----BEGIN CERTIFICATE-----\nAAAA\n");
        let said = said(&cut);
        assert!(said.starts_with("its certificate number 2 "), "{said}");
    }
}
