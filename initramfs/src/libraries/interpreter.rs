//! What a script's first line starts, and with which arguments.

use super::LibraryError;
use crate::content::Content;

/// Longest first line of a script that the kernel reads, in bytes (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const SCRIPT_LINE_BYTES_MAX: u64 = 256;

/// What a script's first line starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstLine {
    /// The interpreter, by its absolute path.
    pub(crate) interpreter: String,
    /// What it is given before the script: for Linux all that follows is one argument; `env` gets words.
    pub(crate) arguments: Vec<String>,
    /// Which of these is the program that `env` starts, by its name.
    pub(crate) started: Option<usize>,
}

impl FirstLine {
    /// The interpreter, and what `env` starts.
    fn programs(&self) -> impl Iterator<Item = &String> {
        let started = self.started.and_then(|at| self.arguments.get(at));
        std::iter::once(&self.interpreter).chain(started)
    }
}

/// The interpreter in a script's first line, by its absolute path; and after `env`, the program that this starts, by its name.
///
/// # Errors
/// The file cannot be read.
pub(super) fn interpreters(path: &str, content: &Content) -> Result<Vec<String>, LibraryError> {
    let line = first_line(path, content)?;
    Ok(line.iter().flat_map(FirstLine::programs).cloned().collect())
}

/// The first line of a script; none of another file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn first_line(path: &str, content: &Content) -> Result<Option<FirstLine>, LibraryError> {
    let bytes = usize::try_from(content.len().min(SCRIPT_LINE_BYTES_MAX)).unwrap_or(0);
    let mut start = vec![0; bytes];
    let read = content
        .open()
        .and_then(|open| open.read_exact_at(&mut start, 0));
    read.map_err(|cause| LibraryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    Ok(parsed(&start))
}

fn parsed(start: &[u8]) -> Option<FirstLine> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    let (interpreter, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if !interpreter.starts_with('/') {
        return None;
    }
    let (arguments, started) = match interpreter.ends_with("/env") {
        true => of_env(rest.split_whitespace()),
        false => {
            let rest = rest.trim();
            let one = (!rest.is_empty()).then(|| rest.to_owned());
            (one.into_iter().collect(), None)
        }
    };
    Some(FirstLine {
        interpreter: interpreter.to_owned(),
        arguments,
        started,
    })
}

/// What `env` is given, and which of it is the program that it starts (env(1)). `-S` splits what follows, which is split here
/// already.
fn of_env<'a>(words: impl Iterator<Item = &'a str>) -> (Vec<String>, Option<usize>) {
    let mut arguments = Vec::new();
    let mut started = None;
    let mut is_value = false;
    for word in words {
        let word = match started {
            None => word.strip_prefix("-S").unwrap_or(word),
            Some(_) => word,
        };
        if word.is_empty() {
            continue;
        }
        let is_program = !is_value && !word.starts_with('-') && !word.contains('=');
        if started.is_none() && is_program {
            started = Some(arguments.len());
        }
        is_value = ["-u", "--unset", "-C", "--chdir"].contains(&word);
        arguments.push(word.to_owned());
    }
    (arguments, started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_and_what_env_starts_are_found() {
        for (line, wanted, arguments) in [
            ("#!/bin/sh\nexit", &["/bin/sh"][..], &[][..]),
            (
                "#! /usr/bin/perl -w  -T \n",
                &["/usr/bin/perl"],
                &["-w  -T"],
            ),
            (
                "#!/usr/bin/env python3",
                &["/usr/bin/env", "python3"],
                &["python3"],
            ),
            (
                "#!/usr/bin/env -S A=b -u HOME bash -e -Sx\n",
                &["/usr/bin/env", "bash"],
                &["A=b", "-u", "HOME", "bash", "-e", "-Sx"],
            ),
            (
                "#!/usr/bin/env -Sruby x\n",
                &["/usr/bin/env", "ruby"],
                &["ruby", "x"],
            ),
            ("#!/usr/bin/env\n", &["/usr/bin/env"], &[]),
            ("#!relative\n", &[], &[]),
            ("# no script", &[], &[]),
            ("", &[], &[]),
        ] {
            let found = parsed(line.as_bytes()).unwrap_or_default();
            let programs = found.programs().filter(|it| !it.is_empty());
            assert_eq!(programs.collect::<Vec<_>>(), wanted, "{line:?}");
            assert_eq!(found.arguments, arguments, "{line:?}");
        }
    }
}
