//! The recovery: from a plan's order to a host that starts from its own disk.
//!
//! Nothing is written to a disk before everything that can be known is checked ([`preflight`], [`questions`]). `rear recover`
//! recreates the layout and calls back for the restore ([`restore`], a process of its own); this module runs it, checks the
//! result, prepares the first boot, and deals with failures. Every attempt begins with taking down what the one before left.

mod agent;
mod commands;
mod credentials;
mod described;
mod disks;
mod drivers;
mod efi;
mod error;
mod finish;
pub(crate) mod first_boot;
mod install;
mod layout;
mod logs;
mod mapping;
mod mend;
mod mounted;
mod orphans;
mod output;
mod preflight;
mod questions;
mod rear;
mod reports;
pub(crate) mod restore;
mod settings;
mod state;
mod teardown;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::Secret;
use towline_contract::agent::CREDENTIALS_DIR;
use towline_contract::event::{CheckResult, What};
use towline_contract::handover::HandOverNote;
use towline_contract::recovery::{Recover, Then};

use self::agent::Recovering;
use self::credentials::Credentials;
use self::error::{RecoverError, file};
use self::reports::Reports;
use self::settings::Rear;
use self::state::State;
use crate::console::{Answer, Console};
use crate::progress::Progress as _;
use crate::rescue::on_target::OnTarget;
use crate::{menu, power, shell};

pub(crate) use settings::RESTORE;

/// Where this program lies under the name by which it restores.
const PROGRAMS: &str = "/run/towline/bin";

/// Attempts of a machine that nobody watches; then it stays as it is, with its ssh.
const UNATTENDED_TRIES: u32 = 5;

/// Most of the logs that are sent as diagnostics, in bytes. An event holds 64 KiB.
const DIAGNOSTICS_BYTES: usize = 20 << 10;

/// Whether the host's layer `target` describes a host.
pub(super) fn host_checks(target: &str) -> Vec<CheckResult> {
    described::checks(target, &Rear::find())
}

/// Lets those in by ssh whose keys came with the plan.
pub(crate) fn let_in(console: &Console) {
    match credentials::let_in(Path::new(CREDENTIALS_DIR)) {
        Ok(false) => {}
        Ok(true) => console.note(format_args!("the plan lets its operators in by ssh")),
        Err(error) => console.warn(format_args!("the plan's ssh keys cannot be used: {error}")),
    }
}

/// The token for reports, in a machine that recovers.
pub(crate) fn report_token() -> Option<Secret> {
    credentials::report_token(Path::new(CREDENTIALS_DIR)).ok()
}

/// Recovers the host, and does what the plan says then. Comes back if the rescue system is to stay.
pub(crate) async fn run(console: &Arc<Console>, note: &HandOverNote, order: &Recover) {
    let (mut failures, mut next) = (0, Next::Recover);
    loop {
        let done = match next {
            Next::Recover => attempt(console, note, order).await,
            Next::Finish => complete(console, note, true).await,
            Next::Leave => return,
        };
        let error = match done {
            Ok(()) => return then(console, order.then).await,
            Err(error) => error,
        };
        failures += 1;
        failed(console, note, &error).await;
        next = ask(console, note, order, &error, failures).await;
    }
}

/// What is done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// All of it again.
    Recover,
    /// What is left after the checks of the recovered system, although one has failed.
    Finish,
    /// Nothing.
    Leave,
}

/// One recovery: every line needs what the line above found.
async fn attempt(
    console: &Arc<Console>,
    note: &HandOverNote,
    order: &Recover,
) -> Result<(), RecoverError> {
    let (state, rear) = (State::here(), Rear::find());
    let it = Recovering::of(note)?;
    let backup = &it.session.backup;
    console.step(format_args!(
        "recovering {} as of {} ({} session {})",
        it.host, it.session.time, backup.agent, backup.session
    ));
    let credentials = Credentials::read(Path::new(CREDENTIALS_DIR))?;
    teardown::release(console).await;
    rear.as_it_came(&state).await?;
    mend::layout(console, &rear)?;
    let layout = preflight::layout(&rear)?;
    preflight::memory()?;
    preflight::firmware(console, &it, order).await?;
    let on_target = on_target(note)?;
    if !on_target.is_empty() {
        let mirrors = restore::mirrors(console, note)?;
        on_target.are_there(&mirrors, &**console).await?;
    }
    let hardware = &it.session.hardware;
    let (assignments, disks) = questions::disks(console, &layout, &hardware.disks, order).await?;
    if it.is_on_target {
        console.note(format_args!(
            "the agent is fetched onto the recreated disks, and cannot be asked for the session before that"
        ));
    } else {
        preflight::session(console, &it, &credentials).await?;
    }
    rear.write(it.session, &assignments, &disks, &restore_program()?)?;
    if settings::needs_initramfs(it.session, &disks) {
        console.note(format_args!(
            "these disks have other drivers than the host's: its initramfs will be made again"
        ));
    }

    let reports = Reports::new(note, &credentials.token);
    state.begin()?;
    console.step(format_args!(
        "all checks passed; the disks are written from now on"
    ));
    let session = it.version.clone();
    reports.tell(What::RecoveryStarted { session }).await;
    teardown::erase(console, &disks.iter().collect::<Vec<_>>()).await;
    rear::recover(console, &rear, &settings::answers(&assignments), &state).await?;
    complete(console, note, false).await
}

/// Checks what was recovered, prepares its first boot, and lets go of its disks. With `accept`, checks may fail.
async fn complete(
    console: &Console,
    note: &HandOverNote,
    accept: bool,
) -> Result<(), RecoverError> {
    console.step(format_args!("checking the recovered system"));
    let credentials = Credentials::read(Path::new(CREDENTIALS_DIR))?;
    // With the names of this machine by now.
    let layout = preflight::layout(&Rear::find())?;
    let mut checks = finish::checks(console, &layout).await;
    if let (Some(why), false) = (failed_checks(&checks), accept) {
        return Err(RecoverError::Incomplete(why));
    }
    let mut folders = Recovering::of(note)?.temporary(&credentials)?;
    folders.push(on_target(note)?.folder().to_owned());
    if Rear::find().is_portable() {
        let (target, portable) = (Path::new(agent::TARGET), Path::new(settings::PORTABLE));
        if let Err(why) = logs::move_home(target, portable).await {
            console.warn(format_args!("ReaR's logs stay where it left them: {why}"));
        }
    }
    checks.extend(finish::remarks(console, &layout, &folders));
    if !first_boot::prepare(note, &credentials.token)? {
        console.warn(format_args!(
            "the host has no systemd: its first start will not be reported"
        ));
    }
    teardown::release(console).await;
    rustix::fs::sync();
    let seconds = State::here().seconds();
    console.step(format_args!("recovered in {seconds} s"));
    let reports = Reports::new(note, &credentials.token);
    reports.tell(What::Recovered { seconds, checks }).await;
    Ok(())
}

fn failed_checks(checks: &[CheckResult]) -> Option<String> {
    let failed = checks.iter().filter(|it| !it.passed);
    let failed: Vec<_> = failed
        .map(|it| format!("{}: {}", it.name, it.output))
        .collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

fn on_target(note: &HandOverNote) -> Result<OnTarget, RecoverError> {
    Ok(OnTarget::of(
        note,
        Path::new("/"),
        Path::new(agent::TARGET),
    )?)
}

/// This program under the name by which it restores.
fn restore_program() -> Result<PathBuf, RecoverError> {
    let folder = Path::new(PROGRAMS);
    fs::create_dir_all(folder).map_err(file("make", folder))?;
    let path = folder.join(RESTORE);
    let program = std::env::current_exe().map_err(file("find", &path))?;
    let _ = fs::remove_file(&path);
    symlink(program, &path).map_err(file("make", &path))?;
    Ok(path)
}

async fn then(console: &Console, then: Then) {
    match then {
        Then::Reboot => {
            console.step(format_args!("starting the recovered host"));
            let _ = power::run(power::Command::Reboot);
        }
        Then::PowerOff => {
            console.step(format_args!("the host is recovered; switching off"));
            let _ = power::run(power::Command::PowerOff);
        }
        Then::Stay => console.step(format_args!(
            "the host is recovered; the rescue system stays"
        )),
    }
}

/// Says it, here and to the servers.
async fn failed(console: &Console, note: &HandOverNote, error: &RecoverError) {
    let message = error.message();
    console.failure(&message);
    tell_failed(note, message).await;
}

async fn tell_failed(note: &HandOverNote, message: String) -> bool {
    // Without a token no server listens, and none need be asked.
    let Some(token) = report_token() else {
        return false;
    };
    let reports = Reports::new(note, &token);
    reports.tell(What::Failed { message }).await
}

/// Asks what to do. Nobody answers an unattended machine: it tries again, unless that changes nothing.
async fn ask(
    console: &Console,
    note: &HandOverNote,
    order: &Recover,
    error: &RecoverError,
    failures: u32,
) -> Next {
    let incomplete = matches!(error, RecoverError::Incomplete(_));
    let again = order.unattended && failures < UNATTENDED_TRIES && !incomplete;
    let mut patience = again.then(|| menu::wait(failures));
    match patience {
        Some(wait) => console.plain(format_args!(
            "It tries again by itself in {} s.",
            wait.as_secs()
        )),
        None if order.unattended => console.warn(format_args!(
            "the rescue system stays, and waits for its operator"
        )),
        None => {}
    }
    let shell = note.shell && shell::available().is_some();
    let prompt = prompt(shell, incomplete);
    loop {
        let Some(Answer { text, console: at }) = console.ask(&prompt, patience).await else {
            return Next::Recover;
        };
        patience = None;
        match text.as_str() {
            "r" => return Next::Recover,
            "finish" if incomplete => return Next::Finish,
            "s" if shell => {
                if let Err(error) = shell::run(&at).await {
                    console.warn(format_args!("no shell: {error}"));
                }
            }
            "d" => send_diagnostics(console, note, error).await,
            "o" => console.plain(format_args!(
                "A plan recovers one session. On the server: towline recovery open HOST --session ID; then b here, and the new code."
            )),
            "q" => return Next::Leave,
            "b" => {
                let _ = power::run(power::Command::Reboot);
            }
            _ => {}
        }
    }
}

fn prompt(shell: bool, incomplete: bool) -> String {
    let mut words = vec!["r = try again"];
    if incomplete {
        words.push("finish = finish all the same");
    }
    if shell {
        words.push("s = shell");
    }
    words.extend([
        "d = send diagnostics to the server",
        "o = another session",
        "q = leave the recovery",
        "b = reboot",
    ]);
    format!("Type a letter and Enter: {}", words.join(", "))
}

async fn send_diagnostics(console: &Console, note: &HandOverNote, error: &RecoverError) {
    let mut message = error.message();
    let logs = [
        rear::newest_log(),
        Some(PathBuf::from("/var/log/towline-agent.log")),
    ];
    for path in logs.into_iter().flatten() {
        let text = fs::read(&path).unwrap_or_default();
        let end = &text[text.len().saturating_sub(DIAGNOSTICS_BYTES)..];
        let end = String::from_utf8_lossy(end);
        message.push_str(&format!("\n--- the end of {}\n{end}", path.display()));
    }
    match tell_failed(note, message).await {
        true => console.step(format_args!("the server has the ends of the logs")),
        false => console.warn(format_args!("no server takes them")),
    }
}
