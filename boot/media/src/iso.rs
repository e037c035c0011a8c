//! The hybrid image: an ISO 9660 file system that BIOS and UEFI start from a CD, with an MBR and a GPT for sticks.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use towline_initramfs::content::Content;

use crate::build::BuildError;
use crate::sources::{GRUB_CD, MOK_MANAGER, SHIM, Sources};
use crate::tool::{MCOPY, MKFS_VFAT, XORRISO};

/// Serial number of the EFI partition's file system: "TOWL". It only has to be the same each time.
const FAT_SERIAL: &str = "544F574C";

/// Room in the EFI partition beside its files, for tables and rounding, in bytes.
const FAT_ROOM_BYTES: u64 = 192 << 10;

/// The files of the image, in a directory.
pub(crate) struct Files {
    root: PathBuf,
    time: SystemTime,
}

impl Files {
    /// An empty directory at `root`; `time` (seconds since 1970) is that of every file.
    pub(crate) fn new(root: PathBuf, time: u32) -> Result<Self, BuildError> {
        fs::create_dir_all(&root).map_err(BuildError::file("make", &root))?;
        Ok(Self {
            root,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(time.into()),
        })
    }

    /// Where the file `name` is to be written; its directories are made.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.root.join(name);
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(BuildError::file("make", parent))?;
        Ok(path)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: &Content) -> Result<(), BuildError> {
        let path = self.path(name)?;
        content
            .read()
            .and_then(|bytes| fs::write(&path, bytes))
            .map_err(BuildError::file("write", &path))
    }

    /// Sets all times.
    fn date(&self) -> Result<(), BuildError> {
        date(&self.root, self.time).map_err(BuildError::file("set the time of", &self.root))
    }
}

fn date(path: &Path, time: SystemTime) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            date(&entry?.path(), time)?;
        }
    }
    File::open(path)?.set_modified(time)
}

/// Makes the EFI system partition in `work`.
pub(crate) fn efi_partition(sources: &Sources, work: &Path) -> Result<PathBuf, BuildError> {
    let files = Files::new(work.join("esp"), sources.time)?;
    let mut bytes = FAT_ROOM_BYTES;
    for (name, from) in [
        ("BOOTX64.EFI", SHIM),
        ("grubx64.efi", GRUB_CD),
        ("mmx64.efi", MOK_MANAGER),
    ] {
        let content = sources.loader(from)?;
        files.write(&format!("EFI/BOOT/{name}"), content)?;
        bytes += content.len();
    }
    files.date()?;
    let image = work.join("esp.img");
    File::create(&image)
        .and_then(|file| file.set_len(bytes.next_multiple_of(64 << 10)))
        .map_err(BuildError::file("write", &image))?;
    let image_word = image.clone().into_os_string();
    let word = OsString::from;
    MKFS_VFAT.run(
        sources.time,
        &[
            word("--invariant"),
            word("-i"),
            word(FAT_SERIAL),
            word("-n"),
            word("TOWLINE"),
            image_word.clone(),
        ],
    )?;
    let efi = files.root.join("EFI").into_os_string();
    MCOPY.run(
        sources.time,
        &[
            word("-s"),
            word("-m"),
            word("-i"),
            image_word,
            efi,
            word("::"),
        ],
    )?;
    Ok(image)
}

/// Writes the image to `out`.
pub(crate) fn write(
    files: &Files,
    sector: &Path,
    efi_partition: &Path,
    time: u32,
    out: &Path,
) -> Result<(), BuildError> {
    files.date()?;
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&[
        "-no_rc",
        "-as",
        "mkisofs",
        "-quiet",
        "-V",
        "TOWLINE",
        "-A",
        "TOWLINE",
        "-iso-level",
        "3",
        "-r",
    ]);
    // BIOS: GRUB from the CD's boot record, or from the stick's boot sector, which knows where GRUB lies.
    add(&[
        "-c",
        "boot/boot.cat",
        "-b",
        "boot/grub/eltorito.img",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
    ]);
    add(&["-boot-info-table", "--grub2-boot-info", "--grub2-mbr"]);
    arguments.push(sector.into());
    // UEFI: the same partition, by the CD's boot record and by the stick's GPT.
    arguments.extend(["-append_partition", "2", "0xef"].map(OsString::from));
    arguments.push(efi_partition.into());
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&[
        "-appended_part_as_gpt",
        "-eltorito-alt-boot",
        "-e",
        "--interval:appended_partition_2:all::",
    ]);
    add(&["-no-emul-boot", "-o"]);
    arguments.push(out.into());
    arguments.push(files.root.clone().into());
    XORRISO.run(time, &arguments)
}
