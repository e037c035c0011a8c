//! What the script at the beginning of an archive of makeself says of what is behind it.

use towline_contract::Digest;

/// Most tarballs behind one script. makeself writes one; its scripts would read any number.
const PARTS_MAX: usize = 64;

/// Hex digits of an MD5.
const MD5_DIGITS: usize = 32;

/// What a script says of the archive behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the script.
    pub(super) bytes: u64,
    pub(super) parts: Vec<Part>,
    pub(super) compression: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) script: String,
}

/// One tarball.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: u64,
    pub(super) sha256: Option<Digest>,
    pub(super) md5: Option<String>,
}

impl Header {
    /// Reads the script at the beginning of a file; an error says what is wrong with it.
    pub(super) fn read(start: &[u8]) -> Result<Self, String> {
        let script = script(start)?;
        let lines: Vec<_> = script
            .split(|byte| *byte == b'\n')
            .map(String::from_utf8_lossy)
            .collect();
        let value = |name: &str| lines.iter().find_map(|line| assigned(line, name));
        let said = |what: &str| {
            let found = lines.iter().find_map(|line| line.trim().strip_prefix(what));
            found.map(|it| it.trim().to_owned())
        };
        let is_none = |name: &String| name.is_empty() || name == "n";
        let encryption = said("echo Encryption: ").filter(|name| !is_none(name));
        let decrypted = value("decrypt_cmd").filter(|command| !command.is_empty());
        Ok(Self {
            bytes: script.len() as u64,
            parts: parts(&value)?,
            compression: said("echo Compression: "),
            encryption: encryption.or(decrypted.map(str::to_owned)),
            script: value("script").unwrap_or_default().to_owned(),
        })
    }
}

/// The script's own lines.
fn script(start: &[u8]) -> Result<&[u8], String> {
    if !start.starts_with(b"#!") {
        return Err("it is no script".into());
    }
    let count = lines_of_script(start).ok_or("it does not say how many lines its script has")?;
    let mut ends = start.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let lines = ends.clone().count();
    let last = count.checked_sub(1).and_then(|last| ends.nth(last));
    last.map(|(end, _)| &start[..=end]).ok_or_else(|| {
        let bytes = start.len();
        format!("its script should have {count} lines, but its first {bytes} bytes have {lines}")
    })
}

/// The tarballs behind the script, by its assignments.
fn parts<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Result<Vec<Part>, String> {
    let sizes = value("filesizes");
    let sizes = sizes.ok_or("it does not say how large what is behind its script is")?;
    let sizes = sizes.split_whitespace().map(str::parse);
    let sizes: Vec<u64> = sizes
        .collect::<Result<_, _>>()
        .map_err(|cause| format!("`filesizes`: {cause}"))?;
    if sizes.is_empty() || sizes.len() > PARTS_MAX {
        let parts = sizes.len();
        return Err(format!(
            "it has {parts} parts, and can have 1 to {PARTS_MAX}"
        ));
    }
    let sum = |name, number| {
        let sums = value(name).unwrap_or_default();
        let sum = sums.split_whitespace().nth(number);
        // Zeros stand for none.
        sum.filter(|sum| sum.bytes().any(|digit| digit != b'0'))
    };
    let part = |(number, bytes)| {
        let sha256 = sum("SHA", number).map(str::parse).transpose();
        Ok(Part {
            bytes,
            sha256: sha256.map_err(|cause| format!("`SHA`: {cause}"))?,
            md5: sum("MD5", number).map(md5).transpose()?,
        })
    };
    sizes.into_iter().enumerate().map(part).collect()
}

fn md5(text: &str) -> Result<String, String> {
    let is_md5 = text.len() == MD5_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_md5 {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("`MD5`: {text:?} is no MD5")),
    }
}

/// The value of `NAME="VALUE"`, as makeself writes it. A licence in the script has no such line: its quotes are escaped.
fn assigned<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?
        .strip_prefix("=\"")?
        .strip_suffix('"')
}

/// How many lines of the file are the script: `skip="713"`, or in older versions `head -n 587 "$0"`.
fn lines_of_script(start: &[u8]) -> Option<usize> {
    let in_older = |line: &str| {
        let (_, rest) = line.split_once("head -n ")?;
        rest.split_once(" \"$0\"")?.0.parse::<usize>().ok()
    };
    // The first counts: what follows the script may look like anything.
    let lines = start.split(|byte| *byte == b'\n');
    lines.map(String::from_utf8_lossy).find_map(|line| {
        let count = assigned(&line, "skip");
        count.map_or_else(|| in_older(&line), |count| count.parse().ok())
    })
}
