//! Building a layer of the `files` form, beside `find | sort | cpio | zstd`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::measure::{Cost, median, run};
use crate::prepare::{Workshop, layer_in};

/// Runs of each side; they take turns, so that both see the same machine.
const RUNS: usize = 5;

/// The peer, as an operator would type it.
const PEER: &str = "set -o pipefail; cd tree && find . | sort | cpio --quiet -o -H newc | zstd -q -f -T0 -3 -o ../peer.zst";

/// Measures on the unpacked base system and prints a table.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    let (towline, dir) = (&workshop.towline, &workshop.dir);
    let recipe = dir.join("tree.toml");
    fs::write(
        &recipe,
        "kind = \"base\"\nname = \"tree\"\nversion = \"1\"\nform = \"files\"\ncompression = \"zstd\"\nlevel = 3\n\
         \n[[source]]\ntype = \"directory\"\npath = \"tree\"\nkeep-modes = true\n",
    )?;
    let out = dir.join("out");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    warm(&dir.join("tree"))?;
    for _ in 0..RUNS {
        peer.push(run(Path::new("/bin/bash"), &["-c", PEER], dir)?);
        let _ = fs::remove_dir_all(&out);
        let arguments = ["layer", "build", "tree.toml", "-o", "out"];
        ours.push(run(towline, &arguments, dir).context("towline layer build")?);
    }
    let peer_bytes = fs::metadata(dir.join("peer.zst"))?.len();
    let our_bytes = fs::metadata(layer_in(&out)?)?.len();
    print(&median(&ours), our_bytes, &median(&peer), peer_bytes);
    Ok(())
}

/// Reads every file once, so that no side pays for the disk.
fn warm(tree: &Path) -> Result<()> {
    let status = Command::new("tar")
        .arg("-cf")
        .arg("/dev/null")
        .arg(tree)
        .stderr(std::process::Stdio::null())
        .status()?;
    let read = Command::new("bash")
        .arg("-c")
        .arg("find \"$0\" -type f -exec cat {} + >/dev/null")
        .arg(tree)
        .status()?;
    if !status.success() || !read.success() {
        bail!("cannot read {}", tree.display());
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are printed as megabytes with one digit"
)]
fn print(ours: &Cost, our_bytes: u64, peer: &Cost, peer_bytes: u64) {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("\n## Layer build, `files` form, zstd -3, medians of {RUNS} runs\n");
    println!("| figure | towline | find, sort, cpio, zstd | ratio | wanted |");
    println!("|---|---|---|---|---|");
    let row = |name: &str, ours: f64, peer: f64, wanted: &str| {
        println!(
            "| {name} | {ours:.2} | {peer:.2} | {:.2}× | {wanted} |",
            ours / peer
        );
    };
    row("CPU, s", ours.cpu_seconds, peer.cpu_seconds, "≤ 0.75×");
    row("wall, s", ours.wall_seconds, peer.wall_seconds, "≤ 0.7×");
    row(
        "size, MB",
        megabytes(our_bytes),
        megabytes(peer_bytes),
        "≤ 1.0×",
    );
    row(
        "peak memory, MiB",
        ours.peak_mib,
        peer.peak_mib,
        "≤ 128 MiB",
    );
}
