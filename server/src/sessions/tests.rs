use super::*;
use crate::fixture::{published, session};
use towline_contract::agent::Agent;

const DAY: &str = "2026-06-03T02:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        capture_lag_hours: 24,
        architecture: Some("amd64".into()),
    }
}

/// A session of host web1, captured a minute after it.
fn web1(version: &str, time: &str) -> Published {
    let mut layer = published(Kind::Host, "web1", version);
    let captured = at(time) + SignedDuration::from_mins(1);
    layer.manifest.session = Some(session(at(time), captured));
    layer
}

fn agent(name: &str) -> Published {
    let mut layer = published(Kind::Agent, name, "1");
    let restore = r#"{"restore": ["restic", "restore", "{session}"]}"#;
    layer.manifest.agent = Some(serde_json::from_str::<Agent>(restore).unwrap());
    layer
}

/// Three days of web1, and another host.
fn layers() -> Vec<Published> {
    let mut other = web1("s9", DAY);
    other.target.name = "web2".into();
    vec![
        agent("restic"),
        web1("s1", "2026-06-01T02:00:00Z"),
        web1("s3", DAY),
        web1("s2", "2026-06-02T02:00:00Z"),
        other,
    ]
}

fn chosen(layers: &[Published], choice: &Choice) -> String {
    let found = choose("web1", layers, choice, &rules()).unwrap();
    found.target.version.clone()
}

fn refused(layers: &[Published], choice: &Choice) -> String {
    let refusal = choose("web1", layers, choice, &rules()).unwrap_err();
    format!("{} | {}", refusal.message, refusal.next.unwrap())
}

/// The layers with the newest session of web1 changed.
fn with(edit: impl FnOnce(&mut Published)) -> Vec<Published> {
    let mut layers = layers();
    edit(&mut layers[2]);
    layers
}

fn session_of(layer: &mut Published) -> &mut Session {
    layer.manifest.session.as_mut().unwrap()
}

#[test]
fn the_newest_point_in_time_is_taken_whatever_was_captured_last() {
    assert_eq!(chosen(&layers(), &Choice::Newest), "s3");
    let mut layers = layers();
    let late = SignedDuration::from_hours(23);
    session_of(&mut layers[1]).captured += late;
    layers[1].manifest.created = at("2026-06-30T00:00:00Z");
    assert_eq!(chosen(&layers, &Choice::Newest), "s3");
}

#[test]
fn a_session_is_named_by_its_version_or_by_its_agent() {
    let layers = with(|layer| session_of(layer).backup.session = "4bba301e".into());
    for id in ["s3", "4bba301e"] {
        assert_eq!(chosen(&layers, &Choice::Id(id.into())), "s3");
    }
}

#[test]
fn a_session_that_is_not_there_is_not_replaced_by_another_one() {
    let text = refused(&layers(), &Choice::Id("s4".into()));
    assert!(text.contains("no session \"s4\""), "{text}");
    for version in ["s1", "s2", "s3"] {
        assert!(text.contains(version), "{text}");
    }
    assert!(!text.contains("s9"), "{text}");
    assert!(text.find("s3 of").unwrap() < text.find("s1 of").unwrap());
}

#[test]
fn of_a_backup_that_was_captured_twice_one_must_be_named() {
    let mut layers = layers();
    for layer in &mut layers[1..3] {
        session_of(layer).backup.session = "4bba301e".into();
    }
    let text = refused(&layers, &Choice::Id("4bba301e".into()));
    assert!(text.contains("s1") && text.contains("s3"), "{text}");
    assert!(!text.contains("s2"), "{text}");
}

#[test]
fn a_time_means_the_nearest_session_at_or_before_it_and_never_a_later_one() {
    for (wanted, version) in [
        ("2026-06-02T01:59:59Z", "s1"),
        ("2026-06-02T02:00:00Z", "s2"),
        ("2026-06-02T20:00:00Z", "s2"),
        ("2030-01-01T00:00:00Z", "s3"),
    ] {
        assert_eq!(chosen(&layers(), &Choice::At(at(wanted))), version);
    }
    let text = refused(&layers(), &Choice::At(at("2026-06-01T01:59:59Z")));
    assert!(text.contains("at or before"), "{text}");
    assert!(text.contains("s1 of 2026-06-01T02:00:00Z"), "{text}");
}

#[test]
fn an_unknown_host_is_not_recovered_as_another_one() {
    let refusal = choose("web3", &layers(), &Choice::Newest, &rules()).unwrap_err();
    assert!(refusal.message.contains("web3"));
}

#[test]
fn a_layout_of_before_its_session_or_of_long_after_it_is_refused_with_both_times() {
    for (captured, says) in [
        ("2026-06-03T01:54:00Z", "before"),
        ("2026-06-05T02:00:00Z", "48 hours after"),
    ] {
        let layers = with(|layer| session_of(layer).captured = at(captured));
        let text = refused(&layers, &Choice::Newest);
        for part in [captured, DAY, says, "capture_lag_hours"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(chosen(&layers, &Choice::Id("s2".into())), "s2");
    }
    // Clocks differ by some minutes.
    let layers = with(|layer| session_of(layer).captured = at("2026-06-03T01:56:00Z"));
    assert_eq!(chosen(&layers, &Choice::Newest), "s3");
}

#[test]
fn a_session_whose_agent_is_not_published_or_cannot_restore_is_refused() {
    let mut gone = layers();
    gone[0] = agent("borg");
    let text = refused(&gone, &Choice::Newest);
    assert!(text.contains("\"restic\"") && text.contains("towline publish"));

    let mut dumb = layers();
    dumb[0].manifest.agent = None;
    let text = refused(&dumb, &Choice::Newest);
    assert!(text.contains("agent/restic/1/amd64") && text.contains("[agent]"));
}

#[test]
fn an_agent_of_another_architecture_does_not_do() {
    let mut layers = layers();
    layers[0].target.architecture = "arm64".into();
    let text = refused(&layers, &Choice::Newest);
    assert!(
        text.contains("for amd64") && text.contains("restic/1/arm64"),
        "{text}"
    );
}

#[test]
fn a_host_is_not_recovered_on_a_machine_of_another_architecture() {
    let layers = with(|layer| session_of(layer).hardware.architecture = "arm64".into());
    let text = refused(&layers, &Choice::Newest);
    assert!(text.contains("arm64") && text.contains("amd64"), "{text}");
}

#[test]
fn a_host_layer_that_names_no_backup_is_refused() {
    let layers = with(|layer| {
        layer.manifest.session = None;
        layer.manifest.created = at("2026-07-01T00:00:00Z");
    });
    let text = refused(&layers, &Choice::Newest);
    assert!(text.contains("which backup"), "{text}");
    let before = Choice::At(at("2026-08-01T00:00:00Z"));
    assert_eq!(chosen(&layers, &before), "s2");
}
