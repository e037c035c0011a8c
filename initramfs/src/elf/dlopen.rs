//! `.note.dlopen`: what a program says of the libraries that it loads while it runs (UAPI group, ELF dlopen metadata).
//!
//! Notes of owner `FDO` and type 0x407c0c0a hold JSON: a list of features, each with the names of libraries of which the first
//! that is there is loaded, and how much it matters.

use std::io;

use goblin::container::Ctx;
use goblin::elf::note::NoteDataIterator;
use serde::Deserialize;

/// Most bytes of one segment of notes: systemd's largest has 4 KB. A larger segment has other notes.
pub(super) const NOTES_BYTES_MAX: u64 = 1 << 20;

/// Most features of one file, and names of one feature.
const FEATURES_MAX: usize = 1024;

const OWNER: &str = "FDO";
const TYPE: u32 = 0x407c_0c0a;

/// Libraries that one feature of a program needs: one of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Dlopen {
    /// Names, the best first.
    pub soname: Vec<String>,
    /// How much it matters.
    #[serde(default)]
    pub priority: Priority,
}

/// How much a feature matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The program is of no use without it.
    Required,
    /// It may be there.
    Suggested,
    /// It should be there; or what is said of it is not known here.
    #[default]
    #[serde(other)]
    Recommended,
}

/// What the notes in a segment say: hints, so that one that cannot be read says nothing. A note that has no end ends them.
pub(super) fn notes(bytes: &[u8], alignment: usize, context: Ctx) -> io::Result<Vec<Dlopen>> {
    let notes = NoteDataIterator {
        data: bytes,
        size: bytes.len(),
        offset: 0,
        ctx: (alignment, context),
    };
    let mut features: Vec<Dlopen> = Vec::new();
    for note in notes.map_while(Result::ok) {
        if note.n_type == TYPE && note.name == OWNER {
            features.extend(json(note.desc));
        }
    }
    let names_max = features.iter().map(|it| it.soname.len()).max().unwrap_or(0);
    if features.len().max(names_max) > FEATURES_MAX {
        let what = format!("its .note.dlopen has more than {FEATURES_MAX} features or names");
        return Err(io::Error::other(what));
    }
    Ok(features)
}

/// Zeros may follow the text.
fn json(text: &[u8]) -> Vec<Dlopen> {
    let end = text
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    serde_json::from_slice(&text[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin::container::Container;

    const CONTEXT: Ctx = Ctx {
        container: Container::Big,
        le: scroll::Endian::Little,
    };

    pub(crate) fn note(owner: &str, kind: u32, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let length = |text: &str| u32::try_from(text.len() + 1).unwrap().to_le_bytes();
        out.extend(length(owner));
        out.extend(length(text));
        out.extend(kind.to_le_bytes());
        for text in [owner, text] {
            out.extend(text.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn features_with_their_names_and_priorities_are_read_and_other_notes_passed_over() {
        let text = r#"[{"feature":"zip","description":"x","priority":"required","soname":["libz.so.2","libz.so.1"]},
                       {"soname":["liba.so"]}, {"priority":"suggested","soname":["libb.so"]}]"#;
        let bytes = [note("GNU", 3, "build"), note(OWNER, TYPE, text)].concat();
        let found = notes(&bytes, 4, CONTEXT).unwrap();
        let priorities: Vec<_> = found.iter().map(|it| it.priority).collect();
        use Priority::{Recommended, Required, Suggested};
        assert_eq!(priorities, [Required, Recommended, Suggested]);
        assert_eq!(found[0].soname, ["libz.so.2", "libz.so.1"]);
        assert_eq!(notes(&note("GNU", TYPE, text), 4, CONTEXT).unwrap(), []);
    }

    #[test]
    fn a_note_that_cannot_be_read_says_nothing_and_one_of_unknown_priority_is_recommended() {
        let found = |text: &str| notes(&note(OWNER, TYPE, text), 4, CONTEXT).unwrap();
        assert_eq!(found("[{\"soname\": 1}]"), []);
        let known = found(r#"[{"soname":["libz.so.1"],"priority":"mandatory"}]"#);
        assert_eq!(known[0].priority, Priority::Recommended);
    }

    proptest::proptest! {
        #[test]
        fn any_segment_of_notes_is_read_or_refused_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            alignment in 0_usize..20,
        ) {
            let _ = notes(&bytes, alignment, CONTEXT);
        }

        #[test]
        fn any_text_in_a_note_of_ours_is_read_or_refused(text in "\\PC{0,200}", cut in 0_usize..64) {
            let mut bytes = note(OWNER, TYPE, &text);
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = notes(&bytes, 4, CONTEXT);
        }
    }
}
