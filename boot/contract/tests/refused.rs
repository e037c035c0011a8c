//! Folders of bad catalogues that a script makes (`tests/refused/make.py`), read as a machine reads a server's answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::trust::{
    Asked, ExpiryPolicy, FreshNonce, HOSTS_ROLE, SignedView, TrustedRoot,
};

/// The nonce of the machine that asks, and its host.
const NONCE: [u8; 32] = [7; 32];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/refused/catalogues")
}

/// What a machine makes of the files; why not, as it says it.
fn read(folder: &Path) -> Result<(), String> {
    let file = |name: &str| fs::read(folder.join(name)).map_err(|_| format!("no file {name}"));
    view(&file)
        .and_then(|mut view| {
            let plan = file("plan.json")?;
            let registrar = view.role_file(HOSTS_ROLE);
            for wanted in view.files_for(&plan).into_iter().chain(registrar) {
                view = view
                    .with_role(&wanted.role, &file(&wanted.file())?)
                    .map_err(told)?;
            }
            if let Some((name, _)) = view.host_file("web1") {
                view = view.with_host("web1", &file(&name)?).map_err(told)?;
            }
            let asked = Asked {
                host: None,
                architecture: "amd64",
                floor: "2026-11-01T00:00:00Z".parse().map_err(|_| "no time")?,
                versions: &known(),
                expiry: ExpiryPolicy::Refuse,
            };
            view.plan(&plan, FreshNonce::new(NONCE), &asked)
                .map_err(told)
        })
        .map(drop)
}

fn view(file: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<SignedView, String> {
    let mut root = TrustedRoot::from_stamp(&file("1.root.json")?).map_err(told)?;
    while let Ok(next) = file(&root.next_file()) {
        root = root.rotate(&next).map_err(told)?;
    }
    let timestamp = root.timestamp(&file("timestamp.json")?).map_err(told)?;
    let name = timestamp.next_file();
    let snapshot = timestamp.snapshot(&file(&name)?).map_err(told)?;
    let name = snapshot.next_file();
    snapshot.targets(&file(&name)?).map_err(told)
}

/// What was known when the machine's medium was stamped.
fn known() -> BTreeMap<String, u64> {
    [("base".to_owned(), 2)].into()
}

/// The error and its causes.
fn told(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[test]
fn every_bad_catalogue_of_the_index_is_refused_for_what_is_wrong_with_it() {
    let index = fs::read_to_string(folder().join("INDEX")).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it != "INDEX")
        .collect();
    names.sort();
    let listed: Vec<_> = index
        .lines()
        .map(|it| it.split('\t').next().unwrap())
        .collect();
    assert_eq!(listed, names, "the index lists each folder");
    let mut wrong = Vec::new();
    for line in index.lines() {
        let [name, what, says] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?} is no line of an index")
        };
        let found = read(&folder().join(name)).err();
        let found = found.as_deref().unwrap_or("accepted");
        if says.is_empty() || !found.contains(says) {
            wrong.push(format!("{name} ({what}): {says:?}, but: {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
