//! PAM: a program that asks it loads the modules that the file of its service names (pam.d(5)). The service is named as the
//! program is, or `other`.

use std::collections::BTreeSet;

use super::{Wanted, text};
use crate::libraries::LibraryError;
use crate::libraries::closure::Use;
use crate::libraries::root::Root;
use crate::libraries::walk::Walk;

/// Folders of modules.
const FOLDERS: &[&str] = &[
    "lib/x86_64-linux-gnu/security",
    "usr/lib/x86_64-linux-gnu/security",
    "lib/aarch64-linux-gnu/security",
    "usr/lib/aarch64-linux-gnu/security",
    "lib64/security",
    "usr/lib64/security",
    "lib/security",
    "usr/lib/security",
];

/// Most files that one service includes. Debian's have five.
const FILES_MAX: usize = 64;

/// A line of a service's file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// A module, and whether PAM is silent when it is not there.
    Module(String, bool),
    Include(String),
}

/// The files and modules of the program's service.
pub(super) fn wanted(
    root: &dyn Root,
    program: &str,
    walk: &Walk,
) -> Result<Vec<Wanted>, LibraryError> {
    let asks = walk
        .elves
        .iter()
        .any(|it| it.soname.as_deref() == Some("libpam.so.0"));
    let service = program.rsplit('/').next().unwrap_or(program);
    let file = |name: &str| format!("etc/pam.d/{name}");
    let first = [service, "other"].map(file);
    let first = first.into_iter().find(|it| root.find(it).is_some());
    let Some(first) = first.filter(|_| asks) else {
        return Ok(Vec::new());
    };
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    let mut todo = vec![first];
    while let Some(path) = todo.pop() {
        if !seen.insert(path.clone()) || seen.len() > FILES_MAX {
            continue;
        }
        // Debian's `common-auth` is written when packages are installed: the base has it.
        let Some(text) = text(root, &path)? else {
            continue;
        };
        wanted.push(fixed(path.clone()));
        for line in lines(&text) {
            match line {
                Line::Include(name) if name.starts_with('/') => {
                    todo.push(name.trim_start_matches('/').to_owned());
                }
                Line::Include(name) => todo.push(file(&name)),
                Line::Module(name, silent) => match module(root, &name) {
                    Some(found) => wanted.push(fixed(found)),
                    None if silent => {}
                    None => wanted.push(missing(name, &path)),
                },
            }
        }
    }
    Ok(wanted)
}

fn fixed(path: String) -> Wanted {
    Wanted::File {
        path,
        what: Use::Fixed,
    }
}

fn missing(what: String, user: &str) -> Wanted {
    Wanted::Missing {
        what,
        needed_by: user.to_owned(),
    }
}

fn module(root: &dyn Root, name: &str) -> Option<String> {
    let paths = match name.strip_prefix('/') {
        Some(absolute) => vec![absolute.to_owned()],
        None => FOLDERS.iter().map(|it| format!("{it}/{name}")).collect(),
    };
    paths.into_iter().find(|it| root.find(it).is_some())
}

/// `[-]type control module arguments`, and both forms of includes. A control in brackets may have blanks.
fn lines(text: &str) -> Vec<Line> {
    let text = text.replace("\\\n", " ");
    let line = |line: &str| {
        let line = line.split('#').next()?.trim();
        let (kind, rest) = line.split_once(char::is_whitespace)?;
        let rest = rest.trim_start();
        let word = |text: &str| text.split_ascii_whitespace().next().map(str::to_owned);
        if kind == "@include" {
            return word(rest).map(Line::Include);
        }
        let (control, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => rest.split_once(char::is_whitespace)?,
        };
        match control {
            "include" | "substack" => word(rest).map(Line::Include),
            _ => word(rest).map(|name| Line::Module(name, kind.starts_with('-'))),
        }
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_includes_of_a_service_are_found() {
        let text = "#%PAM-1.0\nauth [success=1 default=ignore] pam_unix.so nullok\n-session optional pam_systemd.so\n\
                    @include common-account\nauth\tsubstack\tsystem-auth\nsession \\\n required /opt/pam_x.so # y\nauth\n";
        let module = |name: &str, silent| Line::Module(name.into(), silent);
        let include = |name: &str| Line::Include(name.into());
        let wanted = [
            module("pam_unix.so", false),
            module("pam_systemd.so", true),
            include("common-account"),
            include("system-auth"),
            module("/opt/pam_x.so", false),
        ];
        assert_eq!(lines(text), wanted);
    }

    proptest::proptest! {
        #[test]
        fn any_text_names_modules_without_blanks(text in "(?s).{0,200}") {
            for line in lines(&text) {
                let (Line::Module(name, _) | Line::Include(name)) = line;
                proptest::prop_assert!(!name.is_empty() && !name.contains([' ', '\n', '#']));
            }
        }
    }
}
