//! Which programs a script's first line starts.

use super::LibraryError;
use crate::content::Content;

/// Longest first line of a script that the kernel reads, in bytes (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const SCRIPT_LINE_BYTES_MAX: u64 = 256;

/// The interpreter in a script's first line, by its absolute path; and after `env`, the program that this starts, by its name.
///
/// # Errors
/// The file cannot be read.
pub(super) fn interpreters(path: &str, content: &Content) -> Result<Vec<String>, LibraryError> {
    let bytes = usize::try_from(content.len().min(SCRIPT_LINE_BYTES_MAX)).unwrap_or(0);
    let mut start = vec![0; bytes];
    let read = content
        .open()
        .and_then(|open| open.read_exact_at(&mut start, 0));
    read.map_err(|cause| LibraryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    Ok(of_line(&start))
}

/// The interpreter that a script's first line names; after `env`, none but `env`.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn interpreter(path: &str, content: &Content) -> Result<Option<String>, LibraryError> {
    Ok(interpreters(path, content)?.into_iter().next())
}

fn of_line(start: &[u8]) -> Vec<String> {
    let line = start
        .strip_prefix(b"#!")
        .and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut words = line.split_whitespace();
    let Some(interpreter) = words.next().filter(|it| it.starts_with('/')) else {
        return Vec::new();
    };
    let mut found = vec![interpreter.to_owned()];
    if interpreter.ends_with("/env") {
        found.extend(of_env(words));
    }
    found
}

/// The program that `env` starts (env(1)). `-S` splits what follows, which is split here already.
fn of_env<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<String> {
    while let Some(word) = words.next() {
        match word {
            "-u" | "--unset" | "-C" | "--chdir" => drop(words.next()),
            _ if word.contains('=') => {}
            _ => match word.strip_prefix("-S") {
                Some("") => {}
                Some(program) => return Some(program.to_owned()),
                None if word.starts_with('-') => {}
                None => return Some(word.to_owned()),
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_and_what_env_starts_are_found() {
        for (line, wanted) in [
            ("#!/bin/sh\nexit", &["/bin/sh"][..]),
            ("#! /usr/bin/perl -w\n", &["/usr/bin/perl"]),
            ("#!/usr/bin/env python3", &["/usr/bin/env", "python3"]),
            (
                "#!/usr/bin/env -S A=b -u HOME bash -e\n",
                &["/usr/bin/env", "bash"],
            ),
            ("#!/usr/bin/env -Sruby x\n", &["/usr/bin/env", "ruby"]),
            ("#!/usr/bin/env\n", &["/usr/bin/env"]),
            ("#!relative\n", &[]),
            ("# no script", &[]),
            ("", &[]),
        ] {
            assert_eq!(of_line(line.as_bytes()), wanted, "{line:?}");
        }
    }
}
