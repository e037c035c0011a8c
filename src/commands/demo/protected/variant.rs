//! In what the protected host differs from one demonstration to the next.

use super::RECIPE;
use crate::commands::demo::{Agent, Firmware};

/// One kind of host; each has a disk of its own, which is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands::demo) struct Variant {
    /// It starts by UEFI, with or without Secure Boot: the files are the same.
    uefi: bool,
    /// It has BorgBackup, and Python with it. The other agents are in every one.
    borg: bool,
}

impl Variant {
    /// The host that `firmware` starts and `agent` backs up.
    pub(in crate::commands::demo) fn of(firmware: Firmware, agent: Agent) -> Self {
        Self {
            uefi: firmware != Firmware::Bios,
            borg: agent == Agent::Borg,
        }
    }

    /// Its folder among what is kept.
    pub(super) fn folder(self) -> &'static str {
        match (self.uefi, self.borg) {
            (false, false) => "protected",
            (true, false) => "protected-uefi",
            (false, true) => "protected-borg",
            (true, true) => "protected-uefi-borg",
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
        format!("Debian 12 on LVM{uefi}{borg}")
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
        RECIPE
            .replace("\"@boot-loader@\"", &quoted(self.boot_loader()))
            .replace("\"@agents@\"", &quoted(agents))
            .replace("\"@without@\"", &quoted(without))
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
                let recipe = Variant::of(firmware, agent).recipe();
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
}
