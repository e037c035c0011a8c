//! Recipes that are refused, with the line.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use towline_contract::manifest::{Kind, PLACES_ON_TARGET, Placement};
use towline_initramfs::filter::Filter;
use towline_initramfs::ready_recipes;
use towline_initramfs::recipe::{FileContent, Recipe, Source};

use crate::support::Workshop;

const HEAD: &str = "kind = \"base\"\nname = \"test\"\nversion = \"1\"\n";

fn refusal(recipe: &str) -> String {
    Workshop::new()
        .parse(recipe)
        .expect_err("the recipe is refused")
        .to_string()
}

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let text = refusal(&format!("{HEAD}compresion = \"zstd\"\n"));
    assert!(
        text.contains("line 4: unknown field `compresion`"),
        "{text}"
    );
}

#[test]
fn an_unknown_field_of_a_source_is_named_with_the_sources_line_and_number() {
    let text = refusal(&format!(
        "{HEAD}\n[[source]]\ntype = \"links\"\nlinks = {{}}\n\n[[source]]\ntype = \"apt\"\npackage = [\"rear\"]\n"
    ));
    assert!(
        text.contains("line 9: source 2: unknown field `package`") && text.ends_with("(line 11)"),
        "{text}"
    );
}

#[test]
fn a_kind_of_source_that_does_not_exist_is_refused_with_those_that_do() {
    let text = refusal(&format!("{HEAD}[[source]]\ntype = \"zip\"\n"));
    assert!(
        text.contains("type \"zip\" is not one of apt, deb, rpm, kernel"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_deep_in_a_source_is_named_with_its_own_line() {
    for (source, says) in [
        (
            "type = \"rmp\"\n",
            "line 5: source 1: type \"rmp\" is not one of",
        ),
        (
            "type = \"tar\"\nfile = 7\n",
            "line 5: source 1: invalid type: integer `7`, expected a path",
        ),
        (
            "type = \"tar\"\n[source.file]\nurl = \"https://a/b\"\nsha265 = \"x\"\n",
            "line 5: source 1: unknown field `sha265`",
        ),
        (
            "type = \"directories\"\npaths = [\n\"a\",\n7,\n]\n",
            "line 5: source 1: invalid type",
        ),
    ] {
        let text = refusal(&format!("{HEAD}\n[[source]]\n{source}"));
        assert!(text.contains(says), "{text}");
        let line = match source.contains("sha265") || source.contains("paths") {
            true => "(line 9)",
            false if source.contains("rmp") => "(line 6)",
            false => "(line 7)",
        };
        assert!(text.ends_with(line), "{line}: {text}");
    }
    let text = refusal(&format!("source = 7\n{HEAD}"));
    assert!(
        text.contains("line 1: `source` must be [[source]] tables"),
        "{text}"
    );
}

#[test]
fn a_missing_field_is_named() {
    let text = refusal("kind = \"base\"\nname = \"test\"\n");
    assert!(text.contains("missing field `version`"), "{text}");
    let text = refusal(&format!("{HEAD}[[source]]\ntype = \"directory\"\n"));
    assert!(text.contains("source 1: missing field `path`"), "{text}");
}

#[test]
fn a_recipe_with_a_part_of_another_kind_is_refused() {
    let head = |kind: &str| format!("kind = \"{kind}\"\nname = \"test\"\nversion = \"1\"\n");
    let check = "[[check]]\nname = \"it works\"\ncommand = [\"sh\", \"-c\", \"true\"]\n";
    for (kind, part, name) in [
        ("host", check, "checks"),
        ("base", "[agent]\nrestore = [\"restic\"]\n", "agent"),
        ("agent", "form = \"image\"\n", "image"),
        ("agent", "replaceable = [\"etc/passwd\"]\n", "replaceable"),
    ] {
        let text = refusal(&format!("{}{part}", head(kind)));
        let words = format!("this {kind} layer is refused: it has {name:?}");
        assert!(text.contains(&words), "{text}");
    }
}

#[test]
fn only_agent_and_extra_layers_may_go_onto_the_target() {
    let recipe = |kind: &str| {
        format!("kind = \"{kind}\"\nname = \"test\"\nversion = \"1\"\nplacement = \"target\"\n")
    };
    for kind in ["agent", "extra"] {
        let read = Workshop::new().parse(&recipe(kind)).unwrap();
        assert_eq!(read.placement, Placement::Target);
    }
    for kind in ["kernel", "base", "host"] {
        let text = refusal(&recipe(kind));
        assert!(
            text.contains("line 4") && text.contains(&format!("this {kind} layer is refused")),
            "{text}"
        );
    }
}

#[test]
fn a_level_that_the_compression_does_not_have_is_refused() {
    let text = refusal(&format!(
        "{HEAD}form = \"files\"\ncompression = \"gzip\"\nlevel = 19\n"
    ));
    assert!(
        text.contains("line 6: level 19 is not from 1 to 9"),
        "{text}"
    );
}

#[test]
fn a_file_with_two_contents_or_none_is_refused() {
    for contents in ["content = \"a\"\nfrom = \"b\"\n", ""] {
        let text = refusal(&format!(
            "{HEAD}[[source]]\ntype = \"file\"\npath = \"x\"\n{contents}"
        ));
        assert!(
            text.contains("exactly one of `content`, `from` and `copy`"),
            "{text}"
        );
    }
}

#[test]
fn permission_bits_that_are_not_octal_are_refused() {
    let text = refusal(&format!(
        "{HEAD}[[source]]\ntype = \"directories\"\npaths = [\"x\"]\nmode = \"0789\"\n"
    ));
    assert!(text.contains("mode \"0789\" is not octal"), "{text}");
}

#[test]
fn an_option_of_apt_is_no_package() {
    let text = refusal(&format!(
        "{HEAD}[[source]]\ntype = \"apt\"\npackages = [\"--allow-unauthenticated\"]\n"
    ));
    assert!(text.contains("is no name of a package"), "{text}");
}

#[test]
fn a_variable_without_a_value_is_named_with_the_option_that_gives_one() {
    let text = refusal(&format!(
        "{HEAD}[[source]]\ntype = \"file\"\npath = \"init\"\nfrom = \"${{stage1}}\"\n"
    ));
    assert!(
        text.contains(
            "line 4: source 1: ${stage1} has no value; give it with `--set stage1=VALUE`"
        ),
        "{text}"
    );
}

#[test]
fn shell_variables_in_the_text_of_a_file_are_left_alone() {
    let recipe =
        format!("{HEAD}[[source]]\ntype = \"file\"\npath = \"x\"\ncontent = \"${{HOME}}\"\n");
    Workshop::new().parse(&recipe).unwrap();
}

#[test]
fn the_ready_recipes_are_valid_and_find_their_files() {
    let values = [
        ("stage1", "/bin/true"),
        ("host", "web1"),
        ("kernel", "/srv/kernel"),
        ("initrd", "/srv/initrd"),
        ("archive", "/srv/archive"),
        ("name", "live"),
        ("squashfs", "/srv/squashfs"),
    ];
    let settings = BTreeMap::from(values.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let files: BTreeMap<_, _> = ready_recipes().collect();
    let mut recipes = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".toml")) {
        let text = std::str::from_utf8(bytes).unwrap();
        let recipe = Recipe::parse(Path::new(name), text, &settings).unwrap();
        recipes += 1;
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("from = \""))
        {
            let file = line.trim_end_matches('"');
            assert!(
                file.starts_with("${") || files.contains_key(file),
                "{name} uses {file}"
            );
        }
        assert!(!recipe.sources.is_empty());
    }
    assert_eq!(recipes, 14);
}

#[test]
fn every_ready_base_says_that_it_puts_layers_onto_the_target() {
    let values = [
        ("stage1", "/bin/true"),
        ("host", "web1"),
        ("initrd", "/srv/initrd"),
        ("name", "live"),
        ("squashfs", "/srv/squashfs"),
    ];
    let settings = BTreeMap::from(values.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut bases = 0;
    for (name, bytes) in ready_recipes().filter(|(name, _)| name.contains("base")) {
        let text = std::str::from_utf8(bytes).unwrap();
        let recipe = Recipe::parse(Path::new(name), text, &settings).unwrap();
        assert_eq!(recipe.kind, Kind::Base, "{name}");
        let says = recipe.sources.iter().any(|it| match &it.source {
            // A link to the program beside it, which stage 1 is.
            Source::Links(it) => {
                it.links.get(&PLACES_ON_TARGET[1..]).map(String::as_str) == Some("rescue")
            }
            _ => false,
        });
        assert!(says, "{name}");
        bases += 1;
    }
    assert_eq!(bases, 3);
}

#[test]
fn no_ready_agent_brings_the_links_that_the_base_has() {
    for (name, bytes) in ready_recipes().filter(|(name, _)| name.starts_with("agent-")) {
        let text = std::str::from_utf8(bytes).unwrap();
        let recipe = Recipe::parse(Path::new(name), text, &BTreeMap::new()).unwrap();
        let filter = Filter::new(&recipe.include, &recipe.exclude).unwrap();
        for numbered in &recipe.sources {
            let Source::Links(source) = &numbered.source else {
                continue;
            };
            for link in source.links.keys() {
                let of_base = ["bin", "sbin", "lib", "lib64"].contains(&&**link);
                assert!(!of_base || !filter.keeps(link.as_bytes()), "{name}: {link}");
            }
        }
    }
}

/// The script of `agent-archive.toml`, in a folder with two archives of which one is cut off.
fn archive_agent(workshop: &Workshop) -> PathBuf {
    let mut all = ready_recipes();
    let (name, bytes) = all.find(|(name, _)| *name == "agent-archive.toml").unwrap();
    let text = std::str::from_utf8(bytes).unwrap();
    let recipe = Recipe::parse(Path::new(name), text, &BTreeMap::new()).unwrap();
    let content = recipe.sources.iter().find_map(|it| match &it.source {
        Source::File(file) => match &file.content {
            FileContent::Text(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    });
    workshop.write("backups/tree/etc/hosts", "127.0.0.1 localhost\n");
    let tree = workshop.path("backups/tree");
    fs::hard_link(tree.join("etc/hosts"), tree.join("etc/second")).unwrap();
    fs::set_permissions(tree.join("etc/hosts"), PermissionsExt::from_mode(0o4751)).unwrap();
    let whole = workshop.path("backups/s1.tar.gz");
    let packed = Command::new("tar")
        .args(["-czf", whole.to_str().unwrap(), "-C"])
        .args([tree.to_str().unwrap(), "."])
        .status();
    assert!(packed.unwrap().success());
    let bytes = fs::read(whole).unwrap();
    workshop.write("backups/s2.tar.gz", &bytes[..bytes.len() - 20]);
    fs::create_dir(workshop.path("target")).unwrap();
    workshop.write("archive", content.unwrap())
}

#[test]
fn the_ready_archive_agent_restores_a_session_and_notices_one_that_is_gone_or_cut_off() {
    let workshop = Workshop::new();
    let script = archive_agent(&workshop);
    let run = |what: &str, session: &str| {
        let url = format!("file://{}", workshop.path("backups").display());
        let mut command = Command::new("bash");
        command.env("ARCHIVE_URL", url).env_remove("ARCHIVE_USER");
        command.arg(&script).args([what, "/nowhere", session]);
        let ran = command.arg(workshop.path("target")).output();
        ran.expect("bash runs").status.success()
    };
    assert!(run("check", "s1") && !run("check", "s3"));
    assert!(run("restore", "s1"));
    let restored = workshop.path("target/etc/hosts").metadata().unwrap();
    assert_eq!((restored.mode() & 0o7777, restored.nlink()), (0o4751, 2));
    // What is there already is written again.
    assert!(run("restore", "s1"));
    assert!(!run("restore", "s2"), "cut off");
    assert!(!run("restore", "s3"), "gone");
}
