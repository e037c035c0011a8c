//! QEMU's command line for a [`Machine`].

use std::fs;
use std::path::Path;

use crate::{Firmware, GUEST_SEES, Machine, MachineError, Reach, Start, Writes};

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
        add(&["-accel", "tcg", "-cpu", "max,la57=off,svm=off"]);
        add(&["-smp", &self.processors.to_string()]);
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
        add(&["-nic", &self.network()]);
        add(&["-device", "virtio-rng-pci"]);
        if let Some(rtc) = &self.rtc {
            // By the host's own clock QEMU counts the difference in 32 bits: 68 years at most.
            add(&["-rtc", &format!("base={rtc},clock=vm")]);
        }
        match self.firmware {
            Firmware::Bios => add(&["-machine", "q35"]),
            Firmware::Uefi => {
                add(&["-machine", "q35"]);
                add(&self.flash(UEFI, folder)?.each_ref().map(String::as_str));
            }
            Firmware::SecureBoot => {
                add(&[
                    "-machine",
                    "q35,smm=on",
                    "-global",
                    "driver=cfi.pflash01,property=secure,value=on",
                ]);
                add(&self
                    .flash(SECURE_BOOT, folder)?
                    .each_ref()
                    .map(String::as_str));
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
            // Nobody cuts this machine's own power: flushing to its disks would only take time. Zeros are holes: an array
            // that synchronises writes all of its disks.
            let writes = match disk.writes {
                Writes::Kept => ",discard=unmap,detect-zeroes=unmap",
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

    fn network(&self) -> String {
        let card = format!("user,model={}", self.network_card);
        match &self.reach {
            Reach::Everything => card,
            Reach::Only { port, command } => {
                // QEMU forwards no port of its own address: it gets another one, for DHCP.
                let command = command.replace(',', ",,");
                format!(
                    "{card},restrict=on,host=10.0.2.9,guestfwd=tcp:{GUEST_SEES}:{port}-cmd:{command}"
                )
            }
        }
    }

    /// The two flash chips. The variables are a copy of the firmware's own, which nobody changes.
    fn flash(
        &self,
        [code, variables]: [&str; 2],
        folder: &Path,
    ) -> Result<[String; 4], MachineError> {
        let own = folder.join("efi-variables.fd");
        let copy = self.efi_variables.as_ref().unwrap_or(&own);
        if !copy.exists() {
            fs::copy(variables, copy).map_err(|cause| MachineError::Prepare {
                path: variables.into(),
                cause,
            })?;
        }
        Ok([
            "-drive".into(),
            format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
            "-drive".into(),
            format!("if=pflash,unit=1,format=raw,file={}", file(copy)),
        ])
    }
}

/// A path as a value in a list of QEMU options: commas are doubled.
fn file(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_may_reach_one_port_is_cut_off_from_everything_else() {
        let mut machine = Machine::new(Start::Disk, "console.log".into());
        machine.reach = Reach::Only {
            port: 8443,
            command: "/usr/bin/nc 127.0.0.1,x 8443".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let arguments = machine.arguments(folder.path()).unwrap();
        let nic = arguments.iter().position(|it| it == "-nic").unwrap();
        let network = &arguments[nic + 1];
        assert!(network.contains(",restrict=on,"), "{network}");
        let forward = ",guestfwd=tcp:10.0.2.2:8443-cmd:/usr/bin/nc 127.0.0.1,,x 8443";
        assert!(network.ends_with(forward), "{network}");
    }

    #[test]
    fn uefi_variables_outlive_a_machine_only_in_a_file_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let firmware = folder.path().join("firmware.fd");
        let kept = folder.path().join("kept.fd");
        fs::write(&firmware, b"as shipped").unwrap();
        let files = ["code.fd", firmware.to_str().unwrap()];
        let mut machine = Machine::new(Start::Disk, "console.log".into());
        machine.flash(files, folder.path()).unwrap();
        assert!(!kept.exists());
        machine.efi_variables = Some(kept.clone());
        machine.flash(files, folder.path()).unwrap();
        fs::write(&kept, b"with a boot entry").unwrap();
        machine.flash(files, folder.path()).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"with a boot entry");
        assert_eq!(fs::read(&firmware).unwrap(), b"as shipped");
    }
}
