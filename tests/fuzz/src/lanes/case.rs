//! Layers made of a fuzzer's bytes: either an archive as it is, or entries of names and types that matter to the rules.

use std::sync::OnceLock;

use towline_contract::manifest::{Image, Kind, Manifest};
use towline_contract::newc::{self, Entry, mode};

use crate::cursor::Cursor;

pub(super) const KINDS: [Kind; 6] = [
    Kind::Base,
    Kind::Kernel,
    Kind::Agent,
    Kind::Extra,
    Kind::Host,
    Kind::Credentials,
];

const PARTS: [&[u8]; 40] = [
    b"etc",
    b"rear",
    b"hostname",
    b"usr",
    b"lib",
    b"sbin",
    b"share",
    b"bin",
    b"var",
    b"x",
    b"towline",
    b"images",
    b"20-base.squashfs",
    b"stamp",
    b"boot",
    b"modules",
    b"firmware",
    b"dev",
    b"init",
    b"proc",
    b"sys",
    b"run",
    b"credentials",
    b"rearx",
    b".",
    b"..",
    b"",
    b"etc/rear",
    b"var/lib",
    b"usr/share/rear",
    b"/etc",
    b"x/",
    b"x//y",
    b"\x1b[2J",
    b"x/../y",
    b"lib/modules",
    b"TRAILER!!!",
    b"usr/lib/towline/rear",
    b"run/towline",
    b"a\nb",
];

const TYPES: [u32; 12] = [
    mode::S_IFDIR,
    mode::S_IFDIR,
    mode::S_IFDIR,
    mode::S_IFREG,
    mode::S_IFREG,
    mode::S_IFREG,
    mode::S_IFLNK,
    mode::S_IFBLK,
    mode::S_IFCHR,
    mode::S_IFIFO,
    mode::S_IFSOCK,
    0,
];

const BITS: [u32; 10] = [
    0o755,
    0o755,
    0o644,
    0o600,
    0o700,
    0o4755,
    0o2755,
    0o1777,
    0o400,
    0o1_000_644,
];

/// Most entries: enough for a detour, and few for speed.
const ENTRIES_MAX: usize = 12;

const IMAGE: &str = "towline/images/20-base.squashfs";

/// The manifest and the archive; the first two bytes choose the kind, the form and the lies.
pub(super) fn from(bytes: &[u8]) -> (Manifest, Vec<u8>) {
    let mut cursor = Cursor(bytes);
    let (kind, form) = (cursor.pick(&KINDS), cursor.byte());
    let (archive, entries) = match form & 1 {
        0 => entries(&mut cursor),
        _ => {
            let archive = cursor.0.to_vec();
            let entries = crate::newc::model(&archive).map_or(0, |files| files.len());
            (archive, entries)
        }
    };
    let lie = |bits: u8| match bits & 7 {
        1 => 1,
        2 => -1,
        _ => 0,
    };
    let image = (form & 2 != 0).then(|| Image {
        path: IMAGE.into(),
        bytes: 7,
        content_bytes: 7,
    });
    let manifest = Manifest {
        kind,
        unpacked_bytes: (archive.len() as u64).saturating_add_signed(lie(form >> 2)),
        entries: (entries as u64).saturating_add_signed(lie(form >> 5)),
        image,
        ..example().clone()
    };
    (manifest, archive)
}

fn example() -> &'static Manifest {
    static EXAMPLE: OnceLock<Manifest> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let bytes = include_bytes!("../../../../boot/contract/tests/golden/v1/base.manifest.json");
        Manifest::parse(bytes).expect("the golden manifest is one")
    })
}

fn entries(cursor: &mut Cursor<'_>) -> (Vec<u8>, usize) {
    let mut archive = Vec::new();
    let mut names: Vec<Vec<u8>> = Vec::new();
    while !cursor.0.is_empty() && names.len() < ENTRIES_MAX {
        let (entry, body) = record(cursor, &names);
        let Ok(header) = entry.encode() else {
            continue;
        };
        archive.extend(header);
        archive.extend_from_slice(&body);
        archive.extend_from_slice(newc::padding(body.len() as u64));
        names.push(entry.name);
    }
    archive.extend(newc::trailer());
    (archive, names.len())
}

/// One entry: mostly below an earlier one.
fn record(cursor: &mut Cursor<'_>, names: &[Vec<u8>]) -> (Entry, Vec<u8>) {
    let below = cursor.index(names.len() + 1);
    let name = match names.get(below) {
        Some(parent) => [parent.as_slice(), cursor.pick(&PARTS)].join(&b'/'),
        None => cursor.pick(&PARTS).to_vec(),
    };
    let (file_type, bits, more) = (cursor.pick(&TYPES), cursor.pick(&BITS), cursor.byte());
    let body = match file_type {
        mode::S_IFREG if more & 1 == 0 => b"content".to_vec(),
        mode::S_IFLNK => target(cursor),
        _ if more & 0xc0 == 0xc0 => b"body".to_vec(),
        _ => Vec::new(),
    };
    let entry = Entry {
        name,
        inode: u32::from(more >> 1 & 1),
        mode: file_type | bits,
        uid: u32::from(more >> 2 & more >> 3 & 1),
        links: 1 + u32::from(more >> 4 & 1),
        bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
        device_minor: u32::from(more >> 4 & more >> 5 & 1),
        ..Entry::default()
    };
    (entry, body)
}

fn target(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let parts = cursor.index(6);
    let parts: Vec<_> = (0..parts).map(|_| cursor.pick(&PARTS)).collect();
    parts.join(&b'/')
}
