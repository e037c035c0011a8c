//! Recipes that follow releases on a page: which are refused, with the line, and what a version makes of them.

use std::collections::{BTreeMap, BTreeSet};

use towline_initramfs::build::{self, Options};
use towline_initramfs::recipe::{Input, Recipe};

use crate::support::Workshop;

/// A public key of minisign.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const PAGE: &str = "page = \"https://a.example/\"\nversion = 'tool-([0-9.]+)\\.tar'\n";
const URL: &str = "url = \"https://a.example/${version}/tool.tar\"";

/// With `[track]` in line 4, its page in line 5, and a source in line 7.
fn recipe(track: &str, file: &str) -> String {
    format!(
        "kind = \"extra\"\nname = \"x\"\nversion = \"${{version}}-${{date}}\"\n[track]\n{track}[[source]]\ntype = \"tar\"\nfile = {file}\n"
    )
}

fn good() -> String {
    recipe(PAGE, &format!("{{ {URL}, minisign-key = \"{KEY}\" }}"))
}

fn refusal(recipe: &str) -> String {
    let refused = Workshop::new().parse(recipe);
    refused.expect_err("the recipe is refused").to_string()
}

#[test]
fn a_version_is_filled_into_urls_and_the_layers_version() {
    let file = format!(
        "{{ {URL}, signature-url = \"https://b.example/${{version}}.sig\", minisign-key = \"{KEY}\" }}"
    );
    let recipe = Workshop::new().parse(&recipe(PAGE, &file)).unwrap();
    assert!(recipe.page_to_ask().is_some());
    let recipe = recipe.of_release("1.2").unwrap();
    assert!(recipe.page_to_ask().is_none());
    assert_eq!(recipe.version, "1.2-${date}");
    let inputs = recipe.sources[0].source.inputs();
    let Input::Fetched(download) = inputs[0] else {
        panic!("it is to be fetched")
    };
    assert_eq!(download.url, "https://a.example/1.2/tool.tar");
    assert_eq!(download.signature_url(), "https://b.example/1.2.sig");
    for bad in ["", "../1", "1/2", "1%2f", "1 2", "1..2"] {
        let text = recipe.of_release(bad).unwrap_err().to_string();
        assert!(
            text.contains("cannot be of that release: ") && text.contains("is none: versions"),
            "{text}"
        );
    }
}

#[test]
fn a_version_that_is_set_is_taken_and_no_page_asked() {
    let workshop = Workshop::new();
    let path = workshop.write("recipe.toml", good());
    let used = Recipe::variables(&path).unwrap();
    assert_eq!(
        used,
        BTreeSet::from(["date".to_owned(), "version".to_owned()])
    );
    let set = |version: &str| {
        let settings = BTreeMap::from([("version".to_owned(), version.to_owned())]);
        Recipe::read(&path, &settings)
    };
    let recipe = set("1.2").unwrap();
    assert_eq!(recipe.release.as_deref(), Some("1.2"));
    assert!(recipe.page_to_ask().is_none());
    let text = set("/1").unwrap_err().to_string();
    assert!(
        text.contains("`--set version=` names: \"/1\" is none") && !text.contains("line"),
        "{text}"
    );
}

#[test]
fn a_recipe_whose_release_nobody_has_asked_for_is_not_built() {
    let workshop = Workshop::new();
    let recipe = workshop.parse(&good()).unwrap();
    let options = Options {
        out: workshop.path("out"),
        cache: workshop.path("cache"),
        fetch_wait: None,
    };
    let error = build::build(&recipe, &options, &mut |_| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("nobody has asked https://a.example/"),
        "{error}"
    );
}

#[test]
fn a_release_that_no_key_vouches_for_is_refused_with_its_line() {
    let digest = "0".repeat(64);
    for file in [
        format!("{{ {URL} }}"),
        format!("{{ {URL}, sha256 = \"{digest}\" }}"),
        format!("{{ {URL}, sha256 = \"{digest}\", minisign-key = \"{KEY}\" }}"),
    ] {
        let text = refusal(&recipe(PAGE, &file));
        assert!(
            text.contains("line 7: source 1: `url` has ${version}")
                && text.contains("give the `minisign-key` of who signs it, and no `sha256`"),
            "{text}"
        );
    }
    let text = refusal(&recipe(
        PAGE,
        &format!("{{ {URL}, minisign-key = \"abc\" }}"),
    ));
    assert!(
        text.contains("line 7: source 1: `minisign-key` \"abc\" is no"),
        "{text}"
    );
}

#[test]
fn a_page_that_cannot_say_a_version_is_refused_with_its_line() {
    let page = "page = \"https://a.example/\"\n";
    for (track, says) in [
        (page.to_owned(), "line 4: track.page says where"),
        ("version = '(1)'\n".into(), "give both or none"),
        (
            format!("{page}version = '[0-9]+'\n"),
            "line 6: track.version: \"[0-9]+\" has 0 groups, and must have one",
        ),
        (
            format!("{page}version = '([0-9]+)(-rc)?'\n"),
            "has 2 groups",
        ),
        (
            format!("{page}version = '([0-9]+'\n"),
            "line 6: track.version: regex parse error",
        ),
        (
            format!("{page}version = '(.{{1000}}){{1000}}'\n"),
            "size limit",
        ),
        (
            "page = \"ftp://a.example/\"\nversion = '(1)'\n".into(),
            "line 5: track.page: `url` \"ftp://a.example/\" does not begin",
        ),
        (
            "page = \"https://me:secret@a.example/\"\nversion = '(1)'\n".into(),
            "no place for passwords",
        ),
        (
            "page = \"https://a.example/${host}\"\nversion = '(1)'\n".into(),
            "cannot have variables",
        ),
        (
            "pages = \"https://a.example/\"\n".into(),
            "line 5: unknown field `pages`",
        ),
    ] {
        let text = refusal(&recipe(
            &track,
            &format!("{{ {URL}, minisign-key = \"{KEY}\" }}"),
        ));
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_version_that_nothing_or_something_else_takes_is_refused() {
    let fixed = format!("{{ url = \"https://a.example/tool.tar\", minisign-key = \"{KEY}\" }}");
    let elsewhere = "can stand in the layer's `version`, in `url` and in `signature-url` alone";
    for (recipe, says) in [
        (
            recipe(PAGE, &fixed),
            "line 5: track.page names versions, and no source has",
        ),
        (recipe(PAGE, "\"tool-${version}.tar\""), elsewhere),
        (
            recipe(
                PAGE,
                &format!("{{ {URL}, minisign-key = \"${{version}}\" }}"),
            ),
            elsewhere,
        ),
        (good().replace("\"x\"", "\"x-${version}\""), elsewhere),
        (
            recipe(
                PAGE,
                &fixed.replace(
                    " }",
                    ", signature-url = \"https://a.example/${version}.sig\" }",
                ),
            ),
            "line 7: source 1: `signature-url` has ${version}, and `url` has not",
        ),
        (
            recipe(PAGE, &fixed.replace(" }", ", signed-name = false }")),
            "`signed-name` is of files whose",
        ),
        (
            recipe("", &fixed.replace(" }", ", signed-name = false }")),
            "`signed-name` is of files whose",
        ),
        (
            recipe(
                "",
                &format!(
                    "{{ url = \"https://a.example/x\", sha256 = \"{}\", signature-url = \"https://a.example/y\" }}",
                    "0".repeat(64)
                ),
            ),
            "`signature-url` needs the `minisign-key`",
        ),
        (
            good().replace("a.example/$", "a.example/${place}/$"),
            "${place} has no value",
        ),
        (
            good().replace("https://a.example/$", "ftp://a.example/$"),
            "does not begin with https://",
        ),
    ] {
        let text = refusal(&recipe);
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn the_example_in_the_texts_finds_its_release_in_a_feed() {
    let text = include_str!("../../../docs/how-to/fresh-agents.md");
    let mut examples = text.split("```toml\n").skip(1);
    let example = examples.find(|it| it.contains("page = ")).unwrap();
    let example = example.split("```").next().unwrap();
    let recipe = Workshop::new().parse(example).unwrap();
    let feed = r#"<link rel="alternate" type="text/html" href="https://github.com/rustic-rs/rustic/releases/tag/v0.11.0-rc1"/>
        <link rel="alternate" type="text/html" href="https://github.com/rustic-rs/rustic/releases/tag/v0.10.0"/>
        <link rel="alternate" type="text/html" href="https://github.com/rustic-rs/rustic/releases/tag/v0.9.5"/>"#;
    let page = recipe.page_to_ask().unwrap();
    assert_eq!(page.newest(feed.as_bytes()).unwrap(), "0.10.0");
    recipe.of_release("0.10.0").unwrap();
}
