//! Self-extracting archives of makeself: a shell script that says how many of its lines are its own, and tarballs behind it.
//!
//! Nothing of the script is run. What it says of itself must be borne out by the file: the sizes are those of the file, and the
//! digests those of the tarballs; both are compared before anything is unpacked.

mod header;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use towline_contract::digest::Hasher;

use crate::compressed::all_members;
use crate::tarball::{TarError, Unpacker};
use header::{Header, Part};

/// Most bytes of the script. makeself's own has 20 KB, to which a vendor's licence is added.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// Compressions by makeself's names that we know; which one it is, the first bytes tell.
const COMPRESSIONS: [&str; 7] = ["none", "gzip", "pigz", "bzip2", "pbzip2", "xz", "zstd"];

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum MakeselfError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Something else, or too old or new.
    #[error("{path} is no archive of makeself that can be read: {what}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// One that only its own script can unpack.
    #[error("{path} cannot be unpacked without running it: {what}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Cut off, or with something added.
    #[error("{path} has {found} bytes, but its script says {wanted}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size in its script, with the script's own.
        wanted: u64,
    },
    /// Damaged.
    #[error("{path} is damaged: its {sum} is {found}, but its script says {wanted}")]
    Sum {
        /// The file.
        path: PathBuf,
        /// Which digest.
        sum: &'static str,
        /// What it is.
        found: String,
        /// What the script says.
        wanted: String,
    },
    /// A tarball in it.
    #[error("cannot unpack {path}")]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: TarError,
    },
}

/// What was unpacked.
pub(crate) struct Unpacked {
    /// Newest time of its files, in seconds since 1970.
    pub(crate) newest: u32,
    /// What the archive would have run.
    pub(crate) script: String,
}

/// Unpacks the archive at `path`.
///
/// # Errors
/// See [`MakeselfError`].
pub(crate) fn unpack(path: &Path, unpacker: &mut Unpacker<'_>) -> Result<Unpacked, MakeselfError> {
    let read = |cause| MakeselfError::Read {
        path: path.to_owned(),
        cause,
    };
    let mut file = File::open(path).map_err(read)?;
    let mut start = Vec::new();
    let script = (&mut file).take(SCRIPT_BYTES_MAX).read_to_end(&mut start);
    script.map_err(read)?;
    let header = Header::read(&start).map_err(|what| MakeselfError::Other {
        path: path.to_owned(),
        what,
    })?;
    header.check_form(path)?;
    let found = file.metadata().map_err(read)?.len();
    header.check_size(path, found)?;

    let mut sections = Vec::new();
    let mut offset = header.bytes;
    for part in header.parts {
        part.check_sums(path, section(&file, offset, part.bytes).map_err(read)?)?;
        sections.push((offset, part.bytes));
        offset += part.bytes;
    }
    let mut newest = 0;
    for (offset, bytes) in sections {
        let section = BufReader::new(section(&file, offset, bytes).map_err(read)?);
        let tar = all_members(section).map_err(read)?;
        let run = unpacker.run(tar).map_err(|cause| MakeselfError::Tar {
            path: path.to_owned(),
            cause,
        })?;
        newest = newest.max(run);
    }
    Ok(Unpacked {
        newest,
        script: header.script,
    })
}

/// The `bytes` from `offset`.
fn section(mut file: &File, offset: u64, bytes: u64) -> io::Result<io::Take<&File>> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.take(bytes))
}

impl Header {
    fn check_form(&self, path: &Path) -> Result<(), MakeselfError> {
        let form = |what| {
            Err(MakeselfError::Form {
                path: path.to_owned(),
                what,
            })
        };
        if let Some(encryption) = &self.encryption {
            return form(format!("it is encrypted by {encryption:?}"));
        }
        match &self.compression {
            Some(name) if !COMPRESSIONS.contains(&name.as_str()) => form(format!(
                "its compression is {name:?}, and known are {}",
                COMPRESSIONS.join(", ")
            )),
            _ => Ok(()),
        }
    }

    fn check_size(&self, path: &Path, found: u64) -> Result<(), MakeselfError> {
        let parts = self.parts.iter().map(|part| part.bytes);
        let wanted = parts.fold(self.bytes, u64::saturating_add);
        if found == wanted {
            return Ok(());
        }
        Err(MakeselfError::Size {
            path: path.to_owned(),
            found,
            wanted,
        })
    }
}

impl Part {
    /// Compares the digests that the script has. Its CRC is left out: each compression has its own.
    fn check_sums(&self, path: &Path, mut section: impl Read) -> Result<(), MakeselfError> {
        let (mut sha256, mut md5) = (Hasher::default(), Md5::new());
        let mut buffer = vec![0; 1 << 18];
        loop {
            let length = section.read(&mut buffer);
            let length = length.map_err(|cause| MakeselfError::Read {
                path: path.to_owned(),
                cause,
            })?;
            if length == 0 {
                break;
            }
            if self.sha256.is_some() {
                sha256.update(&buffer[..length]);
            }
            if self.md5.is_some() {
                md5.update(&buffer[..length]);
            }
        }
        let sums = [
            (
                "SHA-256",
                self.sha256.map(|it| it.to_string()),
                sha256.finish().to_string(),
            ),
            ("MD5", self.md5.clone(), hex(&md5.finalize())),
        ];
        for (sum, wanted, found) in sums {
            if let Some(wanted) = wanted
                && wanted != found
            {
                return Err(MakeselfError::Sum {
                    path: path.to_owned(),
                    sum,
                    found,
                    wanted,
                });
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
