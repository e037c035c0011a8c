//! Measurements side by side with named peers, in one run, as medians and ratios: `make bench`.
//!
//! The report goes to stdout as Markdown; `docs/benchmarks.md` holds the last one that was looked at. Everything is made in
//! target/bench. Nothing here passes or fails: a figure that misses its aim is for a person to read.

mod boot;
mod capture;
mod chain;
mod dracut;
mod files;
mod layers;
mod measure;
mod payload;
mod prepare;
mod recovery;
mod site;
mod tree;

use anyhow::{Result, bail};
use prepare::Workshop;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| {
        !["layers", "dracut", "chain", "boot", "recovery", "capture"].contains(&name.as_str())
    }) {
        bail!(
            "there is no benchmark {unknown:?}: layers, dracut, chain, boot, recovery, capture, or none for all"
        );
    }
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let workshop = Workshop::open()?;
    println!("# Benchmarks\n\n{}", prepare::machine());
    if runs("layers") {
        layers::bench(&workshop)?;
    }
    if runs("dracut") {
        dracut::bench(&workshop)?;
    }
    if runs("chain") {
        chain::bench(&workshop)?;
    }
    if runs("boot") {
        boot::bench(&workshop)?;
    }
    if runs("recovery") {
        recovery::bench(&workshop)?;
    }
    if runs("capture") {
        capture::bench(&workshop)?;
    }
    Ok(())
}
