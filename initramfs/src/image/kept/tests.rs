//! What is found again, whatever became of what was kept.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, FileType, Mode};

use super::*;

/// A block that is shorter when it is compressed.
const FIRST: &[u8] = b"first first first first first first first first first first first first";

/// As blocks are stored.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(bytes, 3).unwrap();
    if packed.len() < bytes.len() {
        packed
    } else {
        bytes.to_vec()
    }
}

fn find(kept: &Kept, key: Key, bytes: &[u8]) -> Option<Vec<u8>> {
    kept.find(key, bytes, &mut Unpacker::default())
}

/// Keeps a file that is no layer, which nobody asks for.
fn keep(dir: &Path, blocks: &[(Key, &[u8])]) {
    let (mut index, mut layer) = (Index::default(), Vec::new());
    for (key, bytes) in blocks {
        let stored = packed(bytes);
        index.add(*key, layer.len() as u64, &stored, false);
        layer.extend(stored);
    }
    let path = dir.with_extension("layer");
    fs::write(&path, layer).unwrap();
    index.keep(&path, dir).unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn what_was_kept_is_found_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("images").join("layer");
    fs::create_dir_all(&dir).unwrap();
    keep(&dir, &[(1, b"first"), (2, b""), (1, b"first")]);
    let kept = Kept::open(&dir).unwrap();
    assert_eq!(find(&kept, 1, b"first").unwrap(), packed(b"first"));
    assert_eq!(find(&kept, 2, b"").unwrap(), packed(b""));
    assert_eq!(find(&kept, 3, b"first"), None);
    keep(&dir, &[(2, b"second"), (3, b"third")]);
    let kept = Kept::open(&dir).unwrap();
    assert_eq!(find(&kept, 1, b"first"), None);
    assert_eq!(find(&kept, 2, b"second").unwrap(), packed(b"second"));
    assert_eq!(find(&kept, 3, b"third").unwrap(), packed(b"third"));
    let names = fs::read_dir(&dir)
        .unwrap()
        .map(|it| it.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, [INDEX, LAYER], "nothing else stays there");
}

#[test]
fn a_pipe_in_the_place_of_a_file_keeps_no_build_waiting() {
    let dir = tempfile::tempdir().unwrap();
    keep(dir.path(), &[(1, FIRST)]);
    for name in [INDEX, LAYER] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(Kept::open(dir.path()).is_none(), "{name}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }
    assert!(Kept::open(dir.path()).is_some());
}

#[test]
fn a_copy_is_for_whoever_may_read_files_there() {
    let dir = tempfile::tempdir().unwrap();
    let layer = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
    fs::write(layer.path(), "layer").unwrap();
    let (kept, other) = (dir.path().join("kept"), dir.path().join("other"));
    copy(layer.path(), &kept).unwrap();
    fs::write(&other, "any file").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&kept), mode(&other));
    assert_eq!(fs::read(kept).unwrap(), b"layer");
}

#[test]
fn no_change_of_a_file_gives_another_block() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("layer");
    keep(&dir, &[(1, FIRST), (2, b"second")]);
    for name in [INDEX, LAYER] {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let is_harmless = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Kept::open(&dir).is_none_or(|kept| {
                let right = |key, bytes: &[u8]| {
                    find(&kept, key, bytes).is_none_or(|it| it == packed(bytes))
                };
                right(1, FIRST) && right(2, b"second")
            })
        };
        for at in 0..whole.len() {
            for bit in [1, 0x80] {
                let mut changed = whole.clone();
                changed[at] ^= bit;
                assert!(is_harmless(&changed), "{name}: bit {bit} of byte {at}");
            }
            assert!(is_harmless(&whole[..at]), "{name}: the first {at} bytes");
            assert!(is_harmless(&whole[at..]), "{name}: without the first {at}");
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_block_that_somebody_put_in_anothers_place_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    keep(dir.path(), &[(1, b"theirs")]);
    let kept = Kept::open(dir.path()).unwrap();
    assert_eq!(find(&kept, 1, b"ours!!"), None);
    assert_eq!(find(&kept, 1, b"ours"), None);
}

#[test]
fn what_linux_could_not_unpack_is_not_found() {
    let bytes = b"first ".repeat(20_000);
    let mut unpacker = Unpacker::default();
    let mut gives = |stored: &[u8]| unpacker.gives(stored, &bytes);
    assert!(gives(&packed(&bytes)));
    assert!(gives(&bytes));
    let empty = zstd::bulk::compress(b"", 1).unwrap();
    assert!(!gives(&[packed(&bytes), empty].concat()), "two frames");
    let (half, rest) = bytes.split_at(60_000);
    let halves = [zstd::bulk::compress(half, 1), zstd::bulk::compress(rest, 1)];
    assert!(!gives(&halves.map(Result::unwrap).concat()), "in halves");
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&bytes).unwrap();
    assert!(!gives(&encoder.finish().unwrap()), "a window of its own");
    let behind = |has_checksum, has_empty_block: bool| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let length = Some(bytes.len() as u64);
        encoder.set_pledged_src_size(length).unwrap();
        encoder.include_checksum(has_checksum).unwrap();
        encoder.write_all(&bytes).unwrap();
        if has_empty_block {
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    };
    assert!(gives(&behind(false, false)));
    assert!(!gives(&behind(true, false)), "a checksum");
    assert!(!gives(&behind(false, true)), "a block of nothing");
    let longer = zstd::bulk::compress(b"short", 1).unwrap();
    assert!(!unpacker.gives(&longer, b"short"), "longer than it is");
}

#[test]
fn records_of_an_impossible_number_or_length_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(LAYER), "").unwrap();
    let written = |record: &[u8], count: u64| {
        let digest = Digest::of(record);
        let footer = [digest.as_bytes().as_slice(), &count.to_le_bytes(), MAGIC];
        let index = [record, &footer.concat()].concat();
        fs::write(dir.path().join(INDEX), index).unwrap();
        Kept::open(dir.path()).is_some()
    };
    let record = |bytes: u32| [[0; 40].as_slice(), &bytes.to_le_bytes()].concat();
    assert!(written(&record(5), 1));
    assert!(!written(&record(u32::MAX), 1));
    assert!(!written(&record(5), 2));
    assert!(!written(&record(5), u64::MAX));
}
