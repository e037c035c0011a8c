//! What must be right before any disk is touched.

use std::fs;
use std::path::Path;
use std::time::Duration;

use towline_contract::recovery::Recover;

use super::agent::Recovering;
use super::commands;
use super::credentials::Credentials;
use super::error::{RecoverError, file};
use super::layout::Layout;
use super::questions;
use super::settings::Rear;
use crate::console::{Console, uptime};
use crate::machine;
use crate::progress::Progress as _;

/// Memory that must be free for ReaR and an agent, in KiB. restic takes about 90 MiB.
const MEMORY_FREE_KIB_MIN: u64 = 128 << 10;

/// Longest that one check of the session by its agent may take.
const CHECK_WAIT: Duration = Duration::from_secs(300);

/// How long an agent's server may be away, and the pause between two tries.
const AWAY_MAX: Duration = Duration::from_secs(30 * 60);
const AWAY_PAUSE: Duration = Duration::from_secs(10);

/// The firmware that is here must be the one that the host's boot loader is for.
///
/// # Errors
/// It is another, and nobody says that it does not matter.
pub(super) async fn firmware(
    console: &Console,
    it: &Recovering<'_>,
    order: &Recover,
) -> Result<(), RecoverError> {
    let (was, is) = (
        it.session.hardware.uefi,
        Path::new("/sys/firmware/efi").exists(),
    );
    let name = |uefi| if uefi { "UEFI" } else { "BIOS" };
    if is {
        // Its driver was perhaps not there when the other file systems were mounted.
        let words = [
            "mount",
            "-t",
            "efivarfs",
            "efivarfs",
            "/sys/firmware/efi/efivars",
        ];
        let _ = commands::run_words(&words, Duration::from_secs(30)).await;
    }
    if was == is {
        return Ok(());
    }
    let what = format!(
        "{} started by {}, and this machine started by {}: its boot loader would not be found",
        it.host,
        name(was),
        name(is)
    );
    questions::accept(
        console,
        order,
        &what,
        "change the firmware's boot mode, and start again",
    )
    .await
}

/// What the agent and ReaR need must be free.
///
/// # Errors
/// It is not.
pub(super) fn memory() -> Result<(), RecoverError> {
    // A kernel that does not say is no reason.
    let free = machine::memory_kib("MemAvailable").unwrap_or(u64::MAX);
    enough(free)
}

fn enough(free_kib: u64) -> Result<(), RecoverError> {
    if free_kib >= MEMORY_FREE_KIB_MIN {
        return Ok(());
    }
    let (free, wanted) = (free_kib >> 10, MEMORY_FREE_KIB_MIN >> 10);
    let what = format!("a restore needs {wanted} MiB of free memory, and {free} MiB are free");
    Err(RecoverError::refused(
        what,
        "give the machine more memory; its disks are as they were",
    ))
}

/// The description of the host must be complete.
///
/// # Errors
/// A file is missing, or the layout describes nothing.
pub(super) fn layout(rear: &Rear) -> Result<Layout, RecoverError> {
    const NEXT: &str = "recover another session, and capture this host again";
    let program = rear.program();
    fs::metadata(&program).map_err(file("find", &program))?;
    let os = rear.settings().join("os.conf");
    if fs::metadata(&os).map_or(0, |it| it.len()) == 0 {
        let what = format!("the host's layer has no {}", os.display());
        return Err(RecoverError::refused(what, NEXT));
    }
    let path = rear.layout();
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    Layout::parse(&text).map_err(|error| {
        RecoverError::refused(format!("{} is of no use: {error}", path.display()), NEXT)
    })
}

/// The agent must reach its server and find the session there. A server that is away is waited for.
///
/// # Errors
/// It does not, for longer than [`AWAY_MAX`].
pub(super) async fn session(
    console: &Console,
    it: &Recovering<'_>,
    credentials: &Credentials,
) -> Result<(), RecoverError> {
    if it.agent.check.is_empty() {
        return Ok(());
    }
    let (agent, session) = (&it.session.backup.agent, &it.session.backup.session);
    console.step(format_args!("asking {agent} for session {session}"));
    let command = it.command(&it.agent.check, credentials);
    let environment = it.environment(credentials);
    let until = uptime() + AWAY_MAX;
    loop {
        let said = match commands::run(&command, &environment, CHECK_WAIT).await {
            Ok(ran) if ran.success => {
                console.note(format_args!("{agent} has the session"));
                return Ok(());
            }
            Ok(ran) => ran.said(),
            Err(error) => format!("{}: {error}", command.first().map_or("", String::as_str)),
        };
        if uptime() >= until {
            return Err(RecoverError::Agent { said });
        }
        console.warn(format_args!(
            "{agent} does not answer for the session, trying again in {} s: {said}",
            AWAY_PAUSE.as_secs()
        ));
        tokio::time::sleep(AWAY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_told_with_both_numbers() {
        assert!(enough(MEMORY_FREE_KIB_MIN).is_ok());
        let error = enough(60 << 10).unwrap_err().to_string();
        assert!(
            error.contains("128 MiB") && error.contains("60 MiB"),
            "{error}"
        );
    }
}
