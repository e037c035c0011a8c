//! The logs of a ReaR that ran from a folder of its own.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::commands;

/// Where any ReaR leaves its logs on the recovered host.
const LOGS: &str = "var/log/rear/recover";

/// Longest that copying may take.
const COPY_WAIT: Duration = Duration::from_secs(60);

/// A ReaR that runs from the folder `prefix` leaves its logs below that folder of the target, where a host has none; they
/// belong where any other ReaR leaves them, beside what an earlier recovery of the host left there. Why not, if they
/// cannot be moved.
pub(super) async fn move_home(target: &Path, prefix: &Path) -> Result<(), String> {
    let below = prefix.strip_prefix("/").unwrap_or(prefix);
    let (from, to) = (target.join(below).join(LOGS), target.join(LOGS));
    let said = |error: io::Error| error.to_string();
    fs::create_dir_all(&to).map_err(said)?;
    let (source, destination) = (from.to_string_lossy(), to.to_string_lossy());
    let words = ["cp", "-aT", &source, &destination];
    let copied = commands::run_words(&words, COPY_WAIT).await.map_err(said)?;
    if !copied.success {
        return Err(copied.said());
    }
    fs::remove_dir_all(&from).map_err(said)?;
    // ReaR has put links to them into root's home.
    let left = Path::new("/").join(below).join(LOGS);
    for entry in fs::read_dir(target.join("root"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        if let Ok(name) = link.strip_prefix(&left) {
            let link = Path::new("/").join(LOGS).join(name);
            let _ = fs::remove_file(entry.path()).and_then(|()| symlink(link, entry.path()));
        }
    }
    // The folders above them, unless the host has something in one.
    let own = from.ancestors().skip(1);
    for folder in own.take_while(|it| *it != target.join("usr")) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_logs_of_a_portable_rear_lie_where_any_rear_leaves_them_and_its_folders_are_gone() {
        let host = tempfile::tempdir().unwrap();
        let prefix = Path::new("/usr/lib/towline/rear");
        let from = host
            .path()
            .join("usr/lib/towline/rear/var/log/rear/recover");
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("rear.log"), "it").unwrap();
        fs::write(host.path().join("usr/lib/own"), "the host's").unwrap();
        // As a host has them that was recovered before.
        let to = host.path().join("var/log/rear/recover");
        fs::create_dir_all(to.join("layout")).unwrap();
        fs::write(to.join("layout/older"), "it").unwrap();
        let link = host.path().join("root/rear.log");
        fs::create_dir(host.path().join("root")).unwrap();
        symlink("/usr/lib/towline/rear/var/log/rear/recover/rear.log", &link).unwrap();
        move_home(host.path(), prefix).await.unwrap();
        let log = Path::new("/var/log/rear/recover/rear.log");
        assert_eq!(fs::read_link(link).unwrap(), log);
        let log = to.join("rear.log");
        assert_eq!(fs::read_to_string(log).unwrap(), "it");
        assert!(!host.path().join("usr/lib/towline").exists());
        assert!(host.path().join("usr/lib/own").exists());
        // Nothing to move, and nothing of the host's goes.
        assert!(move_home(host.path(), prefix).await.is_err());
        assert!(host.path().join("var/log/rear/recover/rear.log").exists());
    }
}
