//! Character sets: glibc loads a module for each that is not built in (iconv(3)).
//!
//! Which ones a program asks for is in its data. There are 250, of 8 MB; those are taken that file systems, boot loaders and
//! texts of a recovery have.

use super::Wanted;
use crate::elf::Symbols;
use crate::libraries::closure::Use;
use crate::libraries::root::Root;

/// Folders of modules, below `usr`.
const FOLDERS: &[&str] = &[
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib64/gconv",
    "usr/lib/gconv",
];

/// Names of FAT (850, 437), of UEFI and NTFS (UTF-16, UTF-32), and of old texts.
const MODULES: &[&str] = &[
    "CP1252.so",
    "IBM437.so",
    "IBM850.so",
    "ISO8859-1.so",
    "ISO8859-15.so",
    "UTF-16.so",
    "UTF-32.so",
    "UTF-7.so",
];

pub(super) fn is_interesting(name: &str) -> bool {
    name == "iconv_open"
}

/// The folder's configuration and the modules, for who converts texts.
pub(super) fn wanted(root: &dyn Root, calls: &Symbols) -> Vec<Wanted> {
    if !calls.imports.iter().any(|it| is_interesting(it)) {
        return Vec::new();
    }
    let has_configuration = |it: &&&str| root.find(&format!("{it}/gconv-modules")).is_some();
    let Some(folder) = FOLDERS.iter().find(has_configuration) else {
        return Vec::new();
    };
    let more = root.names(&format!("{folder}/gconv-modules.d"));
    let more = more.into_iter().filter(|it| it.ends_with(".conf"));
    let mut paths = vec![format!("{folder}/gconv-modules")];
    paths.extend(more.map(|it| format!("{folder}/gconv-modules.d/{it}")));
    paths.extend(MODULES.iter().map(|it| format!("{folder}/{it}")));
    let there = paths.into_iter().filter(|it| root.find(it).is_some());
    let wanted = there.map(|path| Wanted::File {
        path,
        what: Use::CharacterSets,
    });
    wanted.collect()
}
