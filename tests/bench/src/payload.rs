//! The payload of the boot measurements: about 760 MB of files whose init says one line.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::prepare::{Workshop, run};

/// Size of all files, in bytes.
const BYTES: u64 = 760_000_000;
/// Size of one file that fills up, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What the payload's init says.
pub(crate) const MARKER: &str = "payload-init-reached";

/// The payload in both forms.
pub(crate) struct Payload {
    /// Initramfs for iPXE: one zstd frame.
    pub(crate) initrd: PathBuf,
    /// Layer of the `image` form.
    pub(crate) layer: PathBuf,
    /// Size of the files, in bytes.
    pub(crate) bytes: u64,
}

/// Makes the payload, or uses it again.
pub(crate) fn make(workshop: &Workshop) -> Result<Payload> {
    let (dir, tree) = (&workshop.dir, workshop.dir.join("payload"));
    if !dir.join("payload.done").exists() {
        let _ = fs::remove_dir_all(&tree);
        run(Command::new("cp")
            .arg("-a")
            .arg(dir.join("tree"))
            .arg(&tree))?;
        write_init(&tree)?;
        fill(&tree)?;
        let pack =
            "find . | sort | cpio --quiet -o -H newc | zstd -q -f -T0 -9 -o ../payload.initrd";
        run(Command::new("bash")
            .arg("-o")
            .arg("pipefail")
            .arg("-c")
            .arg(pack)
            .current_dir(&tree))?;
        fs::write(
            dir.join("payload.toml"),
            "kind = \"base\"\nname = \"payload\"\nversion = \"1\"\nform = \"image\"\nlevel = 9\n\
             \n[[source]]\ntype = \"directory\"\npath = \"payload\"\nkeep-modes = true\n",
        )?;
        let _ = fs::remove_dir_all(dir.join("payload-layer"));
        workshop.towline(["layer", "build", "payload.toml", "-o", "payload-layer"])?;
        fs::write(dir.join("payload.done"), "")?;
    }
    Ok(Payload {
        initrd: dir.join("payload.initrd"),
        layer: crate::prepare::layer_in(&dir.join("payload-layer"))?,
        bytes: size(&tree)?,
    })
}

/// An init that says the marker on every console, as `/init` (initramfs) and `/sbin/init` (root).
fn write_init(tree: &Path) -> Result<()> {
    let script = format!(
        "#!/bin/bash\necho {MARKER}\necho {MARKER} > /dev/ttyS0\nwhile :; do read -r -t 1000 < /dev/ttyS0; done\n"
    );
    for name in ["init", "usr/sbin/init"] {
        let path = tree.join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, &script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Fills up with this machine's libraries and programs, cut into pieces that nobody takes for programs.
fn fill(tree: &Path) -> Result<()> {
    let folder = tree.join("usr/share/filler");
    fs::create_dir_all(&folder)?;
    let mut left = BYTES.saturating_sub(size(tree)?);
    let mut sources = Vec::new();
    crate::files::walk(Path::new("/usr/lib"), &mut |path, _| {
        sources.push(path.to_owned());
    })?;
    crate::files::walk(Path::new("/usr/bin"), &mut |path, _| {
        sources.push(path.to_owned());
    })?;
    sources.sort();
    let mut piece = vec![0_u8];
    let mut number = 0;
    for source in sources {
        let mut file = File::open(&source)?;
        loop {
            let want = (PIECE_BYTES - piece.len()) as u64;
            if (&mut file).take(want).read_to_end(&mut piece)? == 0 {
                break;
            }
            if piece.len() == PIECE_BYTES {
                File::create(folder.join(format!("{number:04}")))?.write_all(&piece)?;
                (piece, number) = (vec![0], number + 1);
                left = left.saturating_sub(PIECE_BYTES as u64);
                if left < PIECE_BYTES as u64 {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn size(tree: &Path) -> Result<u64> {
    let mut bytes = 0;
    crate::files::walk(tree, &mut |_, length| bytes += length)?;
    Ok(bytes)
}
