//! The operator's files: `credentials/HOST/` and `credentials/_all/`, which nobody else may read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use towline_contract::limits::CREDENTIALS_BYTES_MAX;
use towline_contract::recovery::REPORT_TOKEN_FILE;
use zeroize::Zeroizing;

use super::{CredentialsError, Files, within};

/// Folder of the files that every host is given.
const ALL: &str = "_all";

/// Most files of one host.
const FILES_MAX: usize = 64;

/// Reads the files for `host`, which is the name of a published host layer; its own before those of every host.
pub(super) fn read(credentials: &Path, host: &str) -> Result<Files, CredentialsError> {
    let mut files = Files::new();
    for folder in [ALL, host] {
        add(&credentials.join(folder), host, &mut files)?;
    }
    Ok(files)
}

/// Reads a file that is no secret.
pub(super) fn public(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let file = File::open(path).map_err(failed(path))?;
    contents(&file, path)
}

fn add(folder: &Path, host: &str, files: &mut Files) -> Result<(), CredentialsError> {
    let metadata = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(failed(folder))?,
    };
    check_mode(&metadata, folder)?;
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        let unusable = |why| CredentialsError::Unusable {
            path: path.clone(),
            why,
        };
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| unusable("has a name that is no UTF-8"))?;
        if name == REPORT_TOKEN_FILE {
            return Err(unusable("has the name of a file that the server makes"));
        }
        files.insert(name, secret(&path)?);
        // No more is read than can be sent.
        let bytes = files.values().map(|it| it.len()).sum();
        within(host, bytes, CREDENTIALS_BYTES_MAX)?;
        if files.len() > FILES_MAX {
            return Err(unusable("is one file too many: a host is given 64 at most"));
        }
    }
    Ok(())
}

fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    // A pipe without a writer would keep us waiting.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    if !metadata.is_file() {
        let (path, why) = (path.into(), "is no regular file");
        return Err(CredentialsError::Unusable { path, why });
    }
    check_mode(&metadata, path)?;
    contents(&file, path)
}

fn contents(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let bytes = file.metadata().map_err(failed(path))?.len();
    // Of the right size at once: what grows leaves copies behind.
    let room = usize::try_from(bytes.min(CREDENTIALS_BYTES_MAX)).unwrap_or(0) + 1;
    let mut all = Zeroizing::new(Vec::with_capacity(room));
    file.take(CREDENTIALS_BYTES_MAX + 1)
        .read_to_end(&mut all)
        .map_err(failed(path))?;
    if all.len() as u64 > CREDENTIALS_BYTES_MAX {
        let (path, why) = (path.into(), "is larger than 1 MiB");
        return Err(CredentialsError::Unusable { path, why });
    }
    Ok(all)
}

fn check_mode(metadata: &fs::Metadata, path: &Path) -> Result<(), CredentialsError> {
    let mode = metadata.mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(CredentialsError::Readable {
            path: path.into(),
            mode,
        }),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CredentialsError + use<'_> {
    move |cause| CredentialsError::Read {
        path: path.into(),
        cause,
    }
}
