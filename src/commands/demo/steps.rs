//! The steps of the demonstration: `towline` commands run as processes, and what each took.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::exit::{Exit, Failure};

/// Prints steps as they happen and remembers their times.
pub(super) struct Steps {
    started: Instant,
    done: Vec<(String, Duration)>,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Does `work` as one step called `what`.
    pub(super) fn step<T>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        eprintln!("==> {what}");
        let start = Instant::now();
        let result = work()?;
        let took = start.elapsed();
        eprintln!("    done in {:.1} s", took.as_secs_f32());
        self.done.push((what.to_owned(), took));
        Ok(result)
    }

    /// Remembers a step that needed no work.
    pub(super) fn reused(&mut self, what: &str) {
        eprintln!("==> {what}: unchanged, used again");
        self.done
            .push((format!("{what} (used again)"), Duration::ZERO));
    }

    /// Prints the table of steps and the whole time.
    pub(super) fn summary(&self) {
        println!("\n{:>9}  step", "seconds");
        for (what, took) in &self.done {
            println!("{:>9.1}  {what}", took.as_secs_f32());
        }
        println!(
            "{:>9.1}  all together",
            self.started.elapsed().as_secs_f32()
        );
    }
}

/// Arguments from anything like a path or string.
pub(super) fn arguments<const N: usize>(list: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
    list.iter()
        .map(|argument| std::ffi::OsStr::to_owned((*argument).as_ref()))
        .collect()
}

/// This program, as a command with `arguments`, shown to the reader.
pub(super) fn towline(dir: &Path, arguments: &[OsString]) -> Result<Command, Failure> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let shown: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    eprintln!("    $ towline {}", shown.join(" "));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs `towline arguments` to its end in `dir`; its talk goes on to the reader, its result is returned.
pub(super) fn run(dir: &Path, arguments: &[OsString]) -> Result<String, Failure> {
    let output = towline(dir, arguments)?
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run this program again")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let name: Vec<_> = arguments
        .iter()
        .take(2)
        .map(|a| a.to_string_lossy())
        .collect();
    let exit = match output.status.code() {
        Some(1) => Exit::No,
        Some(2) => Exit::Usage,
        Some(3) => Exit::NotTrusted,
        Some(4) => Exit::NotReachable,
        Some(5) => Exit::Refused,
        _ => Exit::Internal,
    };
    Err(Failure::new(
        exit,
        anyhow!("`towline {}` ended with {}", name.join(" "), output.status),
    ))
}
