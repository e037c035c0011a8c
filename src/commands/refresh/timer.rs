//! The timer of `towline serve`: runs `towline catalogue refresh` beside the server, in a process of its own. That one has the
//! keys which sign layers, if they are on this machine at all, and parses what archives send; it gets what processor time the
//! server leaves.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::process::Command;
use towline_contract::Timestamp;
use towline_server::Site;
use towline_server::tracked::record;

/// How long a server that has just started answers machines before anything else.
const AFTER_START: Duration = Duration::from_secs(5);

/// Looks every so many hours, and soon if nobody has for as long; never ends. What fails is logged, and tried when the next
/// look is due.
pub(in crate::commands) async fn keep(site: Site, config: &Path, hours: u16) {
    let mut last = last_look(&site);
    loop {
        tokio::time::sleep(wait(last, hours, Timestamp::now())).await;
        let done = command(config).map(|mut it| it.spawn());
        let ended = match done {
            Ok(Ok(mut child)) => child.wait().await.map(|_| ()),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        if let Err(error) = ended {
            eprintln!("serve: cannot run towline catalogue refresh: {error}");
        }
        last = Some(Timestamp::now());
    }
}

/// When a recipe was looked at, by whomever.
fn last_look(site: &Site) -> Option<Timestamp> {
    let records = record::all(site).unwrap_or_else(|error| {
        eprintln!("serve: {error}: recipes are looked at as if for the first time");
        Default::default()
    });
    records.values().map(|it| it.looked).max()
}

/// This very program, whatever has taken its place on the disk; what it prints goes into the server's log.
fn command(config: &Path) -> io::Result<Command> {
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["catalogue", "refresh", "--in-background", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .kill_on_drop(true);
    Ok(command)
}

/// How long the next look is away. A time that has not come yet is of a clock that was wrong.
fn wait(last: Option<Timestamp>, hours: u16, now: Timestamp) -> Duration {
    let between = SignedDuration::from_hours(hours.into());
    let since = last
        .filter(|it| *it <= now)
        .map(|it| now.duration_since(it));
    let left = since.map_or(SignedDuration::ZERO, |since| between - since);
    Duration::try_from(left)
        .unwrap_or_default()
        .max(AFTER_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_due_so_many_hours_after_the_last_one_and_soon_if_that_is_over() {
        let now: Timestamp = "2026-11-02T00:00:00Z".parse().unwrap();
        let ago = |hours: i64| Some(now - SignedDuration::from_hours(hours));
        assert_eq!(wait(None, 24, now), AFTER_START);
        assert_eq!(wait(ago(30), 24, now), AFTER_START);
        assert_eq!(wait(ago(20), 24, now), Duration::from_secs(4 * 3600));
        assert_eq!(wait(ago(-20), 24, now), AFTER_START);
    }
}
