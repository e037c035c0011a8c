use towline_contract::agent::Agent;
use towline_contract::session::{Backup, Hardware, Session};

use super::*;
use crate::fixture::manifest;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-11-24T03:00:00Z")
}

/// A host layer of this night's session.
fn newest() -> Manifest {
    let mut layer = manifest(Kind::Host, "web1", "20261124t020000z");
    layer.session = Some(Session {
        time: time("2026-11-24T02:00:00Z"),
        captured: time("2026-11-24T02:01:00Z"),
        hostname: "web1".into(),
        backup: Backup {
            agent: "restic".into(),
            version: "0.14.0".into(),
            session: "4f6a".into(),
            bytes: None,
        },
        rear: "2.7".into(),
        hardware: Hardware {
            architecture: "amd64".into(),
            uefi: false,
            secure_boot: false,
            memory_kib: 1 << 20,
            pci: vec![],
            modules: vec!["ahci".into()],
            disks: vec![],
            boot_loaders: vec![],
        },
    });
    layer.requires.modules = vec!["ahci".into()];
    layer
}

fn chain() -> Vec<Manifest> {
    let mut kernel = manifest(Kind::Kernel, "debian", "6.1");
    kernel.provides.modules = vec!["ahci".into()];
    let mut agent = manifest(Kind::Agent, "restic", "0.18");
    agent.agent = Some(Agent {
        restore: vec!["restic".into()],
        check: vec![],
        sessions: vec![],
        progress: Default::default(),
        environment: Default::default(),
        database: None,
        keep_database: false,
        install: None,
        current: vec![],
    });
    vec![kernel, manifest(Kind::Base, "debian", "12"), agent]
}

/// What is found after `change`.
fn found(change: impl FnOnce(&mut Manifest, &mut Vec<Manifest>)) -> Vec<Finding> {
    let (mut newest, mut chain) = (newest(), chain());
    change(&mut newest, &mut chain);
    let facts = HostFacts {
        waiting: false,
        newest: Some(&newest),
        chain: chain.iter().collect(),
        drill: Some((time("2026-11-01T00:00:00Z"), true)),
    };
    host(&facts, Ages::default(), now())
}

fn only(findings: &[Finding], level: Level, word: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].level, level, "{findings:?}");
    assert!(findings[0].what.contains(word), "{findings:?}");
}

#[test]
fn a_host_with_all_it_needs_is_recoverable() {
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn an_old_session_is_a_problem() {
    let findings = found(|newest, _| {
        let session = newest.session.as_mut().unwrap();
        session.time = time("2026-11-20T02:00:00Z");
        session.captured = session.time;
    });
    only(&findings, Level::Problem, "97 hours old");
}

#[test]
fn a_layout_from_another_day_than_its_backup_is_a_warning() {
    let findings = found(|newest, _| {
        newest.session.as_mut().unwrap().time = time("2026-11-22T20:00:00Z");
    });
    only(&findings, Level::Warning, "30 hours after");
}

#[test]
fn a_missing_agent_and_one_that_cannot_restore_are_problems() {
    only(
        &found(|_, chain| drop(chain.pop())),
        Level::Problem,
        "no agent layer \"restic\"",
    );
    only(
        &found(|_, chain| chain[2].agent = None),
        Level::Problem,
        "how a session is restored",
    );
}

#[test]
fn a_kernel_without_the_hosts_driver_is_a_problem() {
    let findings = found(|_, chain| chain[0].provides.modules.clear());
    only(&findings, Level::Problem, "ahci");
}

#[test]
fn a_chain_larger_than_the_hosts_memory_is_a_problem() {
    let findings = found(|_, chain| chain[1].unpacked_bytes = 900 << 20);
    only(&findings, Level::Problem, "1200 MiB");
}

#[test]
fn a_host_without_approval_or_session_is_a_problem_and_nothing_more_is_said() {
    for (waiting, word) in [(true, "approved"), (false, "no session")] {
        let facts = HostFacts {
            waiting,
            newest: None,
            chain: vec![],
            drill: None,
        };
        only(&host(&facts, Ages::default(), now()), Level::Problem, word);
    }
}

#[test]
fn drills_that_are_missing_old_or_failed_are_told() {
    let old = Some((time("2026-01-01T00:00:00Z"), true));
    let failed = Some((time("2026-11-20T00:00:00Z"), false));
    for (drill, level, word) in [
        (None, Level::Warning, "never"),
        (old, Level::Warning, "327 days"),
        (failed, Level::Problem, "failed"),
    ] {
        let (newest, chain) = (newest(), chain());
        let facts = HostFacts {
            waiting: false,
            newest: Some(&newest),
            chain: chain.iter().collect(),
            drill,
        };
        only(&host(&facts, Ages::default(), now()), level, word);
    }
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
