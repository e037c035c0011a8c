//! Paths as bytes: their parts, their parents, and how to show them.

/// A path for people.
#[must_use]
pub fn display(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// The parts of a path that are names or `..`.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// `path` relative to the root, without empty parts and `.`; none when it has `..` or a NUL.
pub(super) fn normalise(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<_> = components(path).collect();
    let bad = path.contains(&0) || parts.contains(&b"..".as_slice());
    (!bad).then(|| parts.join(b"/".as_slice()))
}

/// The directories that lead to `path`, outermost first.
pub(super) fn parents(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}
