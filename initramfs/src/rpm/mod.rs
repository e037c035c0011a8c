//! rpm packages: a lead, two headers, and a compressed newc archive.
//!
//! Scripts are never run; a recipe supplies what they would do. The package's signature is not looked at: what vouches for
//! a package is what vouches for the file. Its digests of its header and of the archive are compared before anything is
//! unpacked.

mod header;
mod owners;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::manifest::Package;
use towline_contract::newc::NewcError;

use crate::compressed::{all_members, finish};
use crate::content::Spool;
use crate::cpio::{self, Unpacker};
use crate::filter::Filter;
use crate::tree::{Tree, TreeError};
use header::{Fault, Header, tag};
use owners::{owners, relative};

pub use owners::Names;

/// Bytes before the headers. All but the magic are of the past.
const LEAD_BYTES: usize = 96;

const MAGIC: [u8; 4] = [0xED, 0xAB, 0xEE, 0xDB];

/// Headers begin at multiples of it.
const ALIGNMENT: u64 = 8;

/// SHA-256 by its number in RFC 4880, 9.4, as headers name it.
const SHA256: u32 = 8;

/// Compressions by rpm's names that we know; which one it is, the first bytes tell.
const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

/// Why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RpmError {
    /// Reading failed.
    #[error("cannot read package {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// No rpm package, or one of a form we do not know.
    #[error("{path} is no usable rpm package: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Its files are no newc archive.
    #[error("the files of package {path} cannot be unpacked")]
    Newc {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: NewcError,
    },
    /// Its header or its files are not those it was made with.
    #[error(
        "package {path} is damaged: SHA-256 of its {part} is {found}, but its header says {wanted}"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// What was compared.
        part: &'static str,
        /// Its digest.
        found: Digest,
        /// The digest in the header before it.
        wanted: Digest,
    },
    /// An entry that does not fit into the layer.
    #[error("package {package} does not fit into the layer")]
    Tree {
        /// Name of the package.
        package: String,
        /// Why.
        #[source]
        cause: TreeError,
    },
}

/// Adds the files of the package at `path` that pass the filter to `tree` and says their real paths to `added`; gives the
/// package's name, version and architecture. `notes` gets a line for what a layer does not have as the package says.
///
/// # Errors
/// See [`RpmError`].
pub fn unpack(
    path: &Path,
    names: &Names,
    filter: &Filter,
    spool: &mut Spool,
    tree: &mut Tree,
    added: &mut dyn FnMut(Vec<u8>),
    notes: &mut Vec<String>,
) -> Result<Package, RpmError> {
    let read = |cause| RpmError::Read {
        path: path.to_owned(),
        cause,
    };
    let fault = |fault| match fault {
        Fault::Read(cause) => read(cause),
        Fault::Format(what) => RpmError::Format {
            path: path.to_owned(),
            what,
        },
    };
    let file = File::open(path).map_err(read)?;
    let damaged = |part, found, wanted| RpmError::Digest {
        path: path.to_owned(),
        part,
        found,
        wanted,
    };
    let (signature, header, payload) = headers(&file).map_err(fault)?;
    if let Some(wanted) = header_digest(&signature).map_err(fault)?
        && wanted != header.digest
    {
        return Err(damaged("header", header.digest, wanted));
    }
    let package = package(&header).map_err(fault)?;
    if let Some(wanted) = payload_digest(&header).map_err(fault)? {
        let found = digest_from(&file, payload).map_err(read)?;
        if found != wanted {
            return Err(damaged("files", found, wanted));
        }
    }
    let owners = owners(&header, names, &package.name, notes).map_err(fault)?;
    let owner = |name: &[u8]| owners.get(relative(name)).copied().unwrap_or((0, 0));

    let mut stored = &file;
    stored.seek(SeekFrom::Start(payload)).map_err(read)?;
    let files = all_members(BufReader::new(stored)).map_err(read)?;
    let by_name = |entry: &towline_contract::newc::Entry| owner(&entry.name);
    let mut unpacker = Unpacker::new(filter, spool, tree, added, &by_name);
    let mut files = BufReader::new(files);
    let run = unpacker.archive(&mut files);
    run.map_err(|fault| match fault {
        cpio::Fault::Read(cause) => read(cause),
        cpio::Fault::Newc(cause) => RpmError::Newc {
            path: path.to_owned(),
            cause,
        },
        cpio::Fault::Tree(cause) => RpmError::Tree {
            package: package.name.clone(),
            cause,
        },
    })?;
    finish(&mut files).map_err(read)?;
    Ok(package)
}

/// The header that vouches for the other, the other, and where the archive begins.
fn headers(file: &File) -> Result<(Header, Header, u64), Fault> {
    let mut reader = BufReader::new(file);
    let mut lead = [0; LEAD_BYTES];
    reader.read_exact(&mut lead)?;
    if lead[..4] != MAGIC {
        return Err(Fault::Format("it does not begin as one".into()));
    }
    let signature = Header::read(&mut reader)?;
    let padded = signature.bytes.next_multiple_of(ALIGNMENT);
    reader.seek_relative((padded - signature.bytes).cast_signed())?;
    let header = Header::read(&mut reader)?;
    let payload = LEAD_BYTES as u64 + padded + header.bytes;
    Ok((signature, header, payload))
}

/// The package, if its files are in a form that we know.
fn package(header: &Header) -> Result<Package, Fault> {
    let needed = |tag, what: &str| {
        let found = header.text(tag)?;
        found.ok_or_else(|| Fault::Format(format!("it has no {what}")))
    };
    let format = header.text(tag::PAYLOAD_FORMAT)?;
    if format.is_some_and(|format| format != "cpio") || header.has(tag::LONG_FILE_SIZES) {
        let what = "its files are no plain cpio archive (a package of differences, or files of 4 GiB and more)";
        return Err(Fault::Format(what.into()));
    }
    if !header.has(tag::SOURCE_RPM) {
        return Err(Fault::Format("it is a source package".into()));
    }
    if let Some(name) = header.text(tag::PAYLOAD_COMPRESSOR)?
        && !COMPRESSORS.contains(&name.as_str())
    {
        let known = COMPRESSORS.join(", ");
        return Err(Fault::Format(format!(
            "its files are compressed by {name}, and known are {known}"
        )));
    }
    let version = needed(tag::VERSION, "version")?;
    let release = needed(tag::RELEASE, "release")?;
    let epoch = header.numbers(tag::EPOCH)?;
    let epoch = epoch.first().map(|epoch| format!("{epoch}:"));
    Ok(Package {
        name: needed(tag::NAME, "name")?,
        version: format!("{}{version}-{release}", epoch.unwrap_or_default()),
        architecture: needed(tag::ARCH, "architecture")?,
    })
}

/// What the header should be. Packages made before rpm 4.14 do not say.
fn header_digest(signature: &Header) -> Result<Option<Digest>, Fault> {
    let digest = signature.text(tag::HEADER_DIGEST)?;
    digest.map(|digest| sha256(&digest)).transpose()
}

/// What the compressed files should be. Packages made before rpm 4.14 do not say, and then name no algorithm either.
fn payload_digest(header: &Header) -> Result<Option<Digest>, Fault> {
    let algorithm = header.numbers(tag::PAYLOAD_DIGEST_ALGORITHM)?;
    match (header.text(tag::PAYLOAD_DIGEST)?, algorithm.first()) {
        (None, None) => Ok(None),
        (Some(digest), Some(&SHA256)) => sha256(&digest).map(Some),
        (_, algorithm) => {
            let algorithm = algorithm.map_or("no algorithm".into(), |it| format!("algorithm {it}"));
            let what = "the digest of its files is by";
            let known = format!("known is algorithm {SHA256}, SHA-256");
            Err(Fault::Format(format!("{what} {algorithm}, and {known}")))
        }
    }
}

fn sha256(text: &str) -> Result<Digest, Fault> {
    text.parse::<Digest>()
        .map_err(|cause| Fault::Format(cause.to_string()))
}

fn digest_from(mut file: &File, offset: u64) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}
