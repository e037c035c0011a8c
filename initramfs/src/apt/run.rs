//! Running apt's programs with our settings, whatever this machine's own say.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::NamedTempFile;

use super::lists::has_lists;
use super::{Apt, AptError, NOTHING};

/// What apt reads after the machine's own configuration, and before the command line. What nobody has signed is not taken
/// because this machine says so, nor lists whose time is over; an archive that is `[trusted=yes]` or `[check-valid-until=no]` in
/// its sources alone is. Programs that the machine has
/// run after or before an update or installation of its own have no business with ours.
const SETTINGS: &str = "\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear AptCli::Hooks;
Acquire::Check-Valid-Until \"true\";
Acquire::Check-Date \"true\";
Acquire::AllowInsecureRepositories \"false\";
Acquire::AllowWeakRepositories \"false\";
Acquire::AllowDowngradeToInsecureRepositories \"false\";
Acquire::ForceHash \"SHA256\";
APT::Get::AllowUnauthenticated \"false\";
APT::Get::Download-Only \"true\";
APT::Install-Recommends \"false\";
APT::Install-Suggests \"false\";
APT::Sandbox::User \"\";
Debug::NoLocking \"true\";
";

/// How apt before 2.1.16, which does not know `APT::Update::Error-Mode`, and ends well, says that lists are not new.
const NOT_NEW: &str = "Some index files failed to download";

impl Apt {
    /// Runs one of apt's programs; gives what it printed, or its errors.
    pub(super) fn run(
        &self,
        program: &'static str,
        status: &NamedTempFile,
        arguments: &[&str],
        packages: &[String],
    ) -> Result<Result<String, String>, AptError> {
        let lists = self.own_lists();
        self.run_by(lists.as_deref(), program, status, arguments, packages)
    }

    /// The same by these lists; by the machine's own if there are none.
    pub(super) fn run_by(
        &self,
        lists: Option<&Path>,
        program: &'static str,
        status: &NamedTempFile,
        arguments: &[&str],
        packages: &[String],
    ) -> Result<Result<String, String>, AptError> {
        let settings = self.settings()?;
        let listing = arguments.contains(&"--print-uris");
        let archives = if listing {
            self.cache.join(NOTHING)
        } else {
            self.cache.clone()
        };
        let mut command = Command::new(program);
        command.arg("-c").arg(settings.path());
        if let Some(lists) = lists {
            // apt's index of the machine's lists, which root may write, is not for these.
            let index = self.cache.join("index");
            command
                .arg("-o")
                .arg(option("Dir::State::lists=", lists))
                .arg("-o")
                .arg(option("Dir::Cache::pkgcache=", &index))
                .args(["-o", "Dir::Cache::srcpkgcache="]);
        }
        let output = command
            .arg("-o")
            .arg(option("Dir::State::status=", status.path()))
            .arg("-o")
            .arg(option("Dir::Cache::archives=", &archives))
            .args(arguments)
            .args(packages)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| AptError::NoApt { program, cause })?;
        let result = result(&output);
        if result.is_err() && lists.is_none() && !has_lists() {
            return Err(AptError::NoLists);
        }
        Ok(result)
    }

    /// Our settings in a file: on the command line lists cannot be cleared.
    fn settings(&self) -> Result<NamedTempFile, AptError> {
        let written = || {
            let mut file = NamedTempFile::new_in(&self.cache)?;
            file.write_all(SETTINGS.as_bytes())?;
            Ok(file)
        };
        written().map_err(|cause: io::Error| AptError::File {
            path: self.cache.clone(),
            cause,
        })
    }
}

/// What the program printed, or its errors in one line.
fn result(output: &Output) -> Result<String, String> {
    let talk = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !talk.contains(NOT_NEW) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let of_level = |level| {
        let lines = talk.lines().filter_map(move |it| it.strip_prefix(level));
        lines.collect::<Vec<_>>().join("; ")
    };
    let mut found = ["E: ", "W: "].map(of_level).into_iter();
    let found = found.find(|it| !it.is_empty());
    Err(found.unwrap_or_else(|| talk.trim().to_owned()))
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    fn ended(code: i32, talk: &str) -> Result<String, String> {
        result(&Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: b"said".into(),
            stderr: talk.into(),
        })
    }

    #[test]
    fn lists_that_an_older_apt_could_not_get_are_not_new() {
        let talk = "W: Failed to fetch http://a/InRelease  Could not connect\n\
                    W: Some index files failed to download. They have been ignored, or old ones used instead.\n";
        let why = ended(0, talk).unwrap_err();
        assert!(
            why.starts_with("Failed to fetch http://a/InRelease"),
            "{why}"
        );
        assert_eq!(ended(0, "W: something else\n"), Ok("said".into()));
    }

    #[test]
    fn errors_are_told_before_warnings() {
        assert_eq!(ended(100, "W: a\nE: b\nE: c\n"), Err("b; c".into()));
        assert_eq!(ended(100, "killed\n"), Err("killed".into()));
    }
}
