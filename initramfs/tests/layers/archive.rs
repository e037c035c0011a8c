//! With the distribution's archive: resolving and downloading by apt, without root.

use std::fs;

use towline_initramfs::apt::{Apt, AptError};
use towline_initramfs::stored;

use crate::support::{Workshop, messages, package_cache};

fn apt() -> Apt {
    Apt::new(&package_cache()).unwrap()
}

fn packages(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn archive_a_closure_is_that_of_an_empty_machine_and_may_leave_packages_out() {
    let name = |path: &std::path::PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        file.split('_').next().unwrap().to_owned()
    };
    let all: Vec<_> = apt()
        .closure(&packages(&["grep"]), &[])
        .unwrap()
        .iter()
        .map(name)
        .collect();
    assert!(
        all.contains(&"libc6".to_owned()),
        "installed here, but counted all the same: {all:?}"
    );
    assert!(all.is_sorted());
    let less: Vec<_> = apt()
        .closure(&packages(&["grep"]), &packages(&["libc6"]))
        .unwrap()
        .iter()
        .map(name)
        .collect();
    assert!(
        less.contains(&"grep".to_owned()) && !less.contains(&"libc6".to_owned()),
        "{less:?}"
    );
    assert!(
        !less.contains(&"gcc-12-base".to_owned()),
        "what only libc6 needs stays out: {less:?}"
    );
}

#[test]
fn archive_an_unknown_package_is_named() {
    let workshop = Workshop::new();
    let recipe = "kind = \"agent\"\nname = \"x\"\nversion = \"1\"\n\n[[source]]\ntype = \"apt\"\npackages = [\"no-such-package\"]\n";
    let text = messages(&workshop.build(recipe).unwrap_err());
    assert!(
        text.contains("line 5: source 1 (apt)") && text.contains("no-such-package"),
        "{text}"
    );
}

#[test]
fn archive_a_damaged_package_in_the_folder_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let apt = Apt::new(folder.path()).unwrap();
    let name = packages(&["media-types"]);
    let file = apt.only(&name).unwrap().pop().unwrap();
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[200] ^= 1; // the same size: apt itself would take it
    fs::write(&file, bad).unwrap();
    assert_eq!(apt.only(&name).unwrap(), std::slice::from_ref(&file));
    assert_eq!(fs::read(&file).unwrap(), good);
}

#[test]
fn archive_a_package_that_is_no_kernel_is_refused_as_one() {
    assert!(matches!(
        apt().kernel("media-types"),
        Err(AptError::NoKernel { found: 0, .. })
    ));
}

#[test]
fn archive_the_ready_agent_recipe_builds_twice_to_the_same_bytes_and_keeps_to_its_lane() {
    let workshop = Workshop::new();
    let (_, recipe) = towline_initramfs::ready_recipes()
        .find(|(name, _)| *name == "agent-restic.toml")
        .unwrap();
    let recipe = String::from_utf8(recipe.to_vec())
        .unwrap()
        .replace("level = 19", "level = 1");
    let built = ["one", "two"].map(|out| workshop.build_into(out, &recipe).unwrap());
    assert_eq!(built[0].manifest, built[1].manifest);
    stored::verify(
        &built[0].layer,
        &built[0].manifest,
        &["etc/ssl/certs/ca-certificates.crt".to_owned()],
    )
    .unwrap();
    let manifest = &built[0].manifest;
    assert_eq!(manifest.requires.libraries, [""; 0]);
    assert_eq!(manifest.requires.programs, ["/usr/bin/sh"]);
    let names: Vec<_> = manifest
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(names, ["ca-certificates", "libc6", "restic"]);
}

#[test]
fn archive_authorities_of_a_package_and_of_our_own_are_one_file_and_no_key_comes_along() {
    let workshop = Workshop::new();
    let (_, recipe) = towline_initramfs::ready_recipes()
        .find(|(name, _)| *name == "extra-ca.toml")
        .unwrap();
    let recipe = String::from_utf8(recipe.to_vec()).unwrap();
    let recipe = recipe.replace("# files =", "files =");
    let ours = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let ours = ours.cert.pem().trim().to_owned();
    workshop.write("our-authority.pem", &ours);
    let built = workshop.build(&recipe).unwrap();
    assert!(built.manifest.target_name().starts_with("extra/ca/"));
    let replaceable = ["etc/ssl/certs/ca-certificates.crt".to_owned()];
    stored::verify(&built.layer, &built.manifest, &replaceable).unwrap();
    let unpacked = crate::support::unpacked(&built.layer);
    let text = String::from_utf8_lossy(&unpacked);
    assert!(text.matches("BEGIN CERTIFICATE").count() > 100);
    assert!(text.contains(&format!("{ours}\n")));
    workshop.write(
        "our-authority.pem",
        ours.replace("CERTIFICATE", "RSA PRIVATE KEY"),
    );
    let error = messages(&workshop.build(&recipe).unwrap_err());
    assert!(
        error.contains("our-authority.pem: it has a private key"),
        "{error}"
    );
}

#[test]
fn archive_the_ready_bacula_agent_brings_all_it_needs_and_keeps_to_its_lane() {
    let workshop = Workshop::new();
    let (_, recipe) = towline_initramfs::ready_recipes()
        .find(|(name, _)| *name == "agent-bacula.toml")
        .unwrap();
    let recipe = String::from_utf8(recipe.to_vec()).unwrap();
    let recipe = recipe.replace("level = 19", "level = 1");
    let built = workshop.build(&recipe).unwrap();
    let manifest = &built.manifest;
    stored::verify(&built.layer, manifest, &[]).unwrap();
    assert_eq!(manifest.requires.libraries, [""; 0]);
    assert_eq!(manifest.requires.programs, ["/usr/bin/sh"]);
    for program in ["/usr/sbin/bacula-fd", "/usr/sbin/bconsole"] {
        let provided = &manifest.provides.programs;
        assert!(provided.iter().any(|it| it == program), "{provided:?}");
    }
    let agent = manifest.agent.as_ref().unwrap();
    let packages: Vec<_> = manifest.packages.iter().map(|it| &it.name).collect();
    assert!(
        agent.current.iter().all(|name| packages.contains(&name)),
        "{packages:?}"
    );
}
