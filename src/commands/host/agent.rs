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
