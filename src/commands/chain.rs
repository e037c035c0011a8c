//! `towline chain check`: what a host would boot now, and what would keep it from being recovered.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use towline_contract::Timestamp;
use towline_contract::manifest::Placement;
use towline_server::collisions::Hidden;
use towline_server::doctor::chain::{Chain, LayerRow};
use towline_server::doctor::{Finding, look};

use super::choice::ChoiceArgs;
use super::doctor::line;
use super::site::{SiteArgs, catalogue_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

/// Most hidden files that are named.
const HIDDEN_SHOWN: usize = 6;

/// What a host would boot
#[derive(Args)]
pub(crate) struct ChainArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show what a host would boot now: session, layers, agent, drivers,
    /// memory, conflicts. Exit status 1 when it would not be recovered
    Check {
        /// Name of the host
        host: String,
        #[command(flatten)]
        choice: ChoiceArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub(crate) fn run(args: &ChainArgs) -> Outcome {
    let What::Check { host, choice, json } = &args.what;
    let (site, now) = (args.site.open()?, Timestamp::now());
    let chain = look::chain(&site, host, &choice.choice(), now).map_err(catalogue_failure)?;
    match json {
        true => {
            let text = serde_json::to_string_pretty(&chain).map_err(anyhow::Error::from)?;
            println!("{text}");
        }
        false => print(&chain),
    }
    match chain.is_whole() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::No,
            anyhow!("host {host} would not be recovered as it should"),
        )),
    }
}

fn print(chain: &Chain) {
    let show = |name: &str, value: &str| println!("{name:<12} {}", one_line(value));
    show("host", &chain.host);
    if let Some(row) = &chain.session {
        show("session", &row.target);
        if let Some(session) = &row.captured {
            show("time", &session.time.to_string());
            show("layout of", &session.captured.to_string());
            let backup = &session.backup;
            show(
                "backup",
                &format!("{} session {}", backup.agent, backup.session),
            );
        }
    }
    if let Some(agent) = &chain.agent {
        let current = match agent.current.join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" ({names})"),
        };
        show(
            "agent",
            &format!("{} then, {} now{current}", agent.then, agent.now),
        );
    }
    for layer in &chain.layers {
        show("layer", &in_words(layer));
    }
    if !chain.layers.is_empty() {
        let memory = &chain.memory;
        let mib = |kib: u64| kib >> 10;
        let host = memory
            .host_kib
            .map_or("did not say".into(), |kib| format!("has {}", mib(kib)));
        show(
            "memory",
            &format!(
                "about {} MiB in place, {} by kexec; the host {host}",
                mib(memory.in_place_kib),
                mib(memory.kexec_kib)
            ),
        );
        let (needed, missing) = (&chain.drivers.needed, chain.drivers.missing.len());
        let there = needed.len() - missing;
        show(
            "drivers",
            &format!("{there} of {}: {}", needed.len(), needed.join(", ")),
        );
    }
    if !chain.hidden.is_empty() {
        show("hidden", &hidden_in_words(&chain.hidden));
    }
    print_findings(&chain.host, &chain.findings);
}

/// How many files later layers take the place of, and the first of them.
fn hidden_in_words(hidden: &[Hidden]) -> String {
    let kind = |target: &str| target.split('/').next().unwrap_or_default().to_owned();
    let told = |it: &Hidden| {
        format!(
            "{} ({} over {})",
            it.path,
            kind(&it.layer),
            kind(&it.earlier)
        )
    };
    let first: Vec<_> = hidden.iter().take(HIDDEN_SHOWN).map(told).collect();
    let more = match hidden.len().saturating_sub(HIDDEN_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more (--json lists them)"),
    };
    format!("{}{more}", first.join(", "))
}

fn print_findings(host: &str, findings: &[Finding]) {
    for finding in findings {
        println!("{}", line(host, finding));
    }
}

fn in_words(layer: &LayerRow) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let day = layer.created.strftime("%Y-%m-%d");
    let place = match layer.placement {
        Placement::Ram => format!("{:.1} in memory", mib(layer.memory_bytes)),
        Placement::Target => "onto the recreated disk".into(),
    };
    format!(
        "{}  {:.1} MiB, {place}, of {day}, {} days ago",
        layer.target,
        mib(layer.stored_bytes),
        layer.age_days
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_says_what_it_takes_in_memory_or_that_it_goes_onto_the_disk() {
        let mut layer = LayerRow {
            target: "agent/large/1/amd64".into(),
            created: Timestamp::UNIX_EPOCH,
            age_days: 3,
            stored_bytes: 5 << 20,
            memory_bytes: 7 << 20,
            placement: Placement::Ram,
        };
        let words = in_words(&layer);
        assert!(words.contains("5.0 MiB, 7.0 in memory, of"), "{words}");
        (layer.memory_bytes, layer.placement) = (0, Placement::Target);
        let words = in_words(&layer);
        assert!(
            words.contains("5.0 MiB, onto the recreated disk, of"),
            "{words}"
        );
    }
}
