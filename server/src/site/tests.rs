use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::fixture;

fn now() -> Timestamp {
    "2026-11-23T22:00:00Z".parse().unwrap()
}

fn new() -> NewSite {
    NewSite {
        name: "test".into(),
        config: toml::from_str("listen = \"[::1]:0\"\nserver_names = [\"localhost\"]").unwrap(),
        root: NewKeys::plain(1, 1),
        targets: NewKeys::plain(1, 1),
        base_key: None,
        recipes: vec![],
    }
}

#[test]
fn every_secret_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    fixture::site(&dir, now());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    for name in ["keys", "ca", "state"] {
        assert_eq!(mode(&dir.join(name)), 0o700, "{name}");
    }
    let keys = fs::read_dir(dir.join("keys")).unwrap();
    let keys = keys.map(|entry| entry.unwrap().path());
    let secret = keys.filter(|path| path.extension().is_some_and(|it| it != "pub"));
    let mut count = 0;
    for path in secret.chain([dir.join("ca/ca.key")]) {
        assert_eq!(mode(&path), 0o600, "{path:?}");
        count += 1;
    }
    assert_eq!(count, 3 + 6 + 1);
}

#[test]
fn a_site_is_never_made_over_anything() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    fixture::site(&dir, now());
    let key = fs::read(dir.join("keys/targets.key")).unwrap();
    let again = Site::create(&dir, &new(), now());
    assert!(matches!(again, Err(SiteError::Exists(_))));
    assert_eq!(fs::read(dir.join("keys/targets.key")).unwrap(), key);

    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let over_file = Site::create(&file, &new(), now());
    assert!(matches!(over_file, Err(SiteError::Exists(_))));
}

#[test]
fn what_an_interrupted_init_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".site.towline-init");
    fs::create_dir_all(left.join("keys")).unwrap();
    fs::write(left.join("keys/plan.key"), b"half").unwrap();
    fs::write(left.join("towline.toml"), b"half").unwrap();
    let dir = folder.path().join("site");
    Site::create(&dir, &new(), now()).unwrap();
    assert!(crate::keys::read(&dir.join("keys/plan.key")).is_ok());
    assert!(!left.exists());
}

#[test]
fn two_at_a_time_do_not_make_one_site() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    let first = Building::beside(&dir).unwrap();
    let second = Site::create(&dir, &new(), now());
    assert!(matches!(second, Err(SiteError::Busy(_))));
    drop(first);
    Site::create(&dir, &new(), now()).unwrap();
}

#[test]
fn a_failed_init_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    let mut impossible = new();
    impossible.recipes = vec![("keys".into(), vec![]), ("keys/x".into(), vec![])];
    assert!(Site::create(&dir, &impossible, now()).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_threshold_that_the_root_keys_cannot_meet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for threshold in [0, 2] {
        let impossible = NewSite {
            root: NewKeys::plain(1, threshold),
            ..new()
        };
        let found = Site::create(&folder.path().join("site"), &impossible, now());
        assert!(matches!(found, Err(SiteError::Threshold { .. })));
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("towline.toml");
    let good = "listen = \"127.0.0.1:1\"\nserver_names = [\"a\"]\n";
    for (more, reason) in [
        ("[plan]\nminutes = 60\n", "from 1 to 15"),
        ("[plan]\nminutes = 0\n", "from 1 to 15"),
        ("mirrors = [\"ftp://a\"]\n", "ftp"),
        ("mirrors = [\"a.example\"]\n", "no URL"),
        ("mirrors = [\"https://u@mirror.example\"]\n", "user name"),
        ("mirrors = [\"https://mirror.example/?x\"]\n", "query"),
        ("mirrors = [\"https://mirror.example:99999\"]\n", "port"),
        ("[valid_days]\ntimestamp = 0\n", "1 or more"),
        ("[plan]\ncommand_line = \"init=/bin/sh\"\n", "init=/bin/sh"),
    ] {
        fs::write(&file, format!("{good}{more}")).unwrap();
        let error = Site::with_config(&file).unwrap_err().to_string();
        assert!(error.contains(reason), "{more}: {error}");
    }
    fs::write(&file, format!("{good}listne = 1\n")).unwrap();
    let error = Site::with_config(&file).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("listne"), "{cause}");
}
