//! A site whose recipes follow what is outside, an archive's packages or its makers' releases: how it looks, and what it has then.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::World;

/// The day on which the files of version 1 were made, in seconds since 1970.
pub(super) const DAY_1: u64 = 1_760_000_000;
pub(super) const DAY: u64 = 86_400;

/// Such a site, with the recipe `tool` in it.
pub(super) trait Follows: Sized {
    /// With version 1 to be had, and not published.
    fn new() -> Self;

    fn world(&self) -> &World;

    /// `towline` in the site's folder, as it reaches what is followed.
    fn towline(&self, arguments: &[&str]) -> Command;

    /// With version 1 published.
    fn published() -> Self {
        let site = Self::new();
        let said = site.succeeds(&["recipes/tool.toml"]);
        assert_eq!(said, "published agent/tool/1/amd64\n");
        site
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.world().site().join(name), text).expect("a file");
    }

    fn command(&self, more: &[&str]) -> Command {
        self.towline(&[&["-q", "catalogue", "refresh"], more].concat())
    }

    fn refresh(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("towline runs")
    }

    #[track_caller]
    fn succeeds(&self, more: &[&str]) -> String {
        let output = self.refresh(more);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// It ends so, says this, and leaves the catalogue as it is.
    #[track_caller]
    fn changes_nothing(&self, exit: i32, says: &[&str]) {
        let before = self.world().timestamp();
        let output = self.refresh(&[]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{talk}");
        for part in says {
            assert!(talk.contains(part), "{part:?} is not in: {talk}");
        }
        assert!(self.world().timestamp() == before, "nothing was signed");
    }

    /// Looks, and is killed after `wait` with all that it has started.
    fn is_killed_after(&self, wait: Duration) {
        let mut command = self.command(&[]);
        let child = command.process_group(0).stdout(Stdio::null()).spawn();
        let mut child = child.expect("towline runs");
        std::thread::sleep(wait);
        let group = i32::try_from(child.id()).expect("a number");
        // It may have ended by itself.
        let _ = kill_process_group(Pid::from_raw(group).expect("a group"), Signal::KILL);
        child.wait().expect("it has ended");
    }

    /// The server looks, and the last look was long ago.
    fn is_due(&self) {
        let mut record = self.record();
        record["looked"] = "2025-01-01T00:00:00Z".into();
        self.write("state/tracked/tool.json", &record.to_string());
        self.has_timer();
    }

    /// The server looks once a day.
    fn has_timer(&self) {
        let config = self.world().site().join("towline.toml");
        let text = fs::read_to_string(config).expect("a configuration");
        self.write("towline.toml", &(text + "\n[track]\nhours = 24\n"));
    }

    /// What is known of the recipe.
    fn record(&self) -> Value {
        let path = self.world().site().join("state/tracked/tool.json");
        serde_json::from_slice(&fs::read(path).expect("a record")).expect("JSON")
    }

    /// Targets of all layers.
    fn targets(&self) -> Vec<String> {
        let list = self.world().succeeds(&["catalogue", "list", "--json"]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let targets = list.as_array().expect("a list").iter();
        let targets = targets.filter_map(|it| it["target"].as_str());
        targets.map(str::to_owned).collect()
    }

    /// Those of agents' layers.
    fn agents(&self) -> Vec<String> {
        let mut targets = self.targets();
        targets.retain(|it| it.starts_with("agent/"));
        targets
    }
}
