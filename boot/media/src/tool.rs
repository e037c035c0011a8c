//! Running the few programs of the distribution that a build needs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::build::BuildError;

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const XORRISO: Tool = Tool {
    program: "xorriso",
    package: "xorriso",
};
pub(crate) const MKFS_VFAT: Tool = Tool {
    program: "mkfs.vfat",
    package: "dosfstools",
};
pub(crate) const MCOPY: Tool = Tool {
    program: "mcopy",
    package: "mtools",
};
pub(crate) const GRUB_MKIMAGE: Tool = Tool {
    program: "grub-mkimage",
    package: "grub-common",
};

impl Tool {
    /// Runs the program with times, time zone and language fixed: `time` (seconds since 1970) is what it takes for now.
    pub(crate) fn run<A: AsRef<OsStr>>(self, time: u32, arguments: &[A]) -> Result<(), BuildError> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let output = Command::new(self.program)
            .args(arguments)
            .env("PATH", path)
            .env("SOURCE_DATE_EPOCH", time.to_string())
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .env("MTOOLSRC", "/dev/null")
            .env("MTOOLS_SKIP_CHECK", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| BuildError::NoTool {
                program: self.program,
                package: self.package,
                cause,
            })?;
        if output.status.success() {
            return Ok(());
        }
        let talk = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = talk
            .lines()
            .filter(|line| !line.trim().is_empty() && !is_note(line))
            .collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("; ");
        Err(BuildError::Tool {
            program: self.program,
            status: output.status,
            talk: tail,
        })
    }
}

/// Whether xorriso only tells what it does.
fn is_note(line: &str) -> bool {
    ["NOTE", "UPDATE"]
        .iter()
        .any(|severity| line.contains(&format!(": {severity} :")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_program_that_failed_its_errors_are_shown_and_not_its_notes() {
        let tool = Tool {
            program: "sh",
            package: "dash",
        };
        let script = "echo 'xorriso : UPDATE : 5 files added' >&2; echo 'libisofs: FAILURE : No space' >&2; \
                      echo 'xorriso : NOTE : Tolerated' >&2; exit 5";
        let text = tool.run(0, &["-c", script]).unwrap_err().to_string();
        assert!(text.ends_with("libisofs: FAILURE : No space"), "{text}");
    }
}
