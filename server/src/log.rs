//! The server's log: lines on stderr, for people and for a journal that adds the time.

use std::fmt;
use std::io::Write;

/// Writes one line; foreign text in it must have gone through [`clean`]. A log that nobody reads any more stops nothing.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("serve: {line}\n").as_bytes());
}

/// `text` without anything that a terminal would obey or that would look like another line, and of bounded length.
pub(crate) fn clean(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    let harmless = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    let mut clean = String::new();
    for c in text.chars().take(CHARS_MAX) {
        if harmless(c) {
            clean.push(c);
        } else {
            clean.extend(c.escape_default());
        }
    }
    if text.chars().nth(CHARS_MAX).is_some() {
        clean.push_str(" …");
    }
    clean
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_machines_text_cannot_forge_a_line_or_drive_a_terminal() {
        assert_eq!(
            clean("a\nserve: b\x1b[2J\u{202e}"),
            "a\\nserve: b\\u{1b}[2J\\u{202e}"
        );
        assert_eq!(clean("Bücherstube 1.2 \"x\""), "Bücherstube 1.2 \"x\"");
        assert!(clean(&"x".repeat(100_000)).chars().count() < 500);
    }
}
