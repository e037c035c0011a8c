//! Names of users, hosts and services: glibc loads a module for each service that `etc/nsswitch.conf` names (nss(5)).
//!
//! A service without its module is passed over, so that only `files` and `dns` are errors when nothing has them: from glibc 2.34
//! on the C library itself does.

use std::collections::BTreeSet;

use super::{Wanted, library, text};
use crate::elf::Symbols;
use crate::libraries::LibraryError;
use crate::libraries::closure::Use;
use crate::libraries::loader::Loader;
use crate::libraries::walk::Walk;

/// Functions by how they begin, and the databases that they ask.
const FUNCTIONS: &[(&str, &str)] = &[
    ("getpw", "passwd"),
    ("getgr", "group"),
    ("initgroups", "group"),
    ("getsp", "shadow"),
    ("getaddrinfo", "hosts"),
    ("getnameinfo", "hosts"),
    ("gethostby", "hosts"),
    ("getserv", "services"),
    ("getproto", "protocols"),
    ("getnetby", "networks"),
    ("getrpc", "rpc"),
    ("innetgr", "netgroup"),
];

/// Services that are asked when nothing is configured, and that must be there.
const ALWAYS: [&str; 2] = ["files", "dns"];

/// How functions of modules begin that the C library has itself.
const BUILT_IN: &str = "_nss_";

pub(super) fn is_interesting(name: &str) -> bool {
    name.starts_with(BUILT_IN) || FUNCTIONS.iter().any(|(begin, _)| name.starts_with(begin))
}

/// Modules for what the program asks.
pub(super) fn wanted(
    loader: &mut Loader<'_>,
    path: &str,
    walk: &Walk,
    calls: &Symbols,
) -> Result<Vec<Wanted>, LibraryError> {
    let asks = |begin: &str| calls.imports.iter().any(|it| it.starts_with(begin));
    let databases = FUNCTIONS.iter().filter(|(begin, _)| asks(begin));
    let databases: BTreeSet<_> = databases.map(|(_, database)| *database).collect();
    let has_libc = walk
        .elves
        .iter()
        .any(|it| it.soname.as_deref() == Some("libc.so.6"));
    if databases.is_empty() || !has_libc {
        return Ok(Vec::new());
    }
    let configured = text(loader.root, "etc/nsswitch.conf")?;
    let services = match &configured {
        Some(text) => services(text, &databases),
        None => ALWAYS.map(str::to_owned).into(),
    };
    let mut wanted = Vec::new();
    for service in services {
        let begin = format!("{BUILT_IN}{service}_");
        if calls.exports.iter().any(|it| it.starts_with(&begin)) {
            continue;
        }
        let name = format!("libnss_{service}.so.2");
        match library(loader, &name, walk)? {
            Some(path) => wanted.push(Wanted::File {
                path,
                what: Use::Library,
            }),
            None if ALWAYS.contains(&service.as_str()) => wanted.push(Wanted::Missing {
                what: name,
                needed_by: path.to_owned(),
            }),
            None => {}
        }
    }
    Ok(wanted)
}

/// The services of these databases: `hosts: files [NOTFOUND=return] dns # remark`.
fn services(text: &str, databases: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((database, services)) = line.split_once(':') else {
            continue;
        };
        if !databases.contains(database.trim()) {
            continue;
        }
        let mut in_action = false;
        for word in services.split_ascii_whitespace() {
            in_action |= word.starts_with('[');
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !in_action && word.chars().all(is_name) {
                found.insert(word.to_owned());
            }
            in_action &= !word.ends_with(']');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_the_databases_that_are_asked_are_found_and_actions_passed_over() {
        let text = "# hosts: nothing\npasswd: files systemd\n hosts : files [!UNAVAIL = return] mdns4 [NOTFOUND=return] dns # x\nrpc: db\n";
        let found = |databases: &[&str]| services(text, &databases.iter().copied().collect());
        let wanted = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(found(&["hosts"]), wanted(&["files", "mdns4", "dns"]));
        assert_eq!(found(&["passwd", "group"]), wanted(&["files", "systemd"]));
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_names_modules_by_plain_words(text in "(?s).{0,200}") {
            for name in services(&format!("hosts: {text}"), &["hosts"].into()) {
                proptest::prop_assert!(!name.contains(['/', '.', ' ']));
            }
        }
    }
}
