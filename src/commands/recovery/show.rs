//! `towline recovery list | show | close`.

use anyhow::anyhow;
use serde::Serialize;
use towline_contract::Timestamp;
use towline_server::Site;
use towline_server::recoveries::Recovery;
use towline_server::recoveries::report::Report;

use super::{Row, failure, in_words, one_line, print_json};
use crate::exit::{Exit, Failure, Outcome};

/// A recovery with its report.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    recovery: Row<'a>,
    report: Report,
}

/// Lists the recoveries, the newest last.
pub(super) fn list(site: &Site, all: bool, json: bool) -> Outcome {
    let mut rows = site.recoveries().all(Timestamp::now()).map_err(failure)?;
    rows.retain(|it| all || !it.is_over());
    if json {
        return print_json(&rows.iter().map(Row::of).collect::<Vec<_>>());
    }
    if rows.is_empty() {
        eprintln!("towline: no recovery is open");
        return Ok(());
    }
    println!(
        "{:<18} {:<16} {:<20} {:<20} state",
        "recovery", "host", "session", "code good until"
    );
    for it in &rows {
        let minute = |time: Timestamp| time.strftime("%Y-%m-%d %H:%MZ").to_string();
        println!(
            "{:<18} {:<16} {:<20} {:<20} {}",
            it.id,
            it.host,
            minute(it.session.time),
            minute(it.deadline),
            in_words(it)
        );
    }
    Ok(())
}

/// Shows one recovery with its report.
pub(super) fn show(site: &Site, name: &str, json: bool) -> Outcome {
    let recoveries = site.recoveries();
    let recovery = recoveries.find(name, Timestamp::now()).map_err(failure)?;
    let report = Report::of(&recoveries.journal(&recovery.id).map_err(failure)?);
    if json {
        let recovery = Row::of(&recovery);
        return print_json(&Whole { recovery, report });
    }
    print(&recovery, &report);
    Ok(())
}

fn print(it: &Recovery, report: &Report) {
    let line = |name: &str, value: &str| println!("  {name:<13} {}", one_line(value));
    println!("recovery {} of {}: {}", it.id, it.host, in_words(it));
    line(
        "session",
        &format!("{} as of {}", it.session.target, it.session.time),
    );
    line(
        "agent session",
        &format!("{} {}", it.session.agent, it.session.agent_session),
    );
    line("opened", &format!("{} by {}", it.opened, it.opened_by));
    line(
        "code",
        &format!("good until {}; {} wrong ones", it.deadline, it.wrong_codes),
    );
    if let Some(used) = &it.machine {
        let model = used.machine.model.as_deref().unwrap_or("a machine");
        let macs = used.machine.macs.join(" ");
        line(
            "machine",
            &format!("{model} at {}, {macs}, {} times", used.address, used.times),
        );
    }
    for layer in &report.layers {
        line("layer", layer);
    }
    for (name, value, unit) in [
        (
            "fetched",
            Some(report.layer_bytes).filter(|it| *it > 0),
            "bytes",
        ),
        ("restored", report.restored_bytes, "bytes"),
        ("restore took", report.restore_seconds, "s"),
        ("recovery took", report.recovery_seconds, "s"),
    ] {
        if let Some(value) = value {
            line(name, &format!("{value} {unit}"));
        }
    }
    if let Some(seconds) = report.total_seconds {
        line(
            "all of it took",
            &format!("{seconds} s, from the code to the host's first start"),
        );
    }
    println!("steps");
    for step in &report.steps {
        let time = step.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        println!("  {time} {}", one_line(&step.what));
    }
    if !report.checks.is_empty() {
        println!("checks");
    }
    for check in &report.checks {
        let passed = if check.passed { "passed" } else { "FAILED" };
        let text = format!(
            "{passed} {} ({}): {}",
            check.name, check.layer, check.output
        );
        println!("  {}", one_line(&text));
    }
}

/// Closes a recovery.
pub(super) fn close(site: &Site, name: &str, why: Option<&str>) -> Outcome {
    let (recoveries, now) = (site.recoveries(), Timestamp::now());
    let recovery = recoveries.find(name, now).map_err(failure)?;
    if recovery.is_over() {
        let what = anyhow!("recovery {} is over: {}", recovery.id, in_words(&recovery));
        return Err(Failure::new(Exit::No, what).next("towline recovery list shows open ones"));
    }
    let why = why.unwrap_or("by its operator");
    let closed = recoveries.close(&recovery.id, why, now).map_err(failure)?;
    println!(
        "recovery {} of {}: {}",
        closed.id,
        closed.host,
        in_words(&closed)
    );
    Ok(())
}
