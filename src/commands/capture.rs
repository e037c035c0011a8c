//! `towline capture`: describes this host after a backup, and sends the description.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::Timestamp;

use crate::capture::client::{Client, ClientError};
use crate::capture::error::CaptureError;
use crate::capture::home::{Home, HostConfig};
use crate::capture::hooks::{self, Hooks};
use crate::capture::session::{self, AgentSession};
use crate::capture::{self, Described, Request, spool};
use crate::exit::{Exit, Failure, Outcome};

/// Describe this host after a backup, and send the description to the server
///
/// It runs ReaR's own `savelayout` without touching what ReaR has on this host. While the server is away, descriptions are
/// kept and sent by the next run.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["session", "retry", "install_hooks"]).multiple(true))]
pub(crate) struct CaptureArgs {
    /// The agent's name of the backup's session, or `newest` to ask restic or borg
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// The point in time that the session brings back (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", requires = "session")]
    time: Option<Timestamp>,
    /// Name of the agent layer that restores it
    #[arg(long, value_name = "NAME", required_unless_present_any = ["retry", "install_hooks"])]
    agent: Option<String>,
    /// Version of the agent [default: as its package says]
    #[arg(long, value_name = "VERSION")]
    agent_version: Option<String>,
    /// Bytes of the session's files, to show progress by
    #[arg(long, value_name = "N")]
    bytes: Option<u64>,
    /// A layout that was taken already: a folder with etc/rear and var/lib/rear, or an archive of it such as
    /// ReaR's portable one
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Keep credentials that are in ReaR's settings
    #[arg(long)]
    with_secrets: bool,
    /// Longest that ReaR may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// Only send what waits
    #[arg(long, conflicts_with_all = ["session", "install_hooks"])]
    retry: bool,
    /// Never fail: exit status 0 whatever happens; failures are printed and logged
    #[arg(long)]
    hook: bool,
    /// Install a hook and end
    #[arg(long, value_name = "KIND")]
    install_hooks: Option<hooks::Kind>,
    /// The systemd service that makes the backup, for its hook
    #[arg(long, value_name = "UNIT", requires = "install_hooks")]
    unit: Option<String>,
    /// Where hooks are installed
    #[arg(long, value_name = "DIR", default_value = "/etc", hide = true)]
    etc: PathBuf,
    #[command(flatten)]
    home: Home,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &CaptureArgs) -> Outcome {
    if let Some(kind) = args.install_hooks {
        return install(args, kind);
    }
    let done = work(args);
    match &done {
        Ok(()) => {}
        Err(failure) => args.home.log(&format!("failed: {:#}", failure.error)),
    }
    match done {
        Err(failure) if args.hook => {
            crate::print_failure(&failure);
            eprintln!("towline: the backup itself is not affected");
            Ok(())
        }
        done => done,
    }
}

fn install(args: &CaptureArgs, kind: hooks::Kind) -> Outcome {
    let hooks = Hooks {
        kind,
        unit: args.unit.as_deref(),
        agent: args.agent.as_deref(),
        session: args.session.as_deref(),
        etc: Path::new(&args.etc),
    };
    let (files, next) = hooks::install(&hooks).map_err(failure)?;
    for path in files {
        println!("{}", path.display());
    }
    eprintln!("towline: next: {next}");
    Ok(())
}

fn work(args: &CaptureArgs) -> Outcome {
    let started = Instant::now();
    let config = args.home.read_config().map_err(failure)?;
    let _lock = args
        .home
        .lock(Duration::from_secs(args.timeout))
        .map_err(failure)?;
    let described = match &args.session {
        None => None,
        Some(session) => Some(describe(args, &config, session)?),
    };
    for target in spool::limit(&args.home, &config.id).map_err(failure)? {
        args.home.log(&format!(
            "{target} waited too long and was given up for newer ones"
        ));
        eprintln!("towline: {target} waited too long and was given up for newer ones");
    }
    let mut sent = Vec::new();
    let result = Client::new(&config)
        .map_err(CaptureError::from)
        .and_then(|client| spool::send(&args.home, &config, &client, &mut sent));
    for target in &sent {
        args.home.log(&format!("sent {target}"));
    }
    let waiting = spool::waiting(&args.home, &config.id).map_err(failure)?;
    print(args, described.as_ref(), &sent, &waiting, started.elapsed());
    result.map_err(|error| {
        let mut failure = failure(error);
        if !waiting.is_empty() {
            let what = format!(
                "{} kept to be sent later: {}",
                kept(&waiting),
                waiting.join(", ")
            );
            failure.error = failure.error.context(what);
        }
        failure
    })
}

fn kept(waiting: &[String]) -> &'static str {
    if waiting.len() == 1 {
        "a description is"
    } else {
        "descriptions are"
    }
}

fn describe(args: &CaptureArgs, config: &HostConfig, session: &str) -> Result<Described, Failure> {
    let agent = args.agent.clone().unwrap_or_default();
    let mut session = match session {
        "newest" => session::newest(&agent).map_err(failure)?,
        id => AgentSession {
            id: id.to_owned(),
            time: None,
            bytes: None,
        },
    };
    session.time = args.time.or(session.time);
    session.bytes = args.bytes.or(session.bytes);
    let request = Request {
        host: config.id.clone(),
        agent,
        version: args.agent_version.clone(),
        session,
        from: args.from.clone(),
        with_secrets: args.with_secrets,
        timeout: Duration::from_secs(args.timeout),
    };
    let described = capture::describe(&args.home, &request).map_err(failure)?;
    args.home.log(&format!("described {}", described.target));
    for it in &described.left_out {
        args.home.log(&format!("left out {it}"));
        eprintln!("towline: left out {it}");
    }
    Ok(described)
}

fn print(
    args: &CaptureArgs,
    described: Option<&Described>,
    sent: &[String],
    waiting: &[String],
    time: Duration,
) {
    if args.json {
        let result = json!({
            "target": described.map(|it| &it.target), "bytes": described.map(|it| it.bytes),
            "left_out": described.map(|it| &it.left_out), "sent": sent, "waiting": waiting,
            "seconds": time.as_secs_f64(),
        });
        println!("{result}");
        return;
    }
    if let Some(it) = described {
        println!("{}", it.target);
        println!("  stored   {:.1} KB", kilobytes(it.bytes));
        println!("  time     {:.1} s", time.as_secs_f64());
    }
    for target in sent {
        println!("sent {target}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn kilobytes(bytes: u64) -> f64 {
    bytes as f64 / 1e3
}

/// The failure that an error is, with what to do.
pub(super) fn failure(error: CaptureError) -> Failure {
    let (exit, next) = advice(&error);
    let failure = Failure::new(exit, anyhow!(error));
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

fn advice(error: &CaptureError) -> (Exit, Option<String>) {
    use CaptureError as E;
    let say = |text: &str| Some(text.to_owned());
    match error {
        E::NotEnrolled(_) => (Exit::Usage, say("towline host enrol URL --ca ca.pem")),
        E::Settings { .. } | E::Hook(_) => (Exit::Usage, None),
        E::Key(_) => (
            Exit::Usage,
            say("towline host enrol makes a key if there is none"),
        ),
        E::Busy(_) => (
            Exit::Internal,
            say("look what it waits for, and run it again"),
        ),
        E::NoRear(_) => (Exit::Usage, say("install ReaR: apt-get install rear")),
        E::Rear { .. } | E::Timeout { .. } => (
            Exit::No,
            say("rear -v savelayout shows the same by hand; ReaR's log is in /var/log/rear"),
        ),
        E::Incomplete(_) => (
            Exit::No,
            say("see what ReaR leaves out: its settings in /etc/rear, its log in /var/log/rear"),
        ),
        E::From { .. } => (
            Exit::Usage,
            say("give a folder or archive with etc/rear and var/lib/rear"),
        ),
        E::Secret { .. } => (
            Exit::No,
            say("set the credential on a line of its own, or keep all of them with --with-secrets"),
        ),
        E::Agent { .. } => (
            Exit::Usage,
            say("say it: --session ID --time TIME --agent-version VERSION"),
        ),
        E::Times(_) => (
            Exit::Usage,
            say("capture right after the backup; --time is that of the backup"),
        ),
        E::Client(error) => client_advice(error),
        E::Waiting { host, fingerprint } => (
            Exit::Refused,
            Some(format!(
                "an operator of the site runs: towline host approve {host} --fingerprint {fingerprint}"
            )),
        ),
        E::Unknown { server, .. } => (Exit::Refused, Some(format!("towline host enrol {server}"))),
        E::OtherKey { host, .. } => (
            Exit::NotTrusted,
            Some(format!(
                "enrol under another name, or an operator looks at towline host show {host}"
            )),
        ),
        E::Sessions { .. } => (
            Exit::NotTrusted,
            say("an operator looks at the server's store"),
        ),
        E::File { .. } | E::Build(_) | E::Lane(_) => (Exit::Internal, None),
    }
}

fn client_advice(error: &ClientError) -> (Exit, Option<String>) {
    let later = "the next capture sends it, or: towline capture --retry";
    match error {
        ClientError::Unreachable { .. } => (Exit::NotReachable, Some(later.to_owned())),
        ClientError::Refused { next, .. } => (
            Exit::Refused,
            next.clone()
                .or(error.is_temporary().then(|| later.to_owned())),
        ),
        ClientError::Answer { .. } => (Exit::Internal, None),
        ClientError::Authorities { .. } => (
            Exit::Usage,
            Some("name the site's ca.pem: towline host enrol URL --ca ca.pem".into()),
        ),
        ClientError::Server(_) => (Exit::Usage, None),
    }
}
