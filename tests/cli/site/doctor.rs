//! `towline chain check` and `towline doctor` say what would keep a host from being recovered, by their exit status too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;
use towline_contract::Timestamp;
use towline_contract::manifest::{Compression, Kind, Placement};
use towline_contract::session::Disk;
use towline_harness::layer::layer;

use super::recoveries::{HOST, agent, host, open, put_credentials, state, world};
use super::{World, chain};

/// Exit status and stdout.
fn said(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = world.run(arguments);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code(), text)
}

#[track_caller]
fn says(world: &World, arguments: &[&str], exit: i32, parts: &[&str]) {
    let (code, text) = said(world, arguments);
    assert_eq!(code, Some(exit), "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn chmod(world: &World, file: &str, mode: u32) {
    let path = world.site().join(file);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_site_without_hosts_protects_nothing_and_is_not_well() {
    let world = World::new();
    let parts = ["PROBLEM site: it has no host"];
    says(&world, &["doctor"], 1, &parts);
}

#[test]
fn a_chain_is_shown_with_session_layers_agent_and_memory() {
    let world = world();
    says(
        &world,
        &["chain", "check", HOST],
        0,
        &[
            "host/web1/s2/amd64",
            "restic session bbbb2222",
            "0.14.0 then, 1 now",
            "kernel/debian/1/amd64",
            "base/debian/1/amd64",
            "the host has 1024",
        ],
    );
    let (code, text) = said(
        &world,
        &["chain", "check", HOST, "--session", "aaaa1111", "--json"],
    );
    assert_eq!(code, Some(0));
    let chain: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(chain["session"]["target"], "host/web1/s1/amd64");
    assert_eq!(chain["layers"].as_array().map(Vec::len), Some(4));
    assert_eq!(chain["findings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_chain_that_would_not_be_recovered_is_said_with_the_reason_and_exit_status_1() {
    let world = world();
    let before = ["chain", "check", HOST, "--at", "2020-01-01T00:00:00Z"];
    says(&world, &before, 1, &["PROBLEM web1: ", "at or before"]);
    says(
        &world,
        &["chain", "check", "web9"],
        1,
        &["no host called \"web9\""],
    );
    world.succeeds(&["catalogue", "retire", "agent/restic", "1"]);
    let agent = ["PROBLEM web1: ", "agent \"restic\"", "towline publish"];
    says(&world, &["chain", "check", HOST], 1, &agent);
    says(&world, &["doctor"], 1, &agent);
}

/// A site with a base of these files under a host's session of two hours ago, published after it.
fn world_over(base: &[(&str, u32, &[u8])], files: &[(&str, u32, &[u8])]) -> World {
    let world = World::new();
    let [kernel, ..] = chain();
    let mut own = layer(Kind::Host, HOST, Compression::Zstd, files);
    (own.manifest.version, own.manifest.session) =
        ("s2".into(), host("s2", "bbbb2222", 2).manifest.session);
    let base = layer(Kind::Base, "debian", Compression::Zstd, base);
    world.succeeds(&["publish", &world.written("own", &own)]);
    let others = [("kernel", &kernel), ("base", &base), ("agent", &agent())];
    let others = others.map(|(name, layer)| world.written(name, layer));
    world.succeeds(&["publish", &others[0], &others[1], &others[2]]);
    world
}

#[test]
fn files_that_a_host_hides_are_listed_and_keep_nobody_from_recovering() {
    let base = [
        ("etc/hostname", 0o644, &b"generic\n"[..]),
        ("usr/bin/sh", 0o755, b"sh"),
    ];
    let world = world_over(&base, &[("etc/hostname", 0o644, b"web1\n")]);
    let line = "hidden       etc/hostname (host over base)";
    says(&world, &["chain", "check", HOST], 0, &[line]);
    let (_, text) = said(&world, &["chain", "check", HOST, "--json"]);
    let chain: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(chain["hidden"][0]["earlier"], "base/debian/1/amd64");
    assert_eq!(chain["hidden"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_session_that_no_machine_could_place_over_a_newer_base_is_a_problem() {
    let base = [("etc/rear", 0o644, &b"a file"[..])];
    let world = world_over(&base, &[("etc/rear/local.conf", 0o644, b"")]);
    let parts = [
        "PROBLEM web1: a machine would refuse these layers",
        "has a directory etc/rear",
    ];
    says(&world, &["chain", "check", HOST], 1, &parts);
    says(&world, &["doctor"], 1, &parts);
    // Whoever opens a recovery all the same is told.
    let output = world.run(&["recovery", "open", HOST]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && talk.contains(parts[0]), "{talk}");
}

#[test]
fn an_agent_whose_commands_no_layer_has_is_refused_and_when_accepted_told_for_each_host() {
    let world = world();
    let mut newer = agent();
    newer.manifest.version = "2".into();
    newer.manifest.created = "2026-01-01T00:00:00Z".parse().expect("a time");
    let table = r#"{"restore": ["restic"], "check": ["/usr/bin/lost"]}"#;
    newer.manifest.agent = Some(serde_json::from_str(table).expect("an agent"));
    let path = world.written("newer", &newer);
    let says_so = ["agent/restic/2/amd64", "/usr/bin/lost", "--accept-missing"];
    world.refuses(&["publish", &path], 1, &says_so);
    world.succeeds(&["publish", &path, "--accept-missing"]);
    let problem =
        "PROBLEM web1: agent/restic/2/amd64 needs /usr/bin/lost, which no layer of its chain has";
    says(&world, &["chain", "check", HOST], 1, &[problem]);
}

#[test]
fn a_site_whose_hosts_could_be_recovered_is_well_and_warnings_change_no_exit_status() {
    let world = world();
    says(
        &world,
        &["doctor"],
        0,
        &[
            "WARNING site: the key keys/root-1.key, which belongs elsewhere, is on this machine",
            "WARNING web1: its recovery was never tried",
            "OK 1 of 1 hosts could be recovered now",
        ],
    );
    let (code, text) = said(&world, &["doctor", HOST, "--json"]);
    assert_eq!(code, Some(0));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["well"], true);
    assert_eq!(report["hosts"][0]["recoverable"], true);
    world.refuses(
        &["doctor", "web9"],
        1,
        &["no host called \"web9\"", "host list"],
    );
}

#[test]
fn each_problem_is_one_line_with_host_and_next_step() {
    let world = world();
    let config = world.site().join("towline.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(
        &config,
        text.replace("session_hours = 48", "session_hours = 1"),
    )
    .expect("written");
    chmod(&world, "keys/plan.key", 0o644);
    let secret = put_credentials(&world, "token", "x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("a mode");
    let base = world.succeeds(&["catalogue", "list", "--json"]);
    let list: Value = serde_json::from_str(&base).expect("JSON");
    let rows = list.as_array().expect("a list").iter();
    let is_base = |it: &&Value| {
        it["target"]
            .as_str()
            .is_some_and(|it| it.starts_with("base/"))
    };
    let base = rows.clone().find(is_base).expect("a base");
    let digest = base["digest"].as_str().expect("a digest");
    fs::remove_file(world.site().join("store/layers").join(digest)).expect("removed");

    let (code, text) = said(&world, &["doctor"]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "PROBLEM site: the key keys/plan.key cannot be used",
        "PROBLEM web1: its newest session is 2 hours old, and 1 are allowed",
        "PROBLEM web1: no recovery is opened: ",
        "PROBLEM web1: the store does not have the",
    ] {
        let line = text.lines().find(|it| it.starts_with(part));
        let line = line.unwrap_or_else(|| panic!("{part:?} is not in: {text}"));
        assert!(line.contains(" — "), "{line}");
    }
    assert!(!text.contains("OK "), "{text}");
    let first_warning = text.lines().position(|it| it.starts_with("WARNING"));
    let last_problem = text.lines().filter(|it| it.starts_with("PROBLEM")).count();
    assert_eq!(
        first_warning,
        Some(last_problem),
        "problems come first: {text}"
    );
}

#[test]
fn a_catalogue_that_was_changed_by_hand_is_a_problem_of_the_site() {
    let world = world();
    let path = world.site().join("store/metadata/timestamp.json");
    let text = fs::read_to_string(&path).expect("a timestamp");
    fs::write(&path, text.replace("\"version\":", "\"version\": 9")).expect("written");
    says(
        &world,
        &["doctor"],
        1,
        &["PROBLEM site: the catalogue in the store is not trusted"],
    );
}

/// A site whose host has a disk in its newest session.
fn world_with_a_disk() -> World {
    let world = world();
    let mut layer = host("s3", "cccc3333", 1);
    let session = layer.manifest.session.as_mut().expect("a session");
    session.hardware.disks = vec![Disk {
        device: "/dev/sda".into(),
        bytes: 1 << 30,
        model: None,
        serial: None,
    }];
    world.succeeds(&["publish", &world.written("s3", &layer)]);
    world
}

#[test]
fn a_drill_that_restores_does_not_close_an_operators_recovery() {
    let world = world_with_a_disk();
    let opened = open(&world, &[]);
    let id = opened["id"].as_str().expect("an id");
    world.refuses(
        &["drill", HOST, "--restore"],
        1,
        &[id, "is open", &format!("towline recovery close {id}")],
    );
    assert_eq!(state(&world, &opened["id"])["state"]["is"], "opened");
}

#[test]
fn a_drill_that_recreates_no_disk_does_not_pass_for_a_layer_that_goes_onto_one() {
    let world = world();
    let mut large = agent();
    large.manifest.version = "9".into();
    large.manifest.placement = Placement::Target;
    let path = world.written("large", &large);
    world.succeeds(&["publish", &path, "--accept-missing"]);
    world.refuses(
        &["drill", HOST],
        2,
        &[
            "agent/restic/9/amd64 goes onto the recreated disk",
            "add --restore",
        ],
    );
}

#[test]
fn a_drill_of_a_session_that_would_be_refused_ends_before_it_begins() {
    let world = world();
    world.refuses(
        &["drill", HOST, "--session", "nope"],
        1,
        &["no session \"nope\""],
    );
    world.refuses(&["drill", HOST, "--restore"], 2, &["names no disks"]);
    world.refuses(&["drill", HOST], 2, &["no medium is named", "drill"]);
    let missing = ["drill", HOST, "--medium", "nowhere.iso"];
    world.refuses(
        &missing,
        2,
        &["there is no medium nowhere.iso", "media build"],
    );
    assert!(!world.site().join("state/drills").exists());
}

#[test]
fn a_drill_without_qemu_says_which_package_has_it() {
    let world = world();
    let output = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["drill", HOST, "--medium", "towline.toml"])
        .env("PATH", "/nowhere")
        .current_dir(world.site())
        .output()
        .expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(
        talk.contains("a drill needs QEMU") && talk.contains("qemu-system-x86"),
        "{talk}"
    );
}

#[test]
fn documents_that_wait_are_named_with_the_keys_they_want_until_they_are_taken_up() {
    let world = world();
    let away = |name: &str| {
        let to = world.folder.path().join(name);
        fs::rename(world.site().join("keys").join(name), &to).expect("it is carried away");
        to
    };
    let base = away("base.key");
    let next = world.folder.path().join("next.key");
    let next = next.to_str().expect("UTF-8");
    world.succeeds(&["key", "new", next, "--plain"]);
    let public = next.replace(".key", ".pub");
    let rotate = ["key", "rotate", "base", "--new-key", &public];
    world.refuses(&rotate, 1, &["base.json has 0 of 1 signatures"]);
    let shown: Value =
        serde_json::from_str(&world.succeeds(&["key", "show", "--json"])).expect("JSON");
    let mut files = shown["waiting"].as_array().expect("files").iter();
    let waits = files.find_map(|it| it.as_str().filter(|it| it.contains("base")));
    let waits = waits.expect("the base's document");
    let line = || {
        let (code, text) = said(&world, &["doctor"]);
        assert_eq!(code, Some(0), "{text}");
        let mut lines = text.lines();
        let start = format!("WARNING site: {waits} waits since 20");
        let line = lines
            .find_map(|it| it.strip_prefix(&start))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("{start}: {text}"))
    };
    let next_step =
        format!("towline key sign {waits} --key KEY; then run the command that left it again");
    let lacking = "with 0 of 1 signatures (it can be signed by ";
    assert!(
        line().contains(lacking) && line().ends_with(&next_step),
        "{}",
        line()
    );
    // By the key that is to follow, not by the one of now.
    let sign = |key: &str| world.succeeds(&["key", "sign", waits, "--yes", "--key", key]);
    sign(base.to_str().expect("UTF-8"));
    assert!(line().contains(lacking), "{}", line());
    sign(next);
    let signed = ", and is signed — run the command that left it again";
    assert!(line().ends_with(signed), "{}", line());
    world.succeeds(&rotate);
    let (_, text) = said(&world, &["doctor"]);
    assert!(!text.contains("waits"), "{text}");

    // What is no document is said, and stops nothing.
    fs::write(world.site().join("to-sign/2.root.json"), "{").expect("a file");
    says(
        &world,
        &["doctor"],
        0,
        &["WARNING site: what waits in to-sign/ cannot be read"],
    );
}

#[test]
fn a_root_that_waits_wants_the_keys_of_before_and_of_after_by_their_names() {
    let world = World::new();
    let rotate = ["key", "rotate", "root", "--replace", "root-1"];
    for number in 1..=3 {
        let key = world.site().join(format!("keys/root-{number}.key"));
        fs::remove_file(key).expect("it is carried away");
    }
    world.refuses(&rotate, 1, &["2.root.json has 0 of 2 signatures"]);
    let (_, text) = said(&world, &["doctor"]);
    for part in [
        "with 0 of 2 signatures",
        "(root-1), ",
        ", and 1 of 2 signatures",
        "(root-3))",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_agent_that_each_host_would_get_is_told_with_its_age_and_when_it_was_seen_current() {
    let world = world();
    let parts = ["web1 ", " agent/restic/1/amd64 ", " nobody looks"];
    says(&world, &["host", "agent"], 0, &parts);
    world.refuses(&["host", "agent", "web9"], 1, &["no host called \"web9\""]);
    let record = r#"{"state": "current", "looked": "2026-11-24T02:10:00Z", "why": null, "current": "2026-11-24T02:10:00Z",
        "target": "agent/restic/1/amd64", "recipe": null, "failures": 0, "built": null}"#;
    let folder = world.site().join("state/tracked");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("agent-restic.json"), record).expect("a record");
    says(&world, &["host", "agent", HOST], 0, &["2026-11-24 02:10Z"]);

    let (_, text) = said(&world, &["host", "agent", "--json"]);
    let rows: Value = serde_json::from_str(&text).expect("JSON");
    let created = agent().manifest.created;
    let days = Timestamp::now().duration_since(created).as_hours() / 24;
    assert_eq!(rows[0]["agent"]["age_days"], days);
    assert_eq!(rows[0]["seen_current"], "2026-11-24T02:10:00Z");
    let age = format!("towline_host_agent_age_days{{host=\"web1\"}} {days}\n");
    let seen = "towline_host_agent_current_timestamp_seconds{host=\"web1\"} 1795486200\n";
    let info = "towline_host_agent_info{host=\"web1\",target=\"agent/restic/1/amd64\"} 1\n";
    says(
        &world,
        &["host", "agent", "--metrics"],
        0,
        &[&age, seen, info],
    );

    world.succeeds(&["catalogue", "retire", "agent/restic", "1"]);
    let info = "towline_host_agent_info{host=\"web1\",target=\"\"} 0\n";
    says(&world, &["host", "agent", "--metrics"], 0, &[info]);
    let none = ["web1 ", " none: ", "agent \"restic\""];
    says(&world, &["host", "agent", HOST], 0, &none);
}
