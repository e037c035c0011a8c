//! Lanes: the reader, which judges entry by entry in one pass, against a model that has all entries of the layer before it.
//!
//! For any archive of any kind under a manifest that may lie: the reader accepts exactly what the model accepts, yields the
//! archive's own entries and nothing else, whatever the size of the pieces, and every refusal names the layer.

mod case;
mod model;

use towline_contract::lanes::{LaneError, LayerItem, LayerReader};
use towline_contract::manifest::{Kind, Manifest};

use crate::newc;

/// What a base's manifest lets agents replace, in all cases.
const REPLACEABLE: &[&str] = &["etc/hostname", "usr/bin/x"];

/// Panics when one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let (manifest, archive) = case::from(bytes);
    let verdict = read(&manifest, &archive, usize::MAX);
    let files = newc::model(&archive);
    let modelled = files.filter(|files| model::accepts(&manifest, archive.len(), files));
    assert_eq!(
        verdict.is_ok(),
        modelled.is_some(),
        "{verdict:?} of {manifest:?}"
    );
    // Twice takes twice as long: a part of the inputs is enough.
    if bytes.len().is_multiple_of(4) {
        assert_eq!(verdict, read(&manifest, &archive, bytes.len() % 61 + 1));
    }
    match (verdict, modelled) {
        (Ok(found), Some(files)) => assert_eq!(found, model::yields(&files)),
        (Err(refused), _) => {
            let (target, message) = (manifest.target_name(), refused.to_string());
            assert!(message.contains(&target), "{message}");
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        (Ok(_), None) => {}
    }
}

/// What the reader yields, each with its path: `what`, where, and its content or target.
fn read(manifest: &Manifest, archive: &[u8], piece: usize) -> Result<Vec<Yield>, LaneError> {
    let replaceable: Vec<_> = REPLACEABLE.iter().map(ToString::to_string).collect();
    let mut reader = LayerReader::new(manifest, &replaceable);
    let mut found: Vec<Yield> = Vec::new();
    for mut input in archive.chunks(piece) {
        while let Some(item) = reader.next(&mut input)? {
            let (what, path, content) = match item {
                LayerItem::FileData(data) => {
                    let file = found.last_mut().expect("data follow a file's start");
                    file.2.extend_from_slice(data);
                    continue;
                }
                LayerItem::FileEnd => continue,
                LayerItem::Directory { path, .. } => ("directory", path, vec![]),
                LayerItem::FileStart { path, .. } => ("file", path, vec![]),
                LayerItem::Symlink { path, target, .. } => ("link", path, target),
                LayerItem::Hardlink { path, target } => {
                    ("another name", path, target.as_bytes().to_vec())
                }
                LayerItem::Node { path, .. } => ("node", path, vec![]),
            };
            let bound = matches!(manifest.kind, Kind::Agent | Kind::Extra);
            let listed = REPLACEABLE
                .iter()
                .any(|it| it.as_bytes() == path.as_bytes());
            assert_eq!(reader.may_replace(&path), !bound || listed);
            found.push((what, path.as_bytes().to_vec(), content));
        }
    }
    reader.finish().map(|()| found)
}

/// What an entry is, its name, and its content or target.
type Yield = (&'static str, Vec<u8>, Vec<u8>);
