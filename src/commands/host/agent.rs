//! `towline host agent`: which agent hosts would get now, and how old it is.

use clap::Args;
use towline_contract::Timestamp;
use towline_server::doctor::look::{self, HostAgent};

use crate::commands::site::{SiteArgs, host_failure};
use crate::exit::Outcome;
use crate::one_line;

/// Show which agent hosts would get now, how old it is, and when it was last
/// seen to be what upstream has
#[derive(Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// These hosts only
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print metrics, in the text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    metrics: bool,
}

/// Shows a line for each host.
pub(crate) fn run(args: &AgentArgs) -> Outcome {
    let site = args.site.open()?;
    let rows = look::agents(&site, &args.hosts, Timestamp::now()).map_err(host_failure)?;
    if args.json {
        let text = serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    if args.metrics {
        print!("{}", metrics(&rows));
        return Ok(());
    }
    if rows.is_empty() {
        eprintln!("towline: no host is known yet; on a host: towline host enrol URL --ca ca.pem");
        return Ok(());
    }
    println!(
        "{:<24} {:<36} {:>8}  {:<17} packages that must be current",
        "host", "agent", "days old", "seen current"
    );
    for row in &rows {
        println!("{}", line(row));
    }
    Ok(())
}

/// For a collector of text files, and not at `GET /metrics`: whoever reaches the server need not know its hosts.
fn metrics(rows: &[HostAgent]) -> String {
    const AGE: &str = "towline_host_agent_age_days";
    const CURRENT: &str = "towline_host_agent_current_timestamp_seconds";
    const INFO: &str = "towline_host_agent_info";
    let head = |name: &str, help: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    let help = "Age of the newest file in the agent layer that the host would get, in whole days.";
    let mut ages = head(AGE, help);
    let help = "When that layer was last seen to be what upstream has, in seconds since 1970.";
    let mut currents = head(CURRENT, help);
    let help = "The agent layer that the host would get: 1, and 0 for a host that would get none.";
    let mut infos = head(INFO, help);
    for row in rows {
        // Names of hosts and targets have no character that would need escaping.
        let host = format!("host=\"{}\"", row.host);
        let target = row.agent.as_ref().map_or("", |it| it.target.as_str());
        let count = u8::from(row.agent.is_some());
        infos += &format!("{INFO}{{{host},target=\"{target}\"}} {count}\n");
        if let Some(agent) = &row.agent {
            ages += &format!("{AGE}{{{host}}} {}\n", agent.age_days);
        }
        if let Some(seen) = row.seen_current {
            currents += &format!("{CURRENT}{{{host}}} {}\n", seen.as_second());
        }
    }
    ages + &currents + &infos
}

fn line(row: &HostAgent) -> String {
    let Some(agent) = &row.agent else {
        let why = row.why.as_deref().unwrap_or("it would not be recovered");
        return one_line(&format!("{:<24} none: {why}", row.host));
    };
    let seen = row.seen_current;
    let seen = seen.map(|it| it.strftime("%Y-%m-%d %H:%MZ").to_string());
    one_line(&format!(
        "{:<24} {:<36} {:>8}  {:<17} {}",
        row.host,
        agent.target,
        agent.age_days,
        seen.as_deref().unwrap_or("nobody looks"),
        agent.current.join(", ")
    ))
}
