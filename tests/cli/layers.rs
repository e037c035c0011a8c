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
fn a_layer_that_is_there_is_built_again_only_when_it_would_be_another() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("recipe.toml"), RECIPE).expect("a file");
    let build = |session: &str| {
        let setting = format!("session={session}");
        let with = ["-o", "out", "--cache", "cache", "--json", "--set", &setting];
        let output = layer(dir.path(), &[&["build", "recipe.toml"][..], &with].concat());
        assert!(output.status.success(), "{}", talk(&output));
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (result, talk(&output))
    };
    let (first, said) = build("s1");
    assert_eq!(first["built"], true, "{said}");
    let (again, said) = build("s1");
    assert_eq!(again["built"], false);
    assert!(said.contains("has changed since it was built"), "{said}");
    assert_eq!(again["digest"], first["digest"]);
    let (other, said) = build("s2");
    assert_eq!(other["built"], true, "{said}");
    assert_eq!(other["target"], "host/web-1/s2/all");
}

#[test]
fn a_level_takes_the_place_of_the_recipes_and_one_that_there_is_not_is_refused() {
    let (dir, path) = built();
    let digest = |level: &str| {
        let with = ["-o", "out", "--set", "session=s1", "--level", level];
        layer(dir.path(), &[&["build", "recipe.toml"][..], &with].concat())
    };
    let whole = fs::read(dir.path().join(&path)).expect("a layer");
    assert!(digest("22").status.success());
    let other = fs::read(dir.path().join(&path)).expect("a layer");
    assert_ne!(whole, other, "the frame's header has the window");
    let refused = digest("23");
    assert_eq!(refused.status.code(), Some(2));
    assert!(talk(&refused).contains("level 23 is not from 1 to 22"));
}

#[test]
fn a_layer_for_an_old_kernel_is_gzip_again_and_again_and_zstd_is_refused_for_it() {
    let (dir, path) = built();
    let at = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    at("old", "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n");
    let with = ["--set", "session=s1", "--for-kernel", "old"];
    let build = || {
        layer(
            dir.path(),
            &[&["build", "recipe.toml", "-o", "out"][..], &with].concat(),
        )
    };
    let output = build();
    assert!(output.status.success(), "{}", talk(&output));
    assert!(
        talk(&output).contains("compression gzip"),
        "{}",
        talk(&output)
    );
    let stored = fs::read(dir.path().join(&path)).expect("a layer");
    assert!(
        stored.starts_with(&[0x1F, 0x8B]),
        "in place of the zstd one"
    );
    let sources = [&["verify", &path, "--sources", "recipe.toml"][..], &with].concat();
    let verified = layer(dir.path(), &sources);
    assert!(verified.status.success(), "{}", talk(&verified));
    let alone = layer(dir.path(), &["verify", &path, "--for-kernel", "old"]);
    assert_eq!(alone.status.code(), Some(2), "{}", talk(&alone));

    at("recipe.toml", &format!("compression = \"zstd\"\n{RECIPE}"));
    let refused = build();
    assert_eq!(refused.status.code(), Some(2));
    for word in [
        "old, which has no CONFIG_RD_ZSTD",
        "next: leave out `compression`",
        "taken: gzip",
    ] {
        assert!(talk(&refused).contains(word), "{}", talk(&refused));
    }
    at("old", "hello\n");
    let refused = build();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        talk(&refused).contains("next: name a kernel layer"),
        "{}",
        talk(&refused)
    );
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

/// Builds `recipe` into the folder `out`; the layer's path.
fn build_into(dir: &Path, out: &str, recipe: &str) -> String {
    let file = format!("{out}.toml");
    fs::write(dir.join(&file), recipe).expect("a recipe");
    let output = layer(dir, &["build", &file, "-o", out, "--json"]);
    assert!(output.status.success(), "{}", talk(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    result["layer"].as_str().expect("a path").to_owned()
}

/// A base of these files, at this time; in an image or not.
fn files_recipe(form: &str, time: &str, files: &[(&str, &str, &str)]) -> String {
    let mut text = format!(
        "kind = \"base\"\nname = \"x\"\nversion = \"1\"\nlevel = 1\nform = \"{form}\"\ntime = \"{time}\"\n"
    );
    for (path, mode, content) in files {
        text += &format!(
            "[[source]]\ntype = \"file\"\npath = \"{path}\"\nmode = \"{mode}\"\ncontent = \"{content}\"\n"
        );
    }
    text
}

/// Has the manifest say that files come from these packages.
fn with_packages(dir: &Path, layer: &str, packages: serde_json::Value) {
    let path = dir.join(layer).with_extension("manifest.json");
    let text = fs::read_to_string(&path).expect("a manifest");
    let mut manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    manifest["packages"] = packages;
    fs::write(&path, manifest.to_string()).expect("a manifest");
}

#[test]
fn two_layers_differ_in_packages_and_files_whatever_their_form_and_status_is_1() {
    let (dir, _) = built();
    let dir = dir.path();
    let day = "2025-01-01T00:00:00Z";
    for form in ["files", "image"] {
        let old = [("a", "0644", "1"), ("b", "0644", "2"), ("c", "0644", "3")];
        let new = [("a", "0644", "1"), ("b", "0755", "22"), ("d", "0644", "3")];
        let old = build_into(dir, &format!("old-{form}"), &files_recipe(form, day, &old));
        let new = build_into(dir, &format!("new-{form}"), &files_recipe(form, day, &new));
        let package = |name: &str, version: &str| serde_json::json!({ "name": name, "version": version, "architecture": "amd64" });
        with_packages(
            dir,
            &old,
            [package("gone", "1"), package("restic", "0.14")]
                .into_iter()
                .collect(),
        );
        with_packages(
            dir,
            &new,
            [package("new", "2"), package("restic", "0.16")]
                .into_iter()
                .collect(),
        );
        let output = layer(dir, &["diff", &old, &new]);
        assert_eq!(output.status.code(), Some(1), "{}", talk(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in [
            "packages       1 changed, 1 added, 1 removed",
            "~ restic amd64 0.14 -> 0.16",
            "+ new amd64 2",
            "- gone amd64 1",
            "files          1 changed, 1 added, 1 removed",
            "content, 1 -> 2 bytes; mode 0644 -> 0755",
            "+ d",
            "- c",
        ] {
            assert!(text.contains(part), "{form}: {part:?} is not in {text}");
        }
        assert!(
            !text.contains("~ a"),
            "what is the same is not listed: {text}"
        );
        let output = layer(dir, &["diff", &old, &new, "--json"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let changed = &found["difference"]["files"][0];
        assert_eq!(changed["path"], "b");
        assert_eq!(changed["differs"], serde_json::json!(["content", "mode"]));
        let same = layer(dir, &["diff", &old, &old]);
        assert_eq!(same.status.code(), Some(0), "{}", talk(&same));
    }
}

#[test]
fn a_layer_that_is_not_what_its_manifest_says_is_not_compared() {
    let (dir, path) = built();
    let file = dir.path().join(&path);
    let mut stored = fs::read(&file).expect("the layer");
    stored[40] ^= 1;
    fs::create_dir(dir.path().join("bad")).expect("a folder");
    let bad = dir.path().join("bad/x.layer");
    fs::write(&bad, stored).expect("a layer");
    fs::copy(
        file.with_extension("manifest.json"),
        bad.with_extension("manifest.json"),
    )
    .expect("a manifest");
    let output = layer(dir.path(), &["diff", &path, "bad/x.layer"]);
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
}

#[test]
fn a_layer_is_verified_against_its_sources_and_what_changed_there_is_named() {
    let (dir, _) = built();
    let dir = dir.path();
    fs::create_dir(dir.join("tree")).expect("a folder");
    fs::write(dir.join("tree/agent.conf"), "old").expect("a file");
    let recipe = "kind = \"base\"\nname = \"x\"\nversion = \"1\"\ntime = \"2025-01-01T00:00:00Z\"\nlevel = 1\n\
                  [[source]]\ntype = \"directory\"\npath = \"tree\"\nto = \"etc\"\n";
    let path = build_into(dir, "first", recipe);
    let verify = ["verify", &path, "--sources", "first.toml"];
    let same = layer(dir, &verify);
    assert_eq!(same.status.code(), Some(0), "{}", talk(&same));
    let text = String::from_utf8_lossy(&same.stdout).into_owned();
    assert!(
        text.contains("first.toml gives the same bytes again"),
        "{text}"
    );

    fs::write(dir.join("tree/agent.conf"), "newer").expect("a file");
    let other = layer(dir, &verify);
    assert_eq!(other.status.code(), Some(1), "{}", talk(&other));
    let text = String::from_utf8_lossy(&other.stdout).into_owned();
    let line = "~ etc/agent.conf in the image: content, 3 -> 5 bytes";
    assert!(text.contains(line), "{text}");
    let other = layer(dir, &[&verify[..], &["--json"]].concat());
    let found: serde_json::Value = serde_json::from_slice(&other.stdout).expect("JSON");
    assert_eq!(found["ok"], false);
    assert_eq!(found["sources"]["files"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_recipe_that_makes_another_layer_or_is_not_there_is_refused_as_its_source() {
    let (dir, path) = built();
    let dir = dir.path();
    let other = RECIPE
        .replace("web-1\"\nv", "web-2\"\nv")
        .replace("${session}", "s1");
    fs::write(dir.join("other.toml"), other).expect("a recipe");
    let output = layer(dir, &["verify", &path, "--sources", "other.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", talk(&output));
    let said = talk(&output);
    assert!(
        said.contains("host/web-2/s1/all") && said.contains("host/web-1/s1/all"),
        "{said}"
    );
    let output = layer(dir, &["verify", &path, "--sources", "gone.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", talk(&output));
    let output = layer(dir, &["verify", &path, "--set", "session=s1"]);
    assert_eq!(output.status.code(), Some(2), "{}", talk(&output));
    let sources = ["--sources", "recipe.toml", "--set", "session=s1"];
    let output = layer(dir, &[&["verify", &path], &sources[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
}

#[test]
fn the_packages_of_a_layer_are_told_as_cyclonedx_and_rpm_packages_need_their_distribution() {
    let (dir, path) = built();
    let dir = dir.path();
    let package =
        serde_json::json!([{ "name": "libstdc++6", "version": "12.2-1", "architecture": "amd64" }]);
    with_packages(dir, &path, package);
    let output = layer(dir, &["inspect", &path, "--sbom"]);
    assert!(output.status.success(), "{}", talk(&output));
    let bom: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(bom["bomFormat"], "CycloneDX");
    let url = "pkg:deb/debian/libstdc%2B%2B6@12.2-1?arch=amd64";
    assert_eq!(bom["components"][0]["purl"], url);
    let package =
        serde_json::json!([{ "name": "bash", "version": "5.1-6.el9", "architecture": "x86_64" }]);
    with_packages(dir, &path, package);
    let output = layer(dir, &["inspect", &path, "--sbom"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(talk(&output).contains("--vendor"), "{}", talk(&output));
    let output = layer(dir, &["inspect", &path, "--sbom", "--vendor", "redhat"]);
    let bom: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let url = "pkg:rpm/redhat/bash@5.1-6.el9?arch=x86_64";
    assert_eq!(bom["components"][0]["purl"], url);
}
