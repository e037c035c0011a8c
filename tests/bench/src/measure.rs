//! Measuring commands with GNU time, and saying medians.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What one run of a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// User and system time of the command and all it waited for, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Elapsed time, in seconds.
    pub(crate) wall_seconds: f64,
    /// Largest resident set of any one process, in MiB.
    pub(crate) peak_mib: f64,
}

/// Runs `program` once under GNU time, when the disk has what was written before: who syncs a file would wait for that too.
pub(crate) fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S], dir: &Path) -> Result<Cost> {
    let report = dir.join("time.txt");
    let synced = Command::new("sync").status().context("cannot run sync")?;
    if !synced.success() {
        bail!("sync ended with {synced}");
    }
    let status = Command::new("/usr/bin/time")
        .args(["--format=%U %S %e %M", "--output"])
        .arg(&report)
        .arg(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run /usr/bin/time (Debian package time)")?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    let text = std::fs::read_to_string(&report)?;
    let fields: Vec<f64> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("GNU time's report")?;
    let [user, system, wall, peak_kib] = fields[..] else {
        bail!("GNU time's report: {text}")
    };
    Ok(Cost {
        cpu_seconds: user + system,
        wall_seconds: wall,
        peak_mib: peak_kib / 1024.0,
    })
}

/// Medians of each figure over several runs.
pub(crate) fn median(costs: &[Cost]) -> Cost {
    let middle = |figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Cost {
        cpu_seconds: middle(|c| c.cpu_seconds),
        wall_seconds: middle(|c| c.wall_seconds),
        peak_mib: middle(|c| c.peak_mib),
    }
}
