//! Self-extracting archives, made by makeself itself: unpacked without being run, or refused.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use towline_initramfs::stored;

use crate::deb::tarball;
use crate::support::{Workshop, messages, output};

/// A licence whose lines look like those by which an archive describes itself.
const LICENCE: &str =
    "You may:\nfilesizes=\"1\"\nskip=\"3\"\nhead -n 4 \"$0\"\nSHA=\"00\"\nuse it, `touch ran`.\n";

/// A folder of an agent; its installer would leave a trace.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let ran = workshop.path("ran");
    let installer = format!("#!/bin/sh\ntouch {}\n", ran.display());
    let installer = workshop.write("agent/install.sh", installer);
    fs::set_permissions(installer, PermissionsExt::from_mode(0o755)).unwrap();
    workshop.write("agent/lib/data", "data of the agent\n".repeat(1000));
    workshop.write("licence", LICENCE);
    workshop
}

/// What makeself makes of the folder.
fn archive(workshop: &Workshop, name: &str, options: &[&str]) -> PathBuf {
    let label = "An agent's \"installer\"";
    output(
        Command::new("makeself")
            .args(["--quiet", "--nox11", "--license", "licence"])
            .args(options)
            .args(["agent", name, label, "./install.sh", "--all"])
            .env("TMPDIR", workshop.dir.path())
            .current_dir(workshop.dir.path()),
    );
    workshop.path(name)
}

fn recipe(file: &str) -> String {
    format!(
        "kind = \"extra\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 1\n\
         [[source]]\ntype = \"run\"\nfile = \"{file}\"\nto = \"opt/agent\"\n"
    )
}

/// Names, modes and owners of what is built of the archive.
fn built(workshop: &Workshop, file: &str) -> Vec<String> {
    let built = workshop.build(&recipe(file)).unwrap();
    let mut rows = Vec::new();
    stored::list(&built.layer, |entry, _| {
        rows.push(format!(
            "{} {:o} {}",
            entry.display_name(),
            entry.mode,
            entry.uid
        ));
    })
    .unwrap();
    rows
}

fn refusal(workshop: &Workshop, file: &str) -> String {
    messages(&workshop.build(&recipe(file)).unwrap_err())
}

#[test]
fn archives_of_makeself_are_unpacked_whatever_their_compression_and_not_run() {
    let workshop = workshop();
    for options in [
        &["--gzip"][..],
        &["--bzip2"],
        &["--xz", "--complevel", "1"],
        &["--zstd", "--complevel", "1"],
        &["--nocomp"],
        &["--sha256"],
        &["--nomd5", "--nocrc"],
        &["--current", "--notemp", "--copy", "--needroot"],
    ] {
        archive(&workshop, "agent.run", options);
        assert_eq!(
            built(&workshop, "agent.run"),
            [
                "opt 40755 0",
                "opt/agent 40755 0",
                "opt/agent/install.sh 100755 0",
                "opt/agent/lib 40755 0",
                "opt/agent/lib/data 100644 0",
            ],
            "{options:?}"
        );
    }
    assert!(!workshop.path("ran").exists(), "nothing was run");
}

/// The script of an archive without digests, the number of its lines, and the tarball behind it.
fn parts(workshop: &Workshop) -> (String, usize, Vec<u8>) {
    let options = ["--nocomp", "--nomd5", "--nocrc"];
    let whole = fs::read(archive(workshop, "agent.run", &options)).unwrap();
    let skip = whole
        .split(|byte| *byte == b'\n')
        .find_map(|line| std::str::from_utf8(line).ok()?.strip_prefix("skip=\""));
    let lines: usize = skip.unwrap().trim_matches('"').parse().unwrap();
    let mut ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let (end, _) = ends.nth(lines - 1).unwrap();
    let script = String::from_utf8(whole[..=end].to_vec()).unwrap();
    (script, lines, whole[end + 1..].to_vec())
}

#[test]
fn a_damaged_archive_without_digests_is_refused_by_its_compressions_own_check() {
    let workshop = workshop();
    let (script, _, tar) = parts(&workshop);
    // Bytes as they are, so that a changed one is still a tarball.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&tar).unwrap();
    let mut gzip = gzip.finish().unwrap();
    let of = |bytes: &[u8]| format!("filesizes=\"{}\"", bytes.len());
    let script = script.replace(&of(&tar), &of(&gzip));
    workshop.write("agent.run", [script.as_bytes(), &gzip].concat());
    assert_eq!(built(&workshop, "agent.run").len(), 5);
    let text = b"data of the agent";
    let at = gzip.windows(text.len()).position(|it| it == text).unwrap();
    gzip[at] = b'D';
    workshop.write("agent.run", [script.as_bytes(), &gzip].concat());
    let text = refusal(&workshop, "agent.run");
    assert!(
        text.contains("cannot unpack") && text.contains("corrupt"),
        "{text}"
    );
}

#[test]
fn archives_of_older_makeselfs_and_with_several_parts_are_unpacked() {
    let workshop = workshop();
    let (script, lines, first) = parts(&workshop);
    // In older versions the number stands in each place that needs it.
    let script = script.replace(&format!("skip=\"{lines}\""), "").replace(
        "head -n \"$skip\" \"$0\"",
        &format!("head -n {lines} \"$0\""),
    );
    workshop.write("old.run", [script.as_bytes(), &first].concat());
    assert_eq!(built(&workshop, "old.run").len(), 5);

    let second = tarball(&[("./more/file", b"of the second part")]);
    let sizes = format!("filesizes=\"{} {}\"", first.len(), second.len());
    let script = script.replace(&format!("filesizes=\"{}\"", first.len()), &sizes);
    workshop.write("two.run", [script.as_bytes(), &first, &second].concat());
    let rows = built(&workshop, "two.run");
    assert!(
        rows.contains(&"opt/agent/more/file 100644 0".to_owned()) && rows.len() == 7,
        "{rows:?}"
    );
}

#[test]
fn a_damaged_or_cut_archive_of_makeself_is_refused_with_both_figures() {
    let workshop = workshop();
    for (options, sum) in [(&["--nomd5", "--sha256"][..], "SHA-256"), (&[], "MD5")] {
        let whole = fs::read(archive(&workshop, "agent.run", options)).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        workshop.write("damaged.run", damaged);
        let text = refusal(&workshop, "damaged.run");
        assert!(
            text.contains(&format!("damaged.run is damaged: its {sum} is"))
                && text.contains("its script says"),
            "{text}"
        );
        workshop.write("cut.run", &whole[..whole.len() - 100]);
        let text = refusal(&workshop, "cut.run");
        let sizes = format!(
            "cut.run has {} bytes, but its script says {}",
            whole.len() - 100,
            whole.len()
        );
        assert!(text.contains(&sizes), "{text}");
        workshop.write("longer.run", [&whole[..], b"more"].concat());
        let text = refusal(&workshop, "longer.run");
        assert!(text.contains("its script says"), "{text}");
    }
    assert!(!workshop.path("ran").exists());
    assert_eq!(
        fs::read_dir(workshop.path("out")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn an_archive_that_only_its_script_can_unpack_is_refused_with_the_reason() {
    let workshop = workshop();
    archive(&workshop, "base64.run", &["--base64"]);
    let text = refusal(&workshop, "base64.run");
    assert!(
        text.contains("cannot be unpacked without running it: its compression is \"base64\""),
        "{text}"
    );
    let password = ["--ssl-encrypt", "--ssl-passwd", "secret"];
    archive(&workshop, "encrypted.run", &password);
    let text = refusal(&workshop, "encrypted.run");
    assert!(text.contains("it is encrypted by \"openssl\""), "{text}");
}

#[test]
fn what_is_no_archive_of_makeself_is_refused_with_the_reason() {
    let workshop = workshop();
    for (content, says) in [
        (&b""[..], "it is no script"),
        (b"\x7fELF", "it is no script"),
        (b"#!/bin/sh\necho hello\n", "how many lines its script has"),
        (
            b"#!/bin/sh\nskip=\"many\"\n",
            "how many lines its script has",
        ),
        (b"#!/bin/sh\nskip=\"0\"\n", "should have 0 lines"),
        (
            b"#!/bin/sh\nskip=\"9\"\nmore\n",
            "should have 9 lines, but its first 24 bytes have 3",
        ),
        (b"#!/bin/sh\nskip=\"2\"\nmore\n", "how large"),
        (b"#!/bin/sh\nfilesizes=\"-1\"\nskip=\"3\"\n", "`filesizes`"),
        (b"#!/bin/sh\nfilesizes=\"\"\nskip=\"3\"\n", "it has 0 parts"),
        (
            b"#!/bin/sh\nfilesizes=\"1\"\nMD5=\"12\"\nskip=\"4\"\nx",
            "`MD5`",
        ),
        (
            b"#!/bin/sh\nfilesizes=\"1\"\nSHA=\"12\"\nskip=\"4\"\nx",
            "`SHA`",
        ),
        (
            b"#!/bin/sh\nfilesizes=\"18446744073709551615\"\nskip=\"3\"\n",
            "but its script says 18446744073709551615",
        ),
        (
            b"#!/bin/sh\nfilesizes=\"5\"\nskip=\"3\"\nhello",
            "cannot unpack",
        ),
    ] {
        workshop.write("other.run", content);
        let text = refusal(&workshop, "other.run");
        assert!(
            text.contains(says) && text.contains("other.run"),
            "{says}: {text}"
        );
    }
}

#[test]
fn an_archive_of_makeself_is_refused_with_the_reason_wherever_it_is_cut() {
    let workshop = workshop();
    let whole = fs::read(archive(&workshop, "agent.run", &[])).unwrap();
    for length in (0..whole.len()).step_by(997) {
        workshop.write("cut.run", &whole[..length]);
        let text = refusal(&workshop, "cut.run");
        let says = [
            "cut.run is no archive of makeself",
            &format!("cut.run has {length} bytes, but its script says"),
        ];
        assert!(says.iter().any(|it| text.contains(it)), "{length}: {text}");
    }
}
