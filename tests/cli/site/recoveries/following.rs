//! The operator's side: opening, following, closing, and the report.

use towline_contract::Timestamp;

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
fn reports_that_their_machine_signed_move_the_recovery_until_it_is_closed_by_the_first_boot() {
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
    for forged in [None, Some(WRONG_TOKEN)] {
        assert_eq!(event(&server, id, forged, &failed), 403);
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
    assert!(!log.contains("forged"), "{log}");
}

#[test]
fn whoever_hears_a_report_can_neither_change_it_nor_send_it_again() {
    let world = world();
    let server = Server::start(&world);
    let started = |machine: &Machine| {
        let opened = open(&world, &[]);
        let answer = machine.code(&server, opened["code"].as_str().unwrap());
        let (_, credentials) = verified(&world, &answer);
        (opened["id"].clone(), token(&credentials))
    };
    let ((id, token), (other, _)) = (started(&MACHINE), started(&OTHER));
    let restoring = |number, bytes| {
        let what = json!({"event": "restoring", "bytes": bytes, "total": null});
        let body = event_body(&id, number, &what);
        let header = signed(&id, &token, &body);
        (body, header)
    };
    let status = |(body, header): &(String, String)| {
        let answer = send(&server, body, Some(header.clone()));
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    };
    let lines = || {
        let journal = format!("state/recoveries/{}.events.jsonl", id.as_str().unwrap());
        let files = [&journal, "state/events.jsonl"];
        files.map(|it| {
            fs::read_to_string(world.site().join(it))
                .unwrap()
                .lines()
                .count()
        })
    };
    let heard = restoring(5, 10);
    assert_eq!(status(&heard).0, 204);
    let once = lines();
    // Its answer was lost: the machine sends the very same again.
    assert_eq!(status(&heard).0, 204);
    assert_eq!(lines(), once);

    let (body, header) = heard.clone();
    let elsewhere = header.replace(id.as_str().unwrap(), other.as_str().unwrap());
    let renamed = body.replace(id.as_str().unwrap(), other.as_str().unwrap());
    let forged = [
        (body.replace("\"number\":5", "\"number\":6"), header.clone()),
        (body.replace("10", "99"), header.clone()),
        (body.clone(), header.replace(' ', " 00")),
        (body.clone(), "?".into()),
        (body, elsewhere.clone()),
        (renamed.clone(), elsewhere),
        (renamed.clone(), signed(&other, &token, &renamed)),
    ];
    let refusals: Vec<_> = forged.iter().map(status).collect();
    for refusal in &refusals {
        assert_eq!(refusal.0, 403);
        assert_eq!(refusal.1, refusals[0].1, "which of them is not told");
    }
    assert_eq!(state(&world, &other)["state"]["is"], "started");

    let later = restoring(6, 20);
    assert_eq!(status(&later).0, 204);
    let (late, told) = status(&heard);
    assert_eq!(late, 409);
    assert!(told.contains("later event"), "{told}");
    assert_eq!(status(&restoring(4, 9)).0, 409);
    assert_eq!(state(&world, &id)["state"]["bytes"], 20);
    assert_eq!(lines(), once.map(|it| it + 1));
}

#[test]
fn a_report_that_cannot_be_kept_has_not_happened_and_is_whole_when_it_comes_again() {
    let world = world();
    let opened = open(&world, &[]);
    let id = &opened["id"];
    let server = Server::start(&world);
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    let (_, credentials) = verified(&world, &answer);
    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1});
    let body = event_body(id, 1, &ready);
    let header = signed(id, &token(&credentials), &body);
    let status = || send(&server, &body, Some(header.clone())).status;
    // No file of that name can be opened.
    let log = world.site().join("state/events.jsonl");
    fs::create_dir(&log).unwrap();
    assert_eq!(status(), 500);
    assert_eq!(state(&world, id)["state"]["is"], "started");
    fs::remove_dir(&log).unwrap();
    assert_eq!(status(), 204);
    assert_eq!(state(&world, id)["state"]["is"], "rescue");
    let kept = fs::read_to_string(&log).unwrap();
    assert_eq!(kept.matches("rescue-ready").count(), 1, "{kept}");
}

#[test]
fn a_recovery_that_an_older_server_began_tells_its_machine_and_its_operator_what_to_do() {
    let world = world();
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let server = Server::start(&world);
    verified(&world, &MACHINE.code(&server, code));
    let path = format!("state/recoveries/{}.json", id.as_str().unwrap());
    let path = world.site().join(path);
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let fields = record.as_object_mut().unwrap();
    fields.remove("report_key").expect("it has one");
    fields.insert("report_token".into(), json!("02".repeat(32)));
    fs::write(&path, record.to_string()).unwrap();

    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1, "token": "t"});
    let body = event_body(id, 1, &ready);
    for signature in [None, Some(signed(id, WRONG_TOKEN, &body))] {
        let answer = send(&server, &body, signature);
        assert_eq!(answer.status, 409);
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(told.contains("before events were signed"), "{told}");
        assert!(told.contains("recovery open"), "{told}");
    }
    let line = server.line("409 POST /v1/events");
    assert!(line.contains(id.as_str().unwrap()), "{line}");
    assert_eq!(state(&world, id)["state"]["is"], "started");
    // Nobody is sent to recover once more what is recovered.
    record["state"] = json!({"is": "recovered", "seconds": 9});
    fs::write(&path, record.to_string()).unwrap();
    let answer = send(&server, &body, None);
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(
        told.contains("recovery close") && !told.contains("recovery open"),
        "{told}"
    );
    record["state"] = json!({"is": "started"});
    fs::write(&path, record.to_string()).unwrap();
    // The same machine, from a medium of today, is heard again.
    let (_, credentials) = verified(&world, &MACHINE.code(&server, code));
    assert_eq!(event(&server, id, Some(&token(&credentials)), &ready), 204);
    assert_eq!(state(&world, id)["state"]["is"], "rescue");
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
