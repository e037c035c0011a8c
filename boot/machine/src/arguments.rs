//! QEMU's command line for a [`Machine`].

use std::fs;
use std::path::Path;

use crate::{Firmware, Machine, MachineError, Start, Writes};

/// Debian's OVMF (package ovmf): code, and variables to copy.
const UEFI: [&str; 2] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.fd",
];
/// The same, with Microsoft's keys enrolled and Secure Boot enforced.
const SECURE_BOOT: [&str; 2] = [
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
];

impl Machine {
    /// The arguments; files that belong to this run alone are made in `folder`.
    pub(crate) fn arguments(&self, folder: &Path) -> Result<Vec<String>, MachineError> {
        let mut list: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| list.extend(words.iter().map(|word| (*word).to_owned()));
        // Emulated only: it runs anywhere. Without la57 and svm, which cost time and confuse some firmware under TCG.
        add(&["-accel", "tcg", "-cpu", "max,la57=off,svm=off", "-smp", "1"]);
        add(&["-m", &format!("{}M", self.memory_mib)]);
        add(&[
            "-nodefaults",
            "-display",
            "none",
            "-vga",
            "std",
            "-no-reboot",
        ]);
        add(&["-serial", "stdio"]);
        add(&["-nic", &format!("user,model={}", self.network_card)]);
        add(&["-device", "virtio-rng-pci"]);
        if let Some(rtc) = &self.rtc {
            add(&["-rtc", &format!("base={rtc}")]);
        }
        match self.firmware {
            Firmware::Bios => add(&["-machine", "q35"]),
            Firmware::Uefi => {
                add(&["-machine", "q35"]);
                add(&flash(UEFI, folder)?.each_ref().map(String::as_str));
            }
            Firmware::SecureBoot => {
                add(&[
                    "-machine",
                    "q35,smm=on",
                    "-global",
                    "driver=cfi.pflash01,property=secure,value=on",
                ]);
                add(&flash(SECURE_BOOT, folder)?.each_ref().map(String::as_str));
            }
        }
        match &self.start {
            Start::Disk => {}
            Start::Cd(image) => {
                add(&[
                    "-drive",
                    &format!(
                        "if=none,id=medium,media=cdrom,readonly=on,format=raw,file={}",
                        file(image)
                    ),
                ]);
                add(&["-device", "ide-cd,drive=medium,bootindex=0"]);
            }
            Start::Usb(image) => {
                add(&[
                    "-drive",
                    &format!(
                        "if=none,id=medium,readonly=on,format=raw,file={}",
                        file(image)
                    ),
                ]);
                add(&[
                    "-device",
                    "qemu-xhci",
                    "-device",
                    "usb-storage,drive=medium,bootindex=0",
                ]);
            }
            Start::Kernel {
                kernel,
                initrd,
                command_line,
            } => {
                add(&["-kernel", &kernel.display().to_string()]);
                if let Some(initrd) = initrd {
                    add(&["-initrd", &initrd.display().to_string()]);
                }
                if !command_line.is_empty() {
                    add(&["-append", command_line]);
                }
            }
        }
        if let Some(gib) = self.disk_gib {
            let disk = folder.join("disk.raw");
            let bytes = u64::from(gib) << 30;
            fs::File::create(&disk)
                .and_then(|disk| disk.set_len(bytes))
                .map_err(|cause| MachineError::Prepare {
                    path: disk.clone(),
                    cause,
                })?;
            add(&[
                "-drive",
                &format!("if=virtio,format=raw,file={}", file(&disk)),
            ]);
        }
        for disk in &self.disks {
            // Nobody cuts this machine's own power: flushing to its disks would only take time.
            let writes = match disk.writes {
                Writes::Kept => "",
                Writes::Forgotten => ",snapshot=on",
                Writes::Refused => ",readonly=on",
            };
            let file = file(&disk.file);
            list.push("-drive".into());
            list.push(format!(
                "if=virtio,format=raw,cache=unsafe,file={file}{writes}"
            ));
        }
        list.extend(self.more.iter().cloned());
        Ok(list)
    }
}

/// The two flash chips; the variables are a copy, so that nothing outlives the machine.
fn flash([code, variables]: [&str; 2], folder: &Path) -> Result<[String; 4], MachineError> {
    let copy = folder.join("efi-variables.fd");
    fs::copy(variables, &copy).map_err(|cause| MachineError::Prepare {
        path: variables.into(),
        cause,
    })?;
    Ok([
        "-drive".into(),
        format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        "-drive".into(),
        format!("if=pflash,unit=1,format=raw,file={}", file(&copy)),
    ])
}

/// A path as a value in a list of QEMU options: commas are doubled.
fn file(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
