//! What an agent leaves running. It would keep the recreated file systems busy, so it ends with the restore.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::console::Console;
use crate::progress::Progress as _;

/// Rounds in which they are ended: kindly in the first. What one of them leaves comes up in the next.
const ROUNDS: u32 = 5;

/// How long a round waits for them.
const ROUND: Duration = Duration::from_secs(2);

/// From now on, processes whose parents are gone belong to this process and not to PID 1.
pub(super) fn adopt() {
    let own = rustix::process::getpid();
    // A kernel before 3.4 has none of this; then they stay, as they would have.
    let _ = rustix::process::set_child_subreaper(Some(own));
}

/// Ends all processes that this one has, and waits for their end.
pub(super) async fn end(console: &Console) {
    for round in 0..ROUNDS {
        let children = children();
        if children.is_empty() {
            return;
        }
        if round == 0 {
            console.note(format_args!(
                "processes that the agent has left, which are ended: {}",
                children.len()
            ));
        }
        let signal = if round == 0 {
            Signal::TERM
        } else {
            Signal::KILL
        };
        for pid in &children {
            let _ = rustix::process::kill_process(*pid, signal);
        }
        tokio::time::sleep(ROUND).await;
        for pid in children {
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
    console.warn(format_args!("a process of the agent cannot be ended"));
}

fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let mine = processes.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent(&stat) == Some(own)
    });
    mine.filter_map(Pid::from_raw).collect()
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
