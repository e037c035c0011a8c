//! `towline doctor`: is every protected host recoverable now? One line a finding, and an exit status for monitoring.

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::Timestamp;
use towline_server::doctor::look::{self, Report};
use towline_server::doctor::{Finding, Level};

use super::site::{SiteArgs, host_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

/// Say for every host whether it could be recovered now: exit status 0 when
/// all could, 1 when there is a problem; warnings alone change nothing
#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// These hosts only
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks at all, problems first.
pub(crate) fn run(args: &DoctorArgs) -> Outcome {
    let site = args.site.open()?;
    let report = look::all(&site, &args.hosts, Timestamp::now()).map_err(host_failure)?;
    let (well, all) = (
        report.hosts.iter().filter(|it| it.recoverable).count(),
        report.hosts.len(),
    );
    if args.json {
        let document = json!({
            "well": report.is_well(), "site": report.site, "hosts": report.hosts,
        });
        let text = serde_json::to_string_pretty(&document).map_err(anyhow::Error::from)?;
        println!("{text}");
    } else {
        print(&report);
    }
    if report.is_well() {
        if !args.json {
            println!("OK {well} of {all} hosts could be recovered now");
        }
        return Ok(());
    }
    let site = match report.site.iter().any(|it| it.level == Level::Problem) {
        true => ", and the site has problems",
        false => "",
    };
    let what = anyhow!("{well} of {all} hosts could be recovered now as they should{site}");
    Err(Failure::new(Exit::No, what))
}

fn print(report: &Report) {
    let site = report.site.iter().map(|it| ("site", it));
    let hosts = report.hosts.iter();
    let hosts = hosts.flat_map(|host| host.findings.iter().map(|it| (host.host.as_str(), it)));
    let mut rows: Vec<_> = site.chain(hosts).collect();
    rows.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.level));
    for (whose, finding) in rows {
        println!("{}", line(whose, finding));
    }
}

/// A finding as one line: `PROBLEM host: what — next`.
pub(crate) fn line(whose: &str, finding: &Finding) -> String {
    let level = match finding.level {
        Level::Problem => "PROBLEM",
        Level::Warning => "WARNING",
    };
    let (what, next) = (&finding.what, &finding.next);
    let next = match next.as_str() {
        "" => String::new(),
        next => format!(" — {next}"),
    };
    one_line(&format!("{level} {whose}: {what}{next}"))
}
