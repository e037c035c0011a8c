//! Archives made by hand, honest or not, and what the reader says of them.

use towline_contract::Digest;
use towline_contract::Timestamp;
use towline_contract::lanes::Bounds;
use towline_contract::lanes::{LaneError, LayerItem, LayerReader};
use towline_contract::manifest::{
    Compression, Image, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement,
};
use towline_contract::newc::{self, Entry, mode};

/// One entry and its body.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Entry, pub(crate) Vec<u8>);

pub(crate) fn record(name: &str, mode: u32, body: &[u8]) -> Record {
    let entry = Entry {
        name: name.into(),
        mode,
        links: 1,
        bytes: body.len().try_into().unwrap(),
        ..Entry::default()
    };
    Record(entry, body.to_vec())
}

pub(crate) fn dir(name: &str) -> Record {
    record(name, mode::S_IFDIR | 0o755, b"")
}

pub(crate) fn file(name: &str) -> Record {
    record(name, mode::S_IFREG | 0o644, b"content")
}

pub(crate) fn link(name: &str, target: &str) -> Record {
    record(name, mode::S_IFLNK | 0o777, target.as_bytes())
}

/// Plain directories for every parent of `record`, and then itself.
pub(crate) fn with_parents(record: Record) -> Vec<Record> {
    let name = String::from_utf8(record.0.name.clone()).unwrap();
    let mut records: Vec<_> = name
        .match_indices('/')
        .map(|(at, _)| dir(&name[..at]))
        .collect();
    records.push(record);
    records
}

pub(crate) fn bytes(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for Record(entry, body) in records {
        out.extend(entry.encode().unwrap());
        out.extend_from_slice(body);
        out.extend_from_slice(newc::padding(body.len() as u64));
    }
    out.extend(newc::trailer());
    out
}

pub(crate) fn manifest(kind: Kind, records: &[Record]) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        kind,
        name: "example".into(),
        version: "1".into(),
        architecture: "amd64".into(),
        created: Timestamp::UNIX_EPOCH,
        digest: Digest::of(b""),
        stored_bytes: 0,
        unpacked_bytes: bytes(records).len() as u64,
        entries: records.len() as u64,
        compression: Compression::None,
        chunks: vec![],
        placement: Placement::Ram,
        image: None,
        kernel_release: None,
        provides: Needs::default(),
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
        agent: None,
        session: None,
        bounds: Bounds::default(),
    }
}

pub(crate) fn image(path: &str, bytes: u64) -> Option<Image> {
    Some(Image {
        path: path.into(),
        bytes,
        content_bytes: bytes,
    })
}

/// What the reader yields, in words, when fed pieces of `piece` bytes.
pub(crate) fn read(
    manifest: &Manifest,
    archive: &[u8],
    piece: usize,
) -> Result<Vec<String>, LaneError> {
    let mut reader = LayerReader::new(manifest, &[]);
    let mut found: Vec<String> = Vec::new();
    for mut input in archive.chunks(piece) {
        while let Some(item) = reader.next(&mut input)? {
            match item {
                LayerItem::Directory { path, .. } => found.push(format!("dir {path}")),
                LayerItem::FileStart { path, image, .. } => {
                    found.push(format!("{} {path} ", if image { "image" } else { "file" }));
                }
                LayerItem::FileData(data) => {
                    let text = data.escape_ascii().to_string();
                    found.last_mut().unwrap().push_str(&text);
                }
                LayerItem::FileEnd => found.last_mut().unwrap().push('.'),
                LayerItem::Symlink { path, target, .. } => {
                    found.push(format!("link {path} {}", target.escape_ascii()));
                }
                LayerItem::Hardlink { path, target } => found.push(format!("hard {path} {target}")),
                LayerItem::Node {
                    path, major, minor, ..
                } => {
                    found.push(format!("node {path} {major}:{minor}"));
                }
            }
        }
    }
    reader.finish().map(|()| found)
}

/// What the reader says of these records under an honest manifest.
pub(crate) fn judge(kind: Kind, records: &[Record]) -> Result<Vec<String>, LaneError> {
    read(&manifest(kind, records), &bytes(records), usize::MAX)
}
