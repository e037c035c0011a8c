//! The machine's serial console as lines.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// Longest line kept, in bytes; what follows starts a new one.
const LINE_BYTES_MAX: usize = 4096;

/// Lines that an error shows.
const TAIL_LINES: usize = 30;

/// Lines as they come, and all that came.
#[derive(Default)]
pub(crate) struct Console {
    lines: Option<Receiver<String>>,
    seen: Vec<String>,
}

/// What came next.
pub(crate) enum Next {
    /// A line, without control sequences.
    Line(String),
    /// Nothing until the deadline.
    Deadline,
    /// The machine is off.
    End,
}

impl Console {
    /// Reads `out` in a thread of its own, so that the machine never waits for its reader; copies it to `log`.
    pub(crate) fn follow(mut out: impl Read + Send + 'static, mut log: File) -> Self {
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut splitter = Splitter::default();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                // The log is for people; a full disk must not stop the machine.
                let _ = log.write_all(&buffer[..count]);
                for line in splitter.feed(&buffer[..count]) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            }
            let _ = send.send(splitter.rest());
        });
        Self {
            lines: Some(lines),
            seen: Vec::new(),
        }
    }

    pub(crate) fn next(&mut self, deadline: Instant) -> Next {
        let Some(lines) = &self.lines else {
            return Next::End;
        };
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen.push(line.clone());
                Next::Line(line)
            }
            Err(RecvTimeoutError::Timeout) => Next::Deadline,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    pub(crate) fn seen(&self) -> &[String] {
        &self.seen
    }

    pub(crate) fn tail(&self) -> String {
        self.seen[self.seen.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// Cuts bytes into lines at line feeds and carriage returns, dropping empty ones and ECMA-48 control sequences.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    escape: Escape,
}

#[derive(Default, PartialEq)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            self.escape = match (&self.escape, byte) {
                (Escape::None, 0x1b) => Escape::Started,
                (Escape::Started, b'[') => Escape::Sequence,
                (Escape::Sequence, 0x40..=0x7e) | (Escape::Started, _) => Escape::None,
                (Escape::Sequence, _) => Escape::Sequence,
                (Escape::None, b'\n' | b'\r') => {
                    lines.extend(self.take());
                    Escape::None
                }
                (Escape::None, _) => {
                    self.line.push(*byte);
                    if self.line.len() >= LINE_BYTES_MAX {
                        lines.extend(self.take());
                    }
                    Escape::None
                }
            };
        }
        lines
    }

    fn take(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    fn rest(mut self) -> String {
        self.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_in_pieces_of_any_size_and_control_sequences_dropped() {
        let bytes = b"\x1b[2J\x1b[01;01Hfirst\r\nsec\x1b[0mond\n\nlast";
        for size in 1..bytes.len() {
            let mut splitter = Splitter::default();
            let mut lines: Vec<String> = bytes
                .chunks(size)
                .flat_map(|piece| splitter.feed(piece))
                .collect();
            lines.push(splitter.rest());
            assert_eq!(lines, ["first", "second", "last"]);
        }
    }
}
