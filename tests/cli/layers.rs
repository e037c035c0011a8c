//! `towline layer`: what it prints, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const RECIPE: &str = "kind = \"host\"\nname = \"web-1\"\nversion = \"${session}\"\ntime = \"2025-01-01T00:00:00Z\"\n\
                      [[source]]\ntype = \"file\"\npath = \"etc/hostname\"\ncontent = \"web-1\\n\"\n";

/// Runs `towline layer …` in `dir`.
fn layer(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
    command
        .arg("layer")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("towline runs")
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a recipe and the layer built from it.
fn built() -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("recipe.toml"), RECIPE).expect("a file");
    let output = layer(
        dir.path(),
        &[
            "build",
            "recipe.toml",
            "-o",
            "out",
            "--set",
            "session=s1",
            "--json",
        ],
    );
    assert!(output.status.success(), "{}", talk(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    assert_eq!(result["target"], "host/web-1/s1/all");
    let path = result["layer"].as_str().expect("a path").to_owned();
    (dir, path)
}

#[test]
fn a_built_layer_is_shown_and_verified() {
    let (dir, path) = built();
    let shown = layer(dir.path(), &["inspect", &path, "--entries", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let names: Vec<_> = shown["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["name"].clone())
        .collect();
    assert_eq!(names, ["etc", "etc/hostname"]);
    assert_eq!(shown["manifest"]["version"], "s1");
    let verified = layer(dir.path(), &["verify", &path]);
    assert_eq!(verified.status.code(), Some(0), "{}", talk(&verified));
}

#[test]
fn a_flipped_bit_ends_verify_with_3_and_both_digests() {
    let (dir, path) = built();
    let file = dir.path().join(&path);
    let mut stored = fs::read(&file).expect("the layer");
    stored[40] ^= 1;
    fs::write(&file, stored).expect("the layer");
    let output = layer(dir.path(), &["verify", &path]);
    assert_eq!(output.status.code(), Some(3));
    let manifest = fs::read_to_string(file.with_extension("manifest.json")).expect("the manifest");
    let wanted = manifest.split("\"digest\": \"").nth(1).expect("a digest");
    let talk = talk(&output);
    assert!(
        talk.contains(&wanted[..64]) && talk.contains("has SHA-256"),
        "{talk}"
    );
}

#[test]
fn a_recipe_that_is_wrong_ends_build_with_2_and_the_line() {
    let (dir, _) = built();
    fs::write(
        dir.path().join("bad.toml"),
        RECIPE.replace("type =", "typ ="),
    )
    .expect("a file");
    let output = layer(
        dir.path(),
        &["build", "bad.toml", "-o", "out", "--set", "session=s1"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(
        talk(&output).contains("bad.toml, line 5: source 1: `type` is missing"),
        "{}",
        talk(&output)
    );
    let output = layer(dir.path(), &["build", "recipe.toml", "-o", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(talk(&output).contains("${session}"), "{}", talk(&output));
}

#[test]
fn a_missing_library_ends_build_with_1() {
    let (dir, _) = built();
    let program = Path::new("/bin/ls").canonicalize().expect("ls");
    let recipe = format!(
        "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"file\"\npath = \"usr/bin/x\"\n\
         from = {program:?}\nmode = \"0755\"\n"
    );
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    let output = layer(dir.path(), &["build", "x.toml", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("libc.so.6 (needed by usr/bin/x)"),
        "{}",
        talk(&output)
    );
}

#[test]
fn a_variable_that_the_recipe_does_not_use_is_refused_and_its_own_are_named() {
    let (dir, _) = built();
    let set = ["--set", "session=s1", "--set", "sesion=s2"];
    let output = layer(
        dir.path(),
        &[&["build", "recipe.toml", "-o", "out"], &set[..]].concat(),
    );
    assert_eq!(output.status.code(), Some(2));
    let talk = talk(&output);
    assert!(talk.contains("uses no ${sesion}"), "{talk}");
    assert!(talk.contains("its variables are session"), "{talk}");
}

#[test]
fn a_file_that_is_not_there_is_named_before_any_work_begins() {
    let (dir, _) = built();
    let recipe = "kind = \"base\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"apt\"\npackages = [\"no-such-package\"]\n\
                  [[source]]\ntype = \"file\"\npath = \"usr/bin/x\"\nfrom = \"gone\"\n";
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    let output = layer(dir.path(), &["build", "x.toml", "-o", "new"]);
    assert_eq!(output.status.code(), Some(2));
    let talk = talk(&output);
    assert!(
        talk.contains("x.toml, line 7: source 2 (file)") && talk.contains("gone"),
        "{talk}"
    );
    assert!(!dir.path().join("new").exists(), "nothing was begun");
}

#[test]
fn a_stage_1_that_is_no_static_program_is_refused() {
    let (dir, _) = built();
    let recipe = "kind = \"base\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"file\"\npath = \"init\"\n\
                  from = \"${stage1}\"\n";
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    for (file, says) in [
        ("/bin/ls", "not linked statically"),
        ("recipe.toml", "no program for x86-64"),
        ("/nonexistent", "/nonexistent"),
    ] {
        let set = format!("stage1={file}");
        let output = layer(dir.path(), &["build", "x.toml", "--set", &set]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        let talk = talk(&output);
        assert!(
            talk.contains(says) && talk.contains("make stage1"),
            "{talk}"
        );
    }
}

#[test]
fn the_list_of_a_cut_layer_ends_with_3_and_says_that_nothing_was_verified() {
    let (dir, path) = built();
    let file = dir.path().join(&path);
    let stored = fs::read(&file).expect("the layer");
    fs::write(&file, &stored[..stored.len() / 2]).expect("the layer");
    let output = layer(dir.path(), &["inspect", &path, "--entries"]);
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
    assert!(talk(&output).contains("next: the layer is damaged"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("not verified"), "{text}");
    fs::remove_file(&file).expect("the layer");
    let gone = layer(dir.path(), &["inspect", &path, "--entries"]);
    assert_eq!(gone.status.code(), Some(2), "{}", talk(&gone));
}

#[test]
fn every_bad_layer_of_the_index_is_refused_for_what_is_wrong_with_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused/layers");
    let index = fs::read_to_string(folder.join("INDEX")).expect("the index");
    let files = fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(
        files,
        1 + 2 * index.lines().count(),
        "a layer and a manifest for each line of the index"
    );
    let mut wrong = Vec::new();
    for line in index.lines() {
        let [name, what, says] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?} is no line of an index")
        };
        let output = layer(&folder, &["verify", &format!("{name}.layer")]);
        let told = talk(&output);
        let right = match says {
            "accepted" => output.status.success(),
            "" => false,
            // A manifest that cannot be read is a wrong argument; everything else is not trusted.
            _ => matches!(output.status.code(), Some(2 | 3)) && told.contains(says),
        };
        if !right {
            wrong.push(format!("{name} ({what}): {says:?}, but: {told}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_no_archive_of_makeself_ends_build_with_2_and_what_to_do_with_it() {
    let (dir, _) = built();
    let recipe = "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"run\"\nfile = \"recipe.toml\"\n";
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    let output = layer(dir.path(), &["build", "x.toml", "-o", "out"]);
    assert_eq!(output.status.code(), Some(2));
    let talk = talk(&output);
    assert!(
        talk.contains("recipe.toml is no archive of makeself"),
        "{talk}"
    );
    assert!(talk.contains("next: carry it whole"), "{talk}");
}

#[test]
fn what_an_archive_says_of_itself_does_not_drive_the_operators_terminal() {
    let (dir, _) = built();
    let script = "#!/bin/sh\nscript=\"\x1b[2J./install.sh\"\nfilesizes=\"1024\"\nskip=\"4\"\n";
    fs::write(
        dir.path().join("x.run"),
        [script.as_bytes(), &[0; 1024]].concat(),
    )
    .expect("a file");
    let recipe = "kind = \"extra\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"run\"\nfile = \"x.run\"\n";
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    let output = layer(dir.path(), &["build", "x.toml", "-o", "out"]);
    let talk = talk(&output);
    assert!(talk.contains("not run: \\u{1b}[2J./install.sh"), "{talk}");
    assert!(!talk.contains('\x1b'), "{talk:?}");
}
