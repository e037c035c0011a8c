//! Mirrors that stall, drip, lie, break off, refuse and restart: each costs time, and none a wrong byte.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use towline_contract::limits::CHUNK_BYTES;
use towline_harness::proxy::{Fault, Proxy, Script};
use towline_harness::relay::slow_line;
use towline_stage1::fetch::{FetchError, Patience};

use crate::world::{BASE, CHUNK, Lines, Ready, base, base_path, chain, patience};

/// Each fault for one request for the base layer, in this order; then the last one for ever.
fn script(faults: &[Fault], for_ever: Fault) -> Box<Script> {
    let (path, faults) = (base_path(), Mutex::new(VecDeque::from(faults.to_vec())));
    Box::new(move |asked, _| match asked == path {
        true => faults
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| for_ever.clone()),
        false => Fault::None,
    })
}

/// A mirror that always does this.
fn mirror(ready: &Ready, fault: Fault) -> Proxy {
    Proxy::start(ready.site.http, script(&[], fault))
}

fn honest(ready: &Ready) -> String {
    format!("http://{}", ready.site.http)
}

/// In the middle of the second chunk.
const MIDDLE: usize = CHUNK + 5000;

#[test]
fn a_mirror_that_fails_in_the_middle_is_left_for_one_that_works() {
    let ready = Ready::serving(&chain());
    for (fault, said) in [
        (Fault::StallAfter(MIDDLE), "sent nothing for 2 s"),
        (
            Fault::DripAfter(MIDDLE, Duration::from_millis(50)),
            "did not send all of",
        ),
        (Fault::CutAfter(MIDDLE), "broke"),
        (Fault::Short(MIDDLE), "ended its answer after"),
    ] {
        let (bad, lines) = (mirror(&ready, fault.clone()), Lines::default());
        let fetched = ready.fetch(&[bad.url(), honest(&ready)], patience(), &lines);
        assert!(fetched.unwrap() == base().stored, "{fault:?}: other bytes");
        lines.expect(said);
        let stopped = format!(
            "layer {BASE} from {} stopped after {CHUNK_BYTES} of",
            bad.url()
        );
        lines.expect(&stopped);
        lines.expect(&format!("trying {}", honest(&ready)));
        lines.expect(&format!(
            "resuming layer {BASE} at byte {CHUNK_BYTES} from {}",
            honest(&ready)
        ));
        assert_eq!(bad.requests(), 1, "{fault:?}: it was asked again");
    }
}

/// A line of so many KiB a second to the site.
fn slow(ready: &Ready, kib: u32) -> String {
    format!("http://{}", slow_line(ready.site.http, kib << 10))
}

/// A rate that slow lines do not have, and time enough for each piece.
fn wanting(least_kib: u64) -> Patience {
    Patience {
        document: Duration::from_secs(30),
        least_rate: least_kib << 10,
        rate_over: Duration::from_secs(1),
        ..patience()
    }
}

#[test]
fn a_slow_mirror_is_left_while_another_is_untried() {
    let ready = Ready::serving(&chain());
    let (line, lines) = (slow(&ready, 100), Lines::default());
    let started = Instant::now();
    let fetched = ready.fetch(&[line.clone(), honest(&ready)], wanting(1024), &lines);
    assert!(fetched.unwrap() == base().stored);
    // The whole layer would take half a minute on the slow line.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{}",
        lines.all()
    );
    lines.expect(&format!("{line} sends only"));
    lines.expect(&format!("trying {}", honest(&ready)));
}

#[test]
fn a_slow_mirror_is_kept_when_there_is_no_other() {
    let ready = Ready::serving(&chain());
    let lines = Lines::default();
    let fetched = ready.fetch(&[slow(&ready, 1024)], wanting(100 << 10), &lines);
    assert!(fetched.unwrap() == base().stored);
    assert!(!lines.all().contains("sends only"), "{}", lines.all());
}

#[test]
fn of_slow_mirrors_the_faster_one_serves_in_the_end() {
    let ready = Ready::serving(&chain());
    let (faster, slower) = (slow(&ready, 1024), slow(&ready, 100));
    let lines = Lines::default();
    let mirrors = [faster.clone(), slower.clone()];
    let fetched = ready.fetch(&mirrors, wanting(100 << 10), &lines);
    assert!(fetched.unwrap() == base().stored);
    lines.expect(&format!("{faster} sends only"));
    lines.expect(&format!("{slower} sends only"));
    assert_eq!(
        lines.all().matches("sends only").count(),
        2,
        "{}",
        lines.all()
    );
}

#[test]
fn a_mirror_that_never_begins_is_left_for_one_that_works() {
    let ready = Ready::serving(&chain());
    for (fault, said) in [
        (Fault::Silence, "sent nothing for 2 s"),
        (Fault::Status(404), "answered 404"),
        (Fault::Status(503), "answered 503"),
        (
            Fault::Redirect("http://127.0.0.1:1/".into()),
            "answered 302",
        ),
        (Fault::Header(1 << 20), "broke"),
    ] {
        let (bad, lines) = (mirror(&ready, fault.clone()), Lines::default());
        let fetched = ready.fetch(&[bad.url(), honest(&ready)], patience(), &lines);
        assert!(fetched.unwrap() == base().stored, "{fault:?}: other bytes");
        lines.expect(said);
        lines.expect("stopped after 0 of");
    }
}

#[test]
fn a_mirror_that_ignores_ranges_is_read_from_the_beginning_and_resumed_all_the_same() {
    let ready = Ready::serving(&chain());
    let faults = [Fault::CutAfter(MIDDLE)];
    let mirror = Proxy::start(ready.site.http, script(&faults, Fault::WholeFile));
    let lines = Lines::default();
    let fetched = ready.fetch(&[mirror.url()], patience(), &lines);
    assert!(fetched.unwrap() == base().stored);
    lines.expect(&format!("resuming layer {BASE} at byte {CHUNK_BYTES}"));
    assert_eq!(mirror.requests(), 2);
}

#[test]
fn a_mirror_that_answers_with_another_range_is_not_believed() {
    let ready = Ready::serving(&chain());
    let faults = [Fault::CutAfter(MIDDLE)];
    let bad = Proxy::start(ready.site.http, script(&faults, Fault::OtherRange));
    let lines = Lines::default();
    let little = Patience {
        progress: Duration::from_millis(300),
        ..patience()
    };
    let found = ready.fetch(&[bad.url()], little, &lines);
    let Err(FetchError::GaveUp { got, cause, .. }) = found else {
        panic!("{found:?}")
    };
    assert_eq!(got, CHUNK_BYTES);
    assert!(
        matches!(
            *cause,
            FetchError::Range {
                wanted: CHUNK_BYTES,
                ..
            }
        ),
        "{cause:?}"
    );
}

#[test]
fn an_endless_layer_is_read_to_its_last_byte_and_no_further() {
    let ready = Ready::serving(&chain());
    let mirror = mirror(&ready, Fault::Flood);
    let fetched = ready.fetch(&[mirror.url()], patience(), &Lines::default());
    let stored = base().stored;
    assert!(fetched.unwrap() == stored);
    // What fits in the sockets on the way may be sent and not read.
    let sent = mirror.sent_bytes();
    assert!(
        sent < stored.len() as u64 + (16 << 20),
        "{sent} bytes were sent"
    );
}

#[test]
fn a_layer_that_no_mirror_has_is_given_up_soon() {
    let ready = Ready::serving(&chain());
    let mirrors = [
        mirror(&ready, Fault::Status(404)),
        mirror(&ready, Fault::Status(403)),
    ];
    let urls = mirrors.each_ref().map(Proxy::url);
    let started = Instant::now();
    let found = ready.fetch(&urls, patience(), &Lines::default());
    let Err(FetchError::GaveUp { got: 0, cause, .. }) = found else {
        panic!("{found:?}")
    };
    assert!(matches!(*cause, FetchError::Status { .. }), "{cause:?}");
    assert_eq!(mirrors.each_ref().map(Proxy::requests), [3, 3]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn patience_ends_when_no_mirror_goes_on() {
    let ready = Ready::serving(&chain());
    let bad = mirror(&ready, Fault::CutAfter(100));
    let little = Patience {
        progress: Duration::from_millis(500),
        ..patience()
    };
    let found = ready.fetch(&[bad.url()], little, &Lines::default());
    assert!(
        matches!(found, Err(FetchError::GaveUp { got: 0, .. })),
        "{found:?}"
    );
    assert!(bad.requests() > 2, "it was tried {} times", bad.requests());
}

#[test]
fn patience_begins_again_with_every_chunk() {
    let ready = Ready::serving(&chain());
    // Each answer breaks off after a chunk and a bit, and takes most of the patience to do so.
    let stall = Duration::from_millis(600);
    let little = Patience {
        progress: Duration::from_millis(900),
        stall,
        ..patience()
    };
    let bad = mirror(&ready, Fault::StallAfter(MIDDLE));
    let fetched = ready.fetch(&[bad.url()], little, &Lines::default());
    assert!(fetched.unwrap() == base().stored);
}

#[test]
fn a_layer_goes_on_after_its_server_was_killed_and_started_again() {
    let ready = Ready::serving(&chain());
    let first = Proxy::start(ready.site.http, script(&[], Fault::StallAfter(MIDDLE)));
    let (address, url) = (first.address, first.url());
    let upstream = ready.site.http;
    let lines = Lines::default();
    let again = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        drop(first);
        // Long enough for connections to be refused.
        std::thread::sleep(Duration::from_millis(700));
        Proxy::start_on(address, upstream, script(&[], Fault::None), None)
    });
    let fetched = ready.fetch(&[url], patience(), &lines);
    assert!(fetched.unwrap() == base().stored);
    lines.expect("cannot be reached");
    lines.expect(&format!("resuming layer {BASE} at byte {CHUNK_BYTES}"));
    drop(again.join().unwrap());
}

#[test]
fn a_mirror_that_works_is_asked_first_for_the_next_layer() {
    let ready = Ready::serving(&chain());
    let bad = mirror(&ready, Fault::Status(503));
    let servers = [bad.url(), honest(&ready)];
    let servers = servers.map(|url| towline_stage1::fetch::Server::parse(&url).unwrap());
    let mirrors = towline_stage1::fetch::Mirrors::new(crate::world::plain(), servers.into());
    let mut sink = |_| Ok(());
    for _ in 0..3 {
        let lines = Lines::default();
        crate::world::run(mirrors.layer(ready.base(), &mut sink, &lines)).unwrap();
    }
    assert_eq!(bad.requests(), 1);
}

#[test]
fn no_byte_of_a_chunk_is_used_before_all_of_it_is_verified() {
    let ready = Ready::serving(&chain());
    let last_byte_of_the_second = 2 * CHUNK_BYTES - 1;
    let liar = mirror(&ready, Fault::Flip(last_byte_of_the_second));
    let servers = vec![towline_stage1::fetch::Server::parse(&liar.url()).unwrap()];
    let mirrors = towline_stage1::fetch::Mirrors::new(crate::world::plain(), servers);
    let used = AtomicUsize::new(0);
    let mut sink = |chunk: towline_contract::trust::Verified<Vec<u8>>| {
        used.fetch_add(chunk.len(), Ordering::SeqCst);
        Ok(())
    };
    let found = crate::world::run(mirrors.layer(ready.base(), &mut sink, &Lines::default()));
    assert!(
        matches!(found, Err(FetchError::EveryMirrorLies { .. })),
        "{found:?}"
    );
    assert_eq!(used.into_inner() as u64, CHUNK_BYTES);
}

/// A mirror's answers to one request after the other, and to all later ones.
#[derive(Clone, Debug)]
struct Behaviour {
    first: Vec<Fault>,
    then: Fault,
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let stored = base().stored.len();
    let passing = prop_oneof![
        Just(Fault::None),
        Just(Fault::WholeFile),
        Just(Fault::OtherRange),
        Just(Fault::Status(503)),
        Just(Fault::Status(404)),
        (0..stored).prop_map(Fault::CutAfter),
        (0..stored).prop_map(Fault::Short),
        (0..stored).prop_map(Fault::StallAfter),
    ];
    let lasting = prop_oneof![
        3 => Just(Fault::None),
        2 => (0..stored as u64).prop_map(Fault::Flip),
        1 => Just(Fault::Flood),
        1 => Just(Fault::WholeFile),
        1 => Just(Fault::Status(404)),
        1 => Just(Fault::CutAfter(0)),
    ];
    (prop::collection::vec(passing, 0..3), lasting)
        .prop_map(|(first, then)| Behaviour { first, then })
}

/// What must come of it: a mirror that is honest in the end is enough, a liar alone never is. Otherwise it may end either
/// way; with wrong bytes, never.
fn model(mirrors: &[Behaviour]) -> Option<bool> {
    let honest = |fault: &Fault| matches!(fault, Fault::None | Fault::WholeFile | Fault::Flood);
    let useless = |fault: &Fault| matches!(fault, Fault::Status(_) | Fault::CutAfter(0));
    if mirrors.iter().any(|it| honest(&it.then)) {
        return Some(true);
    }
    let all_useless = mirrors
        .iter()
        .all(|it| it.first.is_empty() && useless(&it.then));
    all_useless.then_some(false)
}

#[test]
fn whatever_two_mirrors_do_the_bytes_are_right_or_there_are_none() {
    let ready = Ready::serving(&chain());
    let stored = base().stored;
    let impatient = Patience {
        stall: Duration::from_millis(700),
        progress: Duration::from_secs(8),
        ..patience()
    };
    let config = Config {
        cases: 32,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(behaviour(), behaviour()), |(one, two)| {
        let mirrors = [&one, &two]
            .map(|it| Proxy::start(ready.site.http, script(&it.first, it.then.clone())));
        let urls = mirrors.each_ref().map(Proxy::url);
        let lines = Lines::default();
        let fetched = ready.fetch(&urls, impatient, &lines);
        let must = model(&[one, two]);
        match fetched {
            Ok(bytes) => {
                prop_assert!(bytes == stored, "wrong bytes");
                prop_assert!(must != Some(false), "{}", lines.all());
            }
            Err(FetchError::EveryMirrorLies { .. } | FetchError::GaveUp { .. }) => {
                prop_assert!(must != Some(true), "{}", lines.all());
            }
            Err(error) => prop_assert!(false, "{error:?}"),
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_mirror_where_nothing_listens_is_left_at_once() {
    let ready = Ready::serving(&chain());
    let nowhere: SocketAddr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let lines = Lines::default();
    let started = Instant::now();
    let fetched = ready.fetch(
        &[format!("http://{nowhere}"), honest(&ready)],
        patience(),
        &lines,
    );
    assert!(fetched.unwrap() == base().stored);
    assert!(started.elapsed() < Duration::from_secs(5));
    lines.expect(&format!("http://{nowhere} cannot be reached"));
}
