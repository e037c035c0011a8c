//! The smallest memory and the least work from power-on to the payload's init: Towline beside iPXE.
//!
//! Both start by `-kernel`: iPXE loads the kernel and the payload as an initramfs over HTTP (`rootfstype=ramfs`); Towline's medium
//! gives its kernel and its initrds, stage 1 fetches kernel layer and payload. QEMU's own CPU seconds are the work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use towline_machine::{Machine, Running, Start};

use crate::files::serve;
use crate::payload::{MARKER, Payload, make};
use crate::prepare::{Workshop, run};
use crate::site::BenchSite;

/// Longest until the marker; an emulated machine that is short of memory does not always say so.
const BOOT_MAX: Duration = Duration::from_secs(240);
/// The bisection ends when it is this near, in MiB.
const STEP_MIB: u32 = 8;
/// Memory for the comparison of work, in MiB: enough for every way.
const ROOMY_MIB: u32 = 2048;
/// Runs of each way for the comparison of work.
const RUNS: usize = 3;

/// One way to the payload's init.
struct Way {
    name: &'static str,
    /// The wanted ratio of its work to iPXE's, for the table.
    wanted: &'static str,
    start: Start,
}

/// Measures and prints tables.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    let payload = make(workshop)?;
    let site = BenchSite::serving(
        workshop,
        &[workshop.layer("kernel-debian")?, payload.layer.clone()],
    )?;
    let http = towline(
        workshop,
        &site,
        "http",
        &format!("http://10.0.2.2:{}", site.http),
    )?;
    let https = towline(
        workshop,
        &site,
        "https",
        &format!("https://10.0.2.2:{}", site.https),
    )?;
    let ipxe = ipxe(workshop, &payload)?;

    println!("\n## From power-on to the payload's init\n");
    println!(
        "Payload: {} MB of files; {} MB as iPXE's initramfs (zstd), {} MB as a layer (squashfs, zstd).\n",
        payload.bytes / 1_000_000,
        fs::metadata(&payload.initrd)?.len() / 1_000_000,
        fs::metadata(&payload.layer)?.len() / 1_000_000
    );
    work(workshop, &[&ipxe, &http, &https])?;
    memory(workshop, &ipxe, &http)
}

/// Median CPU seconds of each way, in turns.
fn work(workshop: &Workshop, ways: &[&Way]) -> Result<()> {
    let mut seconds = vec![Vec::new(); ways.len()];
    for _ in 0..RUNS {
        for (way, seconds) in ways.iter().zip(&mut seconds) {
            let found = attempt(workshop, way, ROOMY_MIB)
                .with_context(|| format!("{} does not boot", way.name))?;
            eprintln!("bench: {} with {ROOMY_MIB} MiB: {found:.1} CPU s", way.name);
            seconds.push(found);
        }
    }
    let median = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let medians: Vec<f64> = seconds.iter_mut().map(median).collect();
    println!("| way | QEMU CPU s, median of {RUNS} | ratio to iPXE | wanted |");
    println!("|---|---|---|---|");
    for (way, found) in ways.iter().zip(&medians) {
        println!(
            "| {} | {found:.1} | {:.2}× | {} |",
            way.name,
            found / medians[0],
            way.wanted
        );
    }
    Ok(())
}

/// The smallest memory of both, by bisection.
fn memory(workshop: &Workshop, ipxe: &Way, towline: &Way) -> Result<()> {
    let peer = smallest(workshop, ipxe, 768, 2048)?;
    let ours = smallest(workshop, towline, 192, 1024)?;
    println!("\n| way | smallest memory, MiB (± {STEP_MIB}) | ratio to iPXE | wanted |");
    println!("|---|---|---|---|");
    println!("| {} | {peer} | 1.00× | |", ipxe.name);
    println!(
        "| {} | {ours} | {:.2}× | ≤ 0.4× |",
        towline.name,
        f64::from(ours) / f64::from(peer)
    );
    Ok(())
}

/// The smallest memory that boots, between one that does not and one that does.
fn smallest(workshop: &Workshop, way: &Way, mut fails: u32, mut boots: u32) -> Result<u32> {
    attempt(workshop, way, boots)
        .with_context(|| format!("{} does not boot with {boots} MiB", way.name))?;
    while boots - fails > STEP_MIB {
        let middle = (boots + fails) / 2;
        let found = attempt(workshop, way, middle);
        eprintln!(
            "bench: {} with {middle} MiB: {}",
            way.name,
            if found.is_ok() {
                "boots"
            } else {
                "does not boot"
            }
        );
        if found.is_ok() {
            boots = middle;
        } else {
            fails = middle;
        }
    }
    Ok(boots)
}

/// Boots once; gives QEMU's CPU seconds at the marker.
fn attempt(workshop: &Workshop, way: &Way, memory_mib: u32) -> Result<f64> {
    let log = workshop
        .dir
        .join(format!("console-{}.log", way.name.replace(' ', "-")));
    let machine = Machine {
        memory_mib,
        disk_gib: None,
        ..Machine::new(way.start.clone(), log)
    };
    let mut running: Running = machine.start()?;
    let said = |line: &str| {
        line.contains(MARKER) || line.contains("What next?") || line.contains("Kernel panic")
    };
    let line = running.wait_until("the payload's init", BOOT_MAX, said)?;
    anyhow::ensure!(line.contains(MARKER), "{line}");
    running.cpu_seconds().context("QEMU's CPU time")
}

fn ipxe(workshop: &Workshop, payload: &Payload) -> Result<Way> {
    let kernel = parts(
        workshop,
        &workshop.built.join("medium/towline.iso"),
        "plain",
    )?
    .0;
    let address = serve(vec![
        ("vmlinuz", kernel),
        ("payload", payload.initrd.clone()),
    ])?;
    let script = workshop.dir.join("script.ipxe");
    let port = address.port();
    fs::write(
        &script,
        format!(
            "#!ipxe\ndhcp\nkernel http://10.0.2.2:{port}/vmlinuz console=ttyS0,115200 rootfstype=ramfs loglevel=4\n\
             initrd http://10.0.2.2:{port}/payload\nboot\n"
        ),
    )?;
    let kernel = "/boot/ipxe.lkrn".into();
    Ok(Way {
        name: "iPXE, http",
        wanted: "",
        start: Start::Kernel {
            kernel,
            initrd: Some(script),
            command_line: String::new(),
        },
    })
}

fn towline(workshop: &Workshop, site: &BenchSite, name: &'static str, url: &str) -> Result<Way> {
    let image = workshop.dir.join(format!("{name}.iso"));
    fs::copy(workshop.built.join("medium/towline.iso"), &image)?;
    site.stamp(workshop, &image, url)?;
    let (kernel, initrd) = parts(workshop, &image, name)?;
    let command_line = "console=ttyS0,115200 rootfstype=ramfs loglevel=4".into();
    // Over TLS it is measured for information.
    let (name, wanted) = if name == "http" {
        ("towline, http", "≤ 0.8×")
    } else {
        ("towline, https", "")
    };
    Ok(Way {
        name,
        wanted,
        start: Start::Kernel {
            kernel,
            initrd: Some(initrd),
            command_line,
        },
    })
}

/// Kernel and joined initrds of a medium.
fn parts(workshop: &Workshop, image: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let dir = workshop.dir.join(format!("medium-{name}"));
    let _ = fs::remove_dir_all(&dir);
    let mut command = Command::new("xorriso");
    command
        .args(["-report_about", "FAILURE", "-osirrox", "on", "-indev"])
        .arg(image)
        .args(["-extract", "/"])
        .arg(&dir);
    run(&mut command)?;
    let boot = dir.join("boot");
    let joined = workshop.dir.join(format!("initrd-{name}"));
    let mut bytes = Vec::new();
    for initrd in ["stage1.img", "stamp.img"] {
        bytes
            .extend(fs::read(boot.join(initrd)).with_context(|| format!("the medium's {initrd}"))?);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    fs::write(&joined, bytes)?;
    Ok((boot.join("vmlinuz"), joined))
}
