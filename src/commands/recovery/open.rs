//! `towline recovery open`: says exactly what will be recovered, and prints the code.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::api::{Machine, PlanRequest};
use towline_contract::recovery::{Code, Then};
use towline_server::catalogue::{self, Published};
use towline_server::compose::{self, Refusal};
use towline_server::credentials::dates::{self, GoodUntil};
use towline_server::credentials::{self, CredentialsError, client_ca};
use towline_server::doctor::{Finding, look};
use towline_server::recoveries::open::{Wanted, chosen};
use towline_server::recoveries::{Chosen, Options, Recovery};
use towline_server::sessions::{self, Rules};
use towline_server::site::{Site, offset};

use super::{Row, failure, one_line, print_json};
use crate::commands::choice::ChoiceArgs;
use crate::commands::doctor::line;
use crate::commands::site::catalogue_failure;
use crate::exit::{Exit, Failure, Outcome};

/// Open a recovery: say what will be recovered, and print the code for it
#[derive(Args)]
pub(super) struct OpenArgs {
    /// The host
    host: String,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Hours that the code is good
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=720))]
    hours: u16,
    /// Nobody will be at the machine: refuse what would be asked
    #[arg(long)]
    unattended: bool,
    /// Overwrite disks that hold something else without asking
    #[arg(long)]
    overwrite: bool,
    /// What the machine does when the host is recovered
    #[arg(long, value_enum, default_value_t = AfterArg::Reboot)]
    then: AfterArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AfterArg {
    /// Start from its disk
    Reboot,
    /// Switch off
    PowerOff,
    /// Keep the rescue system
    Stay,
}

impl From<AfterArg> for Then {
    fn from(after: AfterArg) -> Self {
        match after {
            AfterArg::Reboot => Self::Reboot,
            AfterArg::PowerOff => Self::PowerOff,
            AfterArg::Stay => Self::Stay,
        }
    }
}

/// All that is said of a recovery when it is opened.
#[derive(Serialize)]
struct Opened<'a> {
    #[serde(flatten)]
    recovery: Row<'a>,
    code: String,
    layers: Vec<LayerRow>,
    session_age_seconds: i64,
    capture_lag_seconds: i64,
    certificates: Vec<GoodUntil>,
    client_certificate_hours: u16,
    credentials: Vec<String>,
    /// What the chain check found.
    findings: Vec<Finding>,
}

/// A layer that will be used.
#[derive(Serialize)]
struct LayerRow {
    target: String,
    /// When the newest of its files was made.
    created: Timestamp,
    age_days: i64,
}

/// Opens the recovery.
pub(super) fn run(site: &Site, args: &OpenArgs, quiet: bool) -> Outcome {
    let now = Timestamp::now();
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    let mut layers = catalogue::layers(&site.store, &view).map_err(catalogue_failure)?;
    let own = catalogue::host_layers(&site.store, &view, &args.host);
    layers.extend(own.map_err(catalogue_failure)?);
    let session = session(site, &layers, args)?;
    let chain = chain(site, &layers, session)?;
    let chosen = chosen(session).ok_or_else(|| anyhow!("{} has no session", session.target))?;
    let options = Options {
        unattended: args.unattended,
        overwrite: args.overwrite,
        then: args.then.into(),
    };
    let life = Duration::from_secs(3600 * u64::from(args.hours));
    // All that may fail comes before: of a recovery that is open the code must be said.
    let findings = look::chain(site, &args.host, &args.choice.choice(), now);
    let findings = findings.map_err(catalogue_failure)?.findings;
    let (recovery, code, files) = open(site, &args.host, chosen, options, life, now)?;
    let certificates = dates::of(site);
    if !quiet {
        warn(&certificates, now);
        // The machine may be another one, with more memory and other devices: so the code is given all the same.
        for finding in &findings {
            eprintln!("towline: {}", line(&args.host, finding));
        }
    }
    let mut opened = opened(site, &recovery, &code, chain, certificates, files, now);
    opened.findings = findings;
    match args.json {
        true => print_json(&opened),
        false => {
            print(&opened, now);
            Ok(())
        }
    }
}

/// Opens a recovery, once it is seen that its machine could be given what it needs. Gives the names of the operator's files.
pub(crate) fn open(
    site: &Site,
    host: &str,
    session: Chosen,
    options: Options,
    life: Duration,
    now: Timestamp,
) -> Result<(Recovery, Code, Vec<String>), Failure> {
    let files = credentials::check(site, host).map_err(credentials_failure)?;
    let authority = client_ca::create(&site.authority(), offset(now));
    authority.map_err(|error| credentials_failure(error.into()))?;
    let wanted = Wanted {
        session,
        host: host.to_owned(),
        life,
        options,
        by: operator(),
    };
    let (recovery, code) = site.recoveries().open(wanted, now).map_err(failure)?;
    Ok((recovery, code, files))
}

fn session<'a>(
    site: &Site,
    layers: &'a [Published],
    args: &OpenArgs,
) -> Result<&'a Published, Failure> {
    let rules = Rules {
        capture_lag_hours: site.config.sessions.capture_lag_hours,
        architecture: None,
    };
    sessions::choose(&args.host, layers, &args.choice.choice(), &rules).map_err(refused)
}

/// What a machine like the host would be given now.
fn chain(site: &Site, layers: &[Published], session: &Published) -> Result<Vec<LayerRow>, Failure> {
    let chosen = chosen(session).ok_or_else(|| anyhow!("{} has no session", session.target))?;
    let hardware = session.manifest.session.as_ref().map(|it| &it.hardware);
    let request = PlanRequest {
        nonce: [0; 32].into(),
        architecture: hardware.map_or_else(String::new, |it| it.architecture.clone()),
        kernel_release: String::new(),
        host: None,
        hand_over: None,
        machine: Machine::default(),
    };
    let chain = compose::recovery_chain(&request, layers, &site.config, &chosen);
    let row = |layer: &Published| LayerRow {
        target: layer.target.to_string(),
        created: layer.manifest.created,
        age_days: Timestamp::now()
            .duration_since(layer.manifest.created)
            .as_hours()
            / 24,
    };
    Ok(chain.map_err(refused)?.into_iter().map(row).collect())
}

fn opened<'a>(
    site: &Site,
    recovery: &'a Recovery,
    code: &Code,
    layers: Vec<LayerRow>,
    certificates: Vec<GoodUntil>,
    credentials: Vec<String>,
    now: Timestamp,
) -> Opened<'a> {
    let session = &recovery.session;
    Opened {
        session_age_seconds: now.duration_since(session.time).as_secs(),
        capture_lag_seconds: session.captured.duration_since(session.time).as_secs(),
        recovery: Row::of(recovery),
        code: code.to_string(),
        layers,
        certificates,
        client_certificate_hours: site.config.credentials.client_certificate_hours,
        credentials,
        findings: Vec::new(),
    }
}

/// Says of certificates that are of no use.
fn warn(certificates: &[GoodUntil], now: Timestamp) {
    for row in certificates {
        let file = row.file.display();
        match row.until {
            Some(until) if until > now => {}
            Some(until) => eprintln!("towline: the {} ({file}) expired at {until}", row.what),
            None => eprintln!("towline: {file} has no certificates that can be read"),
        }
    }
}

fn print(opened: &Opened<'_>, now: Timestamp) {
    let (it, session) = (&opened.recovery, &opened.recovery.session);
    let line = |name: &str, value: &str| println!("  {name:<13} {}", one_line(value));
    println!("recovery {} of {}", it.id, it.host);
    line(
        "session",
        &format!("{} ({})", session.target, session.digest.short()),
    );
    line(
        "as of",
        &format!(
            "{}, {} ago",
            session.time,
            in_words(opened.session_age_seconds)
        ),
    );
    line(
        "layout",
        &format!(
            "captured {}, {} after the session",
            session.captured,
            in_words(opened.capture_lag_seconds)
        ),
    );
    line(
        "agent session",
        &format!("{} {}", session.agent, session.agent_session),
    );
    for layer in &opened.layers {
        if layer.target != session.target {
            let age = format!("of {}, {} days ago", layer.created, layer.age_days);
            line("layer", &format!("{} {age}", layer.target));
        }
    }
    for row in &opened.certificates {
        let until = row.until.map_or("unknown".into(), |it| it.to_string());
        line("certificate", &format!("{}: until {until}", row.what));
    }
    let hours = opened.client_certificate_hours;
    line(
        "certificate",
        &format!("of the machine: made when the code is used, for {hours} h"),
    );
    line(
        "credentials",
        &match opened.credentials.as_slice() {
            [] => "no files of yours".into(),
            names => names.join(" "),
        },
    );
    line("options", &options(it.options));
    println!("code {}", opened.code);
    let left = in_words(it.deadline.duration_since(now).as_secs());
    println!("good until {} ({left}), on one machine", it.deadline);
}

fn options(options: Options) -> String {
    let who = match options.unattended {
        true => "unattended",
        false => "asks at the console",
    };
    let disks = match options.overwrite {
        true => "overwrites what is on the disks",
        false => "keeps disks that hold something else",
    };
    let then = match options.then {
        Then::Reboot => "then starts the host",
        Then::PowerOff => "then switches off",
        Then::Stay => "then stays",
    };
    format!("{who}, {disks}, {then}")
}

/// A number of seconds as people say it.
fn in_words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Who opens it, as the system calls them.
fn operator() -> String {
    let named = ["SUDO_USER", "USER"].into_iter().find_map(|name| {
        let name = std::env::var(name).ok()?;
        (!name.is_empty() && name.len() <= 64).then_some(name)
    });
    named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}

/// A refusal with its next step.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    let failure = Failure::new(Exit::No, anyhow!(refusal.message));
    match refusal.next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

fn credentials_failure(error: CredentialsError) -> Failure {
    let folder = Path::new("credentials");
    match error {
        CredentialsError::Readable { .. }
        | CredentialsError::Unusable { .. }
        | CredentialsError::Variable { .. } => Failure::new(Exit::Usage, error).next(format!(
            "put it right in {}/; no recovery was opened",
            folder.display()
        )),
        _ => Failure::new(Exit::Internal, error),
    }
}
