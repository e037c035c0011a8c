//! Building layers, beside what others build archives and images with, and building them again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::measure::{Cost, median, run};
use crate::prepare::{Workshop, layer_in};
use crate::tree::{self, Change};

/// Runs of each side; they take turns, so that all see the same machine.
const RUNS: usize = 5;

/// Runs of what takes half a minute.
const LONG_RUNS: usize = 3;

/// What operators would type.
const CPIO: &str = "set -o pipefail; cd files && find . | sort | cpio --quiet -o -H newc --reproducible | zstd -q -f -T0 -3 -o ../peer";
const BSDTAR: &str =
    "set -o pipefail; cd files && bsdtar --format newc -cf - . | zstd -q -f -T0 -3 -o ../peer";
const MKSQUASHFS: &str =
    "mksquashfs files peer -comp zstd -Xcompression-level 3 -noappend -quiet -no-progress";

/// One side of a table.
#[derive(Default)]
struct Side {
    costs: Vec<Cost>,
    bytes: u64,
}

impl Side {
    /// A peer's run.
    fn peer(&mut self, workshop: &Workshop, command: &str) -> Result<()> {
        let dir = &workshop.dir;
        self.costs
            .push(run(Path::new("/bin/bash"), &["-c", command], dir)?);
        self.bytes = fs::metadata(dir.join("peer"))?.len();
        Ok(())
    }

    /// A build into `out`, which may be there from before.
    fn towline(&mut self, workshop: &Workshop, recipe: &str, out: &str) -> Result<()> {
        let arguments = ["-q", "layer", "build", recipe, "-o", out, "--cache", "kept"];
        let cost = run(&workshop.towline, &arguments, &workshop.dir);
        self.costs.push(cost.context("towline layer build")?);
        self.bytes = fs::metadata(layer_in(&workshop.dir.join(out))?)?.len();
        Ok(())
    }
}

/// Measures and prints tables.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    tree::make(workshop)?;
    files(workshop)?;
    image(workshop)?;
    again(workshop)
}

fn recipe(workshop: &Workshop, name: &str, form: &str, level: u8, tree: &str) -> Result<String> {
    let file = format!("{name}.toml");
    let text = format!(
        "kind = \"base\"\nname = \"files\"\nversion = \"1\"\nform = \"{form}\"\nlevel = {level}\n\
         from-earlier-layers = [\"**\"]\n\n[[source]]\ntype = \"directory\"\npath = \"{tree}\"\nkeep-modes = true\n"
    );
    fs::write(workshop.dir.join(&file), text)?;
    Ok(file)
}

/// Nothing is there from before.
fn forget(workshop: &Workshop) {
    for folder in ["out", "kept"] {
        let _ = fs::remove_dir_all(workshop.dir.join(folder));
    }
}

fn files(workshop: &Workshop) -> Result<()> {
    let recipe = recipe(workshop, "form-files", "files", 3, "files")?;
    let (mut ours, mut cpio, mut bsdtar) = (Side::default(), Side::default(), Side::default());
    for _ in 0..RUNS {
        cpio.peer(workshop, CPIO)?;
        bsdtar.peer(workshop, BSDTAR)?;
        forget(workshop);
        ours.towline(workshop, &recipe, "out")?;
    }
    println!("\n## Layer build, `files` form, zstd -3, medians of {RUNS} runs\n");
    let wanted = ["≤ 0.62×", "≤ 0.45×", "≤ 0.98×", "≤ 1.5×"];
    table(&ours, "find, sort, cpio, zstd", &cpio, wanted);
    println!();
    table(&ours, "bsdtar, zstd", &bsdtar, ["", "≤ 0.75×", "", ""]);
    Ok(())
}

fn image(workshop: &Workshop) -> Result<()> {
    let recipe = recipe(workshop, "form-image", "image", 3, "files")?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for _ in 0..RUNS {
        peer.peer(workshop, MKSQUASHFS)?;
        forget(workshop);
        ours.towline(workshop, &recipe, "out")?;
    }
    println!("\n## Layer build, `image` form, zstd 3, medians of {RUNS} runs\n");
    table(
        &ours,
        "mksquashfs",
        &peer,
        ["", "≤ 1.0×", "≤ 1.0×", "≤ 0.25×"],
    );
    Ok(())
}

/// At the level that recipes have when they name none. What is built again must be what a build from nothing gives.
fn again(workshop: &Workshop) -> Result<()> {
    let whole = recipe(workshop, "again", "image", 15, "files")?;
    let changed = recipe(workshop, "changed", "image", 15, "files.changed")?;
    let mut cold = Side::default();
    for _ in 0..LONG_RUNS {
        forget(workshop);
        cold.towline(workshop, &whole, "out")?;
    }
    let mut unchanged = Side::default();
    for _ in 0..RUNS {
        unchanged.towline(workshop, &whole, "out")?;
    }
    let mut sides = vec![("unchanged", unchanged)];
    let changes = [
        (
            "about 1 % of the bytes, all files of neighbouring folders, have grown",
            Change::OnePackage,
        ),
        (
            "one file in a hundred, everywhere, has another byte",
            Change::OneInAHundred,
        ),
    ];
    for (what, change) in changes {
        tree::change(workshop, "files", change)?;
        let mut side = Side::default();
        for _ in 0..LONG_RUNS {
            // What was kept is of the tree before the change.
            Side::default().towline(workshop, &whole, "out")?;
            side.towline(workshop, &changed, "out")?;
        }
        let warm = fs::read(layer_in(&workshop.dir.join("out"))?)?;
        forget(workshop);
        Side::default().towline(workshop, &changed, "out")?;
        let is_same = warm == fs::read(layer_in(&workshop.dir.join("out"))?)?;
        ensure!(is_same, "{what}: another layer than from nothing");
        forget(workshop);
        Side::default().towline(workshop, &whole, "out")?;
        sides.push((what, side));
    }
    println!("\n## Layer build again, `image` form, zstd 15 (the default), medians\n");
    println!("| what | wall, s | ratio | CPU, s | ratio | wanted |\n|---|---|---|---|---|---|");
    let cold = median(&cold.costs);
    println!(
        "| from nothing | {:.2} | 1.00× | {:.2} | 1.00× | |",
        cold.wall_seconds, cold.cpu_seconds
    );
    for (what, side) in sides {
        let cost = median(&side.costs);
        println!(
            "| {what} | {:.2} | {:.3}× | {:.2} | {:.3}× | ≤ 0.05× |",
            cost.wall_seconds,
            cost.wall_seconds / cold.wall_seconds,
            cost.cpu_seconds,
            cost.cpu_seconds / cold.cpu_seconds
        );
    }
    Ok(())
}

/// CPU, wall, size and memory beside a peer's, with the ratios that are wanted.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes are printed as megabytes with two digits"
)]
fn table(ours: &Side, peer_name: &str, peer: &Side, wanted: [&str; 4]) {
    let (us, them) = (median(&ours.costs), median(&peer.costs));
    println!("| figure | towline | {peer_name} | ratio | wanted |\n|---|---|---|---|---|");
    let rows = [
        ("CPU, s", us.cpu_seconds, them.cpu_seconds),
        ("wall, s", us.wall_seconds, them.wall_seconds),
        ("size, MB", ours.bytes as f64 / 1e6, peer.bytes as f64 / 1e6),
        ("peak memory, MiB", us.peak_mib, them.peak_mib),
    ];
    for ((name, us, them), wanted) in rows.into_iter().zip(wanted) {
        println!(
            "| {name} | {us:.2} | {them:.2} | {:.2}× | {wanted} |",
            us / them
        );
    }
}
