//! The tree that layers are built of: 735 MB of this machine's own files, copied so that nothing changes them meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::prepare::{Workshop, run};

/// Size of all files, in bytes.
const BYTES: u64 = 735_000_000;

/// Larger files stay out: a compiler's or a browser's one library is not what a rescue system is made of.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where the files are from, in order.
const SOURCES: [&str; 3] = ["/usr/lib", "/usr/share", "/usr/bin"];

/// Makes the tree below the workshop, or uses it again; gives its name there.
pub(crate) fn make(workshop: &Workshop) -> Result<&'static str> {
    let name = "files";
    let tree = workshop.dir.join(name);
    if !tree.exists() {
        let new = workshop.dir.join("files.new");
        let _ = fs::remove_dir_all(&new);
        fill(&new)?;
        fs::rename(&new, &tree)?;
    }
    warm(&tree)?;
    Ok(name)
}

fn fill(tree: &Path) -> Result<()> {
    let mut files = Vec::new();
    for source in SOURCES {
        crate::files::walk(Path::new(source), &mut |path, bytes| {
            files.push((path.to_owned(), bytes));
        })?;
    }
    // In the order of their names, so that whole packages are there, and neighbours are alike.
    files.sort();
    let mut left = BYTES;
    for (path, bytes) in files {
        if bytes > FILE_BYTES_MAX {
            continue;
        }
        let to = tree.join(path.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(&path, &to)?;
        left = left.saturating_sub(bytes);
        if left == 0 {
            return Ok(());
        }
    }
    bail!("this machine has fewer than {BYTES} bytes of files in {SOURCES:?}")
}

/// Reads every file once, so that no side pays for the disk.
fn warm(tree: &Path) -> Result<()> {
    let mut read = Command::new("bash");
    run(read
        .arg("-c")
        .arg("find \"$0\" -type f -exec cat {} + >/dev/null")
        .arg(tree))
}

/// A copy of the tree in which one file in a hundred has another byte, or all files of a folder, about one per cent of the
/// bytes, have grown.
pub(crate) fn change(workshop: &Workshop, tree: &str, how: Change) -> Result<String> {
    let copy = workshop.dir.join("files.changed");
    let _ = fs::remove_dir_all(&copy);
    run(Command::new("cp")
        .arg("-a")
        .arg(workshop.dir.join(tree))
        .arg(&copy))?;
    let mut files = Vec::new();
    crate::files::walk(&copy, &mut |path, bytes| {
        files.push((path.to_owned(), bytes));
    })?;
    files.sort();
    let chosen: Vec<PathBuf> = match how {
        Change::OneInAHundred => files.into_iter().step_by(100).map(|it| it.0).collect(),
        Change::OnePackage => {
            let mut bytes_left = BYTES / 100;
            let middle = files.len() / 2;
            let neighbours = files.into_iter().skip(middle);
            let neighbours = neighbours.take_while(|(_, bytes)| {
                let is_wanted = bytes_left > 0;
                bytes_left = bytes_left.saturating_sub(*bytes);
                is_wanted
            });
            neighbours.map(|it| it.0).collect()
        }
    };
    for path in chosen {
        let mut bytes = fs::read(&path)?;
        match how {
            Change::OneInAHundred => bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Change::OnePackage => bytes.extend_from_slice(b"grown\n"),
        }
        fs::write(&path, bytes)?;
    }
    Ok("files.changed".into())
}

/// What one per cent is.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    OneInAHundred,
    OnePackage,
}
