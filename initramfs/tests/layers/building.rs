//! The same inputs give the same bytes; what cannot work is refused with names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use towline_initramfs::build::BuildError;

use crate::support::{Workshop, directory_recipe, messages};

/// Writes the same files in another order, with other permissions for group and others, at another time.
fn write_tree(workshop: &Workshop, backwards: bool) {
    let mut names: Vec<String> = (0..200).map(|n| format!("tree/d{}/f{n}", n % 7)).collect();
    if backwards {
        names.reverse();
    }
    for name in names {
        let path = workshop.write(&name, name.repeat(50));
        let mode = if backwards { 0o600 } else { 0o644 };
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
}

#[test]
fn order_umask_and_time_of_the_files_do_not_change_a_byte() {
    for form in ["files", "image"] {
        let digests = [false, true].map(|backwards| {
            let workshop = Workshop::new();
            write_tree(&workshop, backwards);
            let recipe = directory_recipe("").replace("\"files\"", &format!("{form:?}"));
            let built = workshop.build(&recipe).unwrap();
            (
                built.manifest.digest,
                fs::read(built.manifest_file).unwrap(),
            )
        });
        assert_eq!(digests[0], digests[1], "{form}");
    }
}

#[test]
fn a_missing_library_is_refused_and_its_user_named() {
    let workshop = Workshop::new();
    fs::create_dir_all(workshop.path("tree/usr/bin")).unwrap();
    fs::copy(
        Path::new("/bin/ls").canonicalize().unwrap(),
        workshop.path("tree/usr/bin/ls"),
    )
    .unwrap();
    let error = workshop.build(&directory_recipe("")).unwrap_err();
    assert!(matches!(error, BuildError::Missing(_)));
    let text = messages(&error);
    assert!(text.contains("libc.so.6 (needed by usr/bin/ls)"), "{text}");
    assert!(text.contains("ld-linux"), "{text}");
    assert_eq!(
        fs::read_dir(workshop.path("out")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_library_that_an_earlier_layer_brings_may_be_missing() {
    let workshop = Workshop::new();
    fs::create_dir_all(workshop.path("tree/usr/bin")).unwrap();
    fs::copy(
        Path::new("/bin/ls").canonicalize().unwrap(),
        workshop.path("tree/usr/bin/ls"),
    )
    .unwrap();
    let recipe = directory_recipe("from-earlier-layers = [\"lib*.so*\", \"**/ld-linux*\"]");
    let built = workshop.build(&recipe).unwrap();
    assert!(
        built
            .manifest
            .requires
            .libraries
            .contains(&"libc.so.6".to_owned())
    );
}

#[test]
fn a_script_without_its_interpreter_is_refused_in_a_base() {
    let workshop = Workshop::new();
    let script = workshop.write("tree/usr/bin/report", "#!/usr/bin/env python3\n");
    fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    let text = messages(&workshop.build(&directory_recipe("")).unwrap_err());
    assert!(
        text.contains("python3 (needed by usr/bin/report)"),
        "{text}"
    );
}

#[test]
fn an_agents_script_may_use_the_bases_shell_and_the_manifest_says_so() {
    let workshop = Workshop::new();
    let script = workshop.write("tree/usr/bin/report", "#!/bin/sh\n");
    fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    let built = workshop
        .build(&directory_recipe("").replace("\"base\"", "\"agent\""))
        .unwrap();
    assert_eq!(built.manifest.requires.programs, ["/usr/bin/sh"]);
    assert_eq!(built.manifest.provides.programs, ["/usr/bin/report"]);
}

#[test]
fn a_source_that_is_not_there_is_named_with_recipe_and_line() {
    let workshop = Workshop::new();
    let text = messages(&workshop.build(&directory_recipe("")).unwrap_err());
    assert!(
        text.contains("recipe.toml, line 8: source 1 (directory): cannot read"),
        "{text}"
    );
    assert!(text.contains("tree"), "{text}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let workshop = Workshop::new();
    let recipe = "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"program\"\nprograms = [\"/usr/bin/no-such\"]\n";
    let text = messages(&workshop.build(recipe).unwrap_err());
    assert!(
        text.contains("source 1 (program): there is no program usr/bin/no-such"),
        "{text}"
    );
}

#[test]
fn a_name_that_manifests_refuse_is_refused() {
    let workshop = Workshop::new();
    workshop.write("tree/file", "");
    let recipe = directory_recipe("").replace("\"test\"", "\"../test\"");
    assert!(matches!(
        workshop.build(&recipe),
        Err(BuildError::Manifest(_))
    ));
    assert_eq!(
        fs::read_dir(workshop.path("out")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_version_that_names_an_unknown_package_is_refused() {
    let workshop = Workshop::new();
    workshop.write("tree/file", "");
    let recipe = directory_recipe("").replace("version = \"1\"", "version = \"${package.restic}\"");
    let text = messages(&workshop.build(&recipe).unwrap_err());
    assert!(
        text.contains("${package.restic}, which has no value"),
        "{text}"
    );
}

#[test]
fn files_links_and_directories_of_the_recipe_come_into_the_layer() {
    let workshop = Workshop::new();
    workshop.write("tree/etc/passwd.master", "root:*:0:0::/root:/bin/sh\n");
    let recipe = directory_recipe("")
        + r#"
[[source]]
type = "file"
path = "etc/passwd"
copy = "etc/passwd.master"
append = "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
mode = "0640"

[[source]]
type = "links"
[source.links]
"usr/bin/awk" = "gawk"

[[source]]
type = "directories"
paths = ["tmp"]
mode = "1777"
"#;
    let built = workshop.build(&recipe).unwrap();
    let mut entries = Vec::new();
    towline_initramfs::stored::list(&built.layer, |entry, target| {
        entries.push((
            entry.display_name(),
            entry.mode & 0o7777,
            entry.bytes,
            String::from_utf8_lossy(target).into_owned(),
        ));
    })
    .unwrap();
    assert!(
        entries.contains(&("etc/passwd".into(), 0o640, 72, String::new())),
        "{entries:?}"
    );
    assert!(
        entries.contains(&("usr/bin/awk".into(), 0o777, 4, "gawk".into())),
        "{entries:?}"
    );
    assert!(
        entries.contains(&("tmp".into(), 0o1777, 0, String::new())),
        "{entries:?}"
    );
}
