//! What a recipe says over its sources: owners and permissions, what is stripped, and programs of another root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use towline_initramfs::stored;

use crate::deb::{package, tarball};
use crate::support::{Workshop, directory_recipe, messages, output};

/// Names, modes, owners and groups of a layer's entries.
fn entries(layer: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    stored::list(layer, |entry, _| {
        let name = entry.display_name();
        rows.push(format!(
            "{name} {:o} {}:{}",
            entry.mode, entry.uid, entry.gid
        ));
    })
    .unwrap();
    rows
}

fn sample() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("tree/opt/agent/bin/agent", "a program\n");
    workshop.write("tree/opt/agent/key", "a secret\n");
    symlink("bin/agent", workshop.path("tree/opt/agent/link")).unwrap();
    workshop
}

#[test]
fn owners_and_permissions_are_the_recipes_where_it_has_any() {
    let workshop = sample();
    let recipe = format!(
        "{}\n[[permissions]]\npaths = [\"opt/agent\"]\nowner = 7\ngroup = 8\ndirectory-mode = \"0750\"\nmode = \"0640\"\n\
         [[permissions]]\npaths = [\"opt/*/bin/agent\"]\nmode = \"0755\"\n",
        directory_recipe("")
    );
    let built = workshop.build(&recipe).unwrap();
    assert_eq!(
        entries(&built.layer),
        [
            "opt 40755 0:0",
            "opt/agent 40750 7:8",
            "opt/agent/bin 40750 7:8",
            "opt/agent/bin/agent 100755 7:8",
            "opt/agent/key 100640 7:8",
            "opt/agent/link 120777 7:8",
        ]
    );
}

#[test]
fn permissions_of_one_name_of_a_file_are_those_of_its_other_names() {
    let workshop = sample();
    let key = workshop.path("tree/opt/agent/key");
    fs::create_dir_all(workshop.path("tree/srv")).unwrap();
    fs::hard_link(key, workshop.path("tree/srv/same")).unwrap();
    let recipe = format!(
        "{}\n[[permissions]]\npaths = [\"opt/*/key\"]\nowner = 7\nmode = \"0600\"\n",
        directory_recipe("")
    );
    let rows = entries(&workshop.build(&recipe).unwrap().layer);
    for row in ["opt/agent/key 100600 7:0", "srv/same 100600 7:0"] {
        assert!(rows.iter().any(|it| it == row), "{row}: {rows:?}");
    }
    assert!(
        rows.iter().any(|it| it == "opt/agent/bin/agent 100644 0:0"),
        "{rows:?}"
    );
}

#[test]
fn permissions_for_nothing_or_of_nothing_are_refused() {
    let workshop = sample();
    let recipe = |table: &str| format!("{}\n[[permissions]]\n{table}", directory_recipe(""));
    let misspelt = "paths = [\"opt/agent\", \"opt/agnet/key\"]\nmode = \"0600\"\n";
    let text = messages(&workshop.build(&recipe(misspelt)).unwrap_err());
    assert!(
        text.contains("nothing in the layer matches opt/agnet/key"),
        "{text}"
    );
    for (table, says) in [
        ("paths = []\nmode = \"0600\"\n", "`paths` is empty"),
        ("paths = [\"opt\"]\n", "none of `mode`"),
        ("paths = [\"opt\"]\nmode = \"9\"\n", "is not octal"),
        ("paths = [\"opt\"]\nuser = \"x\"\n", "unknown field `user`"),
    ] {
        let text = workshop.parse(&recipe(table)).unwrap_err().to_string();
        assert!(
            text.contains(says) && text.contains("line 1"),
            "{says}: {text}"
        );
    }
}

#[test]
fn documents_and_translations_are_stripped_and_licences_stay() {
    let workshop = Workshop::new();
    for file in [
        "usr/bin/tool",
        "usr/share/doc/tool/copyright",
        "usr/share/doc/tool/README",
        "usr/share/man/man1/tool.1",
        "usr/share/locale/de/LC_MESSAGES/tool.mo",
    ] {
        workshop.write(&format!("tree/{file}"), "x\n");
    }
    let files = |more: &str| -> Vec<String> {
        let built = workshop.build(&directory_recipe(more)).unwrap();
        let rows = entries(&built.layer);
        let files = rows.iter().filter(|row| row.contains(" 100"));
        files
            .map(|row| row.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(files("").len(), 5);
    assert_eq!(
        files("strip = [\"docs\", \"locales\"]"),
        ["usr/bin/tool", "usr/share/doc/tool/copyright"]
    );
    let kept = "strip = [\"docs\"]\ninclude = [\"usr/share/man\"]";
    assert_eq!(files(kept).len(), 4);
    let left_out = "strip = [\"docs\"]\nexclude = [\"usr/share/doc/tool/copyright\"]";
    assert_eq!(
        files(left_out).len(),
        2,
        "what is stripped brings nothing back"
    );
    let recipe = directory_recipe("strip = [\"everything\"]");
    let text = workshop.parse(&recipe).unwrap_err().to_string();
    assert!(text.contains("unknown variant `everything`"), "{text}");
}

/// A system in the folder `root`, whose libraries are where only its own settings say, by links that are absolute.
fn other_root(workshop: &Workshop) {
    let copy = |from: &str, to: &str| {
        let to = workshop.path(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(Path::new(from).canonicalize().unwrap(), to).unwrap();
    };
    copy("/bin/true", "root/opt/tool-1/tool");
    copy(
        "/lib/x86_64-linux-gnu/libc.so.6",
        "root/srv/libraries/libc-its.so",
    );
    copy(
        "/lib64/ld-linux-x86-64.so.2",
        "root/usr/lib64/ld-linux-x86-64.so.2",
    );
    workshop.write("root/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    workshop.write("root/etc/ld.so.conf.d/its.conf", "/usr/its\n");
    fs::create_dir_all(workshop.path("root/usr/bin")).unwrap();
    let link = |to: &str, at: &str| symlink(to, workshop.path(at)).unwrap();
    link("/srv/libraries", "root/usr/its");
    link("libc-its.so", "root/srv/libraries/libc.so.6");
    link("/usr/lib64", "root/lib64");
    link("/opt/tool-1/tool", "root/usr/bin/tool");
    link(
        "../../../../../../../../../../bin/ls",
        "root/usr/bin/outside",
    );
}

fn program_recipe(program: &str) -> String {
    format!(
        "kind = \"agent\"\nname = \"test\"\nversion = \"1\"\nlevel = 1\ntime = \"2025-01-01T00:00:00Z\"\n\
         [[source]]\ntype = \"program\"\nroot = \"root\"\nprograms = [\"{program}\"]\nprivate = \"usr/lib/tool\"\n"
    )
}

#[test]
fn programs_of_another_root_come_with_that_roots_libraries() {
    let workshop = Workshop::new();
    other_root(&workshop);
    fs::write(workshop.path("root/srv/libraries/libc-its.so"), {
        let mut library = fs::read(workshop.path("root/srv/libraries/libc-its.so")).unwrap();
        library.extend(b"its own");
        library
    })
    .unwrap();
    let built = workshop.build(&program_recipe("/usr/bin/tool")).unwrap();
    let rows = entries(&built.layer);
    let names: Vec<_> = rows
        .iter()
        .map(|row| row.split(' ').next().unwrap())
        .collect();
    for name in [
        "usr/bin/tool",
        "usr/lib/tool/tool",
        "usr/lib/tool/lib/libc.so.6",
        "usr/lib/tool/lib/ld-linux-x86-64.so.2",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let archive = crate::support::unpacked(&built.layer);
    assert!(
        archive.windows(7).any(|it| it == b"its own"),
        "the library is the other root's, not this machine's"
    );
}

#[test]
fn a_link_of_another_root_leads_nowhere_outside_of_it() {
    let workshop = Workshop::new();
    other_root(&workshop);
    let text = messages(
        &workshop
            .build(&program_recipe("/usr/bin/outside"))
            .unwrap_err(),
    );
    assert!(
        text.contains("line 6: source 1 (program)") && text.contains("no program usr/bin/outside"),
        "{text}"
    );
    fs::remove_file(workshop.path("root/srv/libraries/libc.so.6")).unwrap();
    let text = messages(
        &workshop
            .build(&program_recipe("/usr/bin/tool"))
            .unwrap_err(),
    );
    assert!(text.contains("libc.so.6 (needed by"), "{text}");
    let gone = program_recipe("/usr/bin/tool").replace("\"root\"", "\"gone\"");
    let text = messages(&workshop.build(&gone).unwrap_err());
    assert!(
        text.contains("cannot read") && text.contains("gone"),
        "{text}"
    );
}

#[test]
fn packages_and_images_can_go_below_a_folder() {
    let workshop = Workshop::new();
    let data = tarball(&[
        ("./usr/bin/", b""),
        ("./usr/bin/one", b"1\n"),
        ("./usr/bin/two = ./usr/bin/one", b""),
        ("./usr/share/man/one.1", b"manual\n"),
    ]);
    workshop.write("a.deb", package(".xz", "a", &data));
    let archive = output(
        Command::new("sh")
            .args(["-c", "echo etc | cpio -o -H newc --quiet"])
            .current_dir("/"),
    );
    workshop.write("initrd", archive);
    let built = workshop.build(
        "kind = \"extra\"\nname = \"x\"\nversion = \"${package.a}\"\nlevel = 1\n\
         [[source]]\ntype = \"deb\"\nfiles = [\"a.deb\"]\nto = \"/opt/a/\"\nexclude = [\"opt/a/usr/share\"]\n\
         [[source]]\ntype = \"initrd\"\nfile = \"initrd\"\nto = \"opt/b\"\n",
    );
    let rows = entries(&built.unwrap().layer);
    let names: Vec<_> = rows
        .iter()
        .map(|row| row.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "opt",
            "opt/a",
            "opt/a/usr",
            "opt/a/usr/bin",
            "opt/a/usr/bin/one",
            "opt/a/usr/bin/two",
            "opt/b",
            "opt/b/etc"
        ]
    );
    let recipe = "kind = \"extra\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"deb\"\nfiles = [\"a.deb\"]\n\
                  to = \"opt\"\nprograms = [\"/usr/bin/one\"]\n";
    let text = workshop.parse(recipe).unwrap_err().to_string();
    assert!(
        text.contains("line 4: source 1") && text.contains("`private`"),
        "{text}"
    );
}
