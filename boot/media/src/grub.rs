//! GRUB: its menu, and its image for BIOS. For UEFI it comes signed, as it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::BuildError;
use crate::sources::Sources;
use crate::tool::GRUB_MKIMAGE;

/// Both initrds in this order: the second adds `/towline/stamp` to what the first unpacked.
const ENTRY: &str = r#"menuentry "{title}" {
  linux /boot/vmlinuz {options}
  initrd /boot/stage1.img /boot/stamp.img
}
"#;

/// `rootfstype=ramfs`: the initramfs may use all memory, not half of it.
const OPTIONS: &str = "console=tty0 console=ttyS0,115200 rootfstype=ramfs loglevel=6";

/// What the image for BIOS has built in; the signed image for UEFI can load no modules, so nothing else may be needed.
const BIOS_MODULES: &[&str] = &[
    "biosdisk",
    "iso9660",
    "part_msdos",
    "part_gpt",
    "linux",
    "normal",
    "configfile",
    "search",
    "search_fs_file",
    "serial",
    "terminal",
    "test",
    "echo",
    "sleep",
    "minicmd",
    "halt",
    "reboot",
    "gzio",
];

/// The menu.
pub(crate) fn menu() -> String {
    let entry = |title: &str, more: &str| {
        ENTRY
            .replace("{title}", title)
            .replace("{options}", &format!("{OPTIONS}{more}"))
    };
    let mut text = String::from(
        "set timeout=3\nset default=0\n\
         # A UEFI firmware has its consoles, serial ones too, behind GRUB's \"console\".\n\
         if [ \"$grub_platform\" = pc ]; then\n  if serial --unit=0 --speed=115200; then\n    \
         terminal_input console serial\n    terminal_output console serial\n  fi\nfi\n",
    );
    text += &entry("Recover this machine", "");
    let kexec = "Recover, starting the layers' own kernel (kexec)";
    text += &entry(kexec, " towline.handover=kexec");
    text
}

/// Makes the El Torito image for BIOS in `work`; gives its path and that of the boot sector for sticks.
pub(crate) fn bios(sources: &Sources, work: &Path) -> Result<(PathBuf, PathBuf), BuildError> {
    let modules = work.join("i386-pc");
    fs::create_dir(&modules).map_err(BuildError::file("make", &modules))?;
    for (name, content) in sources.grub_pc() {
        let path = modules.join(name);
        content
            .read()
            .and_then(|bytes| fs::write(&path, bytes))
            .map_err(BuildError::file("write", &path))?;
    }
    let image = work.join("eltorito.img");
    let mut arguments: Vec<std::ffi::OsString> =
        ["-O", "i386-pc-eltorito", "-p", "/boot/grub", "-d"]
            .iter()
            .map(Into::into)
            .collect();
    arguments.extend([modules.clone().into(), "-o".into(), image.clone().into()]);
    arguments.extend(BIOS_MODULES.iter().map(Into::into));
    GRUB_MKIMAGE.run(sources.time, &arguments)?;
    let sector = modules.join("boot_hybrid.img");
    if !sector.is_file() {
        return Err(BuildError::NoFile(format!(
            "{}/boot_hybrid.img",
            crate::sources::GRUB_PC
        )));
    }
    Ok((image, sector))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_menu_has_both_ways_and_the_stamp_after_stage_1() {
        let menu = super::menu();
        assert_eq!(menu.matches("menuentry").count(), 2);
        assert_eq!(menu.matches("towline.handover=kexec").count(), 1);
        assert_eq!(
            menu.matches("initrd /boot/stage1.img /boot/stamp.img\n")
                .count(),
            2
        );
        assert!(menu.contains(
            "linux /boot/vmlinuz console=tty0 console=ttyS0,115200 rootfstype=ramfs loglevel=6\n"
        ));
    }
}
