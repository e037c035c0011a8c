//! In what the protected host differs from one demonstration to the next.

use super::RECIPE;
use crate::commands::demo::Firmware;

/// One kind of host; each has a disk of its own, which is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands::demo) struct Variant {
    /// It starts by UEFI, with or without Secure Boot: the files are the same.
    uefi: bool,
}

impl Variant {
    /// The host that `firmware` starts.
    pub(in crate::commands::demo) fn of(firmware: Firmware) -> Self {
        Self {
            uefi: firmware != Firmware::Bios,
        }
    }

    /// Its folder among what is kept.
    pub(super) fn folder(self) -> &'static str {
        match self.uefi {
            true => "protected-uefi",
            false => "protected",
        }
    }

    /// For people.
    pub(super) fn described(self) -> String {
        let uefi = if self.uefi {
            ", for UEFI and Secure Boot"
        } else {
            ""
        };
        format!("Debian 12 on LVM{uefi}")
    }

    /// What its files are.
    pub(super) fn recipe(self) -> String {
        RECIPE.replace("\"@boot-loader@\"", &quoted(self.boot_loader()))
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
            let recipe = Variant::of(firmware).recipe();
            assert!(!recipe.contains("\"@"), "{recipe}");
            let table: toml::Table = recipe.parse().unwrap();
            assert!(table.contains_key("source"));
            let shim = recipe.contains("shim-signed");
            assert_eq!(shim, firmware != Firmware::Bios);
        }
    }
}
