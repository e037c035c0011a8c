//! `towline recovery open | list | show | watch | close`: one authorised rebuild of a host, from its code to its report.

mod open;
mod show;
mod watch;

use clap::{Args, Subcommand};
use serde::Serialize;
use towline_contract::Timestamp;
use towline_server::recoveries::record::UsedBy;
use towline_server::recoveries::{Chosen, Options, RecoveriesError, Recovery, State};

use super::site::SiteArgs;
use crate::exit::{Exit, Failure, Outcome};
pub(crate) use open::{open as open_recovery, refused};

/// Recover a host: open a recovery and print its code, follow it, close it
#[derive(Args)]
pub(crate) struct RecoveryArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Open(open::OpenArgs),
    /// List the recoveries that are not over
    List {
        /// Those that are over too
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a recovery and its report: steps, times, bytes, versions, checks
    Show {
        /// Its identifier, or a host for its newest one
        #[arg(value_name = "ID|HOST")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Watch(watch::WatchArgs),
    /// Close a recovery: its code and its machine's reports are void
    Close {
        /// Its identifier, or a host for its newest one
        #[arg(value_name = "ID|HOST")]
        name: String,
        /// Why, for its report
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
}

/// Runs the subcommand; `quiet` leaves out what is said along the way.
pub(crate) fn run(args: &RecoveryArgs, quiet: bool) -> Outcome {
    let site = args.site.open()?;
    match &args.what {
        What::Open(args) => open::run(&site, args, quiet),
        What::List { all, json } => show::list(&site, *all, *json),
        What::Show { name, json } => show::show(&site, name, *json),
        What::Watch(args) => watch::run(&site, args),
        What::Close { name, why } => show::close(&site, name, why.as_deref()),
    }
}

/// A recovery as it is shown: without the digests of its secrets.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    host: &'a str,
    state: &'a State,
    session: &'a Chosen,
    opened: Timestamp,
    opened_by: &'a str,
    deadline: Timestamp,
    options: Options,
    machine: Option<&'a UsedBy>,
    wrong_codes: u32,
    locked: bool,
    changed: Timestamp,
}

impl<'a> Row<'a> {
    fn of(recovery: &'a Recovery) -> Self {
        Self {
            id: &recovery.id,
            host: &recovery.host,
            state: &recovery.state,
            session: &recovery.session,
            opened: recovery.opened,
            opened_by: &recovery.opened_by,
            deadline: recovery.deadline,
            options: recovery.options,
            machine: recovery.machine.as_ref(),
            wrong_codes: recovery.wrong_codes,
            locked: recovery.is_locked(),
            changed: recovery.changed,
        }
    }
}

/// Where a recovery stands, on one line.
fn in_words(recovery: &Recovery) -> String {
    let mib = |bytes: &u64| bytes >> 20;
    let state = match &recovery.state {
        State::Opened => "waits for its code".into(),
        State::Started => "code used".into(),
        State::Layers { placed, bytes } => format!("{placed} layers, {} MiB", mib(bytes)),
        State::Rescue => "rescue system ready".into(),
        State::Recovering => "recovering".into(),
        State::Recreated => "disks recreated".into(),
        State::Restoring {
            bytes,
            total: Some(total),
        } => format!("restoring, {} of {} MiB", mib(bytes), mib(total)),
        State::Restoring { bytes, total: None } => format!("restoring, {} MiB", mib(bytes)),
        State::Restored { bytes } => format!("restored {} MiB", mib(bytes)),
        State::Recovered { seconds } => {
            format!("recovered in {seconds} s; waits for the first start")
        }
        State::Failed { message } => format!("failed: {message}"),
        State::Closed {
            recovered: true,
            why,
        } => format!("recovered: {why}"),
        State::Closed { why, .. } => format!("closed: {why}"),
        State::Expired => "nobody used its code".into(),
    };
    let locked = recovery.is_locked() && !recovery.is_over();
    let lock = if locked {
        "; locked by wrong codes"
    } else {
        ""
    };
    one_line(&(state + lock))
}

/// Foreign text on one line, without what a terminal would obey.
fn one_line(text: &str) -> String {
    crate::printable(&text.trim_end().replace('\n', " | "))
}

/// Prints a document.
fn print_json(document: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(document).map_err(anyhow::Error::from)?;
    println!("{text}");
    Ok(())
}

/// An error of the recoveries' files, with its exit code and next step.
pub(crate) fn failure(error: RecoveriesError) -> Failure {
    match error {
        RecoveriesError::Unknown(_) => {
            Failure::new(Exit::No, error).next("towline recovery list --all shows them")
        }
        RecoveriesError::Record { .. } => Failure::new(Exit::Internal, error)
            .next("use the version of Towline that wrote it, or move the file away"),
        _ => Failure::new(Exit::Internal, error),
    }
}
