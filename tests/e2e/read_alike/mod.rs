//! Layers of every compression are read alike by Linux, as one initramfs, and by GNU cpio, bsdcpio and busybox.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use towline_contract::manifest::Compression;
use towline_contract::newc::mode;
use towline_initramfs::content::Content;
use towline_initramfs::tree::{Entry, Meta, Node, Tree};
use towline_initramfs::write;
use towline_machine::{Machine, Start};

use crate::world::built;

const BOOT: Duration = Duration::from_secs(120);

/// Compressions, and what undoes them.
const COMPRESSIONS: [(Compression, &str, &str); 3] = [
    (Compression::None, "none", "cat"),
    (Compression::Gzip, "gzip", "gzip -dcq"),
    // It ends with an error at the padding, after all that was compressed.
    (Compression::Zstd, "zstd", "zstd -dcq"),
];

/// What unpacks an archive on its standard input into the current folder.
const UNPACKERS: [&str; 3] = [
    "cpio --quiet -idm",
    "bsdcpio --quiet -idm",
    "busybox cpio -idm",
];

#[test]
#[ignore = "boots QEMU: make test"]
fn linux_and_three_unpackers_read_the_same_from_layers_of_every_compression() {
    let folder = tempfile::tempdir().expect("a folder");
    let probe = probe(&folder);
    let mut init = Tree::new();
    let program = fs::read(&probe).expect("the probe");
    put(&mut init, b"init", 0o755, Content::from_bytes(program));
    let mut initrd = stored(&init, Compression::None);
    let mut wanted = Vec::new();
    for (compression, name, undo) in COMPRESSIONS {
        let layer = stored(&tree(name), compression);
        let file = folder.path().join(name);
        fs::write(&file, &layer).expect("a layer");
        let read: Vec<_> = UNPACKERS
            .iter()
            .map(|unpacker| {
                unpacked(
                    &folder,
                    &probe,
                    &format!("{{ {undo} {name} || true; }} 2>/dev/null | UNPACK"),
                    unpacker,
                )
            })
            .collect();
        assert!(read[0].len() > 12, "{:?}", read[0]);
        assert_eq!(read[0], read[1], "{name}: GNU cpio and bsdcpio");
        assert_eq!(read[0], read[2], "{name}: GNU cpio and busybox");
        wanted.extend(read.into_iter().next().unwrap_or_default());
        initrd.extend(layer);
    }
    initrd.extend(stored(&devices(), Compression::Zstd));
    wanted.extend(DEVICES.map(str::to_owned));
    wanted.sort();
    assert_eq!(boot(&folder, &initrd), wanted);
}

/// What the devices' layer has, as the probe says it: numbers as Linux packs them (`new_encode_dev`).
const DEVICES: [&str; 3] = [
    "devices 755 directory",
    "devices/block 660 block 700",
    "devices/null 666 character 103",
];

/// The probe as a static program.
fn probe(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("probe");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/read_alike/probe.rs");
    let status = Command::new("rustc")
        .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static"])
        .arg("-o")
        .args([program.as_path(), Path::new(source)])
        .status();
    assert!(status.expect("rustc").success());
    program
}

fn meta(mode: u32) -> Meta {
    Meta {
        mtime: Some(1_500_000_000 + mode),
        ..Meta::root(mode)
    }
}

fn put(tree: &mut Tree, path: &[u8], mode: u32, content: Content) {
    tree.file(path, meta(mode), content).expect("a file");
}

/// Entries of every kind that needs no root, and sizes on both sides of what is read at a time, below `probe/NAME`.
fn tree(name: &str) -> Tree {
    let mut tree = Tree::new();
    let at = |path: &[u8]| [b"probe/", name.as_bytes(), b"/", path].concat();
    let numbers: Vec<u8> = (0..1_000_000_u64)
        .flat_map(|number| (number * number).to_le_bytes())
        .collect();
    let sizes = [
        0,
        1,
        2,
        3,
        4,
        4095,
        4096,
        4097,
        (1 << 20) - 1,
        1 << 20,
        8_000_000,
    ];
    for bytes in sizes {
        let content = Content::from_bytes(&numbers[..bytes]);
        put(
            &mut tree,
            &at(format!("size-{bytes}").as_bytes()),
            0o644,
            content,
        );
    }
    let content = |text: &str| Content::from_bytes(text.as_bytes());
    put(
        &mut tree,
        &at(b"zeros"),
        0o600,
        Content::from_bytes(vec![0; 20 << 20]),
    );
    put(
        &mut tree,
        &at(b"no-utf-8-\xFF\xFE\n"),
        0o644,
        content("name"),
    );
    put(&mut tree, &at(&[b'n'; 255]), 0o644, content("long name"));
    let deep = [b'd'; 200].as_slice();
    let deep = [deep; 15].join(b"/".as_slice());
    put(&mut tree, &at(&deep), 0o644, content("long path"));
    put(&mut tree, &at(b"set-id"), 0o6755, content("set-id"));
    let mut insert = |path: &[u8], mode, node| {
        let meta = meta(mode);
        let entry = Entry { meta, node };
        tree.insert(&at(path), entry).expect("an entry");
    };
    let linked = Arc::new(content("one file of three names"));
    for path in [b"linked/one".as_slice(), b"a-second", b"z-third"] {
        insert(path, 0o640, Node::File(Arc::clone(&linked)));
    }
    insert(b"sticky", 0o1777, Node::Directory { implied: false });
    insert(b"link", 0o777, Node::Symlink(b"size-1".to_vec()));
    insert(b"nowhere", 0o777, Node::Symlink(b"/no/such \xFF".to_vec()));
    insert(b"fifo", 0o622, special(mode::S_IFIFO, 0, 0));
    tree
}

fn special(file_type: u32, major: u32, minor: u32) -> Node {
    Node::Special {
        file_type,
        major,
        minor,
    }
}

/// Devices, which need root where they are unpacked.
fn devices() -> Tree {
    let mut tree = Tree::new();
    for (path, mode, node) in [
        ("probe/devices/null", 0o666, special(mode::S_IFCHR, 1, 3)),
        ("probe/devices/block", 0o660, special(mode::S_IFBLK, 7, 0)),
    ] {
        let meta = meta(mode);
        let entry = Entry { meta, node };
        tree.insert(path.as_bytes(), entry).expect("a device");
    }
    tree
}

fn stored(tree: &Tree, compression: Compression) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    write::write(tree, 1_500_000_000, compression, 6, file.as_file()).expect("a layer");
    fs::read(file.path()).expect("the layer")
}

/// What the probe finds after `unpacker` had what the pipe gives.
fn unpacked(folder: &TempDir, probe: &Path, pipe: &str, unpacker: &str) -> Vec<String> {
    let into = folder.path().join("unpacked");
    let _ = fs::remove_dir_all(&into);
    fs::create_dir(&into).expect("a folder");
    // The permissions of the archive count, not what the user's umask leaves of them.
    let unpack = format!("(cd unpacked && umask 0 && {unpacker})");
    let script = format!("set -o pipefail; {}", pipe.replace("UNPACK", &unpack));
    let status = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .stderr(Stdio::inherit())
        .status();
    assert!(status.expect("bash").success(), "{script}");
    let output = Command::new(probe).arg(into.join("probe")).output();
    let said = String::from_utf8(output.expect("the probe").stdout).expect("ASCII");
    said.lines().filter_map(entry).collect()
}

/// An entry of which the probe tells.
fn entry(line: &str) -> Option<String> {
    let (_, entry) = line.split_once("probe: ")?;
    (!entry.starts_with("end ")).then(|| entry.trim_end().to_owned())
}

/// What the probe finds as PID 1.
fn boot(folder: &TempDir, initrd: &[u8]) -> Vec<String> {
    let path = folder.path().join("initrd");
    fs::write(&path, initrd).expect("the initramfs");
    let start = Start::Kernel {
        kernel: kernel(folder),
        initrd: Some(path),
        command_line: "console=ttyS0 quiet panic=-1".into(),
    };
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("read-alike.console");
    let mut running = Machine::new(start, log).start().expect("QEMU");
    let end = running
        .wait_for("probe: end", BOOT)
        .expect("the probe's end");
    assert!(end.contains("end Ok(())"), "{end}");
    let mut read: Vec<_> = running
        .seen()
        .iter()
        .filter_map(|line| entry(line))
        .collect();
    read.sort();
    read
}

/// The kernel of the ready recipes' layer.
fn kernel(folder: &TempDir) -> PathBuf {
    let layer = &built().layers[0];
    let output = Command::new("cpio")
        .args(["--quiet", "-i", "--to-stdout", "boot/vmlinuz*"])
        .stdin(File::open(layer).expect("the kernel's layer"))
        .output();
    let output = output.expect("cpio");
    assert!(
        output.stdout.len() > 1 << 20,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = folder.path().join("vmlinuz");
    fs::write(&path, output.stdout).expect("the kernel");
    path
}
