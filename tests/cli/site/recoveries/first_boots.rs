//! The first start of a recovered host, and the new key that it brings.

use towline_contract::Timestamp;
use towline_contract::trust::{PublicKey, SigningKey};
use towline_server::{Site, hosts};

use super::*;

#[test]
fn a_recovered_host_whose_key_did_not_come_back_gets_a_new_one_by_its_first_boot_alone() {
    let world = world();
    let [old, new, thief] = [1, 2, 3].map(|seed| SigningKey::generate([seed; 32]).public());
    let site = Site::open(&world.site()).unwrap();
    hosts::approve(&site, HOST, &old, Timestamp::now()).unwrap();
    let opened = open(&world, &[]);
    let id = &opened["id"];
    let server = Server::start(&world);
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let token = token(&credentials);
    let shown = || -> Value {
        let text = world.succeeds(&["host", "show", HOST, "--json"]);
        serde_json::from_str(&text).unwrap()
    };
    let first = |key: &PublicKey| json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1", "key": key});
    let is = |key: &PublicKey| assert_eq!(shown()["fingerprint"], key.id().fingerprint());
    // By nobody else, and not for a recovery that is over.
    for forged in [None, Some(WRONG_TOKEN)] {
        assert_eq!(event(&server, id, forged, &first(&thief)), 403);
    }
    world.succeeds(&["recovery", "close", HOST]);
    let body = event_body(id, 2000, &first(&new));
    let refused = send(&server, &body, Some(signed(id, &token, &body)));
    assert_eq!(refused.status, 409, "{refused:?}");
    let told = String::from_utf8_lossy(&refused.body).into_owned();
    for part in ["not taken", "towline host revoke web1", "host enrol"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    is(&old);

    let opened = open(&world, &[]);
    let id = &opened["id"];
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let token = super::token(&credentials);
    // The report that it is recovered was lost, as others may be: the host has started all the same.
    let number = 3000;
    let send = |key: &PublicKey| {
        let body = event_body(id, number, &first(key));
        super::send(&server, &body, Some(signed(id, &token, &body))).status
    };
    assert_eq!(send(&new), 204);
    is(&new);
    assert_eq!(state(&world, id)["state"]["recovered"], true);
    // Its answer was lost: the host hears that it was taken. Another key is not, and it is not said to be.
    assert_eq!(send(&new), 204);
    for another in [&thief, &old] {
        assert_eq!(send(another), 409);
        assert_eq!(event(&server, id, Some(&token), &first(another)), 409);
        is(&new);
    }
}

#[test]
fn of_two_first_boots_at_once_one_key_is_taken_and_only_its_host_hears_so() {
    let world = world();
    let keys = [1, 2, 3, 4, 5].map(|seed| SigningKey::generate([seed; 32]).public());
    let (old, new) = keys.split_first().unwrap();
    let site = Site::open(&world.site()).unwrap();
    hosts::approve(&site, HOST, old, Timestamp::now()).unwrap();
    let opened = open(&world, &[]);
    let id = &opened["id"];
    let server = Server::start(&world);
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let token = token(&credentials);
    let report = |key: &PublicKey| {
        let what =
            json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1", "key": key});
        let body = event_body(id, 7, &what);
        send(&server, &body, Some(signed(id, &token, &body))).status
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = new
            .iter()
            .map(|key| scope.spawn(move || (report(key), key.id().fingerprint())))
            .collect();
        let ended = running.into_iter().map(|it| it.join().unwrap());
        ended.collect()
    });
    let heard: Vec<_> = answers.iter().filter(|it| it.0 == 204).collect();
    let refused = answers.iter().filter(|it| it.0 == 409).count();
    assert_eq!((heard.len(), refused), (1, new.len() - 1), "{answers:?}");
    let shown = world.succeeds(&["host", "show", HOST, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["fingerprint"], heard[0].1);
}

#[test]
fn a_first_boot_does_not_wait_for_long_while_the_catalogue_is_changed_and_is_taken_afterwards() {
    let world = world();
    let [old, new] = [1, 2].map(|seed| SigningKey::generate([seed; 32]).public());
    let site = Site::open(&world.site()).unwrap();
    hosts::approve(&site, HOST, &old, Timestamp::now()).unwrap();
    let opened = open(&world, &[]);
    let id = &opened["id"];
    let server = Server::start(&world);
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let token = token(&credentials);
    let what =
        json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1", "key": new});
    let body = event_body(id, 7, &what);
    let report = || send(&server, &body, Some(signed(id, &token, &body)));
    let published = site.store.lock().unwrap();
    let begun = Instant::now();
    let refused = report();
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "a host waits 10 s"
    );
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.refusal().contains("is being changed"));
    assert_eq!(state(&world, id)["state"]["is"], "started");
    drop(published);
    assert_eq!(report().status, 204);
    let shown = world.succeeds(&["host", "show", HOST, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["fingerprint"], new.id().fingerprint());
}
