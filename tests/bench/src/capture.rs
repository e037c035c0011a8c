//! What it takes to describe a host after a backup: `towline capture` beside `rear mkrescue`, one after the other in one start of the
//! demonstration's host. One run: without KVM ReaR takes half an hour for it.

use anyhow::{Context, Result};
use towline_harness::protected::Protected;
use towline_harness::rescue_image::RescueImage;

use crate::prepare::Workshop;

/// Measures and prints a table.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    let target = workshop.built.parent().context("target")?;
    let image = RescueImage::make(&Protected::in_target(target));
    let figures = |name: &str| {
        let figure = |what| image.figure(&format!("{name}_{what}"));
        (figure("seconds"), figure("bytes"))
    };
    let (ours, peer) = (figures("capture"), figures("mkrescue"));
    println!("\n## Describing the demonstration's host, idle, one run\n");
    println!("| way | seconds | ratio | wanted | MB | ratio |");
    println!("|---|---|---|---|---|---|");
    for (name, (seconds, bytes), wanted) in [
        ("rear mkrescue (`OUTPUT=RAMDISK`)", peer, ""),
        ("towline capture", ours, "≤ 0.05×"),
    ] {
        println!(
            "| {name} | {seconds:.1} | {:.3}× | {wanted} | {:.3} | {:.5}× |",
            seconds / peer.0,
            bytes / 1e6,
            bytes / peer.1
        );
    }
    Ok(())
}
