//! What an agent leaves running. It would keep the recreated file systems busy, so it ends with the restore.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::console::Console;
use crate::progress::Progress as _;

/// How long they have to end by themselves once they are asked to, and once they are made to.
const KINDLY: Duration = Duration::from_secs(20);
const FOR_CERTAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether they have ended.
const PAUSE: Duration = Duration::from_millis(100);

/// From now on, processes whose parents are gone belong to this process and not to PID 1.
pub(super) fn adopt() {
    let own = rustix::process::getpid();
    // A kernel before 3.4 has none of this; then they stay, as they would have.
    let _ = rustix::process::set_child_subreaper(Some(own));
}

/// Ends all processes that this one has, and waits for their end.
pub(super) async fn end(console: &Console) {
    let left = running();
    if left.is_empty() {
        return;
    }
    console.note(format_args!(
        "processes that the agent has left, which are ended: {}",
        left.len()
    ));
    for (signal, patience) in [(Signal::TERM, KINDLY), (Signal::KILL, FOR_CERTAIN)] {
        let until = Instant::now() + patience;
        // What one of them leaves comes up after its end.
        let mut asked = Vec::new();
        loop {
            let left = running();
            if left.is_empty() {
                return;
            }
            for pid in left.iter().filter(|it| !asked.contains(*it)) {
                let _ = rustix::process::kill_process(*pid, signal);
            }
            asked = left;
            if Instant::now() > until {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    console.warn(format_args!("a process of the agent cannot be ended"));
}

/// The processes that this one has and that have not ended; those that have are let go.
fn running() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let mine = processes.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent(&stat) == Some(own)
    });
    let mine = mine.filter_map(Pid::from_raw);
    let runs = |pid: &Pid| {
        let ended = rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG);
        matches!(ended, Ok(None))
    };
    mine.filter(runs).collect()
}

/// The parent in a line of `/proc/PID/stat` (proc(5)): the name before it may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_named_like_its_own_line_has_its_real_parent() {
        assert_eq!(parent("7 (a) S 1 (b)) S 42 7 7 0"), Some(42));
        assert_eq!(parent(""), None);
    }
}
