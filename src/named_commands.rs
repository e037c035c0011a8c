//! Commands that the documentation and this program's messages tell people to run must exist.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::Cli;

/// Commands that are named in places and are being added to this program: not judged until they are in it.
const BEING_ADDED: &[&str] = &["key"];

/// What a piece of text tells people to run and cannot be: `towline` with words that are no commands.
fn unknown(text: &str, root: &clap::Command) -> Vec<String> {
    let mut unknown = Vec::new();
    for (at, _) in text.match_indices("towline ") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "/-._".contains(c)) {
            continue;
        }
        let mut command = root;
        let mut path = String::from("towline");
        for word in text[at..].split(' ').skip(1) {
            let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            let name = &word[..end.unwrap_or(word.len())];
            if name.is_empty()
                || name.starts_with('-')
                || command.get_subcommands().next().is_none()
            {
                break;
            }
            path = format!("{path} {name}");
            if BEING_ADDED.contains(&name) {
                break;
            }
            match command.find_subcommand(name) {
                Some(found) => command = found,
                None => {
                    unknown.push(path.clone());
                    break;
                }
            }
            if end.is_some() {
                break;
            }
        }
    }
    unknown
}

/// The files below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
    found
}

/// The parts of a page that are code: between backticks, and in blocks.
fn code(page: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            parts.push(line);
        } else {
            parts.extend(line.split('`').skip(1).step_by(2));
        }
    }
    parts
}

#[test]
fn every_command_that_documentation_and_messages_name_exists() {
    let root = Cli::command();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    let mut note = |path: &Path, texts: &[&str]| {
        for text in texts {
            for command in unknown(text, &root) {
                missing.push(format!("{}: {command}", path.display()));
            }
        }
    };
    let mut pages = files(&top.join("docs"), "md");
    pages.push(top.join("README.md"));
    assert!(pages.len() > 10, "the documentation is found");
    for page in pages {
        // A line may speak of what is to come if it says so.
        let text = fs::read_to_string(&page).unwrap();
        let today: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("planned"))
            .collect();
        note(&page, &code(&today.join("\n")));
    }
    for source in ["src", "server/src"] {
        for file in files(&top.join(source), "rs") {
            if file.ends_with("named_commands.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            note(&file, &text.lines().filter(is_code).collect::<Vec<_>>());
        }
    }
    assert!(missing.is_empty(), "no such commands: {missing:#?}");
}

#[test]
fn a_command_that_does_not_exist_is_found_in_a_text() {
    let root = Cli::command();
    let of = |text: &str| unknown(text, &root);
    assert_eq!(of("run towline frobnicate now"), ["towline frobnicate"]);
    assert_eq!(of("`towline media shwo IMAGE`"), ["towline media shwo"]);
    assert!(of("towline catalogue list shows it; /usr/lib/towline rescue").is_empty());
    assert!(of("towline media show IMAGE, towline publish LAYER").is_empty());
}
