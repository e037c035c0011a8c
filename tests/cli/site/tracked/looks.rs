//! What an archive has by now: published when it is another, and nothing is built or signed when it is not.

use std::fs;
use std::time::SystemTime;

use super::{Followed, RECIPE};
use crate::site::follows::{DAY, DAY_1, Follows as _};
use crate::site::serving::request;
use crate::site::{Server, chain};

#[test]
fn machines_get_the_new_agent_when_the_archive_has_one_and_old_ones_go() {
    let followed = Followed::new();
    let layers = chain();
    let paths: Vec<_> = ["kernel", "base", "host"]
        .iter()
        .zip(&layers)
        .map(|(name, layer)| followed.world.written(name, layer))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    followed
        .world
        .succeeds(&[&["publish"], &paths[..]].concat());
    let said = followed.succeeds(&["recipes/tool.toml"]);
    assert_eq!(said, "published agent/tool/1/amd64\n");
    let server = Server::start(&followed.world);
    let planned = || {
        let plan = server.post("/v1/plan", &request("example"));
        String::from_utf8(plan.body).expect("UTF-8")
    };
    assert!(planned().contains("agent/tool/1/amd64"));

    followed.package("tool", "2", DAY_1 + DAY);
    let said = followed.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert!(planned().contains("agent/tool/2/amd64"));
    followed.package("tool", "3", DAY_1 + 2 * DAY);
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/3/amd64 (tool 2 is 3 now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        followed.agents(),
        ["agent/tool/2/amd64", "agent/tool/3/amd64"]
    );
    assert!(planned().contains("agent/tool/3/amd64"));
    let packages = followed.world.site().join("state/tracked/packages");
    let has = |name: &str| packages.join(name).exists();
    assert!(has("tool_3_amd64.deb") && has("library_1_amd64.deb"));
    assert!(!has("tool_1_amd64.deb") && !has("tool_2_amd64.deb"));

    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    let info = "towline_agent_info{agent=\"tool\",architecture=\"amd64\",version=\"3\"} 1\n";
    assert!(metrics.contains(info), "{metrics}");
    let age = "towline_agent_age_seconds{agent=\"tool\",architecture=\"amd64\"} ";
    let age = metrics.lines().find_map(|it| it.strip_prefix(age));
    let age: u64 = age.expect("an age").parse().expect("seconds");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let wanted = now.as_secs() - DAY_1 - 2 * DAY;
    assert!(age <= wanted && wanted - age < 600, "{age}, not {wanted}");
    assert!(metrics.contains("\ntowline_recipe_failures{recipe=\"tool\"} 0\n"));
    assert!(metrics.contains("\ntowline_recipe_current_timestamp_seconds{recipe=\"tool\"} 1"));
}

#[test]
fn what_a_build_says_is_said_with_the_recipes_name() {
    let followed = Followed::new();
    let output = followed
        .towline(&["catalogue", "refresh", "recipes/tool.toml"])
        .output()
        .expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    let said = talk.contains("towline: recipe tool: writing the archive");
    assert!(output.status.success() && said, "{talk}");
}

#[test]
fn when_nothing_has_changed_nothing_is_built_or_signed() {
    let followed = Followed::published();
    let before = followed.world.timestamp();
    followed.without_packages();
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert!(followed.world.timestamp() == before);
    // As new as the archive says that it is, and not as the look is.
    assert_eq!(followed.record()["current"], "2025-11-01T00:00:00Z");
    assert!(
        !followed
            .world
            .site()
            .join("state/tracked/layers/tool")
            .exists()
    );
}

#[test]
fn another_library_or_recipe_makes_another_layer_of_the_same_version() {
    let followed = Followed::published();
    // As old as the newest file was before: only the version can say which is newer.
    followed.package("library", "2", DAY_1);
    let said = followed.succeeds(&[]);
    assert_eq!(
        said,
        "published agent/tool/1again2/amd64 (library 1 is 2 now)\n"
    );
    followed.write(
        "recipes/tool.toml",
        &RECIPE.replace("[track]", "exclude = [\"usr/share/library\"]\n[track]"),
    );
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/1again3/amd64 (the recipe is another one now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        followed.succeeds(&[]),
        "unchanged agent/tool/1again3/amd64\n"
    );
}

#[test]
fn a_security_update_of_one_day_with_a_numbered_layer_is_published() {
    let followed = Followed::published();
    followed.package("library", "2", DAY_1);
    followed.succeeds(&[]);
    assert!(
        followed
            .agents()
            .contains(&"agent/tool/1again2/amd64".into())
    );
    followed.package("tool", "1+deb12u1", DAY_1);
    let said = followed.succeeds(&[]);
    assert!(
        said.starts_with("published agent/tool/1+deb12u1/amd64 (tool 1 is 1+deb12u1 now)\n"),
        "{said}"
    );
}

#[test]
fn a_layer_without_the_package_that_had_the_newest_file_takes_the_place_of_the_one_with_it() {
    let followed = Followed::new();
    followed.package("library", "1", DAY_1 + DAY);
    followed.succeeds(&["recipes/tool.toml"]);
    let without = RECIPE.replace(
        "packages = [\"tool\"]",
        "packages = [\"tool\"]\nwithout = [\"library\"]",
    );
    followed.write("recipes/tool.toml", &without);
    let said = followed.succeeds(&[]);
    let wanted = "published agent/tool/1again2/amd64 (library 1 is not needed any more, the recipe is another one now)\n\
                  retired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(followed.agents(), ["agent/tool/1again2/amd64"]);
}

#[test]
fn a_layer_that_is_not_known_to_be_of_this_recipe_is_built_and_compared() {
    let followed = Followed::published();
    let record = followed.world.site().join("state/tracked/tool.json");
    fs::remove_file(&record).expect("it goes");
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(followed.record()["target"], "agent/tool/1/amd64");
    fs::remove_file(&record).expect("it goes");
    followed.write(
        "recipes/tool.toml",
        &RECIPE.replace("[track]", "exclude = [\"usr/share/library\"]\n[track]"),
    );
    assert_eq!(
        followed.succeeds(&[]),
        "published agent/tool/1again2/amd64 (the recipe, or a file that it names, is another one now)\n"
    );
}

#[test]
fn another_file_of_this_machine_makes_another_layer() {
    let followed = Followed::new();
    followed.write("recipes/motto", "one\n");
    let file = "[[source]]\ntype = \"file\"\npath = \"usr/share/motto\"\nfrom = \"motto\"\n";
    followed.write("recipes/tool.toml", &format!("{RECIPE}{file}"));
    followed.succeeds(&["recipes/tool.toml"]);
    assert_eq!(followed.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    followed.write("recipes/motto", "two\n");
    assert_eq!(
        followed.succeeds(&[]),
        "published agent/tool/1again2/amd64 (files of this machine are others now)\n"
    );
}
