//! The agent's session: as it was given, or the newest one, as the agent tells it.

use serde_json::Value;
use towline_contract::Timestamp;

use super::error::CaptureError;
use super::packages;

/// Longest that a layout may lie after its session, in seconds (a day): it would describe another state of the host.
const APART_SECONDS_MAX: i64 = 24 * 3600;

/// How far clocks may differ, in seconds.
const CLOCK_SECONDS: i64 = 300;

/// A session of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentSession {
    /// The agent's name of it.
    pub(crate) id: String,
    /// The point in time that it brings back; now, if it is not known.
    pub(crate) time: Option<Timestamp>,
    /// Bytes of its files.
    pub(crate) bytes: Option<u64>,
}

/// The newest session, by the agent's own list, with the agent's own variables.
///
/// # Errors
/// The agent is none that can be asked, or does not answer.
pub(crate) fn newest(agent: &str) -> Result<AgentSession, CaptureError> {
    let failed = |cause| CaptureError::Agent {
        agent: agent.to_owned(),
        what: "its newest session".into(),
        cause,
    };
    let found = match agent {
        "restic" => {
            let name = rustix::system::uname();
            let name = name.nodename().to_string_lossy();
            let list = ["--no-lock", "snapshots", "--json", "--host", &name];
            restic(&packages::output("restic", &list).map_err(|it| failed(Some(it)))?)
        }
        "borg" => {
            let list = ["list", "--last", "1", "--json"];
            borg(&packages::output("borg", &list).map_err(|it| failed(Some(it)))?)
        }
        _ => None,
    };
    found.ok_or_else(|| failed(None))
}

/// The newest of `restic snapshots --json`.
fn restic(text: &str) -> Option<AgentSession> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    let time = |it: &Value| it["time"].as_str()?.parse::<Timestamp>().ok();
    let newest = list.iter().max_by_key(|it| time(it))?;
    Some(AgentSession {
        id: newest["id"].as_str()?.to_owned(),
        time: Some(time(newest)?),
        // Since version 0.17.
        bytes: newest["summary"]["total_bytes_processed"].as_u64(),
    })
}

/// The last of `borg list --json`, run in UTC.
fn borg(text: &str) -> Option<AgentSession> {
    let list: Value = serde_json::from_str(text).ok()?;
    let newest = list["archives"].as_array()?.last()?;
    let time = newest["time"].as_str()?;
    Some(AgentSession {
        id: newest["name"].as_str()?.to_owned(),
        time: Some(format!("{time}Z").parse().ok()?),
        bytes: None,
    })
}

/// Whether a layout of this moment can belong to a session of that time.
///
/// # Errors
/// The session is in the future, or much older.
pub(super) fn check_times(session: Timestamp, captured: Timestamp) -> Result<(), CaptureError> {
    let apart = captured.as_second() - session.as_second();
    if apart < -CLOCK_SECONDS {
        return Err(CaptureError::Times(format!(
            "the session's time, {session}, is in the future"
        )));
    }
    if apart > APART_SECONDS_MAX {
        let hours = apart / 3600;
        return Err(CaptureError::Times(format!(
            "the session is {hours} hours old: the layout of this moment does not belong to it"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshot_of_restic_is_taken_by_its_time() {
        let text = r#"[
            {"time": "2026-06-01T04:00:00.5+02:00", "id": "aaaa", "hostname": "web1"},
            {"time": "2026-06-01T01:00:00Z", "id": "bbbb", "summary": {"total_bytes_processed": 7}}
        ]"#;
        let found = restic(text).unwrap();
        assert_eq!((found.id.as_str(), found.bytes), ("aaaa", None));
        assert_eq!(found.time, "2026-06-01T02:00:00.5Z".parse().ok());
        assert_eq!(restic("[]"), None);
    }

    #[test]
    fn the_last_archive_of_borg_is_taken() {
        let text = r#"{"archives": [{"name": "web1-1", "time": "2026-06-01T02:00:00.000000"}], "encryption": {}}"#;
        let found = borg(text).unwrap();
        assert_eq!(found.id, "web1-1");
        assert_eq!(found.time, "2026-06-01T02:00:00Z".parse().ok());
    }

    #[test]
    fn a_layout_does_not_belong_to_a_session_of_the_day_before_yesterday_or_of_tomorrow() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-06-03T02:00:00Z");
        assert!(check_times(at("2026-06-03T01:00:00Z"), now).is_ok());
        assert!(check_times(at("2026-06-03T02:01:00Z"), now).is_ok());
        assert!(check_times(at("2026-06-01T02:00:00Z"), now).is_err());
        assert!(check_times(at("2026-06-04T02:00:00Z"), now).is_err());
    }
}
