use super::chain::tests::{checked, now, time};
use super::*;
use crate::catalogue::Published;

/// What is found after `change` of the layers, with a drill of some weeks ago.
fn found(change: impl FnOnce(&mut Vec<Published>)) -> Vec<Finding> {
    found_with(change, Some(drilled("2026-11-01T00:00:00Z", true)))
}

fn found_with(
    change: impl FnOnce(&mut Vec<Published>),
    drill: impl IntoIterator<Item = LastDrill>,
) -> Vec<Finding> {
    let chain = checked(change);
    let facts = HostFacts {
        host: "web1",
        waiting: false,
        revoked: None,
        chain: &chain,
        credentials: None,
        drills: drill.into_iter().collect(),
        seen_current: None,
    };
    host(&facts, DoctorConfig::default(), now())
}

fn drilled(at: &str, passed: bool) -> LastDrill {
    LastDrill {
        time: time(at),
        restore: false,
        passed,
        what: "no rescue system within 15 minutes".into(),
    }
}

pub(super) fn only(findings: &[Finding], level: Level, word: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].level, level, "{findings:?}");
    assert!(findings[0].what.contains(word), "{findings:?}");
}

#[test]
fn a_host_with_all_it_needs_is_recoverable() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn a_host_whose_key_was_revoked_is_a_warning_and_its_sessions_may_be_old() {
    let chain = checked(|layers| {
        let session = layers[3].manifest.session.as_mut().unwrap();
        session.time = time("2026-10-20T02:00:00Z");
        session.captured = session.time;
    });
    let facts = HostFacts {
        host: "web1",
        waiting: false,
        revoked: Some(time("2026-10-21T02:00:00Z")),
        chain: &chain,
        credentials: None,
        drills: vec![drilled("2026-11-01T00:00:00Z", true)],
        seen_current: None,
    };
    let findings = host(&facts, DoctorConfig::default(), now());
    only(
        &findings,
        Level::Warning,
        "its key was revoked at 2026-10-21",
    );
}

#[test]
fn an_old_session_is_a_problem() {
    let findings = found(|layers| {
        let session = layers[3].manifest.session.as_mut().unwrap();
        session.time = time("2026-11-20T02:00:00Z");
        session.captured = session.time;
    });
    only(&findings, Level::Problem, "97 hours old");
}

#[test]
fn an_agent_of_long_ago_is_a_warning_that_names_what_must_be_current() {
    let findings = found(|layers| layers[2].manifest.created = time("2026-01-01T00:00:00Z"));
    only(
        &findings,
        Level::Warning,
        "(restic 0.18.0-1) is of 327 days ago",
    );
}

#[test]
fn an_old_agent_that_was_seen_to_be_what_upstream_has_is_no_warning() {
    let chain = checked(|layers| {
        layers[2].manifest.created = time("2026-01-01T00:00:00Z");
    });
    let seen = |text: &str| {
        let facts = HostFacts {
            host: "web1",
            waiting: false,
            revoked: None,
            chain: &chain,
            credentials: None,
            drills: vec![drilled("2026-11-01T00:00:00Z", true)],
            seen_current: Some(time(text)),
        };
        host(&facts, DoctorConfig::default(), now())
    };
    assert_eq!(seen("2026-11-20T00:00:00Z"), []);
    only(&seen("2026-11-01T00:00:00Z"), Level::Warning, "days ago");
    // Of a clock that was wrong.
    only(&seen("2027-11-01T00:00:00Z"), Level::Warning, "days ago");
}

#[test]
fn what_keeps_a_chain_from_starting_keeps_its_host_from_being_recovered() {
    let findings = found(|layers| drop(layers.remove(0)));
    only(&findings, Level::Problem, "no kernel layer");
}

#[test]
fn a_host_without_approval_or_session_is_a_problem_and_nothing_more_is_said() {
    let chain = checked(|layers| layers.truncate(3));
    for (waiting, word, next) in [
        (true, "approved", "towline host approve web1"),
        (false, "no session", "towline capture"),
    ] {
        let facts = HostFacts {
            host: "web1",
            waiting,
            revoked: None,
            chain: &chain,
            credentials: Some("others may read it".into()),
            drills: vec![],
            seen_current: None,
        };
        let findings = host(&facts, DoctorConfig::default(), now());
        only(&findings, Level::Problem, word);
        assert!(findings[0].next.contains(next), "{findings:?}");
    }
}

#[test]
fn credentials_that_a_recovery_would_refuse_are_a_problem() {
    let chain = checked(|_| {});
    let facts = HostFacts {
        host: "web1",
        waiting: false,
        revoked: None,
        chain: &chain,
        credentials: Some("others may read its files".into()),
        drills: vec![drilled("2026-11-01T00:00:00Z", true)],
        seen_current: None,
    };
    let findings = host(&facts, DoctorConfig::default(), now());
    only(&findings, Level::Problem, "others may read its files");
}

#[test]
fn drills_that_are_missing_old_or_failed_are_told() {
    let old = Some(drilled("2026-01-01T00:00:00Z", true));
    let failed = Some(drilled("2026-11-20T00:00:00Z", false));
    for (drill, level, word) in [
        (None, Level::Warning, "never"),
        (old, Level::Warning, "327 days"),
        (failed, Level::Problem, "failed: no rescue system"),
    ] {
        let findings = found_with(|_| {}, drill);
        only(&findings, level, word);
        assert!(findings[0].next.contains("towline drill web1"));
    }
}

#[test]
fn a_restore_that_failed_is_a_problem_until_one_passes_whatever_else_did() {
    let of = |at, restore, passed| LastDrill {
        restore,
        ..drilled(at, passed)
    };
    let (first, second) = ("2026-11-10T00:00:00Z", "2026-11-20T00:00:00Z");
    let hidden = [of(first, true, false), of(second, false, true)];
    let findings = found_with(|_| {}, hidden);
    only(&findings, Level::Problem, "failed");
    assert!(findings[0].next.ends_with("--restore"), "{findings:?}");
    // Of each kind it is the last one: a restore that passed has no failed one beside it, and makes a failed start good.
    let well = [of(first, false, false), of(second, true, true)];
    assert_eq!(found_with(|_| {}, well), []);
    let worse = [of(first, true, true), of(second, false, false)];
    only(&found_with(|_| {}, worse), Level::Problem, "failed");
}

#[test]
fn an_expiry_is_told_ninety_days_before_and_urgent_in_the_last_week() {
    let at = |text| expiry("the targets", time(text), now(), "sign them again");
    assert_eq!(at("2027-03-01T00:00:00Z"), None);
    assert_eq!(at("2027-01-01T00:00:00Z").unwrap().level, Level::Warning);
    assert_eq!(at("2026-11-28T00:00:00Z").unwrap().level, Level::Problem);
    let past = at("2026-11-01T00:00:00Z").unwrap();
    assert!(past.what.contains("expired"), "{past:?}");
}
