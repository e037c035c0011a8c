//! Libraries are found where the dynamic loader of this machine finds them, and what no header tells by rule.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use towline_contract::manifest::Manifest;
use towline_initramfs::content::Content;
use towline_initramfs::elf;
use towline_initramfs::libraries::{self, Closure, LibraryError, Machine, Missing, Root, Use};
use towline_initramfs::tree::{Meta, Tree};

use crate::support::{Workshop, messages, output};

/// Fewest programs that are compared with `ldd`, and most: a minimal Debian has hundreds, and a full one takes minutes.
const COMPARED_MIN: usize = 200;
const COMPARED_MAX: usize = 500;

/// What `ldd` says of a program: real paths, and names that are nowhere; none of a static one.
fn ldd(program: &Path) -> Option<(BTreeSet<PathBuf>, BTreeSet<String>)> {
    let said = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let said = said.expect("ldd runs");
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    if !said.status.success() || text.contains("statically linked") {
        return None;
    }
    let (mut paths, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some((name, _)) = line.split_once(" => not found") {
            missing.insert(name.trim().to_owned());
        } else if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            // Another build of the same library, for this very processor, is in a folder beside the plain one.
            let path = match path.split_once("/glibc-hwcaps/") {
                Some((dir, file)) => format!("{dir}/{}", file.rsplit('/').next().unwrap()),
                None => path.to_owned(),
            };
            let path = Path::new(&path).canonicalize();
            paths.insert(path.unwrap_or_else(|cause| panic!("{line}: {cause}")));
        }
    }
    Some((paths, missing))
}

/// Real paths of all that we find, without the program; and names that are nowhere.
fn found(program: &Path) -> (BTreeSet<PathBuf>, BTreeSet<String>) {
    let program = program.canonicalize().unwrap();
    match libraries::loaded(&Machine, program.to_str().unwrap(), &[]) {
        Ok(closure) => {
            let paths = closure
                .iter()
                .map(|path| Path::new("/").join(path).canonicalize().unwrap());
            (
                paths.filter(|path| *path != program).collect(),
                BTreeSet::new(),
            )
        }
        Err(LibraryError::Missing(missing)) => {
            let names = missing.into_iter().map(|it| it.what);
            (BTreeSet::new(), names.collect())
        }
        Err(error) => panic!("{}: {}", program.display(), messages(&error)),
    }
}

fn ours(program: &Path) -> BTreeSet<PathBuf> {
    let (paths, missing) = found(program);
    assert_eq!(missing, BTreeSet::new());
    paths
}

/// Programs of this machine, at most as many as are compared, from all over its folders.
fn programs() -> Vec<PathBuf> {
    let folders = ["/usr/bin", "/usr/sbin"].map(|it| fs::read_dir(it).unwrap());
    let files = folders.into_iter().flatten().map(|it| it.unwrap().path());
    let is_program = |path: &PathBuf| {
        let is_file = path.symlink_metadata().is_ok_and(|it| it.is_file());
        let content = || Content::of_file(path.clone(), &path.metadata().unwrap());
        is_file && matches!(elf::read(&content()), Ok(Some(elf)) if elf.interpreter.is_some())
    };
    let mut programs: Vec<_> = files.filter(is_program).collect();
    programs.sort();
    let step = programs.len().div_ceil(COMPARED_MAX).max(1);
    programs.into_iter().step_by(step).collect()
}

#[test]
fn the_closure_of_hundreds_of_programs_is_what_ldd_names() {
    let mut compared = 0;
    let mut different = Vec::new();
    for program in programs() {
        let Some((paths, missing)) = ldd(&program) else {
            continue;
        };
        compared += 1;
        let (our_paths, our_missing) = found(&program);
        if our_missing != missing || (missing.is_empty() && our_paths != paths) {
            let apart: Vec<_> = our_paths.symmetric_difference(&paths).collect();
            different.push(format!(
                "{}: {apart:?}, missing {our_missing:?}, for ldd {missing:?}",
                program.display()
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{compared} compared:\n{}",
        different.join("\n")
    );
    assert!(
        compared >= COMPARED_MIN,
        "this machine has {compared} programs to compare, and {COMPARED_MIN} are wanted"
    );
    println!("{compared} programs have what ldd says");
}

fn compile(workshop: &Workshop, output_name: &str, source: &str, arguments: &[&str]) {
    let code = workshop.write(&format!("{output_name}.c"), source);
    fs::create_dir_all(workshop.path(output_name).parent().unwrap()).unwrap();
    fs::create_dir_all(workshop.path("lib")).unwrap();
    let mut command = Command::new("cc");
    command
        .arg("-o")
        .arg(workshop.path(output_name))
        .arg(code)
        .arg("-L")
        .arg(workshop.path("lib"));
    output(command.args(arguments));
}

/// A program beside `lib/`, whose library needs a second one there; `flags` say how they are to be found.
fn program_with_own_libraries(flags: &[&str]) -> Workshop {
    let workshop = Workshop::new();
    compile(
        &workshop,
        "lib/libinner.so",
        "int inner(void) { return 1; }",
        &["-shared", "-fPIC"],
    );
    let library = "int inner(void); int outer(void) { return inner(); }";
    compile(
        &workshop,
        "lib/libouter.so",
        library,
        &["-shared", "-fPIC", "-linner"],
    );
    let program = "int outer(void); int main(void) { return outer() - 1; }";
    let mut arguments = vec!["-louter", "-Wl,--allow-shlib-undefined"];
    arguments.extend(flags);
    compile(&workshop, "program", program, &arguments);
    workshop
}

#[test]
fn an_rpath_with_origin_holds_for_the_libraries_of_a_library_too() {
    let workshop =
        program_with_own_libraries(&["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    let program = workshop.path("program");
    assert_eq!(ours(&program), ldd(&program).unwrap().0);
    assert!(ours(&program).contains(&workshop.path("lib/libinner.so").canonicalize().unwrap()));
}

#[test]
fn a_runpath_holds_for_the_program_alone_and_what_lacks_is_named() {
    let workshop =
        program_with_own_libraries(&["-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    let program = workshop.path("program").canonicalize().unwrap();
    match libraries::loaded(&Machine, program.to_str().unwrap(), &[]) {
        Err(LibraryError::Missing(missing)) => {
            assert_eq!(missing.len(), 1);
            assert_eq!(missing[0].what, "libinner.so");
            assert!(
                missing[0]
                    .needed_by
                    .iter()
                    .all(|path| path.ends_with("lib/libouter.so")),
                "{missing:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_library_that_is_loaded_while_running_comes_when_it_is_named() {
    let workshop =
        program_with_own_libraries(&["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    compile(
        &workshop,
        "lib/libplugin.so",
        "int plugin(void) { return 2; }",
        &["-shared", "-fPIC"],
    );
    let program = workshop.path("program").canonicalize().unwrap();
    let names = ["libplugin.so".to_owned()];
    let closure = libraries::loaded(&Machine, program.to_str().unwrap(), &names).unwrap();
    assert!(
        closure
            .iter()
            .any(|path| path.ends_with("lib/libplugin.so"))
    );
}

#[test]
fn a_private_program_runs_with_its_own_loader_and_libraries() {
    let workshop =
        program_with_own_libraries(&["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    let program = workshop.path("program").canonicalize().unwrap();
    let recipe = format!(
        "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\nlevel = 1\n[[source]]\ntype = \"program\"\n\
         programs = [{program:?}]\nprivate = \"usr/lib/towline/agents/x\"\n"
    );
    let built = workshop.build(&recipe).unwrap();
    assert_eq!(
        built.manifest.requires.libraries, [""; 0],
        "nothing is needed from the base"
    );
    assert_eq!(built.manifest.requires.programs, ["/usr/bin/sh"]);
    let root = workshop.path("root");
    fs::create_dir(&root).unwrap();
    let archive = crate::support::unpacked(&built.layer);
    crate::support::filter(
        Command::new("cpio")
            .args(["-id", "--quiet"])
            .current_dir(&root),
        &archive,
    );
    let dir = root.join("usr/lib/towline/agents/x");
    let names: BTreeSet<_> = fs::read_dir(dir.join("lib"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    for library in [
        "libinner.so",
        "libouter.so",
        "libc.so.6",
        "ld-linux-x86-64.so.2",
    ] {
        assert!(names.contains(std::ffi::OsStr::new(library)), "{names:?}");
    }
    // Started as the script does it, but from where it was unpacked.
    let mut command = Command::new(dir.join("lib/ld-linux-x86-64.so.2"));
    output(
        command
            .arg("--inhibit-cache")
            .arg("--library-path")
            .arg(dir.join("lib"))
            .arg(dir.join("program")),
    );
}

#[test]
fn a_library_that_is_loaded_already_is_not_looked_for_again() {
    // The program has a RUNPATH, its library none: `libouter.so` finds `libinner.so` only since the program has loaded it.
    let workshop = program_with_own_libraries(&[
        "-Wl,--no-as-needed",
        "-linner",
        "-Wl,--enable-new-dtags",
        "-Wl,-rpath,$ORIGIN/lib",
    ]);
    let program = workshop.path("program");
    let (paths, missing) = ldd(&program).unwrap();
    assert_eq!(missing, BTreeSet::new());
    assert_eq!(ours(&program), paths);
}

#[test]
fn a_library_found_through_a_link_has_the_links_folder_as_its_origin() {
    let workshop = Workshop::new();
    let flags = |more: &[&'static str]| [&["-shared", "-fPIC"], more].concat();
    compile(
        &workshop,
        "other/libinner.so",
        "int inner(void) { return 1; }",
        &flags(&[]),
    );
    fs::create_dir_all(workshop.path("lib")).unwrap();
    symlink("../other/libinner.so", workshop.path("lib/libinner.so")).unwrap();
    let outer = "int inner(void); int outer(void) { return inner(); }";
    compile(
        &workshop,
        "real/libouter.so",
        outer,
        &flags(&["-linner", "-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN"]),
    );
    symlink("../real/libouter.so", workshop.path("lib/libouter.so")).unwrap();
    let program = "int outer(void); int main(void) { return outer() - 1; }";
    let rpath = format!("-Wl,-rpath,{}", workshop.path("lib").display());
    compile(
        &workshop,
        "program",
        program,
        &["-louter", "-Wl,--allow-shlib-undefined", &rpath],
    );
    let program = workshop.path("program");
    let (paths, missing) = ldd(&program).unwrap();
    assert_eq!(missing, BTreeSet::new());
    assert_eq!(ours(&program), paths);
}

/// A tree with files of the workshop.
fn tree(workshop: &Workshop, files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (path, file) in files {
        let file = workshop.path(file);
        let metadata = file.metadata().unwrap();
        let content = Content::of_file(file, &metadata);
        tree.file(path.as_bytes(), Meta::root(0o755), content)
            .unwrap();
    }
    tree
}

/// A tree with texts at paths.
fn with_texts(mut tree: Tree, texts: &[(&str, &str)]) -> Tree {
    for (path, text) in texts {
        let content = Content::from_bytes(text.as_bytes());
        tree.file(path.as_bytes(), Meta::root(0o755), content)
            .unwrap();
    }
    tree
}

fn closure(root: &dyn Root, program: &str) -> Result<Closure, LibraryError> {
    libraries::closure(root, program, &[], &|_| false)
}

#[track_caller]
fn missing(found: Result<Closure, LibraryError>) -> Vec<Missing> {
    match found {
        Err(LibraryError::Missing(missing)) => missing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn musls_loader_searches_its_own_folders_and_is_the_c_library_itself() {
    let workshop = Workshop::new();
    let plain = ["-shared", "-fPIC", "-nostdlib"];
    compile(
        &workshop,
        "lib/libc.so",
        "int c(void) { return 0; }",
        &plain,
    );
    compile(
        &workshop,
        "lib/libinner.so",
        "int inner(void) { return 0; }",
        &plain,
    );
    compile(
        &workshop,
        "lib/libouter.so",
        "int inner(void); int outer(void) { return inner(); }",
        &[&plain[..], &["-linner"]].concat(),
    );
    let program = "int outer(void); int c(void); void _start(void) { outer(); c(); }";
    let loader = "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1";
    compile(
        &workshop,
        "program",
        program,
        &[
            "-nostdlib",
            "-louter",
            "-lc",
            loader,
            "-Wl,--allow-shlib-undefined",
            "-Wl,--enable-new-dtags",
            "-Wl,-rpath,/opt/own",
        ],
    );
    let files = [
        ("usr/bin/program", "program"),
        ("lib/ld-musl-x86_64.so.1", "lib/libc.so"),
        ("usr/local/lib/libouter.so", "lib/libouter.so"),
        // Only musl takes a program's RUNPATH for its libraries' libraries.
        ("opt/own/libinner.so", "lib/libinner.so"),
    ];
    let tree = tree(&workshop, &files);
    let found = closure(&tree, "usr/bin/program").unwrap();
    let wanted: BTreeSet<_> = files.iter().map(|it| it.0.to_owned()).collect();
    assert_eq!(found.loaded, wanted);
    let tree = with_texts(tree, &[("etc/ld-musl-x86_64.path", "/elsewhere\n")]);
    let missing = missing(closure(&tree, "usr/bin/program"));
    assert_eq!(missing[0].what, "libouter.so");
}

#[test]
fn scripts_bring_their_interpreters_and_one_that_is_nowhere_is_named_with_the_script() {
    let workshop = Workshop::new();
    compile(
        &workshop,
        "interpreter",
        "void _start(void) {}",
        &["-nostdlib", "-static"],
    );
    let files = [
        ("usr/bin/env", "interpreter"),
        ("usr/local/bin/lang", "interpreter"),
    ];
    let tree = with_texts(
        tree(&workshop, &files),
        &[
            ("usr/bin/good", "#!/usr/bin/env -S lang -x\n"),
            ("usr/bin/chained", "#!/usr/bin/good\n"),
            ("usr/bin/bad", "#!/usr/bin/env other\n"),
            ("usr/bin/worse", "#!/opt/lang\n"),
        ],
    );
    let found = closure(&tree, "usr/bin/chained").unwrap();
    let wanted = [
        "usr/bin/chained",
        "usr/bin/env",
        "usr/bin/good",
        "usr/local/bin/lang",
    ];
    assert_eq!(found.loaded, wanted.map(str::to_owned).into());
    let bad = missing(closure(&tree, "usr/bin/bad"));
    assert_eq!((bad[0].what.as_str(), bad[0].library), ("other", false));
    assert_eq!(bad[0].needed_by, ["usr/bin/bad".to_owned()].into());
    assert_eq!(
        missing(closure(&tree, "usr/bin/worse"))[0].what,
        "/opt/lang"
    );
    assert!(libraries::closure(&tree, "usr/bin/worse", &[], &|it| it == "/opt/lang").is_ok());
}

/// A program with this note about what it loads while it runs; it is linked with nothing.
fn program_with_note(workshop: &Workshop, note: &str) {
    let text = note.replace('"', "\\\"");
    let section = format!(
        ".section .note.dlopen, \"a\", @note\n.balign 4\n.long 1f-0f, 3f-2f, 0x407c0c0a\n0: .asciz \"FDO\"\n1: .balign 4\n\
         2: .asciz \"{text}\"\n3: .balign 4\n"
    );
    let section = workshop.write("note.s", section);
    let arguments = ["-nostdlib", "-pie", section.to_str().unwrap()];
    compile(workshop, "program", "void _start(void) {}\n", &arguments);
    for library in ["libzip.so.1", "libbest.so", "libextra.so"] {
        compile(
            workshop,
            library,
            "int x;",
            &["-shared", "-fPIC", "-nostdlib"],
        );
    }
}

#[test]
fn what_a_note_says_is_loaded_while_running_comes_as_it_matters() {
    let workshop = Workshop::new();
    let note = r#"[{"soname":["libzip.so.2","libzip.so.1"],"priority":"required"},{"soname":["libbest.so"]},{"soname":["libextra.so"],"priority":"suggested"}]"#;
    program_with_note(&workshop, note);
    fs::copy("/lib64/ld-linux-x86-64.so.2", workshop.path("loader")).unwrap();
    let always = [
        ("usr/bin/program", "program"),
        ("lib64/ld-linux-x86-64.so.2", "loader"),
    ];
    let all = [
        ("usr/lib/libzip.so.1", "libzip.so.1"),
        ("usr/lib/libbest.so", "libbest.so"),
        ("usr/lib/libextra.so", "libextra.so"),
    ];
    let found = closure(
        &tree(&workshop, &[&always[..], &all].concat()),
        "usr/bin/program",
    )
    .unwrap();
    assert!(
        found.loaded.contains("usr/lib/libzip.so.1"),
        "the second name will do"
    );
    assert!(
        found.loaded.contains("usr/lib/libbest.so"),
        "recommended when nothing is said"
    );
    assert!(
        !found.loaded.contains("usr/lib/libextra.so"),
        "only suggested"
    );
    let without = tree(&workshop, &[&always[..], &all[..1]].concat());
    closure(&without, "usr/bin/program").unwrap();
    let without = tree(&workshop, &[&always[..], &all[1..]].concat());
    let missing = missing(closure(&without, "usr/bin/program"));
    assert_eq!(
        (missing.len(), missing[0].what.as_str()),
        (1, "libzip.so.2")
    );
    assert_eq!(missing[0].needed_by, ["usr/bin/program".to_owned()].into());
}

/// A program that calls these functions, with this machine's C library, as a tree.
fn tree_of_program_calling(workshop: &Workshop, source: &str, arguments: &[&str]) -> Tree {
    compile(workshop, "program", source, arguments);
    let mut files = vec![("usr/bin/program".to_owned(), workshop.path("program"))];
    let program = workshop.path("program").canonicalize().unwrap();
    for path in libraries::loaded(&Machine, program.to_str().unwrap(), &[]).unwrap() {
        if Path::new("/").join(&path) != program {
            files.push((path.clone(), Path::new("/").join(path)));
        }
    }
    let mut tree = Tree::new();
    for (path, file) in files {
        let metadata = file.metadata().unwrap();
        let content = Content::of_file(file, &metadata);
        tree.file(path.as_bytes(), Meta::root(0o755), content)
            .unwrap();
    }
    tree
}

const ASKS_FOR_USERS: &str =
    "#include <pwd.h>\nint main(void) { return getpwnam(\"root\") == 0; }\n";

#[test]
fn modules_for_names_of_users_come_as_nsswitch_names_them_for_who_asks() {
    let workshop = Workshop::new();
    compile(
        &workshop,
        "libnss.so",
        "int x;",
        &["-shared", "-fPIC", "-nostdlib"],
    );
    let add = |mut asks: Tree, name: &str| {
        let file = workshop.path("libnss.so");
        let metadata = file.metadata().unwrap();
        let content = Content::of_file(file, &metadata);
        asks.file(name.as_bytes(), Meta::root(0o644), content)
            .unwrap();
        asks
    };
    let asks = tree_of_program_calling(&workshop, ASKS_FOR_USERS, &[]);
    let asks = add(
        add(asks, "usr/lib/libnss_ldap.so.2"),
        "usr/lib/libnss_mdns4.so.2",
    );
    let text = "passwd: files ldap gone\nhosts: mdns4 dns\n";
    let asks = with_texts(asks, &[("etc/nsswitch.conf", text)]);
    let found = closure(&asks, "usr/bin/program").unwrap();
    let by_rule: Vec<_> = found
        .by_rule
        .iter()
        .map(|(path, what)| (path.as_str(), *what))
        .collect();
    assert_eq!(by_rule, [("usr/lib/libnss_ldap.so.2", Use::Library)]);
    let plain = "int main(void) { return 0; }\n";
    let silent = add(
        tree_of_program_calling(&workshop, plain, &[]),
        "usr/lib/libnss_ldap.so.2",
    );
    let silent = with_texts(silent, &[("etc/nsswitch.conf", text)]);
    assert_eq!(
        closure(&silent, "usr/bin/program").unwrap().by_rule.len(),
        0
    );
}

#[test]
fn a_program_whose_table_of_sections_was_cut_off_is_taken_all_the_same() {
    let workshop = Workshop::new();
    let mut tree = tree_of_program_calling(&workshop, ASKS_FOR_USERS, &[]);
    let mut program = fs::read(workshop.path("program")).unwrap();
    let sections = u64::from_le_bytes(program[40..48].try_into().unwrap());
    program.truncate(usize::try_from(sections).unwrap());
    let content = Content::from_bytes(program);
    tree.file(b"usr/bin/program", Meta::root(0o755), content)
        .unwrap();
    assert!(closure(&tree, "usr/bin/program").unwrap().loaded.len() > 1);
}

#[test]
fn character_sets_come_for_who_converts_texts() {
    let workshop = Workshop::new();
    let source = "#include <iconv.h>\nint main(void) { return iconv_open(\"A\", \"B\") == 0; }\n";
    let tree = tree_of_program_calling(&workshop, source, &[]);
    let folder = "usr/lib/x86_64-linux-gnu/gconv";
    let texts = [
        "gconv-modules",
        "gconv-modules.d/more.conf",
        "gconv-modules.cache",
        "UTF-16.so",
        "BIG5.so",
    ];
    let texts: Vec<_> = texts
        .iter()
        .map(|it| (format!("{folder}/{it}"), ""))
        .collect();
    let texts: Vec<_> = texts
        .iter()
        .map(|(path, text)| (path.as_str(), *text))
        .collect();
    let found = closure(&with_texts(tree, &texts), "usr/bin/program").unwrap();
    let names: Vec<_> = found
        .by_rule
        .keys()
        .map(|it| it.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["UTF-16.so", "gconv-modules", "more.conf"]);
    assert!(found.by_rule.values().all(|it| *it == Use::CharacterSets));
}

#[test]
fn a_program_that_asks_pam_brings_its_services_modules_and_one_that_is_nowhere_is_named() {
    let workshop = Workshop::new();
    let plain = ["-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed"];
    let library = |name: &str, source: &str, more: &[&str]| {
        compile(&workshop, name, source, &[&plain, more].concat());
    };
    let pam = "int pam_start(void) { return 0; }";
    library("lib/libpam.so", pam, &["-Wl,-soname,libpam.so.0"]);
    library("lib/libaudit.so", "int x;", &["-Wl,-soname,libaudit.so"]);
    library("pam_unix.so", "int x;", &["-laudit"]);
    let login = "int pam_start(void); void _start(void) { pam_start(); }";
    compile(&workshop, "login", login, &["-nostdlib", "-lpam"]);
    let loader = workshop.path("loader");
    fs::copy("/lib64/ld-linux-x86-64.so.2", loader).unwrap();
    let files = [
        ("usr/bin/login", "login"),
        ("lib64/ld-linux-x86-64.so.2", "loader"),
        ("usr/lib/libpam.so.0", "lib/libpam.so"),
        ("usr/lib/libaudit.so", "lib/libaudit.so"),
        (
            "usr/lib/x86_64-linux-gnu/security/pam_unix.so",
            "pam_unix.so",
        ),
    ];
    let service = "auth required pam_unix.so\n-session optional pam_systemd.so\n@include common\n";
    let plain = || tree(&workshop, &files);
    assert_eq!(
        closure(&plain(), "usr/bin/login").unwrap().by_rule.len(),
        0,
        "no service"
    );
    let whole = with_texts(
        plain(),
        &[
            ("etc/pam.d/login", service),
            ("etc/pam.d/common", "auth required pam_unix.so\n"),
        ],
    );
    let found = closure(&whole, "usr/bin/login").unwrap();
    let paths: Vec<_> = found.by_rule.keys().map(String::as_str).collect();
    assert!(
        paths.contains(&"usr/lib/x86_64-linux-gnu/security/pam_unix.so"),
        "{paths:?}"
    );
    assert!(
        paths.contains(&"etc/pam.d/common") && paths.contains(&"etc/pam.d/login"),
        "{paths:?}"
    );
    assert!(
        paths.iter().any(|it| it.ends_with("libaudit.so")),
        "its modules' own libraries: {paths:?}"
    );
    let cut = with_texts(
        plain(),
        &[(
            "etc/pam.d/login",
            "auth required pam_gone.so\n@include common\n",
        )],
    );
    let missing = missing(closure(&cut, "usr/bin/login"));
    let names: Vec<_> = missing.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(names, ["pam_gone.so"], "what is included the base may have");
    assert_eq!(missing[0].needed_by, ["etc/pam.d/login".to_owned()].into());
}

#[test]
fn a_private_program_that_asks_pam_leaves_the_services_to_the_base() {
    let workshop = Workshop::new();
    let recipe = "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\nlevel = 1\n[[source]]\ntype = \"program\"\n\
                  programs = [\"/bin/su\"]\nprivate = \"opt/x\"\n";
    let built = workshop.build(recipe).unwrap();
    let mut names = Vec::new();
    towline_initramfs::stored::list(&built.layer, |entry, _| names.push(entry.display_name()))
        .unwrap();
    let mut own = names.iter().map(|it| it.rsplit('/').next().unwrap());
    assert!(own.any(|it| it == "libpam.so.0"), "{names:?}");
    let services = |it: &&String| it.contains("pam.d") || it.contains("/security/");
    assert_eq!(names.iter().find(services), None);
}

#[test]
fn a_librarys_own_name_is_linked_beside_it_as_ldconfig_would() {
    let workshop = Workshop::new();
    for version in ["9", "10"] {
        let name = format!("tree/usr/lib/libx.so.1.{version}");
        compile(
            &workshop,
            &name,
            "int x;",
            &["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libx.so.1"],
        );
    }
    let recipe = crate::support::directory_recipe("");
    let built = workshop.build(&recipe).unwrap();
    assert!(
        built
            .manifest
            .provides
            .libraries
            .contains(&"libx.so.1".to_owned())
    );
    let mut links = Vec::new();
    towline_initramfs::stored::list(&built.layer, |entry, target| {
        if !target.is_empty() {
            links.push((
                entry.display_name(),
                String::from_utf8_lossy(target).into_owned(),
            ));
        }
    })
    .unwrap();
    assert_eq!(
        links,
        [("usr/lib/libx.so.1".to_owned(), "libx.so.1.10".to_owned())]
    );
}

#[test]
fn a_library_that_lies_where_no_loader_looks_is_said_to_lie_there() {
    let workshop = Workshop::new();
    let own = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libx.so"];
    compile(&workshop, "lib/libx.so", "int x(void) { return 0; }", &own);
    let source = "int x(void); void _start(void) { x(); }";
    let arguments = ["-nostdlib", "-lx", "-Wl,--dynamic-linker=/usr/bin/x"];
    compile(&workshop, "program", source, &arguments);
    for (file, place) in [
        ("lib/libx.so", "tree/opt/x/libx.so"),
        ("program", "tree/usr/bin/x"),
    ] {
        workshop.write(place, fs::read(workshop.path(file)).unwrap());
        fs::set_permissions(workshop.path(place), PermissionsExt::from_mode(0o755)).unwrap();
    }
    workshop.write("tree/etc/ld.so.conf", "/opt/x\n");
    let recipe = crate::support::directory_recipe("");
    let error = workshop.build(&recipe).unwrap_err();
    let said = messages(&error);
    assert!(
        said.contains("needed by usr/bin/x; there is opt/x/libx.so, where"),
        "{said}"
    );
    // What counts is the loader's table, which `ldconfig` makes of that file.
    for cache in [Vec::new(), loaders_table("libx.so", "/opt/gone/libx.so")] {
        workshop.write("tree/etc/ld.so.cache", cache);
        workshop.build(&recipe).unwrap_err();
    }
    let cache = loaders_table("libx.so", "/opt/x/libx.so");
    workshop.write("tree/etc/ld.so.cache", cache);
    let built = workshop.build(&recipe).unwrap();
    assert_eq!(built.manifest.provides.libraries, ["libx.so"]);
}

/// `ld.so.cache` with one library.
fn loaders_table(name: &str, path: &str) -> Vec<u8> {
    let number = |it: usize| u32::try_from(it).unwrap().to_le_bytes();
    let names = 48 + 24;
    let mut table = b"glibc-ld.so.cache1.1".to_vec();
    table.extend(number(1));
    table.resize(48, 0);
    for it in [0x303, names, names + name.len() + 1, 0, 0, 0] {
        table.extend(number(it));
    }
    table.extend(format!("{name}\0{path}\0").into_bytes());
    table
}

#[test]
fn a_library_where_another_distributions_loader_would_look_is_missing() {
    let workshop = Workshop::new();
    let own = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libx.so"];
    compile(&workshop, "lib/libx.so", "int x(void) { return 0; }", &own);
    let source = "int x(void); void _start(void) { x(); }";
    compile(&workshop, "program", source, &["-nostdlib", "-lx"]);
    compile(&workshop, "plain", "int y;", &["-shared", "-nostdlib"]);
    // Debian's looks in `usr/lib`, and Red Hat's in `usr/lib64`.
    for (searched, wanted) in [("usr/lib", true), ("usr/lib64", false)] {
        let files = [
            ("usr/bin/program", "program"),
            ("lib64/ld-linux-x86-64.so.2", "loader"),
            (&format!("{searched}/libx.so"), "lib/libx.so"),
        ];
        for (debian, wanted) in [(true, wanted), (false, !wanted)] {
            let dirs = match debian {
                true => ["/lib/", "/usr/lib/"],
                false => ["/lib64/", "/usr/lib64/"],
            };
            let mut loader = fs::read(workshop.path("plain")).unwrap();
            loader.extend(format!("\0{}\0{}\0", dirs[0], dirs[1]).into_bytes());
            workshop.write("loader", loader);
            let tree = tree(&workshop, &files);
            let found = libraries::survey(&tree, &[]).unwrap();
            let has = found.provides.libraries.contains(&"libx.so".to_owned());
            assert_eq!(
                (found.missing.is_empty(), has),
                (wanted, wanted),
                "{dirs:?}"
            );
        }
    }
}

#[test]
fn a_program_behind_a_link_that_finds_its_libraries_beside_itself_keeps_its_place() {
    let workshop =
        program_with_own_libraries(&["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    fs::create_dir(workshop.path("bin")).unwrap();
    let link = workshop.path("bin/started");
    symlink("../program", &link).unwrap();
    let link = link
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap()
        .join("started");
    let recipe = format!(
        "kind = \"base\"\nname = \"x\"\nversion = \"1\"\nlevel = 1\nform = \"files\"\n[[source]]\ntype = \"program\"\nprograms = [{link:?}]\n"
    );
    let built = workshop.build(&recipe).unwrap();
    let mut names = Vec::new();
    towline_initramfs::stored::list(&built.layer, |entry, _| names.push(entry.display_name()))
        .unwrap();
    let real = workshop.path("program").canonicalize().unwrap();
    let real = real.to_str().unwrap().trim_start_matches('/').to_owned();
    assert!(names.contains(&real), "{names:?}");
}

/// The layer of a private script, the folder that it was unpacked to, and what starts the script there.
fn private_script(text: &str) -> (Workshop, Manifest, Command) {
    let workshop = Workshop::new();
    let script = workshop.write("agent", text);
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.canonicalize().unwrap();
    let recipe = format!(
        "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\nlevel = 1\n[[source]]\ntype = \"program\"\n\
         programs = [{script:?}]\nprivate = \"opt/x\"\n"
    );
    let built = workshop.build(&recipe).unwrap();
    let root = workshop.path("root");
    fs::create_dir(&root).unwrap();
    crate::support::filter(
        Command::new("cpio")
            .args(["-id", "--quiet"])
            .current_dir(&root),
        &crate::support::unpacked(&built.layer),
    );
    let launcher = fs::read_to_string(root.join(script.strip_prefix("/").unwrap())).unwrap();
    let line = launcher.lines().find(|it| it.starts_with("exec")).unwrap();
    // Run from where it was unpacked.
    let line = line.replace("/opt/x", root.join("opt/x").to_str().unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", &line, "launcher", "now"]);
    (workshop, built.manifest, command)
}

#[test]
fn a_private_script_is_started_by_its_own_interpreter_with_its_arguments() {
    let text = "#!/bin/bash -e\necho it runs: $1\nfalse\necho and goes on\n";
    let (_workshop, _, mut command) = private_script(text);
    let said = command.output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "it runs: now\n");
    assert!(!said.status.success(), "without -e it goes on");
}

#[test]
fn what_env_starts_for_a_private_script_is_its_own_too() {
    let text = "#!/usr/bin/env -S WORD=it bash -u\necho $WORD $1 $-\nreadlink /proc/$$/exe\n";
    let (workshop, _, mut command) = private_script(text);
    let said = String::from_utf8(output(&mut command)).unwrap();
    let (first, started) = said.split_once('\n').unwrap();
    assert!(
        first.starts_with("it now ") && first.contains('u'),
        "{first}"
    );
    let own = workshop.path("root/opt/x/lib").canonicalize().unwrap();
    assert!(Path::new(started).starts_with(own), "{started}");
}

#[test]
fn a_private_script_needs_no_interpreter_of_the_chain() {
    let (_workshop, manifest, _) = private_script("#!/usr/bin/env bash\n");
    // What the launcher needs.
    assert_eq!(manifest.requires.programs, ["/usr/bin/sh"]);
}
