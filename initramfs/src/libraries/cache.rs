//! `etc/ld.so.cache`: the libraries that `ldconfig` found in the directories that `ld.so.conf` names, when it was run. glibc's
//! loader looks here, and not into the configuration.
//!
//! The format is `glibc-ld.so.cache1.1` (glibc, sysdeps/generic/dl-cache.h); an older one may stand before it, for older loaders.
//! As for the loader, a file that is neither names nothing.

use super::LibraryError;
use super::configured::too_much;
use super::root::Root;

const PATH: &str = "etc/ld.so.cache";

/// Largest one, in bytes. A desktop with 3,000 libraries has 250 KB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Longest name or path, in bytes (`PATH_MAX`, linux/limits.h).
const TEXT_BYTES_MAX: usize = 4096;

/// How the format begins, and how many bytes its header and each of its entries have.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;

/// Where the header has the number of entries, and flags; which of them tell the order of bytes, and what says "big".
const COUNT_AT: usize = 20;
const FLAGS_AT: usize = 28;
const ORDER_BITS: u8 = 3;
const BIG_ENDIAN: u8 = 3;

/// Libraries by name with their paths, relative to the root, in the table's order. Builds for newer processors are left out.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn libraries(root: &dyn Root) -> Result<Vec<(String, String)>, LibraryError> {
    let Some((real, content)) = root.find(PATH) else {
        return Ok(Vec::new());
    };
    if content.len() > FILE_BYTES_MAX {
        return Err(too_much(&real, &format!("{} bytes", content.len())));
    }
    let read = content.read();
    let bytes = read.map_err(|cause| LibraryError::Read { path: real, cause })?;
    Ok(entries(&bytes))
}

fn entries(bytes: &[u8]) -> Vec<(String, String)> {
    let start = bytes.windows(MAGIC.len()).position(|it| it == MAGIC);
    let Some(table) = start.and_then(|at| bytes.get(at..)) else {
        return Vec::new();
    };
    let flags = table.get(FLAGS_AT).copied().unwrap_or_default();
    let is_big = flags & ORDER_BITS == BIG_ENDIAN;
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let number = match is_big {
            true => u32::from_be_bytes(four),
            false => u32::from_le_bytes(four),
        };
        usize::try_from(number).ok()
    };
    let text = |at: usize| -> Option<&str> {
        let rest = table.get(at..)?;
        let end = rest.iter().take(TEXT_BYTES_MAX).position(|it| *it == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let count = number(table, COUNT_AT).unwrap_or(0);
    let rows = table.get(HEADER_BYTES..).unwrap_or_default();
    let rows = rows.chunks_exact(ENTRY_BYTES).take(count);
    // Flags, name, path, a number of no use, and what the processor must have.
    let row = |row: &[u8]| {
        let (name, path) = (text(number(row, 4)?)?, text(number(row, 8)?)?);
        let is_plain = row[16..].iter().all(|byte| *byte == 0);
        let path = path.strip_prefix('/').filter(|_| is_plain)?;
        Some((name.to_owned(), path.to_owned()))
    };
    rows.filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn this_machines_table_is_read_as_ldconfig_prints_it() {
        let said = Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let printed = said.lines().filter_map(|line| {
            let (name, path) = line.trim().split_once(" => /")?;
            let is_plain = !line.contains("hwcap");
            let name = name.split_whitespace().next()?.to_owned();
            is_plain.then(|| (name, path.to_owned()))
        });
        let printed: Vec<_> = printed.collect();
        assert!(!printed.is_empty(), "{said}");
        assert_eq!(libraries(&crate::libraries::Machine).unwrap(), printed);
    }

    #[test]
    fn what_is_no_table_names_nothing() {
        for bytes in [
            &b""[..],
            b"ld.so-1.7.0",
            MAGIC,
            &[MAGIC, &[255; 60]].concat(),
        ] {
            assert_eq!(entries(bytes), []);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), before in 0_usize..20) {
            let table = [vec![b'l'; before], MAGIC.to_vec(), bytes].concat();
            for (_, path) in entries(&table) {
                proptest::prop_assert!(!path.contains('\0'));
            }
        }
    }
}
