//! The tree that becomes the host layer: `etc/hostname`, ReaR's settings, its layout, and the host's own ReaR if it came along.
//!
//! Only regular files of the known folders are taken. A description that came with its own ReaR lies below
//! [`PORTABLE`] as a whole, where the rescue system looks for it; all others lie at the root.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use towline_initramfs::compressed;

use super::error::{CaptureError, file};

/// Where a host's own ReaR lies in the rescue system.
const PORTABLE: &str = "usr/lib/towline/rear";

/// What is taken of a description that was made elsewhere.
const TAKEN: [&str; 5] = [
    "etc/rear",
    "var/lib/rear/layout",
    "var/lib/rear/recovery",
    "usr/share/rear",
    "usr/sbin/rear",
];

/// Most files in an archive.
const FILES_MAX: usize = 20_000;

/// Most bytes that an archive unpacks to. ReaR's portable archive has 3 MB.
const BYTES_MAX: u64 = 256 << 20;

/// The folder in `root` that has `etc/rear` and `var/lib/rear`.
pub(super) fn place(root: &Path) -> PathBuf {
    let portable = root.join(PORTABLE);
    if portable.exists() {
        portable
    } else {
        root.to_owned()
    }
}

/// The host's name in `root`.
///
/// # Errors
/// It cannot be read.
pub(super) fn hostname(root: &Path) -> Result<String, CaptureError> {
    let path = root.join("etc/hostname");
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    Ok(text.trim().to_owned())
}

/// Makes the tree in `root` from what ReaR wrote into `state` and from the settings of this host.
///
/// # Errors
/// A file cannot be copied.
pub(super) fn from_this_host(state: &Path, root: &Path) -> Result<(), CaptureError> {
    for folder in ["layout", "recovery"] {
        copy(
            &state.join(folder),
            &root.join("var/lib/rear").join(folder),
            &|_| true,
        )?;
    }
    copy_settings(Path::new("/etc/rear"), &root.join("etc/rear"))?;
    // After the host's own: os.conf is complete here, and rescue.conf is only here.
    copy(&state.join("settings"), &root.join("etc/rear"), &|_| true)?;
    write_hostname(root)
}

/// Makes the tree in `root` from a directory or archive with a description; gives the version of its ReaR.
///
/// # Errors
/// There is no layout in it, or it cannot be read.
pub(super) fn import(path: &Path, root: &Path) -> Result<String, CaptureError> {
    let metadata = fs::metadata(path).map_err(file("read", path))?;
    if metadata.is_dir() {
        // A rescue system that is being made has programs of its own; of ReaR itself only an archive is taken.
        for folder in ["var/lib/rear/layout", "var/lib/rear/recovery"] {
            copy(&path.join(folder), &root.join(folder), &|_| true)?;
        }
        copy_settings(&path.join("etc/rear"), &root.join("etc/rear"))?;
    } else {
        unpack(path, root)?;
    }
    if root.join("usr/sbin/rear").exists() {
        move_below(root, PORTABLE)?;
    }
    let place = place(root);
    if !place.join("var/lib/rear/layout/disklayout.conf").exists() {
        return Err(CaptureError::From {
            path: path.to_owned(),
            why: "there is no var/lib/rear/layout/disklayout.conf in it".into(),
        });
    }
    write_hostname(root)?;
    let program = match place == *root {
        true => PathBuf::from("/usr/sbin/rear"),
        false => place.join("usr/sbin/rear"),
    };
    Ok(rear_version(&program).unwrap_or_else(|| "unknown".to_owned()))
}

/// The version in the program's text: `readonly VERSION=2.9`.
fn rear_version(program: &Path) -> Option<String> {
    let text = fs::read_to_string(program).ok()?;
    let line = text
        .lines()
        .find_map(|it| it.trim().strip_prefix("readonly VERSION="))?;
    Some(line.trim_matches(['"', '\'']).to_owned())
}

fn write_hostname(root: &Path) -> Result<(), CaptureError> {
    let from = Path::new("/etc/hostname");
    let name = match fs::read_to_string(from) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        // Not every distribution has the file.
        _ => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    };
    let path = root.join("etc/hostname");
    fs::create_dir_all(root.join("etc")).map_err(file("make", root))?;
    fs::write(&path, name + "\n").map_err(file("write", &path))
}

/// Settings are `*.conf` and the mappings; certificates and keys beside them stay where they are.
fn copy_settings(from: &Path, to: &Path) -> Result<(), CaptureError> {
    copy(from, to, &|path| {
        path.extension().is_some_and(|it| it == "conf") || path.starts_with("mappings")
    })
}

/// Copies the regular files below `from` for whose paths `wanted` holds; a folder that is not there has none.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), CaptureError> {
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let here = from.join(&folder);
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(file("read", &here)(cause)),
        };
        for entry in entries {
            let entry = entry.map_err(file("read", &here))?;
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type());
            let kind = kind.map_err(file("read", &here))?;
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() && wanted(&path) {
                let target = to.join(&path);
                let parent = target.parent().unwrap_or(to);
                fs::create_dir_all(parent).map_err(file("make", parent))?;
                let bytes = fs::read(entry.path()).map_err(file("read", &entry.path()))?;
                fs::write(&target, bytes).map_err(file("write", &target))?;
            }
        }
    }
    Ok(())
}

/// The path of `name` in `root`, with nothing there and folders above it. Of an archive that names a file twice the later one
/// counts, as for tar, and nothing is written through a link that came before.
fn free(root: &Path, name: &Path) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for folder in name.parent().into_iter().flat_map(Path::components) {
        path.push(folder);
        match fs::symlink_metadata(&path) {
            Ok(it) if it.is_dir() => {}
            Ok(_) => {
                let path = path.display();
                return Err(io::Error::other(format!("{path} is no folder")));
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
            Err(cause) => return Err(cause),
        }
    }
    let path = root.join(name);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(path),
    }
}

/// Unpacks what is taken of the archive. Names may begin with `./` or a folder of the archive's own.
fn unpack(path: &Path, root: &Path) -> Result<(), CaptureError> {
    let wrong = |why: String| CaptureError::From {
        path: path.to_owned(),
        why,
    };
    let opened = File::open(path).map_err(file("read", path))?;
    let reader = compressed::all_members(BufReader::new(opened)).map_err(file("read", path))?;
    let mut archive = tar::Archive::new(reader.take(BYTES_MAX));
    let entries = archive.entries().map_err(|it| wrong(it.to_string()))?;
    fs::create_dir_all(root).map_err(file("make", root))?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|it| wrong(it.to_string()))?;
        if number >= FILES_MAX {
            return Err(wrong(format!("it has more than {FILES_MAX} files")));
        }
        let name = entry
            .path()
            .map_err(|it| wrong(it.to_string()))?
            .into_owned();
        let Some(name) = taken(&name) else { continue };
        let kind = entry.header().entry_type();
        let target = root.join(&name);
        if kind.is_file() {
            let target = free(root, &name).map_err(file("make", &target))?;
            let mut new = File::create_new(&target).map_err(file("write", &target))?;
            io::copy(&mut entry, &mut new).map_err(|it| wrong(it.to_string()))?;
            let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
            let set = new.set_permissions(fs::Permissions::from_mode(mode));
            set.map_err(file("write", &target))?;
        } else if kind.is_symlink() && target.starts_with(root.join("usr/share/rear")) {
            let link = entry.link_name().map_err(|it| wrong(it.to_string()))?;
            let Some(link) = link else { continue };
            let target = free(root, &name).map_err(file("make", &target))?;
            std::os::unix::fs::symlink(link, &target).map_err(file("make", &target))?;
        }
    }
    Ok(())
}

/// The name from the root, if it is one of those that are taken.
fn taken(name: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = name
        .components()
        .filter(|it| *it != Component::CurDir)
        .collect();
    if !parts
        .iter()
        .all(|it| matches!(it, Component::Normal(_) | Component::RootDir))
    {
        return None;
    }
    let parts: Vec<_> = parts
        .iter()
        .filter(|it| **it != Component::RootDir)
        .collect();
    (0..parts.len().min(2)).find_map(|skip| {
        let path: PathBuf = parts[skip..].iter().collect();
        let is_settings = path.strip_prefix("etc/rear").is_ok_and(|it| {
            it.extension().is_some_and(|it| it == "conf") || it.starts_with("mappings")
        });
        let is_taken = TAKEN.iter().any(|it| path.starts_with(it));
        (is_taken && (is_settings || !path.starts_with("etc/rear"))).then_some(path)
    })
}

fn move_below(root: &Path, folder: &str) -> Result<(), CaptureError> {
    let aside = root.with_extension("portable");
    fs::rename(root, &aside).map_err(file("move", root))?;
    let target = root.join(folder);
    let parent = target.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(file("make", parent))?;
    fs::rename(&aside, &target).map_err(file("move", &aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with these files, gzipped.
    fn archive(path: &Path, files: &[(&str, &str)]) {
        let file = File::create(path).unwrap();
        let mut builder = tar::Builder::new(file);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            // Names that `set_path` would refuse are written as they are.
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
    }

    const LAYOUT: (&str, &str) = (
        "var/lib/rear/layout/disklayout.conf",
        "disk /dev/vda 1 gpt\n",
    );

    #[test]
    fn a_portable_archive_brings_its_own_rear_into_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("a.tar"), dir.path().join("root"));
        let program = ("usr/sbin/rear", "#!/bin/bash\nreadonly VERSION=2.9\n");
        let scripts = ("usr/share/rear/lib/a.sh", "true\n");
        archive(
            &path,
            &[LAYOUT, program, scripts, ("etc/rear/local.conf", "A=1\n")],
        );
        assert_eq!(import(&path, &root).unwrap(), "2.9");
        assert_eq!(place(&root), root.join(PORTABLE));
        for file in [
            "usr/sbin/rear",
            "usr/share/rear/lib/a.sh",
            "etc/rear/local.conf",
            LAYOUT.0,
        ] {
            assert!(root.join(PORTABLE).join(file).is_file(), "{file}");
        }
        assert!(root.join("etc/hostname").is_file());
    }

    #[test]
    fn links_may_come_twice_and_nothing_is_written_through_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("a.tar"), dir.path().join("root"));
        let outside = dir.path().join("outside");
        fs::write(&outside, "as it was").unwrap();
        let make = |entries: &[(&str, &str, &str)]| {
            let mut builder = tar::Builder::new(File::create(&path).unwrap());
            for (name, link, text) in entries {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                if link.is_empty() {
                    builder
                        .append_data(&mut header, name, text.as_bytes())
                        .unwrap();
                } else {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, name, link).unwrap();
                }
            }
            builder.finish().unwrap();
        };
        let (layout, check) = ((LAYOUT.0, "", LAYOUT.1), "usr/share/rear/check/GNU");
        // ReaR 2.9 packs its links twice.
        let link = (check, "../verify/GNU", "");
        make(&[
            layout,
            link,
            link,
            ("usr/share/rear/verify/GNU/a.sh", "", "true"),
        ]);
        import(&path, &root).unwrap();
        let found = fs::read_link(root.join(check)).unwrap();
        assert_eq!(found, Path::new("../verify/GNU"));

        fs::remove_dir_all(&root).unwrap();
        let out = outside.to_str().unwrap();
        make(&[layout, (check, out, ""), (check, "", "written")]);
        import(&path, &root).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");
        assert_eq!(fs::read_to_string(root.join(check)).unwrap(), "written");

        fs::remove_dir_all(&root).unwrap();
        let folder = dir.path().to_str().unwrap();
        make(&[
            layout,
            (check, folder, ""),
            ("usr/share/rear/check/GNU/outside", "", "written"),
        ]);
        let refused = import(&path, &root).unwrap_err();
        assert!(matches!(refused, CaptureError::File { .. }), "{refused:?}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");
    }

    #[test]
    fn a_description_without_rear_may_lie_in_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("a.tar"), dir.path().join("root"));
        let layout = ("web1/var/lib/rear/layout/disklayout.conf", LAYOUT.1);
        archive(
            &path,
            &[layout, ("web1/etc/rear/os.conf", "OS_VENDOR=Debian\n")],
        );
        import(&path, &root).unwrap();
        assert_eq!(place(&root), root);
        assert!(root.join("etc/rear/os.conf").is_file());
    }

    #[test]
    fn names_that_leave_the_folder_and_files_of_other_folders_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("a.tar"), dir.path().join("root"));
        let files = [
            LAYOUT,
            ("etc/rear/../../../escaped.conf", "x"),
            ("etc/shadow", "x"),
            ("etc/rear/cert/site.key", "x"),
        ];
        archive(&path, &files);
        import(&path, &root).unwrap();
        assert!(!dir.path().join("escaped.conf").exists());
        assert!(!root.join("etc/shadow").exists() && !root.join("etc/rear/cert").exists());
    }

    #[test]
    fn what_has_no_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let found = import(dir.path(), &dir.path().join("root")).unwrap_err();
        assert!(found.to_string().contains("disklayout.conf"), "{found}");
        let path = dir.path().join("noise");
        fs::write(&path, [7; 4096]).unwrap();
        let found = import(&path, &dir.path().join("other"));
        assert!(matches!(found, Err(CaptureError::From { .. })), "{found:?}");
    }
}
