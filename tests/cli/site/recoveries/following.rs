//! The operator's side: opening, following, closing, and the report.

use towline_contract::Timestamp;
use towline_contract::trust::{PublicKey, SigningKey};
use towline_server::{Site, hosts};

use super::*;

#[test]
fn opening_says_exactly_what_will_be_recovered_and_prints_the_code_once() {
    let world = world();
    let text = world.succeeds(&["recovery", "open", HOST]);
    for part in [
        "host/web1/s2/amd64",
        "bbbb2222",
        "captured",
        "agent/restic/1/amd64",
        "base/debian/1/amd64",
        "authority of this server: until 20",
        "for 12 h",
        "good until",
        "(4 h)",
        "no files of yours",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let code = text
        .lines()
        .find_map(|line| line.strip_prefix("code "))
        .expect("a code");
    for entry in fs::read_dir(world.site().join("state/recoveries")).unwrap() {
        let kept = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!kept.contains(code) && !kept.contains(&code.replace('-', "")));
    }
    let list = world.succeeds(&["recovery", "list", "--json"]);
    assert!(!list.contains(code), "{list}");
    assert!(
        list.contains("\"waits") || list.contains("\"opened\""),
        "{list}"
    );

    let older = open(
        &world,
        &[
            "--session",
            "aaaa1111",
            "--unattended",
            "--overwrite",
            "--then",
            "stay",
        ],
    );
    assert_eq!(older["session"]["target"], "host/web1/s1/amd64");
    assert_eq!(
        older["options"],
        json!({"unattended": true, "overwrite": true, "then": "stay"})
    );
    let at = Timestamp::from_second(Timestamp::now().as_second() - 20 * 3600)
        .unwrap()
        .to_string();
    let at = open(&world, &["--at", &at]);
    assert_eq!(at["session"]["target"], "host/web1/s1/amd64");
    let list: Value =
        serde_json::from_str(&world.succeeds(&["recovery", "list", "--json"])).unwrap();
    assert_eq!(
        list.as_array().unwrap().len(),
        1,
        "one code of a host is good at a time"
    );
}

#[test]
fn what_cannot_be_recovered_is_refused_before_a_code_is_made() {
    let world = world();
    world.refuses(&["recovery", "open", "wbe1"], 1, &["wbe1", "next:"]);
    world.refuses(
        &["recovery", "open", HOST, "--session", "cccc"],
        1,
        &["cccc", "s2"],
    );
    world.refuses(
        &["recovery", "open", HOST, "--at", "2001-01-01T00:00:00Z"],
        1,
        &["at or before"],
    );
    let secret = put_credentials(&world, "environment", "A=1\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    world.refuses(&["recovery", "open", HOST], 2, &["0644", "chmod go="]);
    world.succeeds(&["catalogue", "retire", "agent/restic", "1"]);
    world.refuses(&["recovery", "open", HOST], 1, &["restic"]);
    assert_eq!(
        world
            .succeeds(&["recovery", "list", "--all", "--json"])
            .trim(),
        "[]"
    );
}

#[test]
fn reports_with_the_token_move_the_recovery_until_it_is_closed_by_the_first_boot() {
    let world = world();
    let opened = open(&world, &[]);
    let id = &opened["id"];
    let server = Server::start(&world);
    let watch = watch(&world, id);
    let (_, credentials) = verified(
        &world,
        &MACHINE.code(&server, opened["code"].as_str().unwrap()),
    );
    let token = token(&credentials);
    let failed = json!({"event": "failed", "message": "forged"});
    for forged in [None, Some("wrong")] {
        assert_eq!(event(&server, id, forged, &failed), 204);
    }
    assert_eq!(
        state(&world, id)["state"]["is"],
        "started",
        "nobody else can move it"
    );
    let check =
        json!({"layer": "host/web1/s2/amd64", "name": "kernel", "passed": true, "output": "ok"});
    let steps = [
        (
            json!({"event": "layer-placed", "target": "base/debian/1/amd64", "bytes": 7, "milliseconds": 1}),
            "layers",
        ),
        (
            json!({"event": "recovery-started", "session": "s2"}),
            "recovering",
        ),
        (
            json!({"event": "layout-recreated", "seconds": 3}),
            "recreated",
        ),
        (
            json!({"event": "restoring", "bytes": 5, "total": 10}),
            "restoring",
        ),
        (
            json!({"event": "restored", "bytes": 10, "seconds": 4}),
            "restored",
        ),
        (
            json!({"event": "recovered", "seconds": 9, "checks": [check]}),
            "recovered",
        ),
    ];
    for (what, is) in steps {
        assert_eq!(event(&server, id, Some(&token), &what), 204);
        assert_eq!(state(&world, id)["state"]["is"], is);
    }
    let again = MACHINE.code(&server, opened["code"].as_str().unwrap());
    assert!(again.refusal().contains("recovered already"), "{again:?}");
    let first = json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1"});
    assert_eq!(event(&server, id, Some(&token), &first), 204);
    let (status, text) = watched(watch);
    assert_eq!(status, Some(0), "{text}");
    for part in [
        "opened by",
        "code used",
        "restored 5 of 10 bytes",
        "started from its own disk",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("forged"));

    let shown = state(&world, id);
    assert_eq!(shown["state"]["is"], "closed");
    let report = &shown["report"];
    assert_eq!(
        (&report["restored_bytes"], &report["recovery_seconds"]),
        (&10.into(), &9.into())
    );
    assert_eq!(report["checks"][0]["name"], "kernel");
    assert_eq!(report["layers"][3], "host/web1/s2/amd64");
    let text = world.succeeds(&["recovery", "show", HOST]);
    assert!(
        text.contains("passed kernel") && text.contains("restored"),
        "{text}"
    );
    let log = fs::read_to_string(world.site().join("state/events.jsonl")).unwrap();
    assert!(log.contains("first-boot") && !log.contains(&token), "{log}");
}

#[test]
fn a_closed_recovery_gives_nothing_and_takes_nothing() {
    let world = world();
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let server = Server::start(&world);
    let (_, credentials) = verified(&world, &MACHINE.code(&server, code));
    let watch = watch(&world, id);
    world.succeeds(&["recovery", "close", HOST, "--why", "the wrong host"]);
    let (status, text) = watched(watch);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("closed: the wrong host"), "{text}");
    let refused = MACHINE.code(&server, code);
    assert_eq!(refused.status, 403);
    assert!(refused.refusal().contains("closed"), "{refused:?}");
    let first = json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1"});
    assert_eq!(event(&server, id, Some(&token(&credentials)), &first), 204);
    assert_eq!(state(&world, id)["state"]["recovered"], false);
    world.refuses(&["recovery", "close", HOST], 1, &["is over"]);
    world.refuses(&["recovery", "show", "web9"], 1, &["web9"]);
}

#[test]
fn a_failure_ends_the_watch_unless_it_is_to_go_on() {
    let world = world();
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let server = Server::start(&world);
    let (_, credentials) = verified(&world, &MACHINE.code(&server, code));
    let failed = json!({"event": "failed", "message": "no disk\u{1b}[2J\nbecause: none"});
    assert_eq!(event(&server, id, Some(&token(&credentials)), &failed), 204);
    let (status, text) = watched(watch(&world, id));
    assert_eq!(status, Some(1));
    assert!(text.contains(r"no disk\u{1b}[2J | because: none"), "{text}");
    // The same machine comes again, by the same code.
    verified(&world, &MACHINE.code(&server, code));
    assert_eq!(state(&world, id)["state"]["is"], "started");
}

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
    // Not before the recovery is done, nor without its token.
    assert_eq!(event(&server, id, Some(&token), &first(&thief)), 204);
    is(&old);

    let opened = open(&world, &[]);
    let id = &opened["id"];
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let token = super::token(&credentials);
    let done = json!({"event": "recovered", "seconds": 9, "checks": []});
    assert_eq!(event(&server, id, Some(&token), &done), 204);
    for forged in [None, Some("wrong")] {
        assert_eq!(event(&server, id, forged, &first(&thief)), 204);
        is(&old);
    }
    assert_eq!(event(&server, id, Some(&token), &first(&new)), 204);
    is(&new);
    assert_eq!(state(&world, id)["state"]["recovered"], true);
    // Once: the recovery is closed.
    assert_eq!(event(&server, id, Some(&token), &first(&thief)), 204);
    is(&new);
}
