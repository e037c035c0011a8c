//! `towline host list | show`: who is protected, and who asks to be.

use clap::Args;
use serde_json::{Value, json};
use towline_contract::api::EnrolmentState;
use towline_server::hosts::{self, Known};
use towline_server::sessions;

use crate::commands::site::{SiteArgs, host_failure};
use crate::exit::Outcome;
use crate::one_line;

/// Show the hosts that are protected, and those that wait to be approved
#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show one host: its fingerprint, its machine, its newest session
#[derive(Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Name of the host
    host: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows all.
pub(crate) fn list(args: &ListArgs) -> Outcome {
    let site = args.site.open()?;
    let all = hosts::list(&site).map_err(host_failure)?;
    if args.json {
        let rows: Vec<_> = all.iter().map(row).collect();
        let text = serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    if all.is_empty() {
        eprintln!("towline: no host is known yet; on a host: towline host enrol URL --ca ca.pem");
        return Ok(());
    }
    println!(
        "{:<24} {:<9} {:<20} {:>8}  newest session",
        "host", "state", "fingerprint", "sessions"
    );
    for known in &all {
        let newest = sessions::newest(known.sessions.iter());
        let newest = newest.map_or("-", |it| &it.target.version);
        println!(
            "{:<24} {:<9} {:<20} {:>8}  {newest}",
            known.host,
            state(known),
            known.key.fingerprint(),
            known.sessions.len()
        );
    }
    Ok(())
}

/// Shows one.
pub(crate) fn show(args: &ShowArgs) -> Outcome {
    let site = args.site.open()?;
    let known = hosts::show(&site, &args.host).map_err(host_failure)?;
    if args.json {
        let text = serde_json::to_string_pretty(&row(&known)).map_err(anyhow::Error::from)?;
        println!("{text}");
    } else {
        for line in lines(&known) {
            println!("{line}");
        }
        println!("fingerprint  {}", known.key.fingerprint());
    }
    Ok(())
}

/// What is known of a host, a line each; what it said of itself is escaped.
pub(super) fn lines(known: &Known) -> Vec<String> {
    let mut lines = vec![format!("host         {}", known.host)];
    lines.push(format!("state        {}", state(known)));
    if let Some(time) = known.revoked {
        lines.push(format!("revoked      the key of before, at {time}"));
    }
    if let Some(record) = &known.record {
        let machine = &record.enrolment.machine;
        let model = machine.model.as_deref().unwrap_or("unknown");
        let firmware = if machine.uefi { "UEFI" } else { "BIOS" };
        let hostname = &record.enrolment.hostname;
        lines.push(format!("hostname     {}", one_line(hostname)));
        let (model, mib) = (one_line(model), machine.memory_kib / 1024);
        lines.push(format!("machine      {model}, {mib} MiB, {firmware}"));
        for (name, value) in [("serial", &machine.serial), ("uuid", &machine.uuid)] {
            let value = value.iter().map(|it| one_line(it));
            lines.extend(value.map(|it| format!("{name:<12} {it}")));
        }
        let macs = one_line(&machine.macs.join(", "));
        lines.push(format!("addresses    {macs}"));
        lines.push(format!(
            "enrolled     {} from {}",
            record.requested, record.peer
        ));
    }
    lines.push(format!("sessions     {}", known.sessions.len()));
    if let Some(newest) = sessions::newest(known.sessions.iter()) {
        let time = newest.manifest.session.as_ref().map(|it| it.time);
        let time = time.map_or("unknown".to_owned(), |it| it.to_string());
        lines.push(format!("newest       {} of {time}", newest.target.version));
    }
    lines
}

fn state(known: &Known) -> &'static str {
    if known.revoked.is_some() && known.record.is_none() {
        return "revoked";
    }
    match known.state {
        EnrolmentState::Waiting => "waiting",
        EnrolmentState::Approved => "approved",
    }
}

fn row(known: &Known) -> Value {
    let enrolment = known.record.as_ref().map(|it| &it.enrolment);
    let newest = sessions::newest(known.sessions.iter());
    json!({
        "host": known.host,
        "state": state(known),
        "revoked": known.revoked,
        "fingerprint": known.key.fingerprint(),
        "key": known.key,
        "hostname": enrolment.map(|it| &it.hostname),
        "machine": enrolment.map(|it| &it.machine),
        "requested": known.record.as_ref().map(|it| it.requested),
        "peer": known.record.as_ref().map(|it| it.peer),
        "sessions": known.sessions.len(),
        "newest": newest.map(|it| json!({
            "version": it.target.version,
            "time": it.manifest.session.as_ref().map(|it| it.time),
        })),
    })
}
