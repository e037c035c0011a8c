//! Certificate authorities, of a package and of the operator's own files, in one file that programs read.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use towline_contract::manifest::Package;
use x509_parser::prelude::{FromDer as _, X509Certificate};

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
    /// One of them is damaged: programs that read the file may take none of it.
    #[error("its certificate number {0} cannot be read: {1}")]
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
            let (text, time) = read(&path)?;
            bundle.add(&text);
            self.note_time(time);
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

/// An operator's file, and from when the newest of its certificates is, in seconds since 1970.
fn read(path: &Path) -> Result<(Vec<u8>, u32), SourceError> {
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
    let time = check(&text).map_err(faulty)?;
    Ok((text, time))
}

/// Whether there are certificates, and nothing secret; gives from when the newest is.
fn check(text: &[u8]) -> Result<u32, CertificatesFault> {
    // Whatever kind of key it is, encrypted ones and those of other programs too.
    if String::from_utf8_lossy(text).contains("PRIVATE KEY-----") {
        return Err(CertificatesFault::Key);
    }
    let times = CertificateDer::pem_slice_iter(text)
        .enumerate()
        .map(|(at, der)| {
            let damaged = |cause: String| CertificatesFault::Damaged(at + 1, cause);
            let der = der.map_err(|cause| damaged(cause.to_string()))?;
            let (_, read) =
                X509Certificate::from_der(&der).map_err(|cause| damaged(cause.to_string()))?;
            let seconds = read.validity().not_before.timestamp();
            Ok(u32::try_from(seconds).unwrap_or(0))
        });
    let times = times.collect::<Result<Vec<_>, _>>()?;
    times.into_iter().max().ok_or(CertificatesFault::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that is good from the first of January of this year on.
    fn certificate(year: i32) -> String {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn what_is_no_certificate_or_has_a_key_is_refused() {
        let ours = certificate(2020);
        let said = |text: &str| check(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(said("ours"), "it has no certificate in PEM");
        for label in ["", "RSA ", "EC ", "DSA ", "ENCRYPTED ", "OPENSSH "] {
            let key = ours.replace("CERTIFICATE", &format!("{label}PRIVATE KEY"));
            let found = said(&format!("{ours}{key}"));
            assert_eq!(found, "it has a private key, and layers are public");
        }
        let no_end = ours.replace("-----END CERTIFICATE-----", "");
        let no_x509 = "-----BEGIN CERTIFICATE-----\nT3Vycw==\n-----END CERTIFICATE-----\n";
        for damaged in [no_end.as_str(), no_x509] {
            let found = said(&format!("{ours}{damaged}"));
            assert!(found.starts_with("its certificate number 2 "), "{found}");
        }
    }

    #[test]
    fn a_file_is_of_the_time_of_its_newest_certificate() {
        let text = format!("# ours\n{}{}", certificate(2021), certificate(2020));
        assert_eq!(check(text.as_bytes()).unwrap(), 1_609_459_200);
    }
}
