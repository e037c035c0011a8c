//! The timer of `towline serve`: runs `towline catalogue refresh` beside the server, in a process of its own. That one has the
//! keys which sign layers, if they are on this machine at all, and parses what archives send; it gets what processor time the
//! server leaves, and a time after which it is ended, with all that it has started.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::SignedDuration;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, getppid, kill_current_process_group,
    kill_process, kill_process_group, waitid,
};
use tokio::process::Command;
use tokio::time::timeout;
use towline_contract::Timestamp;
use towline_server::Site;
use towline_server::tracked::record::Records;

/// How long a server that has just started answers machines before anything else.
const AFTER_START: Duration = Duration::from_secs(5);

/// Longest look. The largest recipe is built in an hour on a slow machine; an archive that sends a byte now and then would hold
/// it for ever, and all looks after it.
const LOOK_MAX: Duration = Duration::from_secs(6 * 3600);

/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long what is told to end has for that.
const END_MAX: Duration = Duration::from_secs(10);

/// Looks every so many hours, and soon if nobody has for as long; never ends. What fails is logged, and tried when the next
/// look is due.
pub(in crate::commands) async fn keep(site: Site, config: &Path, hours: u16) {
    let mut last = last_look(&site);
    loop {
        tokio::time::sleep(wait(last, hours, Timestamp::now())).await;
        let ended = match command(config) {
            Ok(command) => run(command, LOOK_MAX).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(how) => eprintln!("serve: towline catalogue refresh {how}"),
            Err(error) => eprintln!("serve: cannot run towline catalogue refresh: {error}"),
        }
        last = Some(Timestamp::now());
    }
}

/// When a recipe was looked at, by whomever.
fn last_look(site: &Site) -> Option<Timestamp> {
    let records = Records::of(site);
    for error in &records.unreadable {
        eprintln!("serve: {error}: that recipe is looked at as if for the first time");
    }
    records.all.values().map(|it| it.looked).max()
}

/// This very program, whatever has taken its place on the disk; what it prints goes into the server's log.
fn command(config: &Path) -> io::Result<Command> {
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["catalogue", "refresh", "--in-background"])
        .arg(std::process::id().to_string())
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log));
    Ok(command)
}

/// Runs the command in a process group of its own, for so long at most; says how it ended.
async fn run(mut command: Command, max: Duration) -> io::Result<String> {
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let mut group = Group::of(&child);
    let is_late = timeout(max, group.first_ends()).await.is_err();
    group.signal(Signal::TERM);
    if is_late {
        let _ = timeout(END_MAX, group.first_ends()).await;
        group.signal(Signal::KILL);
    }
    group.is_over();
    let status = child.wait().await?;
    Ok(match is_late {
        true => format!("was ended: it took longer than {max:?}"),
        false => format!("has ended: {status}"),
    })
}

/// A process, and those that it has started: told to end when the server does, or when the first one has ended without them.
///
/// Its number is that of the first one, and nobody else's for as long as nobody has waited for that.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let id = child.id().and_then(|it| i32::try_from(it).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Until the first one has ended; it stays to be waited for.
    async fn first_ends(&self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let goes_on = |pid: Pid| matches!(waitid(WaitId::Pid(pid), look), Ok(None));
        while self.0.is_some_and(goes_on) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// From now on the number may become another's.
    fn is_over(&mut self) {
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

/// Ends this process, and all that it has started, when the server that has started it is there no more: a server that was
/// killed has told nobody to end, perhaps before this one has begun. Where the group is not of its own, others in it are left
/// alone.
pub(super) fn end_with_server(server: u32) {
    let server = i32::try_from(server).ok().and_then(Pid::from_raw);
    std::thread::spawn(move || {
        while getppid() == server {
            std::thread::sleep(Duration::from_secs(1));
        }
        let _ = match getpgrp() == getpid() {
            true => kill_current_process_group(Signal::TERM),
            false => kill_process(getpid(), Signal::TERM),
        };
    });
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

    /// Runs a shell that starts a program and waits for it; gives how that ended, and the program's number.
    fn of_shell(max: Duration, is_dropped: bool) -> (Option<String>, i32) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!(
            "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let how = runtime.unwrap().block_on(async {
            let started = async {
                while !file.exists() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let run = run(command, max);
            tokio::pin!(run);
            tokio::select! {
                how = &mut run => return Some(how.unwrap()),
                () = started => {}
            }
            if is_dropped {
                None
            } else {
                Some(run.await.unwrap())
            }
        });
        let pid = std::fs::read_to_string(&file).expect("it has started");
        (how, pid.trim().parse().unwrap())
    }

    /// Whether the process ends, within what a busy machine needs.
    fn ends(pid: i32) -> bool {
        let is_there = || {
            // One that nobody has waited for yet has ended as well.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        for _ in 0..600 {
            if !is_there() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    #[test]
    fn a_look_that_does_not_end_is_ended_with_all_that_it_has_started() {
        let (how, pid) = of_shell(Duration::from_secs(5), false);
        assert_eq!(how.as_deref(), Some("was ended: it took longer than 5s"));
        assert!(ends(pid));
    }

    #[test]
    fn what_a_look_that_has_ended_has_left_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("sleep 1000 & echo $! > {}; exit 3", file.display()),
        ]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let how = runtime
            .unwrap()
            .block_on(run(command, Duration::from_secs(3600)));
        assert_eq!(how.unwrap(), "has ended: exit status: 3");
        let pid = std::fs::read_to_string(&file).unwrap();
        assert!(ends(pid.trim().parse().unwrap()));
    }

    #[test]
    fn a_server_that_ends_ends_its_look_with_all_that_it_has_started() {
        let (how, pid) = of_shell(Duration::from_secs(3600), true);
        assert_eq!(how, None);
        assert!(ends(pid));
    }

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
