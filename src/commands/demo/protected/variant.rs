//! In what the protected host differs from one demonstration to the next.

use super::{INSTALL, RECIPE};
use crate::commands::demo::{Agent, Disks, Firmware};

/// What makes a second disk the first one's mirror.
const MIRROR: &str = include_str!("mirror.sh");

/// What stands in the recipe, and what instead for a host on two disks: the errand lies after them.
const RECIPE_MIRRORED: &[(&str, &str)] =
    &[("/dev/vdb", "/dev/vdc"), ("dm_mod\\n", "dm_mod\\nraid1\\n")];

/// The same for what puts its files there.
const INSTALL_MIRRORED: &[(&str, &str)] = &[
    (
        "disk=/dev/vda files=/dev/vdb",
        "disk=/dev/vda files=/dev/vdc",
    ),
    ("vfat dm_mod\n", "vfat dm_mod raid1\n"),
    ("blockdev --rereadpt $disk\n", MIRROR),
    (
        "say initramfs\n",
        "mkdir -p $root/etc/mdadm\n\
         mdadm --detail --scan | sed 's#/dev/md#&/#' >$root/etc/mdadm/mdadm.conf\n\
         say initramfs\n",
    ),
    (
        "grub-install --target=i386-pc $disk\n",
        "grub-install --target=i386-pc /dev/vda\n\
         chroot $root grub-install --target=i386-pc /dev/vdb\n",
    ),
    (
        "vgchange -q -an vg0\n",
        "vgchange -q -an vg0\nmdadm --stop --scan\n",
    ),
];

/// One kind of host; each has a disk of its own, which is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands::demo) struct Variant {
    /// It starts by UEFI, with or without Secure Boot: the files are the same.
    uefi: bool,
    /// It has BorgBackup, and Python with it. The other agents are in every one.
    borg: bool,
    /// Its system lies on two disks, each the other's mirror.
    mirrored: bool,
}

impl Variant {
    /// The host that `firmware` starts, on `disks`, and `agent` backs up.
    pub(in crate::commands::demo) fn of(firmware: Firmware, agent: Agent, disks: Disks) -> Self {
        Self {
            uefi: firmware != Firmware::Bios,
            borg: agent == Agent::Borg,
            mirrored: disks == Disks::Raid1,
        }
    }

    /// Its folder among what is kept.
    pub(super) fn folder(self) -> String {
        let part = |has, name| if has { name } else { "" };
        let (uefi, borg) = (part(self.uefi, "-uefi"), part(self.borg, "-borg"));
        format!("protected{uefi}{borg}{}", part(self.mirrored, "-raid1"))
    }

    /// The files of its disks, in that folder.
    pub(super) fn disks(self) -> &'static [&'static str] {
        match self.mirrored {
            true => &["disk.raw", "second-disk.raw"],
            false => &["disk.raw"],
        }
    }

    /// For people.
    pub(super) fn described(self) -> String {
        let uefi = if self.uefi {
            ", for UEFI and Secure Boot"
        } else {
            ""
        };
        let borg = if self.borg { ", with BorgBackup" } else { "" };
        let mirrored = if self.mirrored {
            " on two mirrored disks"
        } else {
            ""
        };
        format!("Debian 12 on LVM{mirrored}{uefi}{borg}")
    }

    /// What its files are.
    pub(super) fn recipe(self) -> String {
        let (agents, without): (&[_], &[_]) = match self.borg {
            true => (
                &["restic", "borgbackup", "openssh-client"],
                &["media-types"],
            ),
            false => (&["restic"], &["python3"]),
        };
        let mut boot = self.boot_loader().to_vec();
        boot.extend(self.mirrored.then_some("mdadm"));
        self.text(RECIPE, RECIPE_MIRRORED)
            .replace("\"@boot-loader@\"", &quoted(&boot))
            .replace("\"@agents@\"", &quoted(agents))
            .replace("\"@without@\"", &quoted(without))
    }

    /// The script that puts them on its disks.
    pub(super) fn installation(self) -> String {
        self.text(INSTALL, INSTALL_MIRRORED)
    }

    /// `text`, for a mirrored host with `other` words.
    fn text(self, text: &str, other: &[(&str, &str)]) -> String {
        let words = if self.mirrored { other } else { &[] };
        let replaced = |text: String, (word, instead): &(&str, &str)| text.replace(word, instead);
        words.iter().fold(text.to_owned(), replaced)
    }

    /// What `install.sh` has to know.
    pub(super) fn settings(self) -> String {
        let firmware = if self.uefi { "uefi" } else { "bios" };
        format!("firmware={firmware}\n")
    }

    fn boot_loader(self) -> &'static [&'static str] {
        match self.uefi {
            true => &[
                "grub-efi-amd64-bin",
                "grub-efi-amd64-signed",
                "grub2-common",
                "shim-signed",
                "efibootmgr",
            ],
            false => &["grub-pc"],
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_a_recipe_in_which_nothing_is_left_to_fill_in() {
        for firmware in [Firmware::Bios, Firmware::Uefi, Firmware::SecureBoot] {
            for agent in [Agent::Restic, Agent::Borg, Agent::Run] {
                let recipe = Variant::of(firmware, agent, Disks::Lvm).recipe();
                assert!(!recipe.contains("\"@"), "{recipe}");
                let table: toml::Table = recipe.parse().unwrap();
                assert!(table.contains_key("source"));
                let (shim, borg) = (
                    recipe.contains("shim-signed"),
                    recipe.contains("borgbackup"),
                );
                assert_eq!(shim, firmware != Firmware::Bios);
                assert_eq!(borg, agent == Agent::Borg);
            }
        }
    }

    #[test]
    fn the_host_on_one_disk_is_made_by_the_script_as_it_stands() {
        let variant = Variant::of(Firmware::Bios, Agent::Restic, Disks::Lvm);
        assert_eq!(variant.installation(), INSTALL);
        assert_eq!(variant.folder(), "protected");
        assert!(!variant.recipe().contains("mdadm"));
    }

    #[test]
    fn each_word_that_a_mirrored_host_changes_stands_where_it_is_looked_for() {
        for (text, words) in [(RECIPE, RECIPE_MIRRORED), (INSTALL, INSTALL_MIRRORED)] {
            for (word, instead) in words {
                assert!(text.contains(word) && word != instead, "{word}");
            }
        }
        let variant = Variant::of(Firmware::Bios, Agent::Restic, Disks::Raid1);
        let (recipe, script) = (variant.recipe(), variant.installation());
        recipe.parse::<toml::Table>().unwrap();
        assert!(recipe.contains("\"mdadm\"") && recipe.contains("dm_mod\\nraid1\\n"));
        assert!(!recipe.contains("/dev/vdb"), "that is a disk of its own");
        assert!(script.contains("mdadm --create") && !script.contains("files=/dev/vdb"));
        assert_eq!(variant.folder(), "protected-raid1");
        assert_eq!(variant.disks().len(), 2);
    }
}
