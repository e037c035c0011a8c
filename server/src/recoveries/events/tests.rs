use super::*;
use crate::recoveries::fixture::{NOW, machine, opened, signer};
use towline_contract::Digest;
use towline_contract::trust::EventSigner;

const ADDRESS: [u8; 4] = [192, 0, 2, 1];

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A site's recovery that a machine has started.
struct World {
    dir: tempfile::TempDir,
    id: String,
}

impl World {
    fn opened() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recovery = opened("web1");
        Recoveries::new(dir.path().into())
            .lock()
            .unwrap()
            .add(&recovery)
            .unwrap();
        let id = recovery.id;
        Self { dir, id }
    }

    fn started(by: &EventSigner) -> Self {
        let world = Self::opened();
        world.code_used(by);
        world
    }

    fn recoveries(&self) -> Recoveries {
        Recoveries::new(self.dir.path().into())
    }

    fn recovery(&self) -> Recovery {
        self.recoveries().get(&self.id, now()).unwrap().unwrap()
    }

    fn code_used(&self, by: &EventSigner) {
        let what = Happened::CodeUsed {
            machine: machine(&["52:54:00:00:00:01"], "a"),
            address: ADDRESS.into(),
            report_key: Some(by.public()),
            chain: vec![],
        };
        let recoveries = self.recoveries();
        let lock = recoveries.lock().unwrap();
        lock.record(&self.recovery(), what, now()).unwrap();
    }

    fn body(&self, number: u64, what: What) -> Vec<u8> {
        let event = Event {
            recovery: self.id.clone(),
            number,
            uptime_seconds: 1,
            what,
        };
        serde_json::to_vec(&event).unwrap()
    }

    fn signed(&self, header: &str, body: &[u8]) -> Result<Signed, NotTaken> {
        let signature = header.parse().unwrap();
        self.recoveries().signed(&signature, body, now())
    }

    fn sends(&self, by: &EventSigner, number: u64, what: What) -> Turn {
        let body = self.body(number, what);
        let signed = self.signed(&by.header(&body), &body).unwrap();
        self.report(&signed)
    }

    fn report(&self, signed: &Signed) -> Turn {
        let first = || Ok::<_, RecoveriesError>(());
        let turn = self
            .recoveries()
            .report(signed, ADDRESS.into(), now(), first);
        turn.unwrap()
    }

    fn journal(&self) -> usize {
        self.recoveries().journal(&self.id).unwrap().len()
    }
}

fn ready() -> What {
    What::RescueReady {
        checks: vec![],
        memory_used_kib: 1,
    }
}

fn first_boot(seed: u8) -> What {
    What::FirstBoot {
        hostname: "web1".into(),
        kernel_release: "6.1".into(),
        key: Some(signer(seed).public()),
    }
}

fn recovered() -> What {
    What::Recovered {
        seconds: 9,
        checks: vec![],
    }
}

fn restoring(bytes: u64) -> What {
    What::Restoring { bytes, total: None }
}

#[test]
fn a_report_that_its_machine_has_not_signed_changes_nothing() {
    let (first, second, thief) = (signer(1), signer(2), signer(3));
    let world = World::opened();
    let body = world.body(1, ready());
    let refused = |by: &EventSigner| {
        let found = world.signed(&by.header(&body), &body);
        assert!(matches!(found, Err(NotTaken::NotSigned)), "{found:?}");
    };
    refused(&first);
    for by in [&first, &second] {
        world.code_used(by);
    }
    // The first boot is over.
    refused(&first);
    refused(&thief);
    let unsigned = world.recoveries().is_nobodys(&world.id, now());
    assert!(matches!(unsigned, Err(NotTaken::NotSigned)), "{unsigned:?}");
    assert_eq!(
        (world.recovery().state, world.journal()),
        (State::Started, 3)
    );
    assert_eq!(world.sends(&second, 1, ready()), Turn::Next);
    assert_eq!(world.recovery().state, State::Rescue);
}

#[test]
fn nobody_learns_from_a_refusal_whether_there_is_such_a_recovery() {
    let world = World::started(&signer(1));
    let unknown = "r-fedcba9876543210";
    let body = world.body(1, ready());
    let of_unknown = EventSigner::new(unknown, &"01".repeat(32)).unwrap();
    let found = [of_unknown, signer(2)].map(|by| {
        let refused = world.signed(&by.header(&body), &body);
        refused.unwrap_err().to_string()
    });
    assert_eq!(found[0], found[1]);
    assert!(world.recoveries().is_nobodys(unknown, now()).is_ok());
}

#[test]
fn what_is_sent_again_is_known_and_what_is_older_is_late() {
    let by = signer(1);
    let world = World::started(&by);
    let turns = [(5, 10), (5, 10), (4, 9), (6, 11), (5, 10)];
    let turns = turns.map(|(number, bytes)| world.sends(&by, number, restoring(bytes)));
    let (late, known, next) = (Turn::Late, Turn::Known, Turn::Next);
    assert_eq!(turns, [next, known, late, next, late]);
    assert_eq!(world.journal(), 4);
    assert!(matches!(
        world.recovery().state,
        State::Restoring { bytes: 11, .. }
    ));
    // Another boot of the machine counts anew, and nothing of the one before is taken any more.
    let body = world.body(7, restoring(12));
    let held_back = world.signed(&by.header(&body), &body).unwrap();
    let again = signer(2);
    world.code_used(&again);
    assert_eq!(world.report(&held_back), Turn::Late);
    assert_eq!(world.sends(&again, 1, ready()), Turn::Next);
    assert_eq!(world.recovery().state, State::Rescue);
}

#[test]
fn a_new_key_comes_with_the_first_boot_of_a_started_recovery_once() {
    let by = signer(1);
    for heard in [None, Some(recovered())] {
        let world = World::started(&by);
        if let Some(what) = heard {
            world.sends(&by, 5, what);
        }
        let before = world.journal();
        // Both came before either was taken.
        let [one, other] = [7, 8].map(|seed| {
            let body = world.body(9, first_boot(seed));
            world.signed(&by.header(&body), &body).unwrap()
        });
        assert_eq!(one.new_key(), Some(&signer(7).public()));
        let taken = std::cell::RefCell::new(Vec::new());
        let report = |signed: &Signed| {
            let first = || {
                taken.borrow_mut().push(signed.new_key().cloned());
                Ok::<_, RecoveriesError>(())
            };
            let all = world.recoveries();
            all.report(signed, ADDRESS.into(), now(), first).unwrap()
        };
        assert_eq!(report(&one), Turn::Next);
        assert_eq!(report(&other), Turn::Known);
        // Its answer was lost, and the host started once more.
        assert_eq!(report(&one), Turn::Known);
        assert_eq!(taken.take(), [Some(signer(7).public())]);
        assert_eq!(world.journal(), before + 1);
    }
}

#[test]
fn an_event_that_could_not_be_kept_has_not_happened_and_is_taken_when_it_comes_again() {
    let by = signer(1);
    let world = World::started(&by);
    let (before, lines) = (world.recovery(), world.journal());
    let body = world.body(5, recovered());
    let signed = world.signed(&by.header(&body), &body).unwrap();
    let full = || Err(RecoveriesError::Unknown("a full disk".into()));
    let all = world.recoveries();
    all.report(&signed, ADDRESS.into(), now(), full)
        .unwrap_err();
    assert_eq!((world.recovery(), world.journal()), (before, lines));
    assert_eq!(world.report(&signed), Turn::Next);
}

#[test]
fn a_closed_recovery_takes_no_reports_and_stays_as_it_is() {
    let by = signer(1);
    let world = World::started(&by);
    let close = |why| world.recoveries().close(&world.id, why, now()).unwrap();
    let closed = close("by alice");
    assert_eq!(world.sends(&by, 1, ready()), Turn::Known);
    assert_eq!(close("again"), closed);
    assert_eq!((world.recovery(), world.journal()), (closed, 3));
}

#[test]
fn a_recovery_that_was_begun_before_events_were_signed_is_read_and_says_what_to_do() {
    let world = World::opened();
    let path = world.dir.path().join(format!("{}.json", world.id));
    // As a server of then has left it.
    let mut record = serde_json::to_value(world.recovery()).unwrap();
    record["state"] = serde_json::json!({"is": "started"});
    record["report_token"] = serde_json::to_value(Digest::of(b"token")).unwrap();
    std::fs::write(&path, record.to_string()).unwrap();
    let used = r#"{"at":"2026-11-23T22:00:00Z","entry":"code-used","machine":{"macs":[],"memory_kib":1,"uefi":false},"address":"192.0.2.1","report_token":"0202020202020202020202020202020202020202020202020202020202020202","chain":["a"]}"#;
    let reported = r#"{"at":"2026-11-23T22:00:00Z","entry":"reported","address":"192.0.2.1","uptime_seconds":1,"event":{"event":"plan-verified"}}"#;
    let journal = world.recoveries().journal_path(&world.id);
    let lines = std::fs::read_to_string(&journal).unwrap() + &format!("{used}\n{reported}\n");
    std::fs::write(&journal, lines).unwrap();
    assert_eq!(world.journal(), 3);

    let body = world.body(1, ready());
    let signed = world.signed(&signer(1).header(&body), &body).map(drop);
    for refused in [signed, world.recoveries().is_nobodys(&world.id, now())] {
        let Err(NotTaken::Unsigned { id, recovered }) = refused else {
            panic!("it is not signed");
        };
        assert_eq!((id, recovered), (world.id.clone(), false));
    }
    // The machine comes again, and has a key from now on.
    world.code_used(&signer(1));
    assert_eq!(world.recovery().report_token, None);
    assert_eq!(world.sends(&signer(1), 1, ready()), Turn::Next);
}
