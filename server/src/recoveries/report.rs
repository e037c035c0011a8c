//! The report of a recovery, out of its journal: steps with their times, bytes, versions and checks. A pure function.

use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::event::{CheckResult, What};

use super::progress::{Entry, Happened};
use crate::events;

/// What is told of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What happened, in order. Of the progress of a restore, only where it stood last.
    pub steps: Vec<Step>,
    /// Target names of the layers that the machine was given last: the versions.
    pub layers: Vec<String>,
    /// Stored bytes of the layers that it fetched, the last time.
    pub layer_bytes: u64,
    /// Bytes that the agent restored.
    pub restored_bytes: Option<u64>,
    /// Seconds that the restore took.
    pub restore_seconds: Option<u64>,
    /// Seconds from the first write to a disk to the end.
    pub recovery_seconds: Option<u64>,
    /// Seconds from the first use of the code to the first start of the host.
    pub total_seconds: Option<i64>,
    /// Checks of the rescue system, and of the recovered host.
    pub checks: Vec<CheckResult>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What, for people; text of machines in it is their own.
    pub what: String,
}

impl Report {
    /// The report of this journal.
    #[must_use]
    pub fn of(journal: &[Entry]) -> Self {
        let mut report = Self::default();
        let mut began = None;
        for (index, entry) in journal.iter().enumerate() {
            let passing = is_progress(entry) && journal.get(index + 1).is_some_and(is_progress);
            if !passing {
                let what = sentence(&entry.what);
                report.steps.push(Step { at: entry.at, what });
            }
            match &entry.what {
                Happened::CodeUsed { chain, .. } => {
                    began.get_or_insert(entry.at);
                    report.layers.clone_from(chain);
                    (report.layer_bytes, report.checks) = (0, Vec::new());
                }
                Happened::Reported { event, .. } => {
                    report.take(event);
                    if let (What::FirstBoot { .. }, Some(began)) = (event, began) {
                        report.total_seconds = Some(entry.at.duration_since(began).as_secs());
                    }
                }
                _ => {}
            }
        }
        report
    }

    fn take(&mut self, event: &What) {
        match event {
            What::LayerPlaced { bytes, .. } => {
                self.layer_bytes = self.layer_bytes.saturating_add(*bytes);
            }
            What::RescueReady { checks, .. } => self.checks.clone_from(checks),
            What::Restored { bytes, seconds } => {
                (self.restored_bytes, self.restore_seconds) = (Some(*bytes), Some(*seconds));
            }
            What::Recovered { seconds, checks } => {
                self.recovery_seconds = Some(*seconds);
                self.checks.extend(checks.iter().cloned());
            }
            _ => {}
        }
    }
}

/// What happened, for people; text of machines in it is their own.
#[must_use]
pub fn sentence(what: &Happened) -> String {
    match what {
        Happened::Opened { by } => format!("opened by {by}"),
        Happened::CodeBound { machine, address } => format!(
            "code bound to {} at {address}, {}",
            machine.model.as_deref().unwrap_or("a machine"),
            machine.macs.join(" ")
        ),
        Happened::CodeUsed {
            machine,
            address,
            chain,
            ..
        } => {
            let model = machine.model.as_deref().unwrap_or("a machine");
            format!(
                "code used by {model} at {address}, {}: given {}",
                machine.macs.join(" "),
                chain.join(" ")
            )
        }
        Happened::CodeRefused { address, why, .. } => format!("code from {address} refused: {why}"),
        Happened::Reported { event, .. } => events::words(event),
        Happened::Closed { why } => format!("closed: {why}"),
    }
}

fn is_progress(entry: &Entry) -> bool {
    let restoring = |event: &What| matches!(event, What::Restoring { .. });
    matches!(&entry.what, Happened::Reported { event, .. } if restoring(event))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{NOW, machine};
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn a_report_has_the_steps_with_times_bytes_versions_and_checks() {
        let start: Timestamp = NOW.parse().unwrap();
        let check = CheckResult {
            layer: "host/web1/s1/amd64".into(),
            name: "kernel".into(),
            passed: true,
            output: "vmlinuz-6.1".into(),
        };
        let restoring = |bytes| What::Restoring { bytes, total: None };
        let events = [
            What::LayerPlaced {
                target: "base/debian/12/amd64".into(),
                bytes: 7,
                milliseconds: 1,
            },
            restoring(1),
            restoring(2),
            What::Restored {
                bytes: 3,
                seconds: 20,
            },
            What::Recovered {
                seconds: 40,
                checks: vec![check.clone()],
            },
            What::FirstBoot {
                hostname: "web1".into(),
                kernel_release: "6.1".into(),
                key: None,
            },
        ];
        let used = Happened::CodeUsed {
            machine: machine(&["52:54:00:00:00:01"], "a"),
            address: [192, 0, 2, 1].into(),
            report_key: None,
            chain: vec!["base/debian/12/amd64".into()],
        };
        let reported = events.map(|event| Happened::Reported {
            address: [192, 0, 2, 1].into(),
            uptime_seconds: 1,
            number: 1,
            event,
        });
        let journal: Vec<_> = (0..)
            .zip([used].into_iter().chain(reported))
            .map(|(second, what)| Entry {
                at: start + SignedDuration::from_secs(10 * second),
                what,
            })
            .collect();
        let report = Report::of(&journal);
        let words: Vec<_> = report.steps.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(words.len(), 6, "the progress is one step: {words:?}");
        assert_eq!(words[2], "restored 2 bytes");
        assert_eq!(report.layers, ["base/debian/12/amd64"]);
        assert_eq!((report.layer_bytes, report.restored_bytes), (7, Some(3)));
        assert_eq!(report.recovery_seconds, Some(40));
        assert_eq!(report.total_seconds, Some(60));
        assert_eq!(report.checks, [check]);
    }
}
