//! What every file of the protected host is, before its loss and after its recovery: as `inventory.sh` wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Firmware;

/// What a recovery changes on a host that starts by BIOS: GRUB has to know where its files lie on the new disk. For UEFI the
/// boot loader is files like any others.
const MAY_DIFFER_WITH_BIOS: &str = "./boot/grub/";

/// What a recovery changes, and why that is right.
const MAY_DIFFER: &[(&str, &str)] = &[
    (
        "./var/lib/towline-first-boot",
        "reports the first start, then removes itself",
    ),
    (
        "./etc/systemd/system/towline-first-boot.service",
        "its unit",
    ),
    (
        "./etc/systemd/system/multi-user.target.wants/towline-first-boot.service",
        "its unit's link",
    ),
    (
        "./etc/lvm/",
        "LVM's own archive of the volumes' description",
    ),
    ("./var/lib/rear", "ReaR's own state"),
    ("./etc/fstab.rearbak", "ReaR's copy of what it adapts"),
    ("./root/", "ReaR's log of the recovery"),
    ("./run", "a file system in memory"),
];

/// What a recovery writes again with the same content.
const TIME_MAY_DIFFER: &[&str] = &["./etc/fstab"];

/// Every path with all that is known of it, one fact a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory(BTreeMap<Vec<u8>, BTreeSet<String>>);

impl Inventory {
    /// Reads the folder that `inventory.sh` wrote, packed by tar.
    pub(super) fn read(archive: &Path) -> io::Result<Self> {
        let mut parts = BTreeMap::new();
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let name = entry
                .path()?
                .file_name()
                .map(|it| it.to_string_lossy().into_owned());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            parts.insert(name.unwrap_or_default(), bytes);
        }
        Self::parse(|name| {
            let missing = || io::Error::other(format!("the inventory has no {name}"));
            parts.remove(name).ok_or_else(missing)
        })
    }

    fn parse(mut part: impl FnMut(&str) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let mut all = Self::default();
        for name in ["entries", "devices"] {
            for (path, facts) in pairs(&part(name)?) {
                for fact in text(facts).split(", ") {
                    all.add(path, fact.to_owned());
                }
            }
        }
        for line in records(&part("contents")?) {
            let (sum, path) = line
                .split_at_checked(66)
                .ok_or_else(|| io::Error::other("a checksum is cut"))?;
            all.add(path, format!("SHA-256 {}", text(&sum[..64])));
        }
        let links = part("links")?;
        let mut files: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
        for (file, path) in pairs(&links) {
            files.entry(file).or_default().insert(path);
        }
        for names in files.values() {
            let first = names.first().map(|it| text(it)).unwrap_or_default();
            for name in names {
                all.add(name, format!("same file as {first}"));
            }
        }
        for block in String::from_utf8_lossy(&part("attributes")?).split("\n\n") {
            // Its names are escaped, where they must be, in a way of its own: good enough to compare.
            let Some((name, attributes)) = block.trim().split_once('\n') else {
                continue;
            };
            for attribute in attributes.lines() {
                all.add(
                    name.trim_start_matches("# file: ").as_bytes(),
                    format!("attribute {attribute}"),
                );
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &[u8], fact: String) {
        self.0.entry(path.to_vec()).or_default().insert(fact);
    }

    /// Number of paths.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is different in `after` and should not be: one line for each path.
    pub(super) fn differences(&self, after: &Self, firmware: Firmware) -> Vec<String> {
        let paths: BTreeSet<&Vec<u8>> = self.0.keys().chain(after.0.keys()).collect();
        let nothing = BTreeSet::new();
        let mut found = Vec::new();
        for path in paths {
            let (old, new) = (
                self.0.get(path).unwrap_or(&nothing),
                after.0.get(path).unwrap_or(&nothing),
            );
            let counts =
                |fact: &&String| !(fact.starts_with("time ") && starts_with(path, TIME_MAY_DIFFER));
            let was: Vec<_> = old.difference(new).filter(counts).collect();
            let is: Vec<_> = new.difference(old).filter(counts).collect();
            if (was.is_empty() && is.is_empty()) || may_differ(path, firmware) {
                continue;
            }
            let join = |facts: Vec<&String>| match facts.is_empty() {
                true => "nothing".to_owned(),
                false => facts.into_iter().cloned().collect::<Vec<_>>().join("; "),
            };
            found.push(format!(
                "{}: was {}, is {}",
                text(path),
                join(was),
                join(is)
            ));
        }
        found
    }
}

fn may_differ(path: &[u8], firmware: Firmware) -> bool {
    let starts: Vec<_> = MAY_DIFFER.iter().map(|(start, _)| *start).collect();
    starts_with(path, &starts)
        || (firmware == Firmware::Bios && starts_with(path, &[MAY_DIFFER_WITH_BIOS]))
}

fn starts_with(path: &[u8], starts: &[&str]) -> bool {
    starts
        .iter()
        .any(|start| path.starts_with(start.as_bytes()))
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|record| !record.is_empty())
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut records = bytes.split(|byte| *byte == 0);
    std::iter::from_fn(move || Some((records.next()?, records.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(sum: char, owner: &str, links: &str, attributes: &str) -> Inventory {
        let sums = format!("{}  ./srv/a\0", sum.to_string().repeat(64));
        let entries = format!(
            "./srv/a\0file, owner {owner}\0./etc/fstab\0file, time {sum}\0./run/x\0file {sum}\0"
        );
        Inventory::parse(|name| {
            Ok(match name {
                "entries" => entries.clone(),
                "contents" => sums.clone(),
                "links" => links.to_owned(),
                "attributes" => attributes.to_owned(),
                _ => String::new(),
            }
            .into_bytes())
        })
        .unwrap()
    }

    #[test]
    fn content_owner_links_and_attributes_count_and_what_may_differ_does_not() {
        let links = "1:7\0./srv/a\x001:7\0./srv/b\0";
        let attributes = "# file: ./srv/a\nuser.x=0x00\nuser.y=0x01\n\n";
        let before = inventory('a', "0:0", links, attributes);
        assert_eq!(before.len(), 4);
        assert!(
            before
                .differences(&inventory('a', "0:0", links, attributes), Firmware::Bios)
                .is_empty()
        );
        for (after, wanted) in [
            (inventory('b', "0:0", links, attributes), "SHA-256"),
            (inventory('a', "1:0", links, attributes), "owner 1:0"),
            (inventory('a', "0:0", "", attributes), "./srv/b"),
            (
                inventory('a', "0:0", links, "# file: ./srv/a\nuser.x=0x00\n\n"),
                "user.y",
            ),
        ] {
            let differences = before.differences(&after, Firmware::Bios).join("\n");
            assert!(
                differences.contains(wanted)
                    && !differences.contains("./run")
                    && !differences.contains("fstab"),
                "{differences}"
            );
        }
    }

    #[test]
    fn a_boot_loader_is_installed_again_for_bios_only() {
        let host = |sum: &str| {
            Inventory::parse(|name| {
                Ok(match name {
                    "entries" => format!("./boot/grub/core\0file {sum}\0").into_bytes(),
                    _ => Vec::new(),
                })
            })
            .unwrap()
        };
        let (before, after) = (host("a"), host("b"));
        assert!(before.differences(&after, Firmware::Bios).is_empty());
        assert_eq!(before.differences(&after, Firmware::Uefi).len(), 1);
    }

    #[test]
    fn a_cut_inventory_is_an_error() {
        assert!(Inventory::parse(|_| Ok(b"abc\0".to_vec())).is_err());
    }
}
