//! The `.modinfo` section of a kernel module: what it depends on and answers to.

use std::io::{self, Read};

use goblin::container::Ctx;
use goblin::elf::section_header::SectionHeader;

use crate::content::{Content, OpenContent};
use crate::xz::Xz;

/// Largest section read, in bytes. Drivers with thousands of aliases have 300 KB.
const SECTION_BYTES_MAX: u64 = 16 << 20;

/// Largest module that is unpacked in memory, in bytes. The largest of distributions has 20 MB.
const MODULE_BYTES_MAX: u64 = 256 << 20;

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
    read_bounded(path, content, MODULE_BYTES_MAX)
}

fn read_bounded(path: &str, content: &Content, bytes_max: u64) -> io::Result<ModInfo> {
    let reader = || content.reader().map(io::BufReader::new);
    let unpacked = match path.rsplit('.').next() {
        Some("xz") => bounded(Xz::all(reader()?), bytes_max)?,
        Some("zst") => bounded(zstd::Decoder::new(reader()?)?, bytes_max)?,
        Some("gz") => bounded(flate2::read::GzDecoder::new(reader()?), bytes_max)?,
        _ => return parse(&content.open()?),
    };
    parse(&Content::from_bytes(unpacked).open()?)
}

/// All that `reader` gives, which is no more than `bytes_max`.
fn bounded(reader: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= bytes_max {
        true => Ok(bytes),
        false => Err(io::Error::other(format!(
            "it unpacks to more than the {bytes_max} bytes that a module may have"
        ))),
    }
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

    #[test]
    fn a_module_that_unpacks_to_more_than_one_may_have_is_refused_whatever_its_compression() {
        use std::io::Write as _;
        let zeros = vec![0; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&zeros).unwrap();
        let options = lzma_rust2::XzOptions::with_preset(0);
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        xz.write_all(&zeros).unwrap();
        for (path, stored) in [
            ("bomb.ko.gz", gzip.finish().unwrap()),
            (
                "bomb.ko.zst",
                zstd::encode_all(zeros.as_slice(), 1).unwrap(),
            ),
            ("bomb.ko.xz", xz.finish().unwrap()),
        ] {
            let content = Content::from_bytes(stored);
            let refusal = |bytes_max| {
                let refused = read_bounded(path, &content, bytes_max).unwrap_err();
                refused.to_string()
            };
            let (whole, refused) = (refusal(100_000), refusal(99_999));
            assert!(!whole.contains("a module may have"), "{path}: {whole}");
            assert!(refused.contains("a module may have"), "{path}: {refused}");
        }
    }
}
