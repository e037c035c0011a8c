//! What a page, and what lies behind it, cannot do: each look that fails says why, and leaves what is published.

use super::{Makers, new_key};
use crate::site::follows::{DAY, DAY_1, Follows as _};

#[test]
fn a_page_that_has_gone_back_does_not_take_machines_back() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    makers.succeeds(&[]);
    makers.sends("/tool/", "tool-1.tar.gz");
    makers.asked();
    makers.fails(
        1,
        &[
            "/tool/ names 1 as the newest version, but agent/tool/2/amd64, which is published, is of 2",
            "next: see whether the page",
            "towline catalogue retire agent/tool 2",
        ],
    );
    assert_eq!(makers.asked(), ["/tool/"], "nothing was fetched");
    // Somebody decides to go back.
    makers
        .world
        .succeeds(&["catalogue", "retire", "agent/tool", "2"]);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
}

#[test]
fn makers_who_count_otherwise_are_followed_again_once_somebody_has_gone_there_by_hand() {
    let makers = Makers::new();
    makers.sends("/tool/", "");
    makers.release("2024.1", DAY_1);
    makers.succeeds(&["recipes/tool.toml"]);
    makers.sends("/tool/", "");
    makers.release("1.0", DAY_1 + DAY);
    makers.fails(
        1,
        &[
            "names 1.0 as the newest version, but agent/tool/2024.1/amd64",
            "or count otherwise now",
            "towline layer build recipes/tool.toml --set version=1.0, towline publish",
            "towline catalogue retire agent/tool 2024.1, and run this again",
        ],
    );
    makers.built(&["--set", "version=1.0"]);
    let layer = "by-hand/agent-tool-1.0-amd64.layer";
    makers.world.succeeds(&["publish", layer]);
    let retire = ["catalogue", "retire", "agent/tool", "2024.1"];
    makers.world.succeeds(&retire);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1.0/amd64\n");
    makers.release("1.1", DAY_1 + 2 * DAY);
    let said = makers.succeeds(&[]);
    assert_eq!(
        said,
        "published agent/tool/1.1/amd64 (tool 1.0 is 1.1 now)\n"
    );
}

#[test]
fn a_page_that_is_gone_or_names_no_version_changes_nothing() {
    let makers = Makers::published();
    makers.sends("/tool/", "we have moved");
    makers.fails(
        2,
        &[
            "tool.toml, line 9: track.page",
            "names no version",
            "compare track.version",
        ],
    );
    makers.sends("/tool/", "tool-1.tar.gz tool-1..2.tar.gz");
    makers.fails(2, &["\"1..2\" is none: versions begin with"]);
    makers.sends("/tool/", vec![b'x'; (4 << 20) + 1]);
    makers.fails(
        2,
        &[
            "/tool/ has more than 4194304 bytes",
            "a page that lists fewer",
        ],
    );
    makers.is_gone("/tool/");
    makers.fails(
        4,
        &[
            "tool.toml, line 9: track.page",
            "the server's answer is 404",
            "next: see where",
        ],
    );
    assert_eq!(makers.record()["failures"], 4);
    assert_eq!(makers.record()["target"], "agent/tool/1/amd64");
    makers.sends("/tool/", "tool-1.tar.gz");
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(makers.record()["failures"], 0);
}

#[test]
fn a_server_that_does_not_answer_now_is_to_be_asked_again_and_not_to_be_left() {
    let makers = Makers::published();
    for (status, next) in [
        (
            "429 Too Many Requests",
            "cannot answer now: try again later",
        ),
        (
            "503 Service Unavailable",
            "cannot answer now: try again later",
        ),
        (
            "403 Forbidden",
            "as GitHub's API does, try again later; if it wants a login",
        ),
    ] {
        makers.refuses(status);
        makers.fails(4, &[&format!("answer is {}", &status[..3]), next]);
    }
    makers.refuses("410 Gone");
    makers.fails(4, &["see where versions are named by now"]);
    makers.refuses(None);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
}

#[test]
fn a_release_that_its_makers_have_not_signed_as_this_one_is_refused() {
    let makers = Makers::published();
    let path = "/tool/tool-2.tar.gz";
    makers.release("2", DAY_1 + DAY);
    let good = makers.files.lock().expect("no panic")[path].clone();
    // The page names it, and nothing is there yet.
    makers.is_gone(&format!("{path}.minisig"));
    makers.fails(
        4,
        &[
            "tool-2.tar.gz.minisig cannot be fetched: the server's answer is 404",
            "whether its makers have put it there already",
        ],
    );
    new_key(makers.world.folder.path(), "theirs");
    let signature = makers.signature("tool-2.tar.gz", "theirs", &[]);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.fails(3, &["is not signed by the recipe's minisign-key"]);
    let signature = makers.signature("tool-2.tar.gz", "ours", &[]);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.sends(path, &b"something else"[..]);
    makers.fails(
        3,
        &["tool-2.tar.gz is not signed by the recipe's minisign-key"],
    );
    // What they have signed, but as another one.
    let files = |path: &str| makers.files.lock().expect("no panic")[path].clone();
    makers.sends(path, files("/tool/tool-1.tar.gz"));
    makers.sends(
        &format!("{path}.minisig"),
        files("/tool/tool-1.tar.gz.minisig"),
    );
    makers.fails(
        3,
        &[
            "does not say that it is for tool-2.tar.gz of version 2",
            "file:tool-1.tar.gz",
            "signed-name = false",
        ],
    );
    let renamed = String::from_utf8(files("/tool/tool-1.tar.gz.minisig")).expect("text");
    let renamed = renamed.replace("file:tool-1.tar.gz", "file:tool-2.tar.gz");
    makers.sends(&format!("{path}.minisig"), renamed);
    makers.fails(
        3,
        &["tool-2.tar.gz is not signed by the recipe's minisign-key"],
    );
    let signature = makers.signature("tool-2.tar.gz", "ours", &["-t", "by its makers"]);
    makers.sends(path, good);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.fails(3, &["its trusted comment is \"by its makers\""]);
    assert_eq!(makers.targets(), ["agent/tool/1/amd64"]);
    // Somebody takes that risk.
    makers.write("recipes/tool.toml", &makers.recipe(", signed-name = false"));
    let said = makers.succeeds(&[]);
    assert!(
        said.starts_with("published agent/tool/2/amd64 (tool 1 is 2 now"),
        "{said}"
    );
}
