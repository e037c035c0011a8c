//! What one ELF file asks of the dynamic loader, read with a few small reads instead of the whole file.

mod dlopen;
mod symbols;

use std::io;

use goblin::container::Ctx;
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, Dyn};
use goblin::elf::header::{ELFMAG, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader};

use crate::content::{Content, OpenContent};

pub use dlopen::{Dlopen, Priority};
pub use symbols::{Symbols, symbols};

/// Largest dynamic section and string table, in bytes. The largest string table of Debian 12 is 6 MB (libLLVM).
const SECTION_BYTES_MAX: u64 = 64 << 20;

/// What one ELF program or library asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Machine and class: files of different ones do not mix.
    pub machine: (u16, u8),
    /// `PT_INTERP`: the dynamic loader.
    pub interpreter: Option<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`, split at colons.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`, split at colons.
    pub runpath: Vec<String>,
    /// What it says it loads while it runs (`.note.dlopen`).
    pub dlopen: Vec<Dlopen>,
}

/// Reads a part of the file: from this offset, this many bytes.
fn part(open: &OpenContent<'_>, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    if bytes > SECTION_BYTES_MAX {
        return Err(io::Error::other(format!(
            "a part of {bytes} bytes is too large"
        )));
    }
    let mut part = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    open.read_exact_at(&mut part, offset)?;
    Ok(part)
}

/// Reads what `content` asks for; none if it is no ELF program or library (an object file or kernel module is neither).
///
/// # Errors
/// Reading fails, or it begins like ELF and is damaged.
pub fn read(content: &Content) -> io::Result<Option<Elf>> {
    if content.len() < 64 {
        return Ok(None);
    }
    let open = content.open()?;
    let mut start = [0; 64];
    open.read_exact_at(&mut start, 0)?;
    if &start[..4] != ELFMAG {
        return Ok(None);
    }
    let header = goblin::elf::Elf::parse_header(&start).map_err(io::Error::other)?;
    if header.e_type != ET_DYN && header.e_type != ET_EXEC {
        return Ok(None);
    }
    let part = |offset: u64, bytes: u64| part(&open, offset, bytes);
    let context = Ctx::new(
        header.container().map_err(io::Error::other)?,
        header.endianness().map_err(io::Error::other)?,
    );
    let count = usize::from(header.e_phnum);
    let table = part(
        header.e_phoff,
        u64::from(header.e_phnum) * u64::from(header.e_phentsize),
    )?;
    let segments = ProgramHeader::parse(&table, 0, count, context).map_err(io::Error::other)?;
    let mut elf = Elf {
        machine: (
            header.e_machine,
            header.e_ident[goblin::elf::header::EI_CLASS],
        ),
        ..Elf::default()
    };
    for segment in &segments {
        match segment.p_type {
            PT_INTERP => {
                let text = part(segment.p_offset, segment.p_filesz)?;
                elf.interpreter = Some(text_at(&text, 0)?);
            }
            PT_DYNAMIC => {
                let bytes = part(segment.p_offset, segment.p_filesz)?;
                dynamic(&mut elf, &entries(&bytes, context)?, &segments, &part)?;
            }
            PT_NOTE if segment.p_filesz <= dlopen::NOTES_BYTES_MAX => {
                let bytes = part(segment.p_offset, segment.p_filesz)?;
                let alignment = usize::try_from(segment.p_align).unwrap_or(4);
                elf.dlopen
                    .extend(dlopen::notes(&bytes, alignment, context)?);
            }
            _ => {}
        }
    }
    Ok(Some(elf))
}

fn entries(bytes: &[u8], context: Ctx) -> io::Result<Vec<Dyn>> {
    use scroll::Pread;
    use scroll::ctx::SizeWith;
    let size = Dyn::size_with(&context);
    let count = bytes.len() / size;
    (0..count)
        .map(|index| {
            bytes
                .pread_with::<Dyn>(index * size, context)
                .map_err(io::Error::other)
        })
        .take_while(|entry| !matches!(entry, Ok(entry) if entry.d_tag == 0))
        .collect()
}

fn dynamic(
    elf: &mut Elf,
    entries: &[Dyn],
    segments: &[ProgramHeader],
    part: &impl Fn(u64, u64) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let value = |tag| {
        entries
            .iter()
            .find(|entry| entry.d_tag == tag)
            .map(|entry| entry.d_val)
    };
    let (Some(address), Some(bytes)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(());
    };
    let holds = |s: &&ProgramHeader| {
        s.p_type == PT_LOAD && s.p_vaddr <= address && address - s.p_vaddr < s.p_filesz
    };
    let segment = segments
        .iter()
        .find(holds)
        .ok_or_else(|| io::Error::other("no string table"))?;
    let strings = part(segment.p_offset + (address - segment.p_vaddr), bytes)?;
    for entry in entries {
        let text = || text_at(&strings, entry.d_val);
        let list = || {
            Ok::<_, io::Error>(
                text()?
                    .split(':')
                    .filter(|d| !d.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )
        };
        match entry.d_tag {
            DT_NEEDED => elf.needed.push(text()?),
            DT_SONAME => elf.soname = Some(text()?),
            DT_RPATH => elf.rpath = list()?,
            DT_RUNPATH => elf.runpath = list()?,
            _ => {}
        }
    }
    Ok(())
}

fn text_at(strings: &[u8], at: u64) -> io::Result<String> {
    let rest = usize::try_from(at).ok().and_then(|at| strings.get(at..));
    let end = rest.and_then(|rest| Some(&rest[..rest.iter().position(|b| *b == 0)?]));
    let text = end.and_then(|text| std::str::from_utf8(text).ok());
    text.map(str::to_owned)
        .ok_or_else(|| io::Error::other("a damaged string table"))
}
