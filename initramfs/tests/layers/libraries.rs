//! Libraries are found where the dynamic loader of this machine finds them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towline_initramfs::libraries::{self, LibraryError, Machine};

use crate::support::{Workshop, output};

/// Programs with few and many libraries; those that this machine has are compared.
const PROGRAMS: &[&str] = &[
    "/bin/bash",
    "/bin/ls",
    "/bin/tar",
    "/usr/bin/openssl",
    "/usr/bin/curl",
    "/usr/bin/bsdcpio",
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/xorriso",
    "/usr/sbin/dnsmasq",
];

/// Real paths of all that `ldd` names.
fn ldd(program: &Path) -> BTreeSet<PathBuf> {
    let text =
        String::from_utf8(output(Command::new("ldd").arg(program).env("LC_ALL", "C"))).unwrap();
    let words = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words
        .map(|path| Path::new(path).canonicalize().unwrap())
        .collect()
}

/// Real paths of all that we find, without the program.
fn ours(program: &Path) -> BTreeSet<PathBuf> {
    let program = program.canonicalize().unwrap();
    let closure = libraries::closure(&Machine, program.to_str().unwrap(), &[]).unwrap();
    let paths = closure
        .iter()
        .map(|path| Path::new("/").join(path).canonicalize().unwrap());
    paths.filter(|path| *path != program).collect()
}

#[test]
fn the_closure_of_each_program_is_what_ldd_names() {
    let programs: Vec<_> = PROGRAMS
        .iter()
        .map(Path::new)
        .filter(|path| path.exists())
        .collect();
    assert!(
        programs.len() >= 5,
        "this machine has too few programs to compare: {programs:?}"
    );
    for program in programs {
        assert_eq!(ours(program), ldd(program), "{}", program.display());
    }
}

fn compile(workshop: &Workshop, output_name: &str, source: &str, arguments: &[&str]) {
    let code = workshop.write(&format!("{output_name}.c"), source);
    fs::create_dir_all(workshop.path(output_name).parent().unwrap()).unwrap();
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
    assert_eq!(ours(&program), ldd(&program));
    assert!(ours(&program).contains(&workshop.path("lib/libinner.so").canonicalize().unwrap()));
}

#[test]
fn a_runpath_holds_for_the_program_alone_and_what_lacks_is_named() {
    let workshop =
        program_with_own_libraries(&["-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]);
    let program = workshop.path("program").canonicalize().unwrap();
    match libraries::closure(&Machine, program.to_str().unwrap(), &[]) {
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
    let closure = libraries::closure(&Machine, program.to_str().unwrap(), &names).unwrap();
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
