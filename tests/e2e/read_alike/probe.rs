//! Says what lies in a folder, one line an entry; as PID 1, of `/probe`, on the console, and ends.
//!
//! Kind, mode, path with all but plain letters as `\xNN`; of files the names they have, their time, their size and a sum of
//! their content; of links where they lead; of devices their number.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

fn main() {
    let is_first = std::process::id() == 1;
    let root = std::env::args_os().nth(1).filter(|_| !is_first);
    let root = root.unwrap_or_else(|| "/probe".into());
    let mut lines = Vec::new();
    let looked = look(Path::new(&root), Path::new(&root), &mut lines);
    lines.sort();
    for line in lines {
        println!("probe: {line}");
    }
    println!("probe: end {looked:?}");
    while is_first {
        std::thread::park(); // the kernel panics when PID 1 ends
    }
}

fn look(root: &Path, path: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let name = path.strip_prefix(root).unwrap_or(path);
    let name = escaped(name.as_os_str().as_bytes());
    if !name.is_empty() {
        let mode = metadata.mode() & 0o7777;
        lines.push(format!("{name} {mode:o} {}", what(path, &metadata)?));
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            look(root, &entry?.path(), lines)?;
        }
    }
    Ok(())
}

fn what(path: &Path, metadata: &Metadata) -> io::Result<String> {
    let kind = metadata.file_type();
    let rdev = metadata.rdev();
    Ok(if kind.is_dir() {
        "directory".into()
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?;
        format!("link {}", escaped(target.as_os_str().as_bytes()))
    } else if kind.is_file() {
        let (links, time, bytes) = (metadata.nlink(), metadata.mtime(), metadata.len());
        let sum = sum(&fs::read(path)?);
        format!("file {links} {time} {bytes} {sum:016x}")
    } else if kind.is_fifo() {
        "fifo".into()
    } else if kind.is_char_device() {
        format!("character {rdev:x}")
    } else if kind.is_block_device() {
        format!("block {rdev:x}")
    } else {
        "other".into()
    })
}

/// FNV-1a of 64 bits.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn escaped(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._".contains(byte);
    let one = |byte: &u8| match plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(one).collect()
}
