//! The smallest memory in which the demonstration's host is recovered, by its medium and a code: no peer, an aim.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use towline_harness::protected::{Protected, Scene, code_typed, recovered_within};

use crate::prepare::Workshop;

/// Longest from the code to the end; with memory to spare it takes three minutes. One that is short of it may crawl for ever.
const RECOVERY_MAX: Duration = Duration::from_secs(900);
/// The bisection ends when it is this near, in MiB: each step takes minutes.
const STEP_MIB: u32 = 16;
/// It begins between a memory that is too little for the rescue system and one that is enough.
const FAILS_MIB: u32 = 256;
const RECOVERS_MIB: u32 = 640;

/// Measures and prints a table.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    let target = workshop.built.parent().context("target")?;
    let scene = Protected::in_target(target).scene("bench-recovery");
    let (mut fails, mut recovers) = (FAILS_MIB, RECOVERS_MIB);
    attempt(&scene, recovers).with_context(|| format!("with {recovers} MiB"))?;
    while recovers - fails > STEP_MIB {
        let middle = (fails + recovers) / 2;
        match attempt(&scene, middle) {
            Ok(()) => {
                eprintln!("bench: with {middle} MiB the host is recovered");
                recovers = middle;
            }
            Err(error) => {
                eprintln!("bench: with {middle} MiB it is not: {error}");
                fails = middle;
            }
        }
    }
    println!("\n## Recovering the demonstration's host\n");
    println!("| smallest memory, MiB (± {STEP_MIB}) | wanted |");
    println!("|---|---|");
    println!("| {recovers} | ≤ 512 |");
    Ok(())
}

/// One recovery on an empty disk.
fn attempt(scene: &Scene, memory_mib: u32) -> Result<()> {
    let (disk, opened) = (scene.disk("disk.raw", 4), scene.open(&["--unattended"]));
    let mut machine = scene.machine(&disk);
    machine.memory_mib = memory_mib;
    let mut running = code_typed(&machine, &opened.code)?;
    recovered_within(&mut running, RECOVERY_MAX).map_err(|said| anyhow!("{said}"))
}
