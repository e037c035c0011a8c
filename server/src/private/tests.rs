use super::*;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_document_is_its_owners_alone_and_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state/hosts");
    let locked = lock(&folder).unwrap();
    let path = locked.path("web1.json");
    locked.write("web1.json", &"first", 100).unwrap();
    locked.write("web1.json", &"second", 100).unwrap();
    assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
    assert_eq!(mode(&dir.path().join("state")), 0o700);
    assert_eq!(read::<String>(&path, 100).unwrap().unwrap(), "second");
    assert_eq!(names(&folder).unwrap(), ["web1"]);
    assert!(locked.remove("web1.json").unwrap() && !locked.remove("web1.json").unwrap());
    assert_eq!(read::<String>(&path, 100).unwrap(), None);
}

#[test]
fn a_document_larger_than_its_bound_is_neither_written_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    let locked = lock(dir.path()).unwrap();
    let large = "x".repeat(100);
    locked.write("web1.json", &large, 103).unwrap();
    let path = locked.path("web1.json");
    assert!(read::<String>(&path, 102).is_err());
    assert!(locked.write("web1.json", &"new".repeat(40), 102).is_err());
    assert_eq!(read::<String>(&path, 103).unwrap().unwrap(), large);
}

#[test]
fn no_link_in_the_state_is_followed_and_nothing_behind_one_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("target"));
    fs::write(&target, "kept").unwrap();
    fs::create_dir(&state).unwrap();
    symlink(&target, state.join(LOCK)).unwrap();
    assert!(lock(&state).is_err());
    fs::remove_file(state.join(LOCK)).unwrap();
    let locked = lock(&state).unwrap();
    symlink(&target, state.join("link")).unwrap();
    fs::hard_link(&target, state.join("name")).unwrap();
    for name in ["link", "name"] {
        assert!(locked.appended(name).is_err(), "{name}");
    }
    assert!(read_bytes(&state.join("link"), 100).is_err());
    locked.write("link", &"a document", 100).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    let folder = dir.path().join("folder");
    symlink(dir.path(), &folder).unwrap();
    assert!(lock(&folder).is_err());
}

#[test]
fn a_folder_that_is_exchanged_while_it_is_locked_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (state, moved) = (dir.path().join("state"), dir.path().join("moved"));
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let locked = lock(&state).unwrap();
    fs::rename(&state, &moved).unwrap();
    symlink(&elsewhere, &state).unwrap();
    locked.write("web1.json", &"a document", 100).unwrap();
    locked.appended("journal").unwrap();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(moved.join("web1.json").exists() && moved.join("journal").exists());
}

#[test]
#[ignore = "needs root: make test"]
fn what_root_writes_the_sites_user_can_read_and_what_a_link_leads_to_stays_roots() {
    assert!(rustix::process::geteuid().is_root(), "this needs root");
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("target"));
    fs::write(&target, "kept").unwrap();
    fs::create_dir(&state).unwrap();
    chown(&state, Some(4242), Some(4242)).unwrap();
    let sessions = state.join("sessions");
    let locked = lock(&sessions).unwrap();
    locked.write("web1.json", &"a document", 100).unwrap();
    locked.appended("journal").unwrap();
    let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
    for name in ["", LOCK, "web1.json", "journal"] {
        assert_eq!(owner(&sessions.join(name)), 4242, "{name:?}");
    }
    drop(locked);
    fs::remove_file(sessions.join(LOCK)).unwrap();
    symlink(&target, sessions.join(LOCK)).unwrap();
    assert!(lock(&sessions).is_err());
    fs::remove_file(sessions.join(LOCK)).unwrap();
    fs::hard_link(&target, sessions.join(LOCK)).unwrap();
    assert!(lock(&sessions).is_err());
    assert_eq!(owner(&target), 0);
}
