//! The restore helper: what ReaR starts when the file systems are recreated and mounted. A process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;
use towline_contract::agent::{CREDENTIALS_DIR, Progress as How};
use towline_contract::event::What;
use towline_contract::handover::HandOverNote;
use towline_contract::manifest::Manifest;

use super::agent::{Recovering, TARGET};
use super::credentials::Credentials;
use super::error::{RecoverError, file};
use super::layout::Layout;
use super::output::{EachLine, Output};
use super::reports::Reports;
use super::settings::Rear;
use super::state::{Phase, State};
use super::{commands, install, mounted, orphans, preflight};
use crate::console::Console;
use crate::fetch::{Client, Mirrors, TlsTime};
use crate::progress::Progress as _;
use crate::rescue::checks;
use crate::rescue::on_target::OnTarget;
use crate::{clock, handover};

/// What the agent says.
const AGENT_LOG: &str = "/var/log/towline-agent.log";

/// How often the servers hear how much is there.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Longest that a restore may neither say nor write anything.
const STALL_MAX: Duration = Duration::from_secs(60 * 60);

/// Tries of a restore. Between two of them the agent's server is waited for.
const TRIES: u32 = 4;

/// Restores; ReaR goes on only after status 0.
pub(crate) async fn run(console: Arc<Console>) -> ExitCode {
    // The consoles have the lines.
    let _ = console.log_to(Path::new(crate::rescue::work::LOG));
    let state = State::here();
    match restore(&console, &state).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = crate::failure::joined(&error);
            console.warn(format_args!("{why}"));
            // ReaR's error has a next step of its own, the same as a failed restore's.
            match &error {
                RecoverError::Restore { .. } => state.failed(&why),
                _ => state.failed(&format!("{why} ({})", error.next())),
            }
            ExitCode::FAILURE
        }
    }
}

async fn restore(console: &Arc<Console>, state: &State) -> Result<(), RecoverError> {
    let note = handover::read_note().map_err(file("read", Path::new("the hand-over note")))?;
    let note = note.ok_or_else(|| RecoverError::refused("nobody ordered a restore", "restart"))?;
    let it = Recovering::of(&note)?;
    let credentials = Credentials::read(Path::new(CREDENTIALS_DIR))?;
    let layout = preflight::layout(&Rear::find())?;
    let points = mount_points(&layout)?;
    state.enter(Phase::Restore)?;
    let reports = Reports::new(&note, &credentials.token);
    let seconds = state.seconds();
    console.step(format_args!("the disks are recreated, after {seconds} s"));
    reports.tell(What::LayoutRecreated { seconds }).await;
    let swaps = Swaps::on(console, &layout).await;
    orphans::adopt();
    let on_target = OnTarget::of(&note, Path::new("/"), Path::new(TARGET))?;
    let restored = async {
        place(console, &on_target, &note, &reports).await?;
        if it.is_on_target {
            preflight::session(console, &it, &credentials).await?;
        }
        with_agent(console, &it, &credentials, &note, &reports, &points).await
    }
    .await;
    orphans::end(console).await;
    if let Err(error) = on_target.remove() {
        // After a failure the file systems are recreated; after a restore the checks of the recovered system tell it.
        console.warn(format_args!("{}", crate::failure::joined(&error)));
    }
    let (bytes, seconds) = restored?;
    swaps.off().await;
    console.step(format_args!("restored {} MiB in {seconds} s", bytes >> 20));
    reports.tell(What::Restored { bytes, seconds }).await;
    state.enter(Phase::Finalize)
}

/// Fetches the layers for the target onto it, and runs their checks: they could not be run before.
async fn place(
    console: &Arc<Console>,
    on_target: &OnTarget,
    note: &HandOverNote,
    reports: &Reports,
) -> Result<(), RecoverError> {
    if on_target.is_empty() {
        return Ok(());
    }
    let mirrors = mirrors(console, note)?;
    let mut placed = |manifest: &Manifest, took: Duration| {
        reports.tell_meanwhile(What::LayerPlaced {
            target: manifest.target_name(),
            bytes: manifest.stored_bytes,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    };
    on_target.place(&mirrors, &**console, &mut placed).await?;
    let layers = note.layers.iter().filter(|it| it.on_target.is_some());
    for (target, check) in layers.flat_map(|it| it.checks.iter().map(|check| (&it.target, check))) {
        checks::show(console, &checks::run(target, check).await);
    }
    Ok(())
}

/// Where the chain came from.
pub(super) fn mirrors(console: &Console, note: &HandOverNote) -> Result<Mirrors, RecoverError> {
    let time = TlsTime::Proven {
        time: clock::now(),
        since: Instant::now(),
    };
    let client = Client::new(&note.ca, time).map_err(|cause| RecoverError::Authorities {
        cause: Box::new(cause),
    })?;
    Ok(Mirrors::named(client, &note.mirrors, console))
}

/// Makes the agent's folders, restores, and removes them; bytes and seconds of the restore.
async fn with_agent(
    console: &Arc<Console>,
    it: &Recovering<'_>,
    credentials: &Credentials,
    note: &HandOverNote,
    reports: &Reports,
    points: &[PathBuf],
) -> Result<(u64, u64), RecoverError> {
    if let Some(wanted) = &it.agent.install {
        install::install(console, it, wanted, credentials, &note.ca).await?;
    }
    if let Some(database) = &it.agent.database {
        let folder = it.folder(database, credentials)?;
        fs::create_dir_all(&folder).map_err(file("make", &folder))?;
    }
    let follow = Follow {
        console,
        it,
        credentials,
        reports,
        points,
        empty: mounted::bytes_used(points),
        started: Instant::now(),
    };
    let bytes = follow.restore().await?;
    orphans::end(console).await;
    for folder in it.temporary(credentials)? {
        remove(console, &folder);
    }
    Ok((bytes, follow.started.elapsed().as_secs()))
}

fn mount_points(layout: &Layout) -> Result<Vec<PathBuf>, RecoverError> {
    let path = Path::new("/proc/self/mountinfo");
    let mountinfo = fs::read_to_string(path).map_err(file("read", path))?;
    mounted::mount_points(layout, &mountinfo).map_err(|why| {
        let next = "read ReaR's log: it has not recreated the layout";
        RecoverError::refused(format!("nothing is restored: {why}"), next)
    })
}

/// The host's own swap areas, which are empty now: memory for the restore.
struct Swaps(Vec<String>);

impl Swaps {
    async fn on(console: &Console, layout: &Layout) -> Self {
        let mut on = Vec::new();
        for device in &layout.swaps {
            let swapon = commands::run_words(&["swapon", device], Duration::from_secs(30)).await;
            if swapon.is_ok_and(|ran| ran.success) {
                console.note(format_args!("swap on {device} is in use for the restore"));
                on.push(device.clone());
            }
        }
        Self(on)
    }

    async fn off(&self) {
        for device in &self.0 {
            // What does not fit into memory now stays until the machine restarts.
            let _ = commands::run_words(&["swapoff", device], Duration::from_secs(300)).await;
        }
    }
}

/// Removes a folder on the target that is not the host's.
fn remove(console: &Console, folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        console.warn(format_args!("cannot remove {}: {error}", folder.display()));
    }
    // The parents that were made for it, as far as they are empty.
    let parents = folder.ancestors().skip(1);
    for parent in parents.take_while(|it| *it != Path::new(TARGET)) {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
}

/// One restore that is followed.
struct Follow<'a> {
    console: &'a Arc<Console>,
    it: &'a Recovering<'a>,
    credentials: &'a Credentials,
    reports: &'a Reports,
    points: &'a [PathBuf],
    /// Bytes in use before.
    empty: u64,
    started: Instant,
}

impl Follow<'_> {
    /// Runs the agent until it has restored all; bytes on the file systems then.
    async fn restore(&self) -> Result<u64, RecoverError> {
        let (agent, backup) = (self.it.agent, &self.it.session.backup);
        let name = format!("{} session {}", backup.agent, backup.session);
        self.console.step(format_args!("restoring {name}"));
        let mut last = String::new();
        for attempt in 1..=TRIES {
            if attempt > 1 {
                self.console
                    .warn(format_args!("{last}; trying again ({attempt} of {TRIES})"));
                preflight::session(self.console, self.it, self.credentials).await?;
            }
            let command = self.it.command(&agent.restore, self.credentials);
            let environment = self.it.environment(self.credentials);
            let failed = |cause| RecoverError::Program {
                program: command.first().cloned().unwrap_or_default(),
                cause,
            };
            let started = commands::command(&command, &environment);
            let started = started.map(|mut it| it.process_group(0).spawn());
            let mut child = started.and_then(|it| it).map_err(failed)?;
            let output = Output::new(Some(Path::new(AGENT_LOG)));
            let each: EachLine = Arc::new(|_| {});
            let readers = output.follow(&mut child, &each);
            let ended = self.watch(&mut child, &output).await;
            readers.finish().await;
            match ended {
                Some(status) if status.success() => return Ok(self.bytes()),
                Some(status) => last = format!("{} ({status})", output.last_lines(3)),
                None => {
                    let minutes = STALL_MAX.as_secs() / 60;
                    last = format!("nothing was written or said for {minutes} minutes");
                }
            }
        }
        Err(RecoverError::Restore { said: last })
    }

    /// Waits for the agent's end and tells how far it is; none if it stalls.
    async fn watch(&self, child: &mut Child, output: &Output) -> Option<ExitStatus> {
        let (mut bytes, mut grown) = (self.bytes(), Instant::now());
        loop {
            match tokio::time::timeout(TELL_EVERY, child.wait()).await {
                Ok(Ok(status)) => return Some(status),
                // Not a child any more: nothing can be said about it.
                Ok(Err(_)) => return None,
                Err(_) => {}
            }
            let now = self.bytes();
            if now != bytes {
                (bytes, grown) = (now, Instant::now());
            }
            if grown.elapsed().min(output.silence()) > STALL_MAX {
                // With all that it started: the next try would find it at work.
                commands::end_group(child).await;
                return None;
            }
            self.tell(bytes, output);
        }
    }

    fn tell(&self, bytes: u64, output: &Output) {
        let total = self.it.session.backup.bytes;
        let bytes = match (self.it.agent.progress, output.percent(), total) {
            (How::Percent, Some(percent), Some(total)) => part(total, percent),
            _ => bytes,
        };
        // File systems need more or less room for the same bytes; the end is when the agent says so.
        let shown = total.map(|total| total.max(bytes + 1));
        match shown {
            Some(shown) => self.console.transfer("restore", bytes, shown),
            None => self
                .console
                .note(format_args!("restore: {} MiB so far", bytes >> 20)),
        }
        self.reports
            .tell_meanwhile(What::Restoring { bytes, total });
    }

    fn bytes(&self) -> u64 {
        mounted::bytes_used(self.points).saturating_sub(self.empty)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown to people; the percentage is from 0 to 100"
)]
fn part(total: u64, percent: f64) -> u64 {
    (total as f64 * percent / 100.0) as u64
}
