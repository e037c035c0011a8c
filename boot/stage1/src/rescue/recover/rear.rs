//! Runs `rear recover` as a child that asks nobody, with a limit on each phase.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;

use super::commands::{self, last_lines};
use super::error::RecoverError;
use super::output::{EachLine, Output};
use super::settings::Rear;
use super::state::{Phase, State};
use crate::console::Console;
use crate::progress::Progress as _;

/// ReaR's own log, below this.
const LOGS: &str = "/var/log/rear";

/// How often the phase is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Runs it to its end.
///
/// # Errors
/// It fails, or a phase takes too long.
pub(super) async fn recover(
    console: &Arc<Console>,
    rear: &Rear,
    answers: &[(String, String)],
    state: &State,
) -> Result<(), RecoverError> {
    let program = rear.program().display().to_string();
    let failed = |cause| RecoverError::Program {
        program: program.clone(),
        cause,
    };
    let mut words = vec![program.clone()];
    if rear.is_portable() {
        words.push("-p".into());
    }
    words.extend(["-v", "-d", "recover"].map(str::to_owned));
    let mut command = commands::command(&words, answers).map_err(failed)?;
    // Its own group, so that all of it can be ended.
    command.current_dir(rear.mappings()).process_group(0);
    let failed = |cause| RecoverError::Program {
        program: program.clone(),
        cause,
    };
    let mut child = command.spawn().map_err(failed)?;
    let output = Output::new(None);
    let shown = console.clone();
    let each: EachLine = Arc::new(move |line| shown.note(format_args!("rear: {line}")));
    let readers = output.follow(&mut child, &each);
    let ended = watch(&mut child, state).await;
    if ended.is_err() {
        commands::end_group(&mut child).await;
    }
    readers.finish().await;
    let status = ended?;
    if status.success() {
        return Ok(());
    }
    let why = state.why();
    if !why.is_empty() {
        return Err(RecoverError::Restore { said: why });
    }
    Err(RecoverError::Rear {
        status: status.to_string(),
        phase: state.phase().name(),
        said: said(&output),
    })
}

/// Waits for the end, or for a phase to take too long.
async fn watch(child: &mut Child, state: &State) -> Result<ExitStatus, RecoverError> {
    let (mut phase, mut since) = (Phase::Layout, Instant::now());
    loop {
        if let Ok(status) = tokio::time::timeout(TICK, child.wait()).await {
            return status.map_err(|cause| RecoverError::Program {
                program: "rear".into(),
                cause,
            });
        }
        let now = state.phase();
        if now != phase {
            (phase, since) = (now, Instant::now());
        }
        if let Some(limit) = phase.limit().filter(|limit| since.elapsed() > *limit) {
            return Err(RecoverError::Hangs {
                phase: phase.name(),
                minutes: limit.as_secs() / 60,
            });
        }
    }
}

/// What says why: lines with an error in ReaR's log, or its last words.
fn said(output: &Output) -> String {
    let text = newest_log().and_then(|path| fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let errors: Vec<_> = text.lines().filter(|it| it.contains("ERROR:")).collect();
    match errors.is_empty() {
        true => output.last_lines(3),
        false => last_lines(&errors.join("\n"), 2),
    }
}

/// ReaR's newest log.
pub(super) fn newest_log() -> Option<PathBuf> {
    let entries = fs::read_dir(Path::new(LOGS)).ok()?.flatten();
    let logs = entries.filter(|it| it.path().extension().is_some_and(|it| it == "log"));
    let newest = logs.max_by_key(|it| it.metadata().and_then(|it| it.modified()).ok());
    newest.map(|it| it.path())
}
