//! New releases: published, built by hand, and waiting for signatures.

use std::fs;
use std::time::Duration;

use towline_contract::{Digest, Timestamp};

use super::Makers;
use crate::site::Server;
use crate::site::follows::{DAY, DAY_1, Follows as _};
use crate::site::tracked::Followed;

#[test]
fn machines_get_a_new_release_when_the_page_names_one_and_old_ones_go() {
    let makers = Makers::published();
    makers.release("1.9", DAY_1 + DAY);
    let said = makers.succeeds(&[]);
    assert_eq!(said, "published agent/tool/1.9/amd64 (tool 1 is 1.9 now)\n");
    // Newer than 1.9 as Debian has it.
    makers.release("1.10", DAY_1 + 2 * DAY);
    let said = makers.succeeds(&[]);
    let wanted =
        "published agent/tool/1.10/amd64 (tool 1.9 is 1.10 now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        makers.targets(),
        ["agent/tool/1.10/amd64", "agent/tool/1.9/amd64"]
    );

    // As new as the look is: it is known, and told.
    let seen: Timestamp = makers.record()["current"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(
        Timestamp::now().duration_since(seen).as_secs() < 600,
        "{seen}"
    );
    let server = Server::start(&makers.world);
    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    for line in [
        "towline_agent_info{agent=\"tool\",architecture=\"amd64\",version=\"1.10\"} 1\n",
        "towline_recipe_failures{recipe=\"tool\"} 0\n",
        &format!(
            "towline_recipe_current_timestamp_seconds{{recipe=\"tool\"}} {}\n",
            seen.as_second()
        ),
    ] {
        assert!(metrics.contains(line), "{line:?} is not in: {metrics}");
    }
}

#[test]
fn when_the_page_names_nothing_new_nothing_else_is_asked_for_or_built() {
    let makers = Makers::new();
    // What a digest in the recipe names is always the same.
    makers.sends("/motto", &b"one\n"[..]);
    let motto = format!(
        "[[source]]\ntype = \"file\"\npath = \"opt/motto\"\nfrom = {{ url = \"{}/motto\", sha256 = \"{}\" }}\n",
        makers.url,
        Digest::of(b"one\n")
    );
    makers.write("recipes/tool.toml", &(makers.recipe("") + &motto));
    makers.succeeds(&["recipes/tool.toml"]);
    let before = makers.world.timestamp();
    makers.asked();
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(makers.asked(), ["/tool/"]);
    assert!(makers.world.timestamp() == before);
    let built = makers.world.site().join("state/tracked/layers/tool");
    assert!(!built.exists());
}

#[test]
fn a_signature_may_lie_elsewhere() {
    let makers = Makers::new();
    let place = format!(
        ", signature-url = \"{}/signatures/${{version}}.sig\"",
        makers.url
    );
    makers.write("recipes/tool.toml", &makers.recipe(&place));
    let signature = makers.signature("tool-1.tar.gz", "ours", &["-t", "tool 1"]);
    makers.sends("/signatures/1.sig", signature);
    makers.is_gone("/tool/tool-1.tar.gz.minisig");
    let said = makers.succeeds(&["recipes/tool.toml"]);
    assert_eq!(said, "published agent/tool/1/amd64\n");
}

#[test]
fn a_release_that_was_built_and_not_published_is_published_by_the_next_look() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    let key = makers.world.site().join("keys/snapshot.key");
    let away = makers.world.folder.path().join("snapshot.key");
    fs::rename(&key, &away).expect("it goes");
    makers.fails(2, &["snapshot.key"]);
    fs::rename(&away, &key).expect("it comes back");
    makers.is_gone("/tool/tool-2.tar.gz");
    let said = makers.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
}

#[test]
fn a_look_at_a_page_that_is_killed_anywhere_is_run_again_and_publishes_once() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    for wait in 0..12 {
        makers.is_killed_after(Duration::from_millis(wait * 25));
    }
    makers.succeeds(&[]);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
    assert_eq!(
        makers.targets(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}

#[test]
fn a_build_by_hand_takes_the_newest_release_or_the_one_that_is_set() {
    let makers = Makers::new();
    makers.release("2", DAY_1 + DAY);
    let newest = makers.built(&[]);
    assert_eq!(newest.target_name(), "agent/tool/2/amd64");
    let package = &newest.packages[0];
    assert_eq!((&*package.name, &*package.version), ("tool", "2"));
    makers.asked();
    // A folder of that name makes no path of it.
    fs::create_dir(makers.world.site().join("1")).expect("a folder");
    let older = makers.built(&["--set", "version=1"]);
    assert_eq!(older.target_name(), "agent/tool/1/amd64");
    assert!(!makers.asked().contains(&"/tool/".to_owned()));
    let build = [
        "layer",
        "build",
        "recipes/tool.toml",
        "-o",
        "by-hand",
        "--cache",
        "cache",
    ];
    let output = makers.towline(&build).output().expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("/tool/ names is 2\n"), "{talk}");
    let output = makers
        .towline(&[&build[..], &["--set", "version=../1"]].concat())
        .output();
    let output = output.expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2)
            && talk.contains("`--set version=` names: \"../1\" is none")
            && talk.contains("next: give it as it stands in the URL: --set version=1.2"),
        "{talk}"
    );
}

#[test]
fn a_layer_is_compared_with_the_release_that_it_is_of_whatever_the_page_names_by_now() {
    let makers = Makers::new();
    makers.built(&[]);
    makers.release("2", DAY_1 + DAY);
    makers.asked();
    let layer = "by-hand/agent-tool-1-amd64.layer";
    let verify = ["layer", "verify", layer, "--sources", "recipes/tool.toml"];
    let verify = [&verify[..], &["--cache", "cache"]].concat();
    let output = makers.towline(&verify).output().expect("towline runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("gives the same bytes again"), "{said}");
    assert!(!makers.asked().contains(&"/tool/".to_owned()));
    // Another one when somebody says so.
    let other = [&verify[..], &["--set", "version=2"]].concat();
    let output = makers.towline(&other).output().expect("towline runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_release_whose_key_is_elsewhere_is_published_when_it_is_signed_and_only_then_the_next_one() {
    let makers = Makers::published();
    let site = makers.world.site();
    let officer = makers.world.folder.path().join("agent-tool.key");
    fs::rename(site.join("keys/agent-tool.key"), &officer).expect("it goes");
    makers.release("2", DAY_1 + DAY);
    let waits = |target: &str| {
        let output = makers.refresh(&[]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        let says = format!("{target} is built and waits for the key");
        assert!(talk.contains(&says), "{talk}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    waits("agent/tool/2/amd64");
    let mut documents = fs::read_dir(site.join("to-sign")).expect("a folder");
    let document = documents.find_map(|it| {
        let path = it.expect("a file").path();
        path.extension()
            .is_some_and(|it| it == "json")
            .then_some(path)
    });
    let document = document.expect("a document");
    makers.release("3", DAY_1 + 2 * DAY);
    waits("agent/tool/2/amd64");
    let [document, key] = [&document, &officer].map(|it| it.to_str().expect("UTF-8"));
    let sign = ["key", "sign", document, "--key", key, "--yes"];
    makers.world.succeeds(&sign);
    let said = waits("agent/tool/3/amd64");
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn a_recipe_may_follow_a_page_and_an_archive() {
    let makers = Makers::new();
    let archive = Followed::new();
    let apt = "[[source]]\ntype = \"apt\"\npackages = [\"library\"]\n";
    makers.write("recipes/tool.toml", &(makers.recipe("") + apt));
    let look = || {
        let mut command = makers.command(&["recipes/tool.toml"]);
        let output = command.env("APT_CONFIG", &archive.config).output();
        let output = output.expect("towline runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(look(), "published agent/tool/1/amd64\n");
    assert_eq!(look(), "unchanged agent/tool/1/amd64\n");
    // As new as the older of both.
    assert_eq!(makers.record()["current"], "2025-11-01T00:00:00Z");
    archive.package("library", "2", DAY_1 + DAY);
    assert_eq!(
        look(),
        "published agent/tool/1again2/amd64 (library 1 is 2 now)\n"
    );
    makers.release("2", DAY_1 + 2 * DAY);
    let said = look();
    assert!(
        said.starts_with("published agent/tool/2/amd64 (tool 1 is 2 now)\n"),
        "{said}"
    );
}

#[test]
fn a_newer_release_by_hand_stays() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    makers.built(&[]);
    makers
        .world
        .succeeds(&["publish", "by-hand/agent-tool-2-amd64.layer"]);
    makers.sends("/tool/", "tool-1.tar.gz");
    let said = makers.succeeds(&[]);
    assert_eq!(
        said,
        "stays agent/tool/2/amd64 (published by hand, and newer than what the recipe makes)\n"
    );
}

#[test]
fn the_server_looks_at_pages_by_its_timer() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    makers.is_due();
    let authority = makers.authority();
    let authority = authority.to_str().expect("UTF-8");
    let variables = [("SSL_CERT_FILE", authority), ("NO_PROXY", "localhost")];
    let server = Server::start_with(&makers.world, &variables);
    server.line_within(Duration::from_secs(120), "published agent/tool/2/amd64");
    assert_eq!(
        makers.targets(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}
