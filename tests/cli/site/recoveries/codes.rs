//! What a code gives, to whom, and to whom not.

use super::*;

fn asks_for_a_code(chain: &Chain) -> bool {
    matches!(chain.plan.order, Some(Order::AskCode { seal_to: Some(_) }))
}

#[test]
fn the_right_code_gives_one_machine_a_plan_and_credentials_that_verify() {
    let world = world();
    put_credentials(&world, "environment", "RESTIC_PASSWORD=secret of web1\n");
    let server = Server::start(&world);
    let ordinary = MACHINE.plan(&server);
    assert_eq!(
        chain_of(&world, &ordinary.body).plan.order,
        None,
        "no recovery is open"
    );

    let opened = open(&world, &["--session", "s1"]);
    let code = opened["code"].as_str().unwrap();
    for host in [None, Some(HOST)] {
        let plan = Machine { host, ..MACHINE }.plan(&server);
        let plan = chain_of(&world, &plan.body);
        assert!(asks_for_a_code(&plan), "{host:?}");
        assert_eq!(plan.plan.host.as_deref(), host);
    }

    let (chain, credentials) = verified(&world, &MACHINE.code(&server, &code.to_lowercase()));
    let targets: Vec<_> = chain
        .plan
        .chain
        .iter()
        .map(|it| it.target.as_str())
        .collect();
    let expected = [
        "kernel/debian/1/amd64",
        "base/debian/1/amd64",
        "agent/restic/1/amd64",
        "host/web1/s1/amd64",
    ];
    assert_eq!(targets, expected);
    assert_eq!(opened["id"], *chain.plan.recovery);
    let environment = file(&credentials, "environment");
    assert_eq!(
        environment.as_deref(),
        Some("RESTIC_PASSWORD=secret of web1\n")
    );
    assert!(
        file(&credentials, "client.pem")
            .unwrap()
            .contains("PRIVATE KEY")
    );
    let Some(Order::Recover(order)) = &chain.plan.order else {
        panic!("it orders a recovery");
    };
    assert_eq!(
        order.report_token,
        Digest::of(token(&credentials).as_bytes())
    );
    let line = server.line("is started");
    assert!(line.contains("web1") && !line.contains(code), "{line}");
    for entry in fs::read_dir(world.site().join("state/recoveries")).unwrap() {
        let path = entry.unwrap().path();
        let kept = fs::read_to_string(&path).unwrap();
        for secret in [code, &token(&credentials), "secret of"] {
            assert!(!kept.contains(secret), "{}", path.display());
        }
    }
}

#[test]
fn another_machine_is_refused_and_the_same_one_may_come_again_after_a_restart_of_the_server() {
    let world = world();
    let opened = open(&world, &[]);
    let code = opened["code"].as_str().unwrap();
    let mut server = Server::start(&world);
    let (_, first) = verified(&world, &MACHINE.code(&server, code));
    let other = OTHER.code(&server, code);
    assert_eq!(other.status, 403);
    assert!(
        other.refusal().contains("used on another machine"),
        "{other:?}"
    );
    let plan = OTHER.plan(&server);
    assert_eq!(
        chain_of(&world, &plan.body).plan.order,
        None,
        "it is not asked for a code"
    );

    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&world);
    assert_eq!(OTHER.code(&server, code).status, 403);
    let (_, second) = verified(&world, &MACHINE.code(&server, code));
    let id = &opened["id"];
    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1});
    assert_eq!(event(&server, id, Some(&token(&first)), &ready), 403);
    assert_eq!(
        state(&world, id)["state"]["is"],
        "started",
        "the first boot is over"
    );
    assert_eq!(event(&server, id, Some(&token(&second)), &ready), 204);
    let shown = state(&world, id);
    assert_eq!(
        (&shown["state"]["is"], &shown["machine"]["times"]),
        (&"rescue".into(), &2.into())
    );
}

#[test]
fn wrong_codes_are_counted_make_their_address_wait_and_lock_the_host() {
    let world = world();
    let opened = open(&world, &[]);
    let server = Server::start(&world);
    let named = |address| Machine {
        host: Some(HOST),
        address,
        ..MACHINE
    };
    let wrong = "2222-2222-2222";
    for address in ["127.0.0.2", "127.0.0.3"] {
        for _ in 0..5 {
            let answer = named(address).code(&server, wrong);
            assert_eq!(answer.status, 403, "{answer:?}");
        }
        let waits = named(address).code(&server, opened["code"].as_str().unwrap());
        assert_eq!(waits.status, 429, "even with the right one");
        assert!(waits.refusal().contains("too many wrong codes"));
    }
    let line = server.line("403 POST /v1/recovery");
    assert!(
        line.contains("127.0.0.2") && !line.contains("2222-"),
        "{line}"
    );
    let shown = state(&world, &opened["id"]);
    assert_eq!(
        (&shown["wrong_codes"], &shown["locked"]),
        (&10.into(), &true.into())
    );
    let right = MACHINE.code(&server, opened["code"].as_str().unwrap());
    assert_eq!(right.status, 403);
    assert!(right.refusal().contains("locked"), "{right:?}");

    let again = open(&world, &[]);
    verified(
        &world,
        &MACHINE.code(&server, again["code"].as_str().unwrap()),
    );
    let old = MACHINE.code(&server, opened["code"].as_str().unwrap());
    assert!(old.refusal().contains("closed"), "{old:?}");
}

#[test]
fn a_code_by_plain_http_or_of_no_form_is_refused() {
    let world = world();
    let config = world.site().join("towline.toml");
    let text = fs::read_to_string(&config).unwrap();
    let plain = text.replacen("listen = ", "http_listen = \"127.0.0.1:0\"\nlisten = ", 1);
    fs::write(&config, plain).unwrap();
    let opened = open(&world, &[]);
    let code = opened["code"].as_str().unwrap();
    let server = Server::start(&world);
    let line = server.line("listening on http://");
    let url = line.split_whitespace().last().unwrap();
    let body = json!({"code": code, "request": MACHINE.request()}).to_string();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--include",
            "--header",
            "Expect:",
            "--data-binary",
            &body,
        ])
        .arg(format!("{url}/v1/recovery"))
        .output()
        .expect("curl runs");
    let answer = Answer::of(&output.stdout);
    assert_eq!(answer.status, 403);
    assert!(answer.refusal().contains("https://"), "{answer:?}");

    let no_code = MACHINE.code(&server, "K7QF-2M9X");
    assert_eq!(no_code.status, 400);
    let body = format!("{{\"code\": \"{code}\", \"{code}\": 1}}");
    let broken = MACHINE.sealed(&server, &seal_to(&server), body.as_bytes());
    assert_eq!(broken.status, 400);
    assert!(
        !String::from_utf8_lossy(&broken.body).contains(code),
        "{broken:?}"
    );

    // A token in an event, as media of before signed events send it, everybody may have heard. A signature is good on any way.
    let (_, credentials) = verified(&world, &MACHINE.code(&server, code));
    let (id, token) = (&opened["id"], token(&credentials));
    let first =
        json!({"event": "first-boot", "hostname": HOST, "kernel_release": "6.1", "token": &token});
    let report = event_body(id, 1, &first);
    let signature = format!("towline-signature: {}", signed(id, &token, &report));
    for (header, status, is) in [("Expect:", 403, "started"), (&signature, 204, "closed")] {
        let sent = Command::new("curl")
            .args(["--silent", "--include", "--header", header])
            .args(["--data-binary", &report])
            .arg(format!("{url}/v1/events"))
            .output()
            .expect("curl runs");
        assert_eq!(Answer::of(&sent.stdout).status, status);
        assert_eq!(state(&world, id)["state"]["is"], is);
    }
}

#[test]
fn a_command_for_credentials_that_fails_is_told_without_what_it_printed() {
    let world = world();
    let config = world.site().join("towline.toml");
    let text = fs::read_to_string(&config).unwrap();
    let command = "command = [\"sh\", \"-c\", \"echo VENDOR=$1; echo sealed >&2; exit ${FAIL:-1}\", \"sh\", \"{host}\"]\n";
    let with =
        |command: &str| text.replacen("[credentials]\n", &format!("[credentials]\n{command}"), 1);
    assert_ne!(with(command), text, "there is a table for it");
    fs::write(&config, with(command)).unwrap();
    let opened = open(&world, &[]);
    let code = opened["code"].as_str().unwrap();
    let server = Server::start(&world);
    let failed = MACHINE.code(&server, code);
    assert_eq!(failed.status, 502);
    let told = failed.refusal();
    assert!(
        told.contains("command for credentials failed") && !told.contains("sealed"),
        "{told}"
    );
    let line = server.line("502 POST /v1/recovery");
    assert!(
        line.contains("sealed") && !line.contains("VENDOR"),
        "{line}"
    );
    assert_eq!(
        state(&world, &opened["id"])["state"]["is"],
        "opened",
        "nothing is used up"
    );
    drop(server);

    fs::write(&config, with(&command.replace("FAIL:-1", "FAIL:-0"))).unwrap();
    let server = Server::start(&world);
    let (_, credentials) = verified(&world, &MACHINE.code(&server, code));
    assert_eq!(
        file(&credentials, "environment").as_deref(),
        Some("VENDOR=web1\n")
    );
}

#[test]
fn credentials_are_made_for_the_first_machine_only_and_once_at_a_time() {
    let world = world();
    let config = world.site().join("towline.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (ran, go) = (
        world.folder.path().join("ran"),
        world.folder.path().join("go"),
    );
    // It fails until it is let go, and then waits for the second request.
    let script = format!(
        "echo x >> {0}; [ -e {1} ] || exit 1; until [ -e {1}-on ]; do sleep 0.1; done; echo A=1",
        ran.display(),
        go.display()
    );
    let command = format!("[credentials]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n");
    fs::write(&config, text.replacen("[credentials]\n", &command, 1)).unwrap();
    let runs = || fs::read_to_string(&ran).unwrap_or_default().lines().count();
    let opened = open(&world, &[]);
    let code = opened["code"].as_str().unwrap();
    let server = Server::start(&world);

    assert_eq!(MACHINE.code(&server, code).status, 502);
    assert_eq!(OTHER.code(&server, code).status, 403);
    assert_eq!(runs(), 1, "nothing is made for another machine");

    fs::write(&go, "").unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| MACHINE.code(&server, code));
        let until = Instant::now() + Duration::from_secs(20);
        while runs() < 2 {
            assert!(Instant::now() < until, "the command does not run");
            std::thread::sleep(Duration::from_millis(50));
        }
        let second = MACHINE.code(&server, code);
        fs::write(go.with_file_name("go-on"), "").unwrap();
        assert_eq!(second.status, 503, "{second:?}");
        assert!(second.refusal().contains("being made"), "{second:?}");
        verified(&world, &first.join().unwrap());
    });
    assert_eq!(runs(), 2);
}

#[test]
fn a_session_that_was_retired_is_refused_and_no_other_one_is_given() {
    let world = world();
    let opened = open(&world, &[]);
    world.succeeds(&["catalogue", "retire", "host/web1", "s2"]);
    let server = Server::start(&world);
    let answer = MACHINE.code(&server, opened["code"].as_str().unwrap());
    assert_eq!(answer.status, 409);
    assert!(
        answer.refusal().contains("host/web1/s2/amd64"),
        "{answer:?}"
    );
}

#[test]
fn a_machine_larger_than_any_is_refused_wherever_it_asks() {
    let world = world();
    let opened = open(&world, &[]);
    let server = Server::start(&world);
    let mut request = MACHINE.request();
    request["machine"]["macs"] = vec![""; 65].into();
    let key = own_key().public();
    let code = json!({"code": opened["code"], "seal_to": key, "request": request});
    let key = SigningKey::generate([7; 32]).public();
    let enrolment = json!({
        "host": "web9", "hostname": "web9", "key": key, "machine": request["machine"],
    });
    let to = seal_to(&server);
    for (path, answer) in [
        ("/v1/plan", MACHINE.post(&server, "/v1/plan", &request)),
        (
            "/v1/recovery",
            MACHINE.sealed(&server, &to, code.to_string().as_bytes()),
        ),
        ("/v1/hosts", MACHINE.post(&server, "/v1/hosts", &enrolment)),
    ] {
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let text = answer.refusal();
        assert!(text.contains("65 network interfaces"), "{path}: {text}");
    }
    assert_eq!(state(&world, &opened["id"])["state"]["is"], "opened");
}

#[test]
fn one_damaged_record_stops_no_recovery_and_a_folder_that_cannot_be_read_is_told() {
    let world = world();
    let opened = open(&world, &[]);
    let folder = world.site().join("state/recoveries");
    fs::write(folder.join("r-ffffffffffffffff.json"), "{").unwrap();
    let server = Server::start(&world);
    let plan = MACHINE.plan(&server);
    let chain = chain_of(&world, &plan.body);
    assert!(asks_for_a_code(&chain));
    verified(
        &world,
        &MACHINE.code(&server, opened["code"].as_str().unwrap()),
    );
    let line = server.line("is left out");
    assert!(line.contains("r-ffffffffffffffff"), "{line}");

    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let answer = MACHINE.plan(&server);
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.refusal().contains("cannot read its recoveries"));
}

#[test]
fn a_code_that_is_not_sealed_to_this_server_gives_nothing_and_stays_good() {
    let world = world();
    put_credentials(&world, "environment", "RESTIC_PASSWORD=secret of web1\n");
    let opened = open(&world, &[]);
    let code = opened["code"].as_str().unwrap();
    let server = Server::start(&world);
    // As media sent it that were made before there were sealed codes.
    let body = json!({"code": code, "request": MACHINE.request()});
    let in_clear = MACHINE.post(&server, "/v1/recovery", &body);
    assert_eq!(in_clear.status, 403);
    let told = in_clear.refusal();
    assert!(
        told.contains("sealed only") && told.contains("build and stamp"),
        "{told}"
    );
    let key = own_key().public();
    let body = json!({"code": code, "seal_to": key, "request": MACHINE.request()});
    let elsewhere = MACHINE.sealed(&server, &key, body.to_string().as_bytes());
    assert_eq!(elsewhere.status, 421);
    assert!(elsewhere.refusal().contains("another key"), "{elsewhere:?}");
    let weak = json!({"code": code, "seal_to": "00".repeat(32), "request": MACHINE.request()});
    let weak = MACHINE.sealed(&server, &seal_to(&server), weak.to_string().as_bytes());
    assert_eq!(weak.status, 400);
    assert!(weak.refusal().contains("cannot be sealed to"), "{weak:?}");
    for refused in [&in_clear, &elsewhere, &weak] {
        let shown = String::from_utf8_lossy(&refused.body);
        assert!(
            !shown.contains(code) && !shown.contains("secret of"),
            "{shown}"
        );
    }
    verified(&world, &MACHINE.code(&server, code));
}

#[test]
fn a_sealed_request_that_is_sent_again_is_refused_and_takes_no_recovery_from_its_machine() {
    let world = world();
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let mut server = Server::start(&world);
    let heard = MACHINE.code_sealed(&server, code);
    let (_, credentials) = verified(&world, &MACHINE.send_sealed(&server, &heard));
    let token = token(&credentials);
    let shown = state(&world, id);
    let somebody = Machine {
        address: "127.0.0.7",
        ..MACHINE
    };
    for sender in [&somebody, &MACHINE] {
        let again = sender.send_sealed(&server, &heard);
        assert_eq!(again.status, 409, "{again:?}");
        let told = String::from_utf8_lossy(&again.body).into_owned();
        assert!(told.contains("came before"), "{told}");
        assert!(told.contains("try again with the same code"), "{told}");
    }
    let line = server.line("409 POST /v1/recovery");
    assert!(
        line.contains("came before") && !line.contains(code),
        "{line}"
    );
    assert_eq!(state(&world, id), shown, "nothing has happened to it");
    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1});
    assert_eq!(event(&server, id, Some(&token), &ready), 204);

    // The machine itself may come again, by a request of its own.
    verified(&world, &MACHINE.code(&server, code));
    assert_eq!(state(&world, id)["machine"]["times"], 2);
    assert_eq!(MACHINE.send_sealed(&server, &heard).status, 409);
    // A server that was started again knows nothing of it, and cannot open it either.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&world);
    assert_eq!(MACHINE.send_sealed(&server, &heard).status, 421);
    assert_eq!(state(&world, id)["machine"]["times"], 2);
}

#[test]
fn a_request_that_was_held_back_takes_no_recovery_from_its_machine() {
    let world = world();
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let server = Server::start(&world);
    // All by the key that the first plan names: the machine has tried thrice, and two never came.
    let [held_back, another, came] = [(); 3].map(|()| MACHINE.code_sealed(&server, code));
    let (_, credentials) = verified(&world, &MACHINE.send_sealed(&server, &came));
    let token = token(&credentials);
    let shown = state(&world, id);
    for kept in [&held_back, &another] {
        let late = MACHINE.send_sealed(&server, kept);
        assert_eq!(late.status, 421, "{late:?}");
        let told = String::from_utf8_lossy(&late.body).into_owned();
        assert!(told.contains("each answer needs a new one"), "{told}");
    }
    assert_eq!(state(&world, id), shown, "nothing has happened to it");
    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1});
    assert_eq!(event(&server, id, Some(&token), &ready), 204);
    // Its own next plan names another key.
    verified(&world, &MACHINE.code(&server, code));
    assert_eq!(MACHINE.send_sealed(&server, &another).status, 421);
}

#[test]
fn a_request_that_was_held_back_is_of_no_use_though_a_later_one_is_sealed_to_an_older_key() {
    let world = world();
    let mut other = host("s1", "cccc3333", 3);
    other.manifest.name = "web2".into();
    world.succeeds(&["publish", &world.written("web2", &other)]);
    let opened = open(&world, &[]);
    let (id, code) = (&opened["id"], opened["code"].as_str().unwrap());
    let server = Server::start(&world);
    // The machine's first plan, whose key it goes back to when a person types the code once more.
    let came = MACHINE.code_sealed(&server, code);
    let others = world.succeeds(&["recovery", "open", "web2", "--json"]);
    let others: Value = serde_json::from_str(&others).unwrap();
    let others = OTHER.code(&server, others["code"].as_str().unwrap());
    assert_eq!(others.status, 200);
    // By a plan that it has asked for meanwhile.
    let held_back = MACHINE.code_sealed(&server, code);
    let (_, credentials) = verified(&world, &MACHINE.send_sealed(&server, &came));
    let shown = state(&world, id);
    let late = MACHINE.send_sealed(&server, &held_back);
    assert_eq!(late.status, 421);
    assert_eq!(state(&world, id), shown, "nothing has happened to it");
    let ready = json!({"event": "rescue-ready", "checks": [], "memory_used_kib": 1});
    assert_eq!(
        event(&server, id, Some(&token(&credentials)), &ready),
        204,
        "the real machine is heard"
    );
}
