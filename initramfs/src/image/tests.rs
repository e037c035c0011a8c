//! What no number of cores and no earlier build may change.

use std::fs;

use tempfile::NamedTempFile;

use super::*;
use crate::content::Content;
use crate::tree::Meta;

/// Bytes that are neither all equal nor noise.
fn numbers(first: u64, bytes: usize) -> Vec<u8> {
    let numbers = (first..).flat_map(|n| (n * n).to_le_bytes());
    numbers.take(bytes).collect()
}

/// Files of every kind of block: shared and own, whole and short, holes, and names that sort otherwise as bytes than as paths.
fn tree(of: u64) -> Tree {
    let block = BLOCK_BYTES;
    let mut tree = Tree::new();
    let mut file = |path: &[u8], bytes: Vec<u8>| {
        tree.file(path, Meta::root(0o644), Content::from_bytes(bytes))
            .unwrap();
    };
    file(b"a/large", numbers(1, 5 * block + 77));
    file(b"a/whole", numbers(2, block));
    file(
        b"a/hole",
        [numbers(3, block), vec![0; 2 * block + 5]].concat(),
    );
    file(b"a/all-zero", vec![0; 3 * block]);
    file(b"a/small-zero", vec![0; 100]);
    file(b"a/empty", Vec::new());
    file(b"a-b/changing", numbers(of, 3 * block + 9));
    for number in 0..40 {
        file(format!("c/{number}").as_bytes(), numbers(number, 20_000));
    }
    tree
}

fn making(level: i32, kept: Option<&Path>) -> Making<'_> {
    Making {
        time: 1_700_000_000,
        level,
        kept,
    }
}

/// Where the images of these tests begin in their files.
const AT: u64 = 124;

/// The bytes of an image, which is kept, and where its blocks came from.
fn image(of: u64, workers: usize, kept: Option<&Path>) -> (Vec<u8>, Blocks) {
    let file = NamedTempFile::new().unwrap();
    let place = Place {
        file: file.as_file(),
        at: AT,
    };
    let making = making(KEPT_LEVEL_MIN, kept);
    let made = write_with_workers(&tree(of), making, workers, place).unwrap();
    let files = tree(of);
    let sizes = files.iter().filter_map(|(_, entry)| match &entry.node {
        Node::File(content) => Some(content.len()),
        _ => None,
    });
    assert_eq!(made.content_bytes, sizes.sum::<u64>());
    let bytes = fs::read(file.path())
        .unwrap()
        .split_off(usize::try_from(AT).unwrap());
    assert_eq!(made.bytes, bytes.len() as u64);
    if let Some(kept) = kept {
        made.index.unwrap().keep(file.path(), kept).unwrap();
    }
    (bytes, made.blocks)
}

#[test]
fn the_number_of_workers_does_not_change_a_byte() {
    let one = image(5, 1, None).0;
    assert!(one == image(5, 2, None).0);
    assert!(one == image(5, 7, None).0);
}

#[test]
fn the_root_lies_in_itself() {
    let file = tempfile::tempfile().unwrap();
    let place = Place { file: &file, at: 0 };
    write(&Tree::new(), making(3, None), place).unwrap();
    let mut table_at = [0; 8];
    file.read_exact_at(&mut table_at, 64).unwrap();
    // Behind the length of a block that is too short to be compressed.
    let inode_at = u64::from_le_bytes(table_at) + 2;
    let mut inode = [0; 32];
    file.read_exact_at(&mut inode, inode_at).unwrap();
    let (number, parent) = (&inode[12..16], &inode[28..]);
    assert_eq!((number, parent), (&[1, 0, 0, 0][..], number));
}

#[test]
fn kept_blocks_do_not_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("blocks").join("layer");
    for of in [5, 5, 6, 5] {
        assert!(image(of, 2, Some(&kept)).0 == image(of, 2, None).0, "{of}");
    }
    // Damaged, in the middle of a block; cut off; gone.
    for name in ["layer", "index"] {
        let path = kept.join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(image(5, 2, Some(&kept)).0 == image(5, 2, None).0);
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(image(5, 2, Some(&kept)).0 == image(5, 2, None).0);
        fs::remove_file(&path).unwrap();
        assert!(image(5, 2, Some(&kept)).0 == image(5, 2, None).0);
    }
}

#[test]
fn only_what_changed_is_compressed_again() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("layer");
    let blocks = |of| image(of, 2, Some(&kept)).1;
    let cold = blocks(5);
    assert_eq!(cold.found, 0);
    let same = blocks(5);
    assert_eq!((same.found, same.compressed), (cold.compressed, 0));
    let changed = blocks(6);
    assert_eq!(changed.compressed, 4, "the changed file has four blocks");
    assert_eq!(changed.found, cold.compressed - 4);
    assert_eq!(blocks(6).compressed, 0, "and they are kept now");
}

#[test]
fn an_image_that_cannot_be_written_is_said_to_be_a_part_of_the_layer() {
    let file = NamedTempFile::new().unwrap();
    let only_read = File::open(file.path()).unwrap();
    let place = Place {
        file: &only_read,
        at: AT,
    };
    let refused = write(&tree(5), making(KEPT_LEVEL_MIN, None), place).unwrap_err();
    assert_eq!(refused.to_string(), "cannot write the image into the layer");
}

#[test]
fn a_file_that_changes_meanwhile_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, numbers(7, BLOCK_BYTES + 5)).unwrap();
    let mut tree = tree(6);
    let content = Content::of_file(path.clone(), &path.metadata().unwrap());
    tree.file(b"b/at-work", Meta::root(0o644), content).unwrap();
    fs::write(&path, "shorter").unwrap();
    let file = tempfile::tempfile().unwrap();
    let place = Place {
        file: &file,
        at: AT,
    };
    let refused = write(&tree, making(KEPT_LEVEL_MIN, None), place).unwrap_err();
    let ImageError::Content { path, cause } = refused else {
        panic!("{refused}");
    };
    assert_eq!(path, "b/at-work");
    assert!(cause.to_string().contains("was changed"), "{cause}");
}
