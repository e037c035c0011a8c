//! Which programs ReaR asks for before it does anything: `REQUIRED_PROGS` of its configuration, which it looks for when it starts
//! (`init/default/950_check_missing_programs.sh`).
//!
//! The files are shell, and are not run: words that are no plain names (`"$SCRIPT_FILE"`, `$PYTHON_BIN`) are left out.

use std::collections::BTreeSet;
use std::io;

use crate::libraries::LibraryError;
use crate::tree::{Node, Tree};

/// Where ReaR's configuration may be: the base's own, and the one that a host brings.
const FOLDERS: [&str; 2] = [
    "usr/share/rear/conf",
    "usr/lib/towline/rear/usr/share/rear/conf",
];

/// Files that count for every recovery; those of single architectures and distributions are for making rescue systems.
const FILES: [&str; 2] = ["default.conf", "GNU/Linux.conf"];

/// Largest such file, in bytes. ReaR 2.9's default.conf has 260 KB.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// The programs that the ReaR of `tree` asks for, and the file that says so.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn required_programs(tree: &Tree) -> Result<BTreeSet<(String, String)>, LibraryError> {
    let mut found = BTreeSet::new();
    let paths = FOLDERS
        .iter()
        .flat_map(|dir| FILES.map(|file| format!("{dir}/{file}")));
    for path in paths {
        let Some((_, entry)) = tree.find(path.as_bytes()) else {
            continue;
        };
        let Node::File(content) = &entry.node else {
            continue;
        };
        let failed = |cause| LibraryError::Read {
            path: path.clone(),
            cause,
        };
        if content.len() > FILE_BYTES_MAX {
            let what = format!(
                "{} bytes are too much for ReaR's configuration",
                content.len()
            );
            return Err(failed(io::Error::other(what)));
        }
        let text = content.read().map_err(failed)?;
        let programs = programs(&String::from_utf8_lossy(&text));
        found.extend(programs.into_iter().map(|it| (it, path.clone())));
    }
    Ok(found)
}

/// The words of the arrays `REQUIRED_PROGS=( … )` and `REQUIRED_PROGS+=( … )` that stand at the beginning of a line.
fn programs(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let begin = line.strip_prefix("REQUIRED_PROGS").and_then(|rest| {
            let rest = rest.strip_prefix('+').unwrap_or(rest);
            rest.strip_prefix("=(")
        });
        let rest = match begin {
            Some(rest) => rest,
            None if !inside || line.starts_with('#') => continue,
            None => line,
        };
        let (words, ends) = match rest.split_once(')') {
            Some((words, _)) => (words, true),
            None => (rest, false),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._+-/".contains(c);
        let words = words.split_ascii_whitespace();
        found.extend(
            words
                .filter(|it| it.chars().all(is_name))
                .map(str::to_owned),
        );
        inside = !ends;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_programs_are_read_and_others_are_not() {
        let text = "# REQUIRED_PROGS=( no )\nREQUIRED_PROGS=(\n\"$SCRIPT_FILE\"\nawk # a remark\n# bc\ncat\n)\nPROGS+=( telnet )\n\
                    REQUIRED_PROGS+=( ip less )\nREQUIRED_PROGS+=( \"${REQUIRED_PROGS_X[@]}\" yes\n)\ncp\n";
        let wanted = ["awk", "cat", "ip", "less", "yes"];
        assert_eq!(programs(text), wanted.map(str::to_owned).into());
    }

    proptest::proptest! {
        #[test]
        fn any_text_names_plain_programs_or_none(text in "(?s).{0,300}") {
            for name in programs(&format!("REQUIRED_PROGS=( {text}")) {
                proptest::prop_assert!(!name.is_empty() && !name.contains(['$', '"', '(', ')', ' ']));
            }
        }
    }
}
