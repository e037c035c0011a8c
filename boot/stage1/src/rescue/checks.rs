//! The layers' own checks: commands that show that a layer is there and works.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use towline_contract::event::CheckResult;
use towline_contract::manifest::Check;

use crate::console::Console;
use crate::progress::Progress as _;

/// Longest that one check may take.
const CHECK_WAIT: Duration = Duration::from_secs(60);

/// Most of a check's output that is reported, in bytes.
const OUTPUT_BYTES_MAX: usize = 200;

/// Runs one check, without a shell.
pub(super) async fn run(layer: &str, check: &Check) -> CheckResult {
    run_within(layer, check, CHECK_WAIT).await
}

/// Says what came of a check.
pub(super) fn show(console: &Console, result: &CheckResult) {
    let CheckResult {
        layer,
        name,
        passed,
        output,
    } = result;
    match passed {
        true => console.note(format_args!("passed: {name} ({layer}): {output}")),
        false => console.warn(format_args!("check failed: {name} ({layer}): {output}")),
    }
}

async fn run_within(layer: &str, check: &Check, wait: Duration) -> CheckResult {
    let (passed, output) = match tokio::time::timeout(wait, outcome(&check.command)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => (false, format!("cannot be run: {error}")),
        Err(_) => (false, format!("did not end within {} s", wait.as_secs())),
    };
    CheckResult {
        layer: layer.to_owned(),
        name: check.name.clone(),
        passed,
        output,
    }
}

/// Whether the command ended with status 0, and the first line of what it said.
async fn outcome(command: &[String]) -> std::io::Result<(bool, String)> {
    let (program, arguments) = command
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .env("PATH", crate::roles::PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) = tokio::join!(beginning(out), beginning(err), child.wait());
    let status = status?;
    let said = first_line(&out).or_else(|| first_line(&err));
    let output = said.unwrap_or_else(|| status.to_string());
    Ok((status.success(), output))
}

/// The first bytes of a stream that is read to its end, so that its writer never fails.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = (4 * OUTPUT_BYTES_MAX).saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    kept
}

/// The first line that is not blank, of at most [`OUTPUT_BYTES_MAX`] bytes.
fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let mut end = line.len().min(OUTPUT_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    Some(line[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(command: &[&str]) -> CheckResult {
        let command = command.iter().copied().map(str::to_owned).collect();
        let check = Check {
            name: "it works".into(),
            command,
        };
        run_within("agent/x/1/amd64", &check, Duration::from_secs(2)).await
    }

    #[tokio::test]
    async fn a_check_passes_by_its_status_and_shows_its_first_line() {
        let result = check(&["sh", "-c", "echo; echo restic 0.14; echo more"]).await;
        assert!(result.passed);
        assert_eq!(result.output, "restic 0.14");
        let result = check(&["sh", "-c", "echo broken >&2; exit 3"]).await;
        assert!(!result.passed);
        assert_eq!(result.output, "broken");
    }

    #[tokio::test]
    async fn a_check_that_hangs_or_does_not_exist_fails_in_words() {
        let result = check(&["sleep", "60"]).await;
        assert_eq!(
            (result.passed, result.output.as_str()),
            (false, "did not end within 2 s")
        );
        let result = check(&["/no/such/program"]).await;
        assert!(
            !result.passed && result.output.starts_with("cannot be run:"),
            "{result:?}"
        );
        assert!(!check(&[]).await.passed);
    }

    #[tokio::test]
    async fn endless_output_is_cut_and_does_not_fail_the_check() {
        let result = check(&["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]).await;
        assert!(result.passed);
        assert_eq!(result.output.len(), OUTPUT_BYTES_MAX);
    }
}
