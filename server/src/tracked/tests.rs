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

fn with(layer: Manifest, packages: &[(&str, &str)]) -> Manifest {
    let package = |(name, version): &(&str, &str)| Package {
        name: (*name).into(),
        version: (*version).into(),
        architecture: "amd64".into(),
    };
    let packages = packages.iter().map(package).collect();
    Manifest { packages, ..layer }
}

fn ever(versions: &[&str]) -> BTreeSet<String> {
    versions.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn a_layer_is_the_same_whatever_its_number() {
    let new = agent("1", DAY_1, "a");
    assert!(is_same(&new, &agent("1again2", DAY_1, "a")));
    assert!(!is_same(&new, &agent("1", DAY_1, "b")));
}

#[test]
fn a_version_that_was_ever_published_is_never_given_to_another_layer() {
    let new = agent("1", DAY_1, "a");
    assert_eq!(version_for(&new, &ever(&[])), "1");
    assert_eq!(version_for(&new, &ever(&["0", "2", "1.1"])), "1");
    assert_eq!(version_for(&new, &ever(&["1"])), "1again2");
    // Also when those between were taken out, or the first.
    assert_eq!(version_for(&new, &ever(&["1", "1again9"])), "1again10");
    assert_eq!(version_for(&new, &ever(&["1again2"])), "1again3");
}

#[test]
fn a_number_comes_after_its_version_and_before_what_distributions_add_to_it() {
    let version = "0.14.0-1";
    let taken = version_for(&agent(version, DAY_1, "a"), &ever(&[version]));
    assert_eq!(compare(version, &taken), Ordering::Less);
    let next = version_for(&agent(version, DAY_1, "a"), &ever(&[version, &taken]));
    assert_eq!(compare(&taken, &next), Ordering::Less);
    for more in ["+b1", "+deb12u1", "build1", "ubuntu1", ".1", "~bpo+1"] {
        let wanted = compare(version, &format!("{version}{more}"));
        let found = compare(&taken, &format!("{version}{more}"));
        assert_eq!(found, wanted, "{more}");
    }
    assert_eq!(compare(&taken, "0.14.0-2"), Ordering::Less);
}

#[test]
fn a_package_that_any_published_layer_has_newer_has_gone_back_whatever_the_dates() {
    let newest = with(agent("3", DAY_1, "b"), &[("tool", "3")]);
    let before = with(
        agent("2", DAY_1, "a"),
        &[("tool", "2"), ("library", "1.10")],
    );
    let published = [&newest, &before];
    let new = with(agent("3", DAY_2, "c"), &[("tool", "4"), ("library", "1.9")]);
    let found = gone_back(&new.packages, &published);
    assert_eq!(found.len(), 1, "{found:?}");
    let wanted = "library 1.10 of agent/restic/2/amd64 is 1.9 now";
    assert_eq!(found[0].to_string(), wanted);
    let good = with(
        agent("3", DAY_1, "c"),
        &[("tool", "3"), ("library", "1.10+b1")],
    );
    assert_eq!(gone_back(&good.packages, &published), []);
}

/// What a recipe is known to have published.
fn own(layers: &[&Manifest]) -> Vec<Own> {
    let mut record = record::Record::new(DAY_1.parse().unwrap());
    for layer in layers {
        record.has_published(layer, &[]);
    }
    record.own
}

#[test]
fn what_machines_would_take_before_the_new_one_goes_and_what_is_more_than_stays() {
    let all = [
        agent("3", DAY_2, "c"),
        agent("2", DAY_1, "b"),
        agent("1", DAY_1, "a"),
    ];
    let all: Vec<_> = all.iter().collect();
    let own = own(&all);
    let new = agent("4", DAY_2, "d");
    assert_eq!(gone(&new, &all, &own, None), Vec::<String>::new());
    assert_eq!(gone(&new, &all, &own, Some(4)), Vec::<String>::new());
    assert_eq!(gone(&new, &all, &own, Some(3)), ["agent/restic/1/amd64"]);
    assert_eq!(gone(&new, &all, &own, Some(1)).len(), 3);
    // The package that had the newest file is not needed any more.
    let older = agent("4", DAY_1, "d");
    assert_eq!(gone(&older, &all, &own, None), ["agent/restic/3/amd64"]);
    assert_eq!(gone(&older, &all, &own, Some(3)), ["agent/restic/3/amd64"]);
    assert_eq!(ahead_by_hand(&older, &all, &own), Vec::<&Manifest>::new());
}

#[test]
fn what_somebody_published_by_hand_never_goes_and_does_not_count() {
    let by_hand = [agent("9", DAY_2, "x"), agent("0", DAY_1, "y")];
    let its_own = [agent("2", DAY_1, "b"), agent("1", DAY_1, "a")];
    let own = own(&[&its_own[0], &its_own[1]]);
    let all = [&by_hand[0], &its_own[0], &its_own[1], &by_hand[1]];
    let new = agent("3", DAY_1, "c");
    assert_eq!(ahead_by_hand(&new, &all, &own), [&by_hand[0]]);
    assert_eq!(gone(&new, &all, &own, Some(2)), ["agent/restic/1/amd64"]);
    assert_eq!(gone(&new, &all, &own, Some(1)).len(), 2);
    // One that was taken out, and whose name somebody has given to another layer.
    let other = agent("2", DAY_2, "other");
    let all = [&other, &its_own[1]];
    assert_eq!(ahead_by_hand(&new, &all, &own), [&other]);
    assert_eq!(gone(&new, &all, &own, Some(1)), ["agent/restic/1/amd64"]);
    // Of what nothing is known nothing goes.
    assert_eq!(gone(&new, &all, &[], Some(1)), Vec::<String>::new());
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
