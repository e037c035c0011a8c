use super::*;
use crate::recoveries::fixture::{CODE, NOW, opened};
use crate::recoveries::record::State;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn closed() -> Happened {
    let why = "by hand".into();
    Happened::Closed { why }
}

#[test]
fn what_is_written_is_read_by_its_name_and_by_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let recoveries = Recoveries::new(dir.path().join("recoveries"));
    assert_eq!(recoveries.all(now()).unwrap(), []);
    let recovery = opened("web1");
    recoveries.lock().unwrap().add(&recovery).unwrap();
    assert_eq!(
        recoveries.all(now()).unwrap(),
        std::slice::from_ref(&recovery)
    );
    for name in [&recovery.id, "web1"] {
        assert_eq!(recoveries.find(name, now()).unwrap(), recovery);
    }
    let unknown = recoveries.find("../web1", now());
    assert!(matches!(unknown, Err(RecoveriesError::Unknown(_))));
    let lock = recoveries.lock().unwrap();
    let next = lock.record(&recovery, closed(), now()).unwrap();
    assert!(matches!(next.state, State::Closed { .. }));
    assert_eq!(recoveries.get(&recovery.id, now()).unwrap(), Some(next));
    let journal = recoveries.journal(&recovery.id).unwrap();
    assert_eq!(journal.len(), 2);
    assert_eq!(journal[1].what, closed());
}

#[test]
fn neither_the_code_nor_others_are_in_or_at_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let recoveries = Recoveries::new(dir.path().join("recoveries"));
    let recovery = opened("web1");
    recoveries.lock().unwrap().add(&recovery).unwrap();
    for entry in fs::read_dir(dir.path().join("recoveries")).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(CODE) && !text.contains(&CODE.replace('-', "")));
    }
    let mode = fs::metadata(dir.path().join("recoveries"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_line_that_was_cut_off_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let recoveries = Recoveries::new(dir.path().into());
    let recovery = opened("web1");
    recoveries.lock().unwrap().add(&recovery).unwrap();
    let path = recoveries.journal_path(&recovery.id);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"at\":\"2026-").unwrap();
    assert_eq!(recoveries.journal(&recovery.id).unwrap().len(), 1);
    let lock = recoveries.lock().unwrap();
    lock.record(&recovery, closed(), now()).unwrap();
    let journal = recoveries.journal(&recovery.id).unwrap();
    assert_eq!(journal.last().unwrap().what, closed());
}

#[test]
fn a_record_that_cannot_be_read_is_named_by_its_id_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let recoveries = Recoveries::new(dir.path().into());
    let with = |digit: char, format| Recovery {
        id: format!("r-{}", digit.to_string().repeat(16)),
        format,
        ..opened("web1")
    };
    let (good, newer) = (with('1', RECORD_FORMAT), with('2', RECORD_FORMAT + 1));
    for recovery in [&good, &newer] {
        recoveries.lock().unwrap().add(recovery).unwrap();
    }
    let (large, torn) = (with('3', RECORD_FORMAT), with('4', RECORD_FORMAT));
    let bytes = usize::try_from(RECORD_BYTES_MAX).unwrap() + 1;
    fs::write(dir.path().join(record_name(&large.id)), vec![b' '; bytes]).unwrap();
    fs::write(dir.path().join(record_name(&torn.id)), "{").unwrap();
    for id in [&newer.id, &large.id, &torn.id] {
        assert!(recoveries.get(id, now()).is_err(), "{id}");
    }
    assert_eq!(recoveries.all(now()).unwrap(), [good]);
}

#[test]
fn a_record_too_large_to_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let recoveries = Recoveries::new(dir.path().into());
    let recovery = opened("web1");
    let lock = recoveries.lock().unwrap();
    lock.add(&recovery).unwrap();
    let larger = Recovery {
        opened_by: "x".repeat(usize::try_from(RECORD_BYTES_MAX).unwrap()),
        ..recovery.clone()
    };
    assert!(lock.record(&larger, closed(), now()).is_err());
    assert_eq!(recoveries.get(&recovery.id, now()).unwrap(), Some(recovery));
}
