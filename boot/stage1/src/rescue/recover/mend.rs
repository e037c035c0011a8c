//! What ReaR is known to describe wrongly, put right before it recreates it.

use std::collections::BTreeSet;
use std::fs;

use super::error::{RecoverError, file};
use super::settings::Rear;
use crate::console::Console;
use crate::progress::Progress as _;

/// Puts the layout right, where it has to be.
///
/// # Errors
/// It cannot be read or written.
pub(super) fn layout(console: &Console, rear: &Rear) -> Result<(), RecoverError> {
    let path = rear.layout();
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    let Some(mended) = without_borrowed_labels(&text) else {
        return Ok(());
    };
    console.note(format_args!(
        "the layout gives swap the label of a file system; swap is made without it"
    ));
    fs::write(&path, mended).map_err(file("write", &path))
}

/// ReaR 2.9 gives swap without a label the label of the file system that it described before (its 240_swaps_layout.sh sets
/// `label` only when there is one). Two devices would have it, and a host that mounts by label might start from neither.
fn without_borrowed_labels(text: &str) -> Option<String> {
    let label = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let label = words.find_map(|it| it.strip_prefix("label="));
        label.filter(|it| !it.is_empty()).map(str::to_owned)
    };
    let of = |kind: &str| {
        let start = format!("{kind} ");
        text.lines().filter(move |it| it.starts_with(&start))
    };
    let taken: BTreeSet<_> = of("fs").filter_map(label).collect();
    let is_borrowed = |line: &&str| label(line).is_some_and(|it| taken.contains(&it));
    let borrowed: Vec<_> = of("swap").filter(is_borrowed).collect();
    if borrowed.is_empty() {
        return None;
    }
    let lines = text.lines().map(|line| {
        let words = line.split_ascii_whitespace();
        let without = words.map(|it| match it.strip_prefix("label=") {
            Some(_) => "label=",
            None => it,
        });
        match borrowed.contains(&line) {
            true => without.collect::<Vec<_>>().join(" ") + "\n",
            false => format!("{line}\n"),
        }
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_SYSTEMS: &str = "fs /dev/vda2 /boot ext4 uuid=9d7f label=boot blocksize=1024\n\
                                fs /dev/mapper/vg0-srv /srv xfs uuid=7707 label=  options=rw\n";

    #[test]
    fn swap_gets_no_label_that_a_file_system_has() {
        let layout = |swap: &str| format!("disk /dev/vda 4294967296 gpt\n{FILE_SYSTEMS}{swap}\n");
        let found = without_borrowed_labels(&layout("swap /dev/vda3 uuid=141d label=boot"));
        assert_eq!(found.unwrap(), layout("swap /dev/vda3 uuid=141d label="));
        for right in [
            "swap /dev/vda3 uuid=141d label=",
            "swap /dev/vda3 uuid=141d label=swap",
            "#swap /dev/vda3 uuid=141d label=boot",
        ] {
            assert_eq!(without_borrowed_labels(&layout(right)), None, "{right}");
        }
    }
}
