//! What this machine is, for the plan request and for people.

use std::fs;
use std::path::Path;

use towline_contract::api::Machine;

/// This machine, from `sysfs` and `procfs`. What cannot be read is left out.
#[must_use]
pub fn identity() -> Machine {
    let dmi = |name: &str| text(&format!("/sys/class/dmi/id/{name}"));
    let model = [dmi("sys_vendor"), dmi("product_name")];
    let model: Vec<_> = model.into_iter().flatten().collect();
    Machine {
        macs: macs(),
        uuid: dmi("product_uuid"),
        serial: dmi("product_serial"),
        model: (!model.is_empty()).then(|| model.join(" ")),
        memory_kib: memory_kib("MemTotal").unwrap_or(0),
        uefi: Path::new("/sys/firmware/efi").is_dir(),
    }
    .bounded()
}

/// Debian's name of this program's architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// A line of `/proc/meminfo` (`MemTotal`, `MemAvailable`), in KiB.
#[must_use]
pub fn memory_kib(line: &str) -> Option<u64> {
    memory_line(&fs::read_to_string("/proc/meminfo").ok()?, line)
}

fn memory_line(meminfo: &str, wanted: &str) -> Option<u64> {
    let lines = meminfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.into_iter().find(|(name, _)| *name == wanted)?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn macs() -> Vec<String> {
    let interfaces = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let physical = interfaces.filter(|entry| entry.path().join("device").exists());
    let mut macs: Vec<_> = physical
        .filter_map(|entry| text(&entry.path().join("address").to_string_lossy()))
        .collect();
    macs.sort();
    macs
}

/// The first line of a small file, if there is any text in it.
fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    // As long as SMBIOS strings are in practice; firmware that lies must not fill the request.
    (!line.is_empty()).then(|| line.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    use super::memory_line;

    #[test]
    fn memory_is_read_by_the_whole_name_of_its_line() {
        let meminfo = "MemTotal:        1012345 kB\nMemFree: 1 kB\nMemAvailable:     777 kB\n";
        assert_eq!(memory_line(meminfo, "MemTotal"), Some(1_012_345));
        assert_eq!(memory_line(meminfo, "MemAvailable"), Some(777));
        assert_eq!(memory_line(meminfo, "Mem"), None);
    }
}
