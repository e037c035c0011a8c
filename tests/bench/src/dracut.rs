//! A generic initramfs of one kernel, beside `dracut -N`: the same files from the same folders.
//!
//! dracut finds out what it takes; so the layer's recipe is written from what dracut took. Both begin with a system in a folder
//! and end with a compressed archive.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::measure::{Cost, median, run};
use crate::prepare::{self, Workshop, layer_in};

/// Runs of each side.
const RUNS: usize = 3;

/// Unpacks the base system, dracut and the kernel to `dracut`, by their packages; prints the kernel's release last.
const PREPARE: &str = "set -euo pipefail
rm -rf dracut dracut.new debs && mkdir debs
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \\(linux-image.*\\)/\\1/p' | head -1)
(cd debs && apt-get download -qq dracut-core \"$kernel\")
cp -a tree dracut.new
for deb in debs/*.deb; do dpkg-deb --fsys-tarfile \"$deb\" | tar -C dracut.new --keep-directory-symlink -x; done
mkdir -p dracut.new/{proc,sys,dev,run,var/tmp}
release=$(ls dracut.new/lib/modules)
/sbin/depmod -b dracut.new \"$release\"
mv dracut.new dracut
echo \"$release\" > dracut.release";

/// In a mount namespace of its own, so that nothing stays mounted.
const PEER: &str = "for dir in proc sys dev; do mount --bind /$dir dracut/$dir; done
exec chroot dracut dracut -N --quiet --force /initrd.img \"$(cat dracut.release)\"";

/// The names in dracut's archive, whatever compression it chose.
const NAMES: &str = "set -o pipefail; bsdcat dracut/initrd.img | cpio --quiet -t | sort";

/// Measures and prints a table; `dracut` needs root for its own root folder.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    let dir = &workshop.dir;
    if !dir.join("dracut").exists() {
        prepare::run(Command::new("bash").args(["-c", PREPARE]).current_dir(dir))?;
    }
    let (mut peer, mut ours) = (Vec::new(), Vec::new());
    let unshare = Path::new("/usr/bin/unshare");
    for _ in 0..RUNS {
        peer.push(run(unshare, &["-m", "bash", "-c", PEER], dir).context("dracut, as root")?);
    }
    let files = write_recipe(dir)?;
    for _ in 0..RUNS {
        for folder in ["out", "kept"] {
            let _ = fs::remove_dir_all(dir.join(folder));
        }
        let arguments = [
            "-q",
            "layer",
            "build",
            "dracut.toml",
            "-o",
            "out",
            "--cache",
            "kept",
        ];
        ours.push(run(&workshop.towline, &arguments, dir).context("towline layer build")?);
    }
    let peer_bytes = fs::metadata(dir.join("dracut/initrd.img"))?.len();
    let our_bytes = fs::metadata(layer_in(&dir.join("out"))?)?.len();
    println!(
        "\n## A generic initramfs of {files} files, beside `dracut -N`, medians of {RUNS} runs\n"
    );
    print(&median(&ours), our_bytes, &median(&peer), peer_bytes);
    Ok(())
}

/// A recipe of what dracut took from the folder; gives the number of names.
fn write_recipe(dir: &Path) -> Result<usize> {
    let names = Command::new("bash")
        .args(["-c", NAMES])
        .current_dir(dir)
        .output()?;
    if !names.status.success() {
        bail!("dracut's archive cannot be listed");
    }
    let names = String::from_utf8(names.stdout)?;
    let is_file = |name: &&str| dir.join("dracut").join(name).is_file();
    let names: Vec<&str> = names.lines().filter(is_file).collect();
    let include: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let include = include.join(", ");
    let recipe = format!(
        "kind = \"base\"\nname = \"dracut\"\nversion = \"1\"\nform = \"files\"\nlevel = 3\nfrom-earlier-layers = [\"**\"]\n\n\
         [[source]]\ntype = \"directory\"\npath = \"dracut\"\nkeep-modes = true\nexclude = [\"**\"]\ninclude = [{include}]\n"
    );
    fs::write(dir.join("dracut.toml"), recipe)?;
    Ok(names.len())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are printed as megabytes with two digits"
)]
fn print(ours: &Cost, our_bytes: u64, peer: &Cost, peer_bytes: u64) {
    println!(
        "| figure | towline, zstd 3 | dracut -N, as it comes | dracut / towline | wanted |\n|---|---|---|---|---|"
    );
    let rows = [
        ("wall, s", ours.wall_seconds, peer.wall_seconds, "≥ 20×"),
        ("CPU, s", ours.cpu_seconds, peer.cpu_seconds, ""),
        (
            "size, MB",
            our_bytes as f64 / 1e6,
            peer_bytes as f64 / 1e6,
            "",
        ),
    ];
    for (name, us, them, wanted) in rows {
        println!(
            "| {name} | {us:.2} | {them:.2} | {:.1}× | {wanted} |",
            them / us
        );
    }
}
