//! Makes foreign text harmless for a terminal.

use std::fmt::Write as _;

/// Longest line that is shown, in bytes; what a server or a driver says may be longer.
const LINE_BYTES_MAX: usize = 1000;

/// `text` on one line, with control characters, bytes that reorder text, and everything that is neither a letter, a digit
/// nor printable ASCII spelled out.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len() > LINE_BYTES_MAX {
            out.push_str("...");
            break;
        }
        match c {
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "{}", c.escape_default());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn terminal_sequences_lines_and_reordering_marks_are_spelled_out() {
        assert_eq!(
            escaped("a\x1b[2Jb\nc\r\u{202e}d"),
            r"a\u{1b}[2Jb\nc\r\u{202e}d"
        );
        assert_eq!(escaped("C1 \u{9b}2J"), r"C1 \u{9b}2J");
    }

    #[test]
    fn letters_of_any_language_stay_readable() {
        assert_eq!(escaped("Zürich, 東京: 'ok'"), "Zürich, 東京: 'ok'");
    }

    #[test]
    fn an_endless_line_is_cut() {
        assert!(escaped(&"x".repeat(1 << 20)).len() < 1100);
    }
}
