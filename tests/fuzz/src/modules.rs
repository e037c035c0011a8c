//! depmod's indexes: whatever they say, a load order ends, has each module once and what it needs before it; and patterns
//! match what fnmatch(3) of the C library says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::Path;

use towline_stage1::modules::{Index, Texts};

const DIRECTORY: &str = "/lib/modules/6.1";

/// Panics when one of the properties does not hold. The texts, and what is looked for, are parted by NULs.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut texts = text.splitn(4, '\0').map(str::to_owned);
    let mut next = || texts.next().unwrap_or_default();
    let (wanted, dependencies) = (next(), next());
    let texts = Texts {
        dependencies,
        aliases: next(),
        soft_dependencies: next(),
        ..Texts::default()
    };
    let index = Index::parse(Path::new(DIRECTORY), &texts);
    let needs = needs(&texts.dependencies);
    for module in index.resolve(&wanted) {
        check_order(&index, module, &needs, texts.soft_dependencies.is_empty());
    }
    check_patterns(&index, &wanted, &texts.aliases, &needs);
}

type Needs = BTreeMap<String, Vec<String>>;

fn check_order(index: &Index, module: &str, needs: &Needs, only_hard: bool) {
    let order = index.load_order(module);
    let places: BTreeMap<_, _> = (0..).zip(&order).map(|(at, it)| (it.0, at)).collect();
    assert_eq!(places.len(), order.len(), "a module is loaded twice");
    assert_eq!(places.contains_key(module), needs.contains_key(module));
    for (name, path) in &order {
        let listed = needs.get(*name).expect("it is in modules.dep");
        assert!(path.is_absolute());
        for need in listed.iter().filter(|it| needs.contains_key(*it)) {
            let at = places.get(need.as_str()).expect("what it needs is loaded");
            let before = *at < places[name] || !only_hard || reaches(needs, need, name);
            assert!(before, "{need} is loaded after {name}");
        }
    }
}

/// Whether `from` needs `to`, perhaps by way of others: then they need one another, and no order is right.
fn reaches(needs: &Needs, from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(name) = left.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            left.extend(needs.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

fn needs(text: &str) -> Needs {
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        let stem = file.find(".ko").map_or(file, |at| &file[..at]);
        stem.replace('-', "_")
    };
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let row =
        |(path, rest): (&str, &str)| (name(path), rest.split_whitespace().map(name).collect());
    lines.map(row).collect()
}

/// `-` and `_` are one for kmod and two for the C library, which also knows classes and locales: without those.
fn check_patterns(index: &Index, wanted: &str, aliases: &str, needs: &Needs) {
    let odd = |text: &str| !text.is_ascii() || text.contains(['-', '_', '\\', '\0']);
    let special = ["[:", "[.", "[="].iter().any(|it| aliases.contains(it));
    if odd(wanted) || odd(aliases) || special || needs.contains_key(wanted) {
        return;
    }
    let lines = aliases
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let modules = lines.filter_map(|words| match words[..] {
        ["alias", pattern, module, ..] if fnmatch(pattern, wanted) => Some(module.to_owned()),
        _ => None,
    });
    let modules: BTreeSet<_> = modules.collect();
    let found: BTreeSet<_> = index
        .resolve(wanted)
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(found, modules, "{wanted:?} by {aliases:?}");
}

#[expect(unsafe_code, reason = "the C library's own judgement is the model")]
fn fnmatch(pattern: &str, text: &str) -> bool {
    let (Ok(pattern), Ok(text)) = (CString::new(pattern), CString::new(text)) else {
        return false;
    };
    // SAFETY: both are strings that end with a NUL, and live until the call is over; nothing is kept.
    unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
}
