//! The report of a drill: what it came to, kept at the site and printed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::json;
use towline_contract::Timestamp;
use towline_contract::event::{CheckResult, What};
use towline_server::drills::{Begun, DRILL_FORMAT, Report};

use super::Drill;
use super::watch::Ended;
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

/// Keeps the report with the console, and prints it.
pub(super) fn keep(
    drill: &Drill<'_>,
    begun: &Begun<'_>,
    ended: Ended,
    started: Timestamp,
    took: Duration,
    as_json: bool,
) -> Outcome {
    let console = joined(drill.scratch, &ended.consoles).context("cannot read the console")?;
    let mut report = report(drill, ended, started, took);
    let kept = begun.end(&mut report, &console);
    let (file, console) = kept.context("cannot keep the drill's report")?;
    match as_json {
        true => {
            let mut document = serde_json::to_value(&report).map_err(anyhow::Error::from)?;
            document["console"] = json!(console);
            document["report"] = json!(file);
            let text = serde_json::to_string_pretty(&document).map_err(anyhow::Error::from)?;
            println!("{text}");
        }
        false => print(&report, &file, &console),
    }
    match report.passed {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::No,
            anyhow!("the drill of {} failed: {}", report.host, report.what),
        )
        .next(format!("read the console in {}", console.display()))),
    }
}

/// What its machine reported, against what it should have; nothing if that is the same.
pub(super) fn verdict(events: &[What], restore: bool) -> Option<String> {
    let is_ready = |it: &What| matches!(it, What::RescueReady { .. });
    if !events.iter().any(is_ready) {
        return Some("the rescue system's report did not reach the server".into());
    }
    if restore && !events.iter().any(|it| matches!(it, What::FirstBoot { .. })) {
        return Some("the host's first start was not reported".into());
    }
    let failed: Vec<_> = checks(events).into_iter().filter(|it| !it.passed).collect();
    let told = |it: &CheckResult| format!("{} ({}): {}", it.name, it.layer, it.output);
    (!failed.is_empty()).then(|| {
        let texts: Vec<_> = failed.iter().map(told).collect();
        format!("check failed: {}", texts.join("; "))
    })
}

/// The checks of the last rescue system, and of the recovery in it.
fn checks(events: &[What]) -> Vec<CheckResult> {
    let mut all = Vec::new();
    for event in events {
        match event {
            What::RescueReady { checks, .. } => all.clone_from(checks),
            What::Recovered { checks, .. } => all.extend(checks.iter().cloned()),
            _ => {}
        }
    }
    all
}

fn report(drill: &Drill<'_>, ended: Ended, started: Timestamp, took: Duration) -> Report {
    let layer = |it: &What| match it {
        What::LayerPlaced { target, .. } => Some(target.clone()),
        _ => None,
    };
    let memory = |it: &What| match it {
        What::RescueReady {
            memory_used_kib, ..
        } => Some(*memory_used_kib),
        _ => None,
    };
    let checks = checks(&ended.events);
    let well = match drill.restore {
        true => "the host was restored, and started from its disk".to_owned(),
        false => format!(
            "the rescue system is ready, and its {} checks passed",
            checks.len()
        ),
    };
    Report {
        format: DRILL_FORMAT,
        host: drill.host.to_owned(),
        session: drill.session.clone(),
        restore: drill.restore,
        started: Timestamp::from_second(started.as_second()).unwrap_or(started),
        seconds: took.as_secs(),
        passed: ended.wrong.is_none(),
        what: ended.wrong.unwrap_or(well),
        machine: drill.plan.in_report(),
        layers: ended.events.iter().filter_map(layer).collect(),
        memory_used_kib: ended.events.iter().rev().find_map(memory),
        checks,
        console: String::new(),
    }
}

/// One file of all consoles.
fn joined(scratch: &Path, consoles: &[PathBuf]) -> io::Result<PathBuf> {
    let path = scratch.join("consoles.log");
    let mut all = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    for console in consoles {
        io::copy(&mut File::open(console)?, &mut all)?;
    }
    Ok(path)
}

fn print(report: &Report, file: &Path, console: &Path) {
    let show = |name: &str, value: &str| println!("{name:<12} {}", one_line(value));
    show("host", &report.host);
    show("session", &report.session.target);
    show("time", &report.session.time.to_string());
    let machine = &report.machine;
    let disks: Vec<_> = machine.disks.iter().map(ToString::to_string).collect();
    let (mib, firmware) = (machine.memory_mib, &machine.firmware);
    let disks = disks.join(", ");
    show(
        "machine",
        &format!("{firmware}, {mib} MiB, disks of {disks} bytes"),
    );
    if let Some(kib) = report.memory_used_kib {
        show(
            "memory",
            &format!("{} MiB in use in the rescue system", kib >> 10),
        );
    }
    for check in &report.checks {
        let mark = if check.passed { "ok" } else { "FAILED" };
        let CheckResult {
            layer,
            name,
            output,
            ..
        } = check;
        show(mark, &format!("{layer} {name}: {output}"));
    }
    show("report", &file.display().to_string());
    show("console", &console.display().to_string());
    let word = if report.passed { "PASSED" } else { "FAILED" };
    let (seconds, what) = (report.seconds, &report.what);
    println!("{word} in {seconds} s: {}", one_line(what));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(passed: bool) -> What {
        What::RescueReady {
            checks: vec![CheckResult {
                layer: "agent/restic/1/amd64".into(),
                name: "restic runs".into(),
                passed,
                output: "no such program".into(),
            }],
            memory_used_kib: 1,
        }
    }

    fn first_boot() -> What {
        What::FirstBoot {
            hostname: "web1".into(),
            kernel_release: "6.1".into(),
            key: None,
        }
    }

    #[test]
    fn a_drill_that_did_not_report_all_that_it_should_has_failed() {
        assert_eq!(verdict(&[ready(true)], false), None);
        assert_eq!(verdict(&[ready(true), first_boot()], true), None);
        for (events, restore, word) in [
            (vec![], false, "did not reach the server"),
            (vec![ready(true)], true, "first start"),
            (
                vec![ready(false)],
                false,
                "restic runs (agent/restic/1/amd64): no such program",
            ),
        ] {
            let why = verdict(&events, restore).unwrap();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_check_of_the_recovered_host_that_failed_fails_the_drill() {
        let recovered = What::Recovered {
            seconds: 1,
            checks: vec![CheckResult {
                layer: "recovery".into(),
                name: "the boot loader is installed".into(),
                passed: false,
                output: "no boot code".into(),
            }],
        };
        let why = verdict(&[ready(true), recovered, first_boot()], true).unwrap();
        assert!(why.contains("no boot code"), "{why}");
    }
}
