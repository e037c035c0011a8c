//! Of when the archives' lists are, by what they say themselves.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use jiff::fmt::rfc2822;
use towline_contract::Timestamp;

/// Most bytes of a list's head that are read: its fields, before those of all its files.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// The date of the newest of the archives' signed lists in the folder; none when none says.
///
/// It is the newest because a distribution's release can be months old, and the updates that go with it are of today. So one
/// archive that stands still is hidden by another that does not, for as long as its lists say that they are good: apt refuses
/// them after that, if they say so at all.
pub(super) fn newest(folder: &Path) -> io::Result<Option<Timestamp>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with("_InRelease") || name.ends_with("_Release") {
            newest = newest.max(date(BufReader::new(
                File::open(&path)?.take(HEAD_BYTES_MAX),
            ))?);
        }
    }
    Ok(newest)
}

/// What the list says in its field `Date`.
fn date(list: impl io::BufRead) -> io::Result<Option<Timestamp>> {
    for line in list.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(text) = line.strip_prefix("Date:") {
            return Ok(parsed(text.trim()));
        }
    }
    Ok(None)
}

/// A date as archives write it: like that of a letter, and always in UTC.
fn parsed(text: &str) -> Option<Timestamp> {
    let text = ["UTC", "GMT", "Z"]
        .iter()
        .find_map(|zone| text.strip_suffix(zone))
        .map_or_else(|| text.to_owned(), |it| format!("{it}+0000"));
    rfc2822::parse(&text).ok().map(|it| it.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_list_says_of_when_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), None);
        write(
            "a_InRelease",
            "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: a\nDate: Sat, 10 May 2025 09:38:40 UTC\n",
        );
        write(
            "b_Release",
            "Date: Sun, 1 Nov 2026 08:00:00 +0000\nSHA256:\n Date: Mon, 02 Nov 2026 08:00:00 UTC\n",
        );
        write("b_Packages", "Date: Tue, 03 Nov 2026 08:00:00 UTC\n");
        write("c_InRelease", "Origin: c\n");
        let wanted: Timestamp = "2026-11-01T08:00:00Z".parse().unwrap();
        assert_eq!(newest(dir.path()).unwrap(), Some(wanted));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "yesterday",
            "2026-11-01",
            "Sat, 99 May 2025 09:38:40 UTC",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
