//! UEFI boot entries, as `efibootmgr -v` lists them.

/// One entry that starts a file on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number: four hex digits.
    pub(super) number: String,
    /// Its label.
    pub(super) label: String,
    /// The partition's GUID, in small letters.
    pub(super) partition: String,
    /// The file, such as `\EFI\debian\shimx64.efi`, in small letters.
    pub(super) file: String,
}

/// The entries that start a file on a partition of a GPT disk:
/// `Boot0003* debian HD(1,GPT,GUID,0x800,0x100000)/File(\EFI\debian\shimx64.efi)`, in newer versions without `File()`.
pub(super) fn entries(listed: &str) -> Vec<Entry> {
    listed.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let number = line.strip_prefix("Boot")?.get(..4)?;
    if !number.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let (label, path) = line.get(8..)?.split_once("HD(")?;
    let label = label.trim_start_matches(['*', ' ']).trim();
    let (partition, file) = path.split_once(')')?;
    let partition = partition.split(',').nth(2)?;
    let file = file.trim_start_matches('/');
    let file = file.strip_prefix("File(").unwrap_or(file);
    let end = file.to_ascii_lowercase().find(".efi")? + ".efi".len();
    Some(Entry {
        number: number.to_owned(),
        label: label.to_owned(),
        partition: partition.to_ascii_lowercase(),
        file: file[..end].to_ascii_lowercase(),
    })
}

/// Entries for a partition that is gone, where another entry starts the same file from one that is there: what the lost
/// disk has left. Entries of other systems are not touched, even if their disk is out.
pub(super) fn dangling<'a>(entries: &'a [Entry], there: &dyn Fn(&str) -> bool) -> Vec<&'a Entry> {
    let replaced = |gone: &Entry| {
        let mut others = entries.iter();
        others.any(|it| it.file == gone.file && there(&it.partition))
    };
    let gone = entries.iter().filter(|it| !there(&it.partition));
    gone.filter(|it| replaced(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "BootCurrent: 0001\nTimeout: 0 seconds\nBootOrder: 0003,0001,0000\n\
        Boot0000* UiApp\tFvVol(7cb8bdc9)/FvFile(462caa21)\n\
        Boot0001* debian\tHD(1,GPT,AAAAAAAA-0000-4000-8000-000000000001,0x800,0x100000)/File(\\EFI\\debian\\shimx64.efi)\n\
        Boot0003* Debian 12\tHD(1,GPT,bbbbbbbb-0000-4000-8000-000000000002,0x800,0x100000)/\\EFI\\DEBIAN\\SHIMX64.EFI\n\
        Boot0004* other\tHD(1,GPT,cccccccc-0000-4000-8000-000000000003,0x800,0x100000)/File(\\EFI\\other\\grub.efi)..BO\n";

    #[test]
    fn entries_of_both_spellings_are_read() {
        let entries = entries(LISTED);
        let numbers: Vec<_> = entries.iter().map(|it| it.number.as_str()).collect();
        assert_eq!(numbers, ["0001", "0003", "0004"]);
        assert_eq!(entries[0].file, "\\efi\\debian\\shimx64.efi");
        assert_eq!(entries[1].label, "Debian 12");
        assert_eq!(entries[0].file, entries[1].file);
    }

    #[test]
    fn only_what_the_lost_disk_left_is_dangling() {
        let entries = entries(LISTED);
        let there = |guid: &str| guid.starts_with("bbbb");
        let numbers: Vec<_> = dangling(&entries, &there)
            .into_iter()
            .map(|it| it.number.as_str())
            .collect();
        assert_eq!(numbers, ["0001"]);
        assert!(dangling(&entries, &|_| false).is_empty());
    }
}
