//! The `.modinfo` section of a kernel module: what it depends on and answers to.

use std::io::{self, Read};

use goblin::container::Ctx;
use goblin::elf::section_header::SectionHeader;

use crate::content::{Content, OpenContent};

/// Largest section read, in bytes. Drivers with thousands of aliases have 300 KB.
const SECTION_BYTES_MAX: u64 = 16 << 20;

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// Modules that must be loaded before.
    pub(super) depends: Vec<String>,
    /// Modules or aliases of soft dependencies, `pre` and `post`.
    pub(super) soft: Vec<String>,
    /// Aliases without wildcards: what soft dependencies may name.
    pub(super) aliases: Vec<String>,
    /// Firmware that it may ask for, by path below `lib/firmware`.
    pub(super) firmware: Vec<String>,
}

/// Reads what the module at `path` says. A compressed one is unpacked in memory.
pub(super) fn read(path: &str, content: &Content) -> io::Result<ModInfo> {
    let mut unpacked = Vec::new();
    let reader = || content.reader().map(io::BufReader::new);
    match path.rsplit('.').next() {
        Some("xz") => lzma_rust2::XzReader::new(reader()?, true).read_to_end(&mut unpacked)?,
        Some("zst") => zstd::Decoder::new(reader()?)?.read_to_end(&mut unpacked)?,
        Some("gz") => flate2::read::GzDecoder::new(reader()?).read_to_end(&mut unpacked)?,
        _ => return parse(&content.open()?),
    };
    parse(&Content::from_bytes(unpacked).open()?)
}

fn parse(module: &OpenContent<'_>) -> io::Result<ModInfo> {
    let part = |offset: u64, bytes: u64| -> io::Result<Vec<u8>> {
        if bytes > SECTION_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a section of {bytes} bytes is too large"
            )));
        }
        let mut part = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        module.read_exact_at(&mut part, offset)?;
        Ok(part)
    };
    let header = goblin::elf::Elf::parse_header(&part(0, 64)?).map_err(io::Error::other)?;
    let context = Ctx::new(
        header.container().map_err(io::Error::other)?,
        header.endianness().map_err(io::Error::other)?,
    );
    let mut table = vec![0]; // goblin takes offset 0 for "no table"
    table.extend(part(
        header.e_shoff,
        u64::from(header.e_shnum) * u64::from(header.e_shentsize),
    )?);
    let sections = SectionHeader::parse(&table, 1, header.e_shnum.into(), context)
        .map_err(io::Error::other)?;
    let damaged = || io::Error::other("no section names");
    let names = sections
        .get(usize::from(header.e_shstrndx))
        .ok_or_else(damaged)?;
    let names = part(names.sh_offset, names.sh_size)?;
    let is_modinfo = |section: &&SectionHeader| {
        names
            .get(section.sh_name..)
            .is_some_and(|name| name.starts_with(b".modinfo\0"))
    };
    let section = sections
        .iter()
        .find(is_modinfo)
        .ok_or_else(|| io::Error::other("no .modinfo section"))?;
    Ok(fields(&part(section.sh_offset, section.sh_size)?))
}

fn fields(section: &[u8]) -> ModInfo {
    let mut info = ModInfo::default();
    for field in section.split(|b| *b == 0) {
        let field = String::from_utf8_lossy(field);
        match field.split_once('=') {
            Some(("depends", names)) => {
                info.depends.extend(
                    names
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned),
                );
            }
            Some(("softdep", list)) => {
                let names = list.split_whitespace().filter(|word| !word.ends_with(':'));
                info.soft.extend(names.map(str::to_owned));
            }
            Some(("firmware", path)) => info.firmware.push(path.to_owned()),
            Some(("alias", name)) if !name.contains(['*', ':']) => {
                info.aliases.push(name.to_owned());
            }
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_dependencies_before_and_after_are_read() {
        let section = b"softdep=pre: sha256 crypto-crc32c post: xts\0depends=xor,raid6_pq\0depends=\0alias=pci:v*\0alias=fs-btrfs\0";
        let info = fields(section);
        assert_eq!(info.soft, ["sha256", "crypto-crc32c", "xts"]);
        assert_eq!(info.depends, ["xor", "raid6_pq"]);
        assert_eq!(info.aliases, ["fs-btrfs"]);
    }
}
