//! Versions of installed packages, by the distribution's own database.

use std::io;
use std::process::{Command, Stdio};

use towline_contract::manifest::Package;

use super::error::CaptureError;

/// Names of packages with boot loaders, as patterns, for dpkg and rpm alike.
const BOOT_LOADERS: [&str; 8] = [
    "grub*",
    "shim*",
    "systemd-boot*",
    "efibootmgr",
    "syslinux*",
    "extlinux",
    "elilo",
    "lilo",
];

/// Packages whose names are not the agent's.
const AGENT_PACKAGES: [(&str, &str, &str); 1] = [("borg", "borgbackup", "borg")];

/// The installed boot loaders.
pub(super) fn boot_loaders() -> Vec<Package> {
    installed(&BOOT_LOADERS)
}

/// The version of an agent: of its package, or as it says itself.
///
/// # Errors
/// Neither is known.
pub(super) fn agent_version(agent: &str) -> Result<String, CaptureError> {
    let known = AGENT_PACKAGES.iter().find(|it| it.0 == agent);
    let (package, program) = known.map_or((agent, agent), |it| (it.1, it.2));
    if let Some(found) = installed(&[package]).into_iter().next() {
        return Ok(found.version);
    }
    let mut cause = None;
    for argument in ["version", "--version"] {
        match output(program, &[argument]) {
            Ok(text) => match text.split_ascii_whitespace().find(|it| is_version(it)) {
                Some(word) => return Ok(word.trim_start_matches('v').to_owned()),
                None => continue,
            },
            Err(error) => cause = Some(error),
        }
    }
    Err(CaptureError::Agent {
        agent: agent.to_owned(),
        what: "its version".into(),
        cause,
    })
}

fn is_version(word: &str) -> bool {
    let word = word.trim_start_matches('v');
    word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
}

/// Installed packages by patterns; none on a system that has neither dpkg nor rpm.
fn installed(patterns: &[&str]) -> Vec<Package> {
    let dpkg = [
        "-W",
        "-f",
        "${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\n",
    ];
    // dpkg-query fails when one of the patterns matches nothing.
    let mut packages = dpkg_rows(&said("dpkg-query", &[&dpkg, patterns].concat()));
    if packages.is_empty() {
        let rpm = [
            "-qa",
            "--qf",
            "ii \\t%{NAME}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\n",
        ];
        packages = dpkg_rows(&said("rpm", &[&rpm, patterns].concat()));
    }
    packages.sort();
    packages.dedup();
    packages
}

fn dpkg_rows(text: &str) -> Vec<Package> {
    let row = |line: &str| {
        let mut words = line.split('\t').map(str::to_owned);
        let status = words.next()?;
        let package = Package {
            name: words.next()?,
            version: words.next()?,
            architecture: words.next()?,
        };
        (status.starts_with("ii") && !package.version.is_empty()).then_some(package)
    };
    text.lines().filter_map(row).collect()
}

/// What a program says, whatever its exit status.
fn said(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    ran.map_or_else(
        |_| String::new(),
        |it| String::from_utf8_lossy(&it.stdout).into_owned(),
    )
}

/// What a program says when it succeeds.
///
/// # Errors
/// It cannot be run or fails; then what it said is the cause.
pub(super) fn output(program: &str, arguments: &[&str]) -> io::Result<String> {
    let ran = Command::new(program)
        .args(arguments)
        // borg tells times of this time zone and does not say so.
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()?;
    match ran.status.success() {
        true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let said = said.trim();
            Err(io::Error::other(format!(
                "{program} failed ({}): {said}",
                ran.status
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_were_removed_do_not_count() {
        let text = "ii \tgrub-pc\t2.06-13+deb12u1\tamd64\nrc \tgrub-efi-amd64\t2.06\tamd64\nun \tlilo\t\t\n";
        let rows = dpkg_rows(text);
        let names: Vec<_> = rows.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["grub-pc"]);
    }

    #[test]
    fn an_agent_that_is_not_there_has_no_version() {
        let found = agent_version("no-such-agent");
        assert!(matches!(
            found,
            Err(CaptureError::Agent { cause: Some(_), .. })
        ));
    }
}
