//! `towline drill`: recovers a host on trial, in QEMU, against empty disks of the sizes that it had.
//!
//! The medium, the plan, the layers and the server are the real ones. The server is one of the drill's own on a loopback
//! port, beside the site's, so that nothing of the outside is needed until an agent restores. Without `--restore` no secret
//! is used and nothing is written but the report; with it a real recovery is opened, and closed at the end in any case.

mod console;
mod machine;
mod medium;
mod pipe;
mod report;
mod server;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use towline_contract::Timestamp;
use towline_contract::manifest::Placement;
use towline_server::catalogue::{self, Published};
use towline_server::config::Trial;
use towline_server::doctor::look;
use towline_server::drills::Drills;
use towline_server::recoveries::open::chosen;
use towline_server::recoveries::{Chosen, Options};
use towline_server::sessions::{self, Rules};
use towline_server::site::Site;

use super::choice::ChoiceArgs;
use super::recovery::{failure, open_recovery, refused};
use super::site::{SiteArgs, catalogue_failure};
use crate::exit::{Exit, Failure, Outcome};
use machine::{Firmware, Plan};
pub(crate) use pipe::{PipeArgs, run as run_pipe};
use server::Server;
use watch::Ended;

/// Try a host's recovery in QEMU, against empty disks, and keep a report:
/// exit status 0 when it worked, 1 when it did not
#[derive(Args)]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Name of the host
    host: String,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Restore the files too, with real credentials, and start the host from
    /// its disk; without it the drill ends when the rescue system is ready
    #[arg(long)]
    restore: bool,
    /// The generic medium [default: drill.medium of the configuration]
    #[arg(long, value_name = "FILE")]
    medium: Option<PathBuf>,
    /// Memory of the machine [default: the host's, at most 2048]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    memory: Option<u32>,
    /// Firmware of the machine [default: the host's]
    #[arg(long, value_enum)]
    firmware: Option<Firmware>,
    /// Minutes that it may take [default: 20, and 180 with --restore]
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=10_080))]
    limit: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a drill works with.
struct Drill<'a> {
    site: &'a Site,
    host: &'a str,
    session: Chosen,
    plan: Plan,
    restore: bool,
    limit: Duration,
    quiet: bool,
    /// A folder of its own, its owner's alone, gone at the end.
    scratch: &'a Path,
}

/// Tries it, and keeps the report.
pub(crate) fn run(args: &DrillArgs, quiet: bool) -> Outcome {
    let site = args.site.open()?;
    let session = session(&site, args)?;
    let plan = machine::plan(
        &session.1.hardware,
        args.memory,
        args.firmware,
        args.restore,
    )
    .map_err(|what| {
        Failure::new(Exit::Usage, anyhow!(what)).next("towline drill --help shows what can be set")
    })?;
    if args.restore {
        nobody_recovers(&site, &args.host)?;
    } else {
        all_in_memory(&site, args)?;
    }
    let medium = medium(&site, args)?;
    machine::requirements(&plan)?;
    let drills = Drills::of(&site, &args.host);
    let drills = drills.ok_or_else(|| anyhow!("{:?} can name no host", args.host))?;
    let kept = drills.begin().map_err(|error| {
        Failure::from(anyhow::Error::from(error).context("cannot begin the drill"))
            .next("let another drill of this host end, and run this as the site's user or as root")
    })?;
    let scratch = tempfile::Builder::new()
        .prefix("towline-drill-")
        .tempdir()
        .context("cannot make a folder for the machine (TMPDIR says where)")?;
    let minutes = args.limit.unwrap_or(if args.restore { 180 } else { 20 });
    let drill = Drill {
        site: &site,
        host: &args.host,
        session: session.0,
        plan,
        restore: args.restore,
        limit: Duration::from_secs(60 * u64::from(minutes)),
        quiet,
        scratch: scratch.path(),
    };
    let (started, begun) = (Timestamp::now(), Instant::now());
    let ended = drill.rehearse(&medium)?;
    report::keep(&drill, &kept, ended, started, begun.elapsed(), args.json)
}

/// The session that a recovery would take, if one would be opened.
fn session(
    site: &Site,
    args: &DrillArgs,
) -> Result<(Chosen, towline_contract::session::Session), Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    let mut layers = catalogue::layers(&site.store, &view).map_err(catalogue_failure)?;
    let own = catalogue::host_layers(&site.store, &view, &args.host);
    layers.extend(own.map_err(catalogue_failure)?);
    let rules = Rules {
        capture_lag_hours: site.config.sessions.capture_lag_hours,
        architecture: None,
    };
    let layer: &Published =
        sessions::choose(&args.host, &layers, &args.choice.choice(), &rules).map_err(refused)?;
    let session = layer.manifest.session.clone();
    match (chosen(layer), session) {
        (Some(chosen), Some(session)) => Ok((chosen, session)),
        _ => Err(anyhow!("{} has no session", layer.target).into()),
    }
}

/// A drill without a restore recreates no disk, so that it would say nothing of a layer that goes onto one.
fn all_in_memory(site: &Site, args: &DrillArgs) -> Outcome {
    let chain = look::chain(site, &args.host, &args.choice.choice(), Timestamp::now());
    let chain = chain.map_err(catalogue_failure)?;
    let mut layers = chain.layers.iter();
    match layers.find(|it| it.placement == Placement::Target) {
        None => Ok(()),
        Some(layer) => {
            let error = anyhow!("{} goes onto the recreated disk", layer.target);
            Err(Failure::new(Exit::Usage, error)
                .next("only a drill that restores tries it: add --restore"))
        }
    }
}

/// Opening a recovery closes those that wait for their machine: an operator's must not be closed by a drill.
fn nobody_recovers(site: &Site, host: &str) -> Outcome {
    let now = Timestamp::now();
    let all = site.recoveries().all(now).map_err(failure)?;
    let open = all.iter().find(|it| it.host == host && !it.is_over());
    let Some(open) = open else {
        return Ok(());
    };
    let error = anyhow!("recovery {} of {} is open", open.id, host);
    Err(Failure::new(Exit::No, error).next(format!(
        "wait for its end, or close it: towline recovery close {}",
        open.id
    )))
}

/// The medium that is named, by the command or by the configuration.
fn medium(site: &Site, args: &DrillArgs) -> Result<PathBuf, Failure> {
    let configured = site.config.drill.medium.as_ref();
    let configured = configured.map(|path| site.relative(path));
    let Some(path) = args.medium.clone().or(configured) else {
        let error = anyhow!("no medium is named to start the machine from");
        return Err(Failure::new(Exit::Usage, error).next(
            "name one with --medium, or with medium = \"towline.iso\" in [drill] of towline.toml (towline media build -o towline.iso)",
        ));
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(Failure::new(
            Exit::Usage,
            anyhow!("there is no medium {}", path.display()),
        )
        .next("build one: towline media build -o towline.iso")),
    }
}

impl Drill<'_> {
    /// Serves, stamps, boots and watches. What goes wrong in the machine is how it ended, and no error.
    fn rehearse(&self, medium: &Path) -> Result<Ended, Failure> {
        if !self.restore {
            let trial = self.trial(Some(self.session.clone()))?;
            let server = Server::start(self.site, trial)?;
            let image = medium::stamped(self, medium, server.port, None)?;
            return watch::rescue(self, &image, &server);
        }
        let server = Server::start(self.site, self.trial(None)?)?;
        let options = Options {
            unattended: true,
            overwrite: false,
            then: towline_contract::recovery::Then::PowerOff,
        };
        let now = Timestamp::now();
        let session = self.session.clone();
        let opened = open_recovery(self.site, self.host, session, options, self.limit, now);
        let (recovery, code, _) = opened?;
        let ended = medium::stamped(self, medium, server.port, Some(&code))
            .and_then(|image| watch::recovery(self, &image, &server, &recovery.id));
        // Its code and its reports are of no use from now on, however it ended.
        let closed =
            self.site
                .recoveries()
                .close(&recovery.id, "the drill is over", Timestamp::now());
        closed.map_err(failure)?;
        ended
    }

    fn trial(&self, session: Option<Chosen>) -> Result<Trial, Failure> {
        let id = tempfile::Builder::new()
            .prefix("d-")
            .tempfile_in(self.scratch);
        let id = id.context("cannot write to the drill's folder")?;
        let id = id
            .path()
            .file_name()
            .map(|it| it.to_string_lossy().into_owned());
        Ok(Trial {
            id: id.unwrap_or_default(),
            host: self.host.to_owned(),
            session,
            events: self.scratch.join("events.jsonl"),
        })
    }
}
