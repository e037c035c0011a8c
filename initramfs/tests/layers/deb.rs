//! Debian packages, made here in each form that Debian and Ubuntu use.

use std::io::Write;

use towline_initramfs::content::Spool;
use towline_initramfs::deb::{self, DebError};
use towline_initramfs::filter::Filter;
use towline_initramfs::tree::{Meta, Node, Tree};

use crate::support::{Workshop, messages};

/// A tarball with these files; a name that ends with `/` is a directory, `a -> b` a link, `a = b` a hard link.
pub(crate) fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        if let Some((name, target)) = name.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, name, target).unwrap();
        } else if let Some((name, target)) = name.split_once(" = ") {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, name, target).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, std::io::empty())
                .unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

pub(crate) fn package(compression: &str, name: &str, data: &[u8]) -> Vec<u8> {
    let control = format!(
        "Package: {name}\nVersion: 1.0-1\nArchitecture: amd64\nDescription: test\n more: text\n"
    );
    let control = compress(compression, &tarball(&[("./control", control.as_bytes())]));
    let mut ar = ar::Builder::new(Vec::new());
    for (member, bytes) in [
        ("debian-binary".to_owned(), b"2.0\n".to_vec()),
        (format!("control.tar{compression}"), control),
        (
            format!("data.tar{compression}"),
            compress(compression, data),
        ),
    ] {
        let header = ar::Header::new(member.into_bytes(), bytes.len() as u64);
        ar.append(&header, bytes.as_slice()).unwrap();
    }
    ar.into_inner().unwrap()
}

fn compress(compression: &str, bytes: &[u8]) -> Vec<u8> {
    match compression {
        ".gz" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".xz" => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn unpack(bytes: &[u8], tree: &mut Tree) -> Result<towline_contract::manifest::Package, DebError> {
    let workshop = Workshop::new();
    let path = workshop.write("test.deb", bytes);
    deb::unpack(
        &path,
        &Filter::default(),
        &mut Spool::new().unwrap(),
        tree,
        &mut |_| {},
    )
}

#[test]
fn packages_of_every_compression_give_the_same_tree() {
    let data = tarball(&[
        ("./", b""),
        ("./lib/", b""),
        ("./lib/udev/", b""),
        ("./lib/udev/rule", b"one\n"),
        ("./usr/bin/x -> ../lib/x", b""),
        ("./usr/bin/y = ./lib/udev/rule", b""),
    ]);
    for compression in ["", ".gz", ".xz", ".zst"] {
        let mut tree = Tree::new();
        tree.symlink(b"lib", Meta::root(0o777), b"usr/lib").unwrap();
        let found = unpack(&package(compression, "test", &data), &mut tree).unwrap();
        assert_eq!(
            (found.name.as_str(), found.version.as_str()),
            ("test", "1.0-1")
        );
        let entry = tree
            .get(b"usr/lib/udev/rule")
            .expect("resolved through the link");
        assert_eq!(
            (entry.meta.gid, entry.meta.mtime),
            (42, Some(1_700_000_000))
        );
        let Node::File(content) = &entry.node else {
            panic!("a file")
        };
        assert_eq!(content.read().unwrap(), b"one\n");
        let hard_link = tree.get(b"usr/bin/y").unwrap();
        assert!(
            matches!(&hard_link.node, Node::File(other) if std::sync::Arc::ptr_eq(other, content))
        );
    }
}

#[test]
fn a_name_that_leads_out_of_the_root_is_refused() {
    let mut data = tarball(&[("./etc/aa/passwd", b"x")]);
    // The tar crate does not write such names.
    let at = data.windows(5).position(|bytes| bytes == b"etc/a").unwrap();
    data[at..at + 6].copy_from_slice(b"../../");
    fix_checksum(&mut data);
    let error = unpack(&package(".gz", "evil", &data), &mut Tree::new()).unwrap_err();
    assert!(
        messages(&error).contains("no path below the root"),
        "{}",
        messages(&error)
    );
}

fn fix_checksum(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn a_truncated_package_is_refused() {
    let data = tarball(&[("./etc/hostname", &[b'x'; 5000])]);
    let bytes = package("", "test", &data);
    let error = unpack(&bytes[..bytes.len() - 3000], &mut Tree::new()).unwrap_err();
    assert!(matches!(error, DebError::Read { .. }), "{error:?}");
}

#[test]
fn what_is_no_package_is_refused() {
    let error = unpack(b"!<arch>\n", &mut Tree::new()).unwrap_err();
    assert!(matches!(error, DebError::Format { .. }), "{error:?}");
    assert!(unpack(b"PK\x03\x04", &mut Tree::new()).is_err());
}
