//! The kernel command line in a plan: the server's key signs it, and that key must not put code into a rescue system.
//!
//! On Linux's command line `rdinit=/bin/sh -- -c …`, `sysctl.kernel.core_pattern=|…` and many more run a program or switch
//! a protection off, so words are allowed by name and everything else is refused.

use super::error::TrustError;
use crate::limits::COMMAND_LINE_BYTES_MAX;

/// Words that choose where messages go, how memory and devices are driven, or how Towline and ReaR behave
/// (Linux Documentation/admin-guide/kernel-parameters.rst; ReaR's user guide).
const ALLOWED: &[&str] = &[
    "acpi",
    "amd_iommu",
    "auto_recover",
    "automatic",
    "biosdevname",
    "clocksource",
    "console",
    "consoleblank",
    "debug",
    "earlycon",
    "earlyprintk",
    "ignore_loglevel",
    "intel_iommu",
    "iommu",
    "irqpoll",
    "libata.force",
    "loglevel",
    "maxcpus",
    "mem",
    "module_blacklist",
    "net.ifnames",
    "noapic",
    "nolapic",
    "nomodeset",
    "nosmp",
    "nr_cpus",
    "nvme_core.default_ps_max_latency_us",
    "panic",
    "pci",
    "pcie_aspm",
    "printk.time",
    "quiet",
    "reboot",
    "rootfstype",
    "rootwait",
    "tsc",
    "unattended",
    "usbcore.autosuspend",
    "vga",
    "video",
];

/// Words for Towline's own programs begin with this; none of them may weaken what is verified.
const OWN_PREFIX: &str = "towline.";

/// Checks a plan's kernel command line: verification does, and who configures a server should.
///
/// # Errors
/// A word that no server may set, or more than fits.
pub fn check(line: &str) -> Result<(), TrustError> {
    let refused = |why: String| TrustError::Malformed {
        what: "the boot plan".into(),
        why,
    };
    if line.len() > COMMAND_LINE_BYTES_MAX {
        return Err(refused(format!(
            "its kernel command line has {} bytes, more than {COMMAND_LINE_BYTES_MAX}",
            line.len()
        )));
    }
    match line
        .split(' ')
        .find(|word| !word.is_empty() && !is_allowed(word))
    {
        None => Ok(()),
        Some(word) => Err(refused(format!(
            "its kernel command line has {:?}, which no server may set",
            word.chars().take(80).collect::<String>()
        ))),
    }
}

fn is_allowed(word: &str) -> bool {
    // No quotes and no backslash: the kernel's own splitting must be the one above.
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.,:/@+=".contains(&b);
    let name = word.split('=').next().unwrap_or(word);
    word.bytes().all(letter) && (ALLOWED.contains(&name) || is_own(name))
}

fn is_own(name: &str) -> bool {
    name.strip_prefix(OWN_PREFIX).is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"-_".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, check};

    #[test]
    fn the_documented_words_are_the_allowed_ones() {
        let page = include_str!("../../../../docs/formats/trust.md");
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&format!("`{}`", ALLOWED.join(" "))));
    }

    #[test]
    fn what_a_rescue_system_needs_is_allowed() {
        for line in [
            "",
            "console=tty0 console=ttyS0,115200n8 rootfstype=ramfs quiet unattended",
            "towline.handover=kexec  loglevel=7 panic=30 video=1024x768@60",
        ] {
            check(line).unwrap();
        }
    }

    #[test]
    fn words_that_run_a_program_or_weaken_the_kernel_are_refused() {
        for word in [
            "init=/bin/sh",
            "rdinit=/bin/sh",
            "--",
            "root=/dev/sda1",
            "systemd.run=/x",
            "sysctl.kernel.core_pattern=|/bin/sh",
            "module.sig_enforce=0",
            "lockdown=none",
            "initrd=/x",
            "firmware_class.path=/x",
            "modprobe.blacklist=x",
            "lsm=",
            "consolex=1",
            "towline.",
            "Towline.x=1",
        ] {
            assert!(
                check(&format!("quiet {word} console=tty0")).is_err(),
                "{word}"
            );
        }
    }

    #[test]
    fn quotes_and_control_characters_are_refused() {
        for line in [
            "quiet=\"a init=/x\"",
            "quiet\tinit=/x",
            "quiet\ninit=/x",
            "quiet\\",
            "console=é",
            "quiet\0",
        ] {
            assert!(check(line).is_err(), "{line:?}");
        }
        assert!(check(&"quiet ".repeat(400)).is_err());
    }
}
