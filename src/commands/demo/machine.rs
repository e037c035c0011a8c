//! The dead machine: an empty disk and the stamped medium, in QEMU, watched until its rescue system reports in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use towline_contract::event::{CheckResult, Event, What};
use towline_contract::plan::HandOver;
use towline_machine::{Disk, Machine, MachineError, Start, Writes};

use super::site::Site;
use super::steps::Steps;
use super::{DemoArgs, How};
use crate::exit::{Exit, Failure};
use crate::printable;

/// Longest until stage 1's first line: firmware, boot loader and kernel without hardware support take their time.
const STAGE1_MAX: Duration = Duration::from_secs(180);

/// Longest from there to the rescue system's report.
const RESCUE_MAX: Duration = Duration::from_secs(420);

/// What stage 1 and the rescue system begin each of their lines with.
const OUR_LINES: &str = "towline: ";

/// Longest that the whole recovery may take: minutes on two cores without hardware support.
const RECOVERY_MAX: Duration = Duration::from_secs(1800);

/// What stage 1 asks when a recovery is open.
const ASKS_CODE: &str = "Recovery code";

/// What begins the report of a failure.
const FAILED: &str = "FAILED: ";

/// What the rescue system says last.
const RECOVERED: &str = "the host is recovered";

/// What the rescue system says when it has reported in.
const READY: &str = "towline: rescue system ready";

/// What the rescue system found.
pub(super) struct Report {
    checks: Vec<CheckResult>,
    memory_used_kib: u64,
}

/// A machine without a system, and what is needed to bring its host back.
pub(super) struct Dead<'a> {
    /// The stamped medium.
    pub(super) medium: &'a Path,
    /// Its empty disks.
    pub(super) disks: &'a [PathBuf],
    /// Where its UEFI firmware keeps its variables.
    pub(super) efi_variables: &'a Path,
    /// The recovery code that somebody types.
    pub(super) code: &'a str,
    /// Where its console is recorded.
    pub(super) log: &'a Path,
}

/// Processors of a machine whose work is worth two: compression, encryption and checksums of agents run on both.
pub(super) fn processors() -> u32 {
    match std::thread::available_parallelism() {
        Ok(here) if here.get() > 1 => 2,
        _ => 1,
    }
}

/// Boots the dead machine, types the code when it asks, and waits until it has recovered and switched itself off.
pub(super) fn recover(steps: &mut Steps, args: &DemoArgs, dead: &Dead<'_>) -> Result<(), Failure> {
    let disks = dead.disks.iter().map(|file| Disk {
        file: file.clone(),
        writes: Writes::Kept,
    });
    let machine = Machine {
        firmware: args.firmware.into(),
        efi_variables: Some(dead.efi_variables.to_owned()),
        memory_mib: args.memory,
        processors: processors(),
        disk_gib: None,
        disks: disks.collect(),
        ..Machine::new(Start::Cd(dead.medium.to_owned()), dead.log.to_owned())
    };
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::No, error)
            .next(format!("read the whole console in {}", dead.log.display()))
    };
    let mut running = steps.step("the dead machine starts from the medium", || {
        let mut running = machine.start().map_err(|error| failed(error.into()))?;
        let asks = |line: &str| {
            echo(args, line);
            line.contains(ASKS_CODE) || line.contains(FAILED)
        };
        let asked = running
            .wait_until("that it asks for the code", STAGE1_MAX, asks)
            .map_err(|error| failed(error.into()))?;
        match asked.contains(ASKS_CODE) {
            true => Ok(running),
            false => Err(failed(anyhow!("{asked}"))),
        }
    })?;
    steps.step("the code is typed; the machine recovers itself", || {
        running
            .send(&format!("{}\n", dead.code))
            .map_err(|error| failed(error.into()))?;
        let ended = |line: &str| {
            echo(args, line);
            line.contains(FAILED)
        };
        match running.wait_until("that it is off", RECOVERY_MAX, ended) {
            Ok(line) => Err(failed(anyhow!("{line}"))),
            Err(MachineError::WentOff { .. })
                if running.seen().iter().any(|line| line.contains(RECOVERED)) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error.into())),
        }
    })
}

/// Boots the machine from `medium` and waits for its rescue system.
pub(super) fn rescue(
    steps: &mut Steps,
    args: &DemoArgs,
    medium: &Path,
    site: &Site,
) -> Result<Report, Failure> {
    let log = site.console_log();
    let machine = Machine {
        firmware: args.firmware.into(),
        memory_mib: args.memory,
        ..Machine::new(Start::Cd(medium.to_owned()), log.clone())
    };
    let failed = |error: MachineError| {
        Failure::new(Exit::No, error).next(format!("read the whole console in {}", log.display()))
    };
    let how = if args.handover == How::Kexec {
        ", kexec"
    } else {
        ""
    };
    let mut running = steps.step(
        "switch the machine on: firmware, boot loader, kernel",
        || {
            let mut running = machine.start().map_err(failed)?;
            running
                .wait_until("stage 1's first line", STAGE1_MAX, |line| echo(args, line))
                .map_err(failed)?;
            Ok(running)
        },
    )?;
    steps.step(&format!("stage 1 and the rescue system{how}"), || {
        let ready = |line: &str| echo(args, line) && line.contains(READY);
        running
            .wait_until("that its rescue system is ready", RESCUE_MAX, ready)
            .map_err(failed)
    })?;
    report(&site.events(), args.handover.into())
}

/// Shows a line of the machine's console; true for those of Towline itself.
fn echo(args: &DemoArgs, line: &str) -> bool {
    let ours = line.contains(OUR_LINES);
    if ours || args.verbose {
        eprintln!("    | {}", printable(line));
    }
    ours
}

/// The rescue system's report among the events that the server received.
fn report(events: &Path, wanted: HandOver) -> Result<Report, Failure> {
    #[derive(Deserialize)]
    struct Line {
        event: Event,
    }
    let text =
        fs::read_to_string(events).with_context(|| format!("cannot read {}", events.display()))?;
    let mut ready = None;
    let mut handed_over = None;
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("a line of {}", events.display()))?;
        match line.event.what {
            What::RescueReady {
                checks,
                memory_used_kib,
            } => {
                ready = Some(Report {
                    checks,
                    memory_used_kib,
                });
            }
            What::HandOver { how } => handed_over = Some(how),
            _ => {}
        }
    }
    if handed_over.is_some_and(|how| how != wanted) {
        return Err(Failure::new(
            Exit::No,
            anyhow!("the machine did not hand over as it was told ({wanted:?})"),
        ));
    }
    if let Some(report) = ready {
        return Ok(report);
    }
    Err(Failure::new(
        Exit::No,
        anyhow!("the rescue system is up, but its report did not reach the server"),
    )
    .next("read serve.log in the site's folder"))
}

impl Report {
    /// Prints every check; true when all passed and there was one for each layer but the kernel's.
    pub(super) fn print(&self) -> bool {
        println!(
            "\nseen from inside the rescue system ({} MiB of memory in use):",
            self.memory_used_kib / 1024
        );
        for check in &self.checks {
            let mark = if check.passed { "ok    " } else { "FAILED" };
            println!(
                "  {mark} {:<34} {}: {}",
                printable(&check.layer),
                printable(&check.name),
                printable(&check.output)
            );
        }
        let proven = |kind: &str| {
            self.checks
                .iter()
                .any(|check| check.passed && check.layer.starts_with(kind))
        };
        let missing: Vec<_> = ["base/", "agent/", "host/"]
            .into_iter()
            .filter(|kind| !proven(kind))
            .collect();
        if !missing.is_empty() {
            println!(
                "  FAILED nothing proves that these layers are there: {}",
                missing.join(" ")
            );
        }
        missing.is_empty() && self.checks.iter().all(|check| check.passed)
    }
}
