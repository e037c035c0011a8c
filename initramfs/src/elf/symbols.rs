//! Which functions a file takes from others, and which it has for them: by these it is known who asks for names of users and
//! hosts, or converts texts.

use std::collections::BTreeSet;
use std::io;

use goblin::container::Ctx;
use goblin::elf::section_header::{SHN_UNDEF, SHT_DYNSYM, SectionHeader};
use goblin::elf::sym::Sym;
use scroll::Pread;
use scroll::ctx::SizeWith;

use super::{part, text_at};
use crate::content::Content;

/// Dynamic symbols of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Those that it takes from other files.
    pub imports: BTreeSet<String>,
    /// Those that it has.
    pub exports: BTreeSet<String>,
}

/// The dynamic symbols of `content`, an ELF file, whose names are `wanted`. A file whose table of sections was cut off has none.
///
/// # Errors
/// Reading fails, or it is damaged.
pub fn symbols(content: &Content, wanted: impl Fn(&str) -> bool) -> io::Result<Symbols> {
    let open = content.open()?;
    let header = part(&open, 0, content.len().min(64))?;
    let header = goblin::elf::Elf::parse_header(&header).map_err(io::Error::other)?;
    let context = Ctx::new(
        header.container().map_err(io::Error::other)?,
        header.endianness().map_err(io::Error::other)?,
    );
    let mut found = Symbols::default();
    if header.e_shoff == 0 || header.e_shnum == 0 {
        return Ok(found);
    }
    let bytes = u64::from(header.e_shnum) * u64::from(header.e_shentsize);
    let mut table = vec![0]; // goblin takes offset 0 for "no table"
    table.extend(part(&open, header.e_shoff, bytes)?);
    let sections = SectionHeader::parse(&table, 1, header.e_shnum.into(), context)
        .map_err(io::Error::other)?;
    let Some(symbols) = sections.iter().find(|it| it.sh_type == SHT_DYNSYM) else {
        return Ok(found);
    };
    let strings = usize::try_from(symbols.sh_link).ok();
    let strings = strings.and_then(|index| sections.get(index));
    let strings = strings.ok_or_else(|| io::Error::other("symbols without names"))?;
    let names = part(&open, strings.sh_offset, strings.sh_size)?;
    let bytes = part(&open, symbols.sh_offset, symbols.sh_size)?;
    let size = Sym::size_with(&context);
    for at in (0..bytes.len() / size).map(|index| index * size) {
        let symbol: Sym = bytes.pread_with(at, context).map_err(io::Error::other)?;
        let name = text_at(&names, symbol.st_name as u64);
        let Some(name) = name.ok().filter(|it| wanted(it)) else {
            continue;
        };
        let is_import = symbol.st_shndx == usize::try_from(SHN_UNDEF).unwrap_or(0);
        let list = if is_import {
            &mut found.imports
        } else {
            &mut found.exports
        };
        list.insert(name);
    }
    Ok(found)
}
