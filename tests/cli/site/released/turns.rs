//! Several recipes: a slow server does not keep those behind it from being looked at for ever.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use super::Makers;
use crate::site::follows::Follows as _;

/// A second recipe, which comes first by its name, published.
fn with_another(makers: &Makers) -> String {
    makers.sends("/other/", "tool-1.tar.gz");
    let recipe = makers.recipe("");
    let recipe = recipe.replace("\"tool\"", "\"other\"");
    let recipe = recipe.replace("opt/tool", "opt/other");
    let recipe = recipe.replace("/tool/\"\n", "/other/\"\n");
    makers.write("recipes/another.toml", &recipe);
    let said = makers.succeeds(&["recipes/another.toml"]);
    assert_eq!(said, "published agent/other/1/amd64\n");
    recipe
}

#[test]
fn the_recipe_that_was_looked_at_longest_ago_goes_first() {
    let makers = Makers::published();
    with_another(&makers);
    let unchanged = "unchanged agent/other/1/amd64\nunchanged agent/tool/1/amd64\n";
    makers.asked();
    for order in [["/tool/", "/other/"], ["/tool/", "/other/"]] {
        assert_eq!(makers.succeeds(&[]), unchanged);
        assert_eq!(makers.asked(), order);
    }
    let path = makers.world.site().join("state/tracked/another.json");
    let text = fs::read_to_string(&path).expect("a record");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    record["looked"] = "2025-01-01T00:00:00Z".into();
    fs::write(&path, record.to_string()).expect("a record");
    assert_eq!(makers.succeeds(&[]), unchanged);
    assert_eq!(makers.asked(), ["/other/", "/tool/"]);
}

#[test]
fn a_look_that_is_cut_off_at_a_slow_server_does_not_begin_with_it_the_next_time() {
    let makers = Makers::published();
    let recipe = with_another(&makers);
    makers.succeeds(&["recipes/tool.toml"]);
    // Whoever comes there waits.
    let slow = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = slow.local_addr().expect("an address").port();
    let page = format!("page = \"{}/other/", makers.url);
    let recipe = recipe.replace(&page, &format!("page = \"https://localhost:{port}/"));
    makers.write("recipes/another.toml", &recipe);
    makers.asked();
    let begun = |name: &str| {
        let path = makers
            .world
            .site()
            .join(format!("state/tracked/{name}.json"));
        let text = fs::read_to_string(path).expect("a record");
        let record: Value = serde_json::from_str(&text).expect("JSON");
        record["begun"].is_string()
    };
    let cut_off_at_it = || {
        let command = makers.command(&[]).spawn();
        let mut child = command.expect("towline runs");
        let (client, _) = slow.accept().expect("it comes");
        child.kill().expect("it runs still");
        child.wait().expect("it has ended");
        drop(client);
        assert!(begun("another"));
    };
    cut_off_at_it();
    assert_eq!(makers.asked(), [""; 0], "it went first");
    cut_off_at_it();
    assert_eq!(makers.asked(), ["/tool/"], "it went last");
    assert!(!begun("tool"), "and how that went is known");
}
