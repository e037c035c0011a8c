use super::super::tests::only;
use super::*;
use towline_contract::trust::metadata::Targets;

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn in_hours(hours: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_hours(hours)
}

fn document(role: &str, hours: i64) -> (String, Header) {
    (role.into(), Targets::new(7, in_hours(hours)).header)
}

/// A site that is well.
fn facts() -> SiteFacts {
    let key = |file: &str, what, there| KeyFacts {
        file: file.into(),
        what,
        there: Ok(there),
    };
    SiteFacts {
        documents: vec![
            document("root", 24 * 1000),
            document("timestamp", 12),
            document("snapshot", 24 * 4),
            document("targets", 24 * 300),
        ],
        certificates: vec![GoodUntil {
            what: "authority of this server",
            file: "ca/ca.pem".into(),
            until: Some(in_hours(24 * 3000)),
        }],
        certificate: None,
        waiting: Ok(Vec::new()),
        keys: vec![
            key("keys/root-1.key", KeyUse::Apart, false),
            key("keys/targets.key", KeyUse::Targets, true),
            key("keys/plan.key", KeyUse::Online, true),
        ],
    }
}

fn found(change: impl FnOnce(&mut SiteFacts)) -> Vec<Finding> {
    let mut facts = facts();
    change(&mut facts);
    site(&facts, ValidDays::default(), now())
}

#[test]
fn a_site_whose_server_runs_is_well() {
    assert_eq!(found(|_| {}), []);
    let elsewhere = found(|it| it.keys[1].there = Ok(false));
    assert_eq!(elsewhere, [], "the targets key may be elsewhere");
}

#[test]
fn documents_that_nobody_signs_again_are_told_before_they_expire() {
    for (index, hours, level, word) in [
        (0, 24 * 60, Level::Warning, "version 7 of the root"),
        (0, 24 * 3, Level::Problem, "version 7 of the root"),
        (1, 5, Level::Warning, "no server has signed it again"),
        (1, -1, Level::Problem, "timestamp expired"),
        (2, 24, Level::Warning, "no server has signed it again"),
        (3, 24 * 89, Level::Warning, "targets"),
    ] {
        let findings = found(|it| it.documents[index].1.expires = in_hours(hours));
        only(&findings, level, word);
    }
}

#[test]
fn authorities_that_expire_or_cannot_be_read_are_told() {
    let findings = found(|it| it.certificates[0].until = Some(in_hours(24 * 30)));
    only(&findings, Level::Warning, "ca/ca.pem");
    let findings = found(|it| it.certificates[0].until = None);
    only(&findings, Level::Problem, "no certificate");
    let findings = found(|it| it.certificate = Some("ca/ca.key: no such file".into()));
    only(&findings, Level::Problem, "ca/ca.key: no such file");
}

#[test]
fn root_keys_on_the_server_are_a_warning_and_online_keys_that_cannot_be_used_a_problem() {
    let findings = found(|it| it.keys[0].there = Ok(true));
    only(&findings, Level::Warning, "keys/root-1.key");
    let findings = found(|it| it.keys[2].there = Ok(false));
    only(&findings, Level::Problem, "keys/plan.key is not there");
    let findings = found(|it| it.keys[1].there = Err("it has mode 0644".into()));
    only(&findings, Level::Problem, "keys/targets.key cannot be used");
}

#[test]
fn a_document_that_waits_is_named_with_its_age_the_keys_it_wants_and_what_to_do() {
    let mut facts = facts();
    facts.waiting = Ok(vec![WaitingDocument {
        file: "to-sign/2.root.json".into(),
        since: now(),
        lacking: vec![crate::catalogue::Lacking {
            valid: 1,
            threshold: 2,
            by: vec!["0f78-d872-0254 (root-2)".into()],
        }],
    }]);
    let found = site(&facts, ValidDays::default(), now());
    let [waits] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(waits.level, Level::Warning);
    let what = format!(
        "to-sign/2.root.json waits since {} with 1 of 2 signatures (it can be signed by 0f78-d872-0254 (root-2))",
        now()
    );
    assert_eq!(waits.what, what);
    assert!(waits.next.contains("towline key sign to-sign/2.root.json"));
}
