//! Starts the chain's own kernel with the stored layers as its initramfs.
//!
//! The initramfs is the layers exactly as stored, each padded to 4 bytes, then one small segment of ours with the hand-over
//! note. `rootfstype=ramfs` is put on the command line: the default is a tmpfs of half the memory that cuts off what does
//! not fit, silently.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::system::{RebootCommand, reboot};
use towline_contract::handover::HANDOVER_PATH;
use towline_contract::newc::{self, Entry, mode};

use super::system_call::kexec_file_load;
use super::{HandOverError, LOG_PATH};
use crate::place::KexecChain;

/// Loads kernel and initramfs; they lie in memory three times meanwhile.
pub(super) fn load(
    chain: &KexecChain,
    command_line: &str,
    note: &[u8],
    log: &[u8],
) -> Result<(), HandOverError> {
    let initrd = concatenate(
        &chain.layers,
        &segment(&[(HANDOVER_PATH, note), (LOG_PATH, log)]),
    )?;
    let open = |path: &Path| {
        File::open(path).map_err(|cause| HandOverError::File {
            what: "open",
            path: path.display().to_string(),
            cause,
        })
    };
    let (kernel, initrd_file) = (open(&chain.kernel)?, open(&initrd)?);
    // Checked with the plan: printable, no NUL.
    let line = CString::new(format!("{command_line} rootfstype=ramfs").trim()).unwrap_or_default();
    kexec_file_load(&kernel, &initrd_file, &line).map_err(refused)?;
    // The kernel has its own copy now.
    for path in [&initrd, &chain.kernel] {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Starts what was loaded.
pub(super) fn start() -> Result<Infallible, HandOverError> {
    rustix::fs::sync();
    let error = reboot(RebootCommand::Kexec).err().unwrap_or(Errno::INVAL);
    Err(HandOverError::KexecStart(error.into()))
}

/// What the kernel's answers mean, seen with Debian's kernels under Secure Boot.
fn refused(cause: io::Error) -> HandOverError {
    let why = match Errno::from_io_error(&cause) {
        Some(Errno::NODATA) => "it is not signed, and Secure Boot asks for that",
        Some(Errno::KEYREJECTED) => "its signature is wrong, and Secure Boot asks for a right one",
        Some(Errno::NOKEY) => {
            "it is signed with a key that this machine does not know, and Secure Boot asks for one that it knows"
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            "starting another kernel is not allowed here (lockdown or kernel.kexec_load_disabled)"
        }
        Some(Errno::NOMEM | Errno::ADDRNOTAVAIL) => "there is not enough memory to load it",
        Some(Errno::NOSYS | Errno::OPNOTSUPP) => "it was built without kexec_file_load",
        Some(Errno::NOEXEC) => "it is no kernel for this machine",
        _ => "it gives no known reason",
    };
    HandOverError::KexecRefused { why, cause }
}

/// Appends the layers to the first of them, deleting each as it goes, and then `segment`; memory never holds more than one
/// layer twice.
fn concatenate(
    layers: &[impl AsRef<Path>],
    segment: &[u8],
) -> Result<std::path::PathBuf, HandOverError> {
    let Some((first, others)) = layers.split_first() else {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        return Err(HandOverError::File {
            what: "find",
            path: "the layers".into(),
            cause,
        });
    };
    let first = first.as_ref();
    let append = || -> io::Result<()> {
        let mut all = File::options().append(true).open(first)?;
        for layer in others {
            io::copy(&mut File::open(layer)?, &mut all)?;
            fs::remove_file(layer)?;
            pad(&mut all)?;
        }
        pad(&mut all)?;
        all.write_all(segment)
    };
    append().map_err(|cause| HandOverError::File {
        what: "write",
        path: first.display().to_string(),
        cause,
    })?;
    Ok(first.to_owned())
}

fn pad(file: &mut File) -> io::Result<()> {
    file.write_all(newc::padding(file.metadata()?.len()))
}

/// An uncompressed archive with these files and their directories.
fn segment(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directories: Vec<&str> = Vec::new();
    for (name, body) in files {
        for (at, _) in name.match_indices('/') {
            let directory = &name[..at];
            if !directories.contains(&directory) {
                directories.push(directory);
                add(&mut archive, directory, mode::S_IFDIR | 0o755, &[]);
            }
        }
        add(&mut archive, name, mode::S_IFREG | 0o644, body);
    }
    archive.extend(newc::trailer());
    archive
}

fn add(archive: &mut Vec<u8>, name: &str, mode: u32, body: &[u8]) {
    let inode = u32::try_from(archive.len()).unwrap_or(u32::MAX);
    // Bounded by the log's limit and the note, which is smaller than the plan's manifests.
    let bytes = u32::try_from(body.len()).unwrap_or(0);
    let entry = Entry {
        name: name.into(),
        inode,
        mode,
        links: 1,
        bytes,
        ..Entry::default()
    };
    // The names are ours and are good.
    archive.extend(entry.encode().unwrap_or_default());
    archive.extend_from_slice(body);
    archive.extend_from_slice(newc::padding(body.len() as u64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use towline_contract::newc::{Decoder, Item};

    #[test]
    fn the_initramfs_is_the_layers_as_stored_each_at_four_bytes_and_the_note_last() {
        let directory = tempfile::tempdir().unwrap();
        let layers: Vec<_> = [&b"kernel"[..], b"base.", b"host"]
            .iter()
            .enumerate()
            .map(|(number, bytes)| {
                let path = directory.path().join(number.to_string());
                // As they come from placing: padded.
                let mut bytes = bytes.to_vec();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let path = concatenate(&layers, b"NOTE").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"kernel\0\0base.\0\0\0hostNOTE");
        assert!(!layers[1].exists() && !layers[2].exists());
    }

    #[test]
    fn the_note_comes_with_its_directories_once_each() {
        let archive = segment(&[("run/towline/a", b"1"), ("run/towline/b", b"22")]);
        assert_eq!(archive.len() % 4, 0);
        let (mut decoder, mut input) = (Decoder::new(), archive.as_slice());
        let mut names = Vec::new();
        while let Some(item) = decoder.next(&mut input).unwrap() {
            if let Item::Entry(entry) = item {
                names.push(String::from_utf8(entry.name).unwrap());
            }
        }
        decoder.finish().unwrap();
        assert_eq!(
            names,
            ["run", "run/towline", "run/towline/a", "run/towline/b"]
        );
    }

    #[test]
    fn what_lockdown_answers_is_said_in_words() {
        for (errno, words) in [
            (Errno::NODATA, "not signed"),
            (Errno::KEYREJECTED, "signature is wrong"),
            (Errno::NOKEY, "does not know"),
        ] {
            let error = refused(errno.into());
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.next().contains("in place"));
        }
    }
}
