//! Keys that are revoked, and the keys that follow them.

use super::*;
use crate::hosts::{self, Sessions, revoke};

impl World {
    fn enrols(&self, seed: u8) -> Result<EnrolmentState, HostError> {
        let view = catalogue::view(&self.site.store).unwrap();
        let enrolment = Enrolment {
            host: "web1".into(),
            hostname: "web1".into(),
            key: key(seed).public(),
            machine: Machine::default(),
        };
        let request = Request {
            now: now(),
            peer: [127, 0, 0, 1].into(),
        };
        Registry::of(&self.site).enrol(&view, enrolment, request)
    }

    /// What a machine that is to become the host can boot.
    fn boots(&self) -> usize {
        let view = catalogue::view_of(&self.site, Some("web1")).unwrap();
        let own = catalogue::host_layers(&self.site.store, &view, "web1");
        own.unwrap().len()
    }
}

#[test]
fn a_revoked_key_adds_no_session_and_what_it_signed_stays_recoverable() {
    let mut world = World::new();
    world.add(1);
    revoke(&world.site, "web1", Sessions::Keep, now()).unwrap();
    assert_eq!(
        (world.versions(), world.boots()),
        (vec!["s1".to_owned()], 1)
    );
    let sent = world.session(2);
    world.refuses(&sent, &["was revoked at"]);
    assert!(matches!(world.enrols(1), Err(HostError::Revoked { .. })));
    // Not at this server only: the catalogue does not name the key any more.
    hosts::revoked::forget(&world.site, "web1").unwrap();
    world.refuses(&sent, &["0 of 1 required signatures"]);
    assert!(matches!(world.enrols(1), Err(HostError::OtherKey { .. })));
}

#[test]
fn a_key_that_follows_a_revoked_one_goes_on_with_its_sessions() {
    let mut world = World::new();
    world.add(1);
    revoke(&world.site, "web1", Sessions::Keep, now()).unwrap();
    assert_eq!(world.enrols(2).unwrap(), EnrolmentState::Waiting);
    assert!(hosts::approve(&world.site, "web1", &key(1).public(), now()).is_err());
    assert!(hosts::approve(&world.site, "web1", &key(2).public(), now()).unwrap());
    assert_eq!(
        (world.versions(), world.boots()),
        (vec!["s1".to_owned()], 1)
    );
    // The host goes on from the list that is there, which the server says another key has signed.
    let state = world.state();
    assert_eq!(state.key, key(2).public().id());
    let before = state.predecessor.unwrap();
    let list = state.sessions.unwrap();
    let list = host_sessions(list.as_bytes(), "web1", &before).unwrap();
    (world.key, world.list) = (key(2), next_sessions(Some(list)));
    world.add(2);
    assert_eq!((world.versions().len(), world.boots()), (2, 2));
    let view = catalogue::view(&world.site.store).unwrap();
    assert_eq!(view.host_keys("web1"), Some((&key(2).public(), None)));
    assert_eq!(world.state().predecessor, None);
}

#[test]
fn a_host_that_is_dropped_is_gone_and_its_name_is_free() {
    let mut world = World::new();
    world.add(1);
    revoke(&world.site, "web1", Sessions::Drop, now()).unwrap();
    let view = catalogue::view(&world.site.store).unwrap();
    assert_eq!((view.host_key("web1"), world.boots()), (None, 0));
    assert!(matches!(
        hosts::show(&world.site, "web1"),
        Err(HostError::Unknown(_))
    ));
    assert_eq!(world.enrols(3).unwrap(), EnrolmentState::Waiting);
    let again = revoke(&world.site, "web1", Sessions::Keep, now());
    assert!(
        matches!(again, Err(HostError::Unknown(_))),
        "it has no approved key"
    );
}

#[test]
fn a_host_without_sessions_is_revoked_too_and_again_after_an_interruption() {
    let world = World::new();
    revoke(&world.site, "web1", Sessions::Keep, now()).unwrap();
    assert_eq!(world.boots(), 0);
    assert!(matches!(world.enrols(1), Err(HostError::Revoked { .. })));
    let mut world = World::new();
    world.add(1);
    for _ in 0..2 {
        revoke(&world.site, "web1", Sessions::Keep, now()).unwrap();
        assert_eq!(world.boots(), 1);
        assert!(matches!(world.enrols(1), Err(HostError::Revoked { .. })));
    }
}

#[test]
fn a_host_is_forgotten_only_while_nobody_approves_it() {
    let world = World::new();
    revoke(&world.site, "web1", Sessions::Drop, now()).unwrap();
    assert_eq!(world.enrols(2).unwrap(), EnrolmentState::Waiting);
    let lock = world.site.store.lock().unwrap();
    std::thread::scope(|scope| {
        let forgets = scope.spawn(|| hosts::forget(&world.site, "web1"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!forgets.is_finished(), "somebody changes the catalogue");
        assert!(Registry::of(&world.site).read("web1").unwrap().is_some());
        drop(lock);
        assert_eq!(forgets.join().unwrap().unwrap(), "web1");
    });
    assert!(Registry::of(&world.site).read("web1").unwrap().is_none());

    assert_eq!(world.enrols(2).unwrap(), EnrolmentState::Waiting);
    hosts::approve(&world.site, "web1", &key(2).public(), now()).unwrap();
    let approved = hosts::forget(&world.site, "web1");
    assert!(matches!(approved, Err(HostError::Approved(_))));
    assert!(Registry::of(&world.site).read("web1").unwrap().is_some());
}
