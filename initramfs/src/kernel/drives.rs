//! What a stored kernel layer drives: the devices that its modules say they are for, and the firmware that they ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use towline_contract::manifest::Manifest;

use super::{modinfo, module_name};
use crate::content::Content;
use crate::items::files;
use crate::stored::StoredError;

/// Largest file that is read, in bytes: the largest module of Debian 12 has 20 MB.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// Most patterns of devices. Debian 12's kernel has 20,000.
const PATTERNS_MAX: usize = 1_000_000;

/// How many bytes of a pattern name a maker: `pci:v00008086`.
const MAKER_BYTES: usize = 13;

/// What a kernel drives.
#[derive(Clone, Debug, Default)]
pub struct Drives {
    /// Firmware that modules ask for, by the module.
    wants: BTreeMap<String, Vec<String>>,
    /// Firmware that is there, by path below its folder, as it is asked for.
    firmware: BTreeSet<String>,
    /// Patterns of PCI devices by the maker that they name; those for any maker have none.
    patterns: HashMap<String, Vec<String>>,
    /// How many there are.
    known: usize,
}

/// Reads what the kernel layer at `path` drives.
///
/// # Errors
/// It cannot be read, or breaks a rule of its kind.
pub fn drives(path: &Path, manifest: &Manifest) -> Result<Drives, StoredError> {
    let mut drives = Drives::default();
    let wanted = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_list = ["modules.alias", "modules.builtin.modinfo"].contains(&name);
        path.contains("lib/modules/") && (is_list || name.contains(".ko"))
    };
    files(
        path,
        manifest,
        FILE_BYTES_MAX,
        &wanted,
        &mut |path, bytes| {
            drives.file(path, bytes);
        },
    )?;
    Ok(drives)
}

impl Drives {
    /// Takes a file of a kernel layer; without bytes it is one that is only there.
    pub fn file(&mut self, path: &str, bytes: Option<Vec<u8>>) {
        if let Some((_, firmware)) = path.split_once("lib/firmware/") {
            let plain = [".xz", ".zst"]
                .iter()
                .find_map(|end| firmware.strip_suffix(end));
            self.firmware.insert(plain.unwrap_or(firmware).to_owned());
        }
        let Some(bytes) = bytes else { return };
        if path.ends_with("/modules.alias") {
            self.aliases(&String::from_utf8_lossy(&bytes));
        } else if path.ends_with("/modules.builtin.modinfo") {
            self.built_in(&bytes);
        } else if let Some(name) = module_name(path) {
            // One that cannot be read will not load either, which is no matter of firmware.
            let info = modinfo::read(path, &Content::from_bytes(bytes));
            let firmware = info.map(|it| it.firmware).unwrap_or_default();
            if !firmware.is_empty() {
                self.wants.insert(name, firmware);
            }
        }
    }

    /// `alias PATTERN MODULE` lines.
    fn aliases(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() == Some("alias") {
                self.pattern(words.next().unwrap_or_default());
            }
        }
    }

    /// `module.field=value`, ended by NUL each.
    fn built_in(&mut self, bytes: &[u8]) {
        for field in bytes.split(|byte| *byte == 0) {
            let field = String::from_utf8_lossy(field);
            let Some((name, value)) = field.split_once('=') else {
                continue;
            };
            match name.split_once('.') {
                Some((_, "alias")) => self.pattern(value),
                Some((module, "firmware")) => {
                    let wants = self.wants.entry(module.replace('-', "_")).or_default();
                    wants.push(value.to_owned());
                }
                _ => {}
            }
        }
    }

    fn pattern(&mut self, pattern: &str) {
        if pattern.starts_with("pci:") && self.known < PATTERNS_MAX {
            let maker = pattern.get(..MAKER_BYTES).filter(|it| !it.contains('*'));
            let key = maker.unwrap_or_default().to_owned();
            self.patterns
                .entry(key)
                .or_default()
                .push(pattern.to_owned());
            self.known += 1;
        }
    }

    /// Whether a module says that it is for the PCI device of this `modalias`.
    #[must_use]
    pub fn has_driver(&self, modalias: &str) -> bool {
        let maker = modalias.get(..MAKER_BYTES).unwrap_or_default();
        let lists = [maker, ""].map(|key| self.patterns.get(key));
        let mut patterns = lists.into_iter().flatten().flatten();
        patterns.any(|it| matches(it, modalias))
    }

    /// The firmware that a module asks for and that is not there.
    #[must_use]
    pub fn missing_firmware(&self, module: &str) -> Vec<String> {
        let wants = self.wants.get(module).into_iter().flatten();
        let missing = wants.filter(|it| !self.firmware.contains(*it));
        missing.cloned().collect()
    }
}

/// Whether a pattern is for this device; in patterns of PCI devices (scripts/mod/file2alias.c) `*` is the only sign.
fn matches(pattern: &str, device: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == device;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let within = device
        .strip_prefix(first)
        .and_then(|it| it.strip_suffix(last));
    let Some(mut within) = within else {
        return false;
    };
    for part in middle.split('*') {
        match within.find(part) {
            Some(at) => within = &within[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drives() -> Drives {
        let mut drives = Drives::default();
        let aliases = "# remark\nalias pci:v00008086d00001533sv*sd*bc*sc*i* igb\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias usb:v1 x\nalias pci:v00001000d*bc01 y\n";
        drives.file("usr/lib/modules/6.1/modules.alias", Some(aliases.into()));
        let built_in =
            b"virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\0tg-3.firmware=tigon/tg3.bin\0odd\0"
                .to_vec();
        drives.file(
            "usr/lib/modules/6.1/modules.builtin.modinfo",
            Some(built_in),
        );
        drives.file("usr/lib/firmware/bnx2/a.fw.xz", None);
        drives
            .wants
            .insert("bnx2".into(), vec!["bnx2/a.fw".into(), "bnx2/b.fw".into()]);
        drives
    }

    #[test]
    fn devices_are_known_by_their_maker_or_by_their_class() {
        let drives = drives();
        for (modalias, known) in [
            (
                "pci:v00008086d00001533sv00001028sd00000000bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d00009999sv00001028sd00000000bc02sc00i00",
                false,
            ),
            (
                "pci:v00001234d00000001sv00000000sd00000000bc01sc06i01",
                true,
            ),
            (
                "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
                true,
            ),
            ("pci:", false),
            ("pci:v00008086d00001533", false),
            ("pci:v00001000d00000002sv1bc01", true),
            ("pci:v00001000d00000002sv1bc01bc02", false),
        ] {
            assert_eq!(drives.has_driver(modalias), known, "{modalias}");
        }
    }

    #[test]
    fn firmware_that_is_there_in_whatever_form_is_not_missing() {
        let drives = drives();
        assert_eq!(drives.missing_firmware("bnx2"), ["bnx2/b.fw"]);
        assert_eq!(drives.missing_firmware("tg_3"), ["tigon/tg3.bin"]);
        assert_eq!(drives.missing_firmware("ext4"), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn any_lists_are_read_without_panic(text in "(?s).{0,200}", alias in "\\PC{0,60}") {
            let mut drives = Drives::default();
            drives.file("usr/lib/modules/x/modules.alias", Some(format!("alias pci:{alias} x\n{text}").into_bytes()));
            drives.file("usr/lib/modules/x/modules.builtin.modinfo", Some(text.clone().into_bytes()));
            let _ = (drives.has_driver(&alias), drives.missing_firmware(&text));
        }
    }
}
