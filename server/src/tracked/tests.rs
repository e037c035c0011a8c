use super::*;
use crate::fixture::manifest;
use towline_contract::Digest;
use towline_contract::manifest::Kind;

fn agent(version: &str, created: &str, content: &str) -> Manifest {
    let mut layer = manifest(Kind::Agent, "restic", version);
    layer.created = created.parse().unwrap();
    layer.digest = Digest::of(content.as_bytes());
    layer.chunks = vec![layer.digest];
    layer
}

const DAY_1: &str = "2026-11-01T00:00:00Z";
const DAY_2: &str = "2026-11-02T00:00:00Z";

#[test]
fn a_layer_as_it_is_published_needs_no_place() {
    let published = agent("1", DAY_1, "a");
    assert_eq!(place(&published, &[&published]), Place::Same);
    let numbered = agent("1+r2", DAY_1, "a");
    assert_eq!(place(&published, &[&numbered]), Place::Same);
}

#[test]
fn a_newer_version_keeps_its_name() {
    let new = agent("2", DAY_2, "b");
    assert_eq!(place(&new, &[]), Place::As("2".into()));
    let published = agent("1", DAY_1, "a");
    assert_eq!(place(&new, &[&published]), Place::As("2".into()));
}

#[test]
fn other_content_of_one_version_gets_a_number_by_which_machines_take_it() {
    let first = agent("1", DAY_1, "a");
    assert_eq!(
        place(&agent("1", DAY_2, "b"), &[&first]),
        Place::As("1+r2".into())
    );
    // As old, for the newest of its files is the same: the version decides.
    let ninth = agent("1+r9", DAY_1, "b");
    let found = place(&agent("1", DAY_1, "c"), &[&ninth, &first]);
    assert_eq!(found, Place::As("1+r10".into()));
}

#[test]
fn a_layer_that_machines_would_not_take_has_no_place() {
    let newest = agent("2", DAY_2, "b");
    let found = place(&agent("3", DAY_1, "c"), &[&newest]);
    let target = "agent/restic/2/amd64".into();
    let created = newest.created;
    assert_eq!(found, Place::Behind { target, created });
}

#[test]
fn of_the_versions_before_only_so_many_stay_that_the_new_one_makes_the_number_full() {
    let all = [
        agent("3", DAY_2, "c"),
        agent("2", DAY_1, "b"),
        agent("1", DAY_1, "a"),
    ];
    let all: Vec<_> = all.iter().collect();
    assert_eq!(surplus(&all, None), Vec::<String>::new());
    assert_eq!(surplus(&all, Some(4)), Vec::<String>::new());
    assert_eq!(surplus(&all, Some(3)), ["agent/restic/1/amd64"]);
    assert_eq!(surplus(&all, Some(1)).len(), 3);
}

#[test]
fn versions_are_those_of_one_name_and_architecture_as_machines_take_them() {
    let mut layers = vec![
        agent("1", DAY_1, "a"),
        agent("3", DAY_2, "c"),
        agent("2", DAY_2, "b"),
    ];
    layers.push(manifest(Kind::Agent, "borg", "9"));
    layers.push(Manifest {
        architecture: "arm64".into(),
        ..agent("8", DAY_2, "d")
    });
    let published = layers.into_iter().map(|manifest| Published {
        target: manifest.target_name().parse().unwrap(),
        manifest,
    });
    let published: Vec<_> = published.collect();
    let found = versions(&published, (Kind::Agent, "restic", "amd64"));
    let found: Vec<_> = found.iter().map(|it| it.version.as_str()).collect();
    assert_eq!(found, ["3", "2", "1"]);
}
