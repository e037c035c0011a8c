//! Follows the output of a long-running program: the last lines for messages, a bounded log, progress, and signs of life.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::task::JoinHandle;

/// Lines that are kept for a message.
const LINES: usize = 8;

/// Most of a line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 400;

/// Most that is written to the log, in bytes: it is memory.
const LOG_BYTES_MAX: usize = 1 << 20;

/// What takes each line as it comes.
pub(super) type EachLine = Arc<dyn Fn(&str) + Send + Sync>;

/// The output so far.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Seen>>);

struct Seen {
    lines: VecDeque<String>,
    percent: Option<f64>,
    last: Instant,
    log: Option<File>,
    logged: usize,
}

/// Tasks that read; they end with this.
pub(super) struct Readers(Vec<JoinHandle<()>>);

impl Readers {
    /// Reads what is left after the program's end. Something it started may hold the pipes open for ever.
    pub(super) async fn finish(mut self) {
        for task in &mut self.0 {
            let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Output {
    /// An output that is also written to the file at `log`; without a log if that cannot be written.
    pub(super) fn new(log: Option<&Path>) -> Self {
        let log = log.and_then(|path| File::options().create(true).append(true).open(path).ok());
        Self(Arc::new(Mutex::new(Seen {
            lines: VecDeque::new(),
            percent: None,
            last: Instant::now(),
            log,
            logged: 0,
        })))
    }

    /// Reads both streams of `child` from now on.
    pub(super) fn follow(&self, child: &mut Child, each: &EachLine) -> Readers {
        let mut tasks = Vec::new();
        if let Some(stream) = child.stdout.take() {
            tasks.push(tokio::spawn(read(stream, self.clone(), each.clone())));
        }
        if let Some(stream) = child.stderr.take() {
            tasks.push(tokio::spawn(read(stream, self.clone(), each.clone())));
        }
        Readers(tasks)
    }

    /// The last lines, joined.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let seen = self.lock();
        let skip = seen.lines.len().saturating_sub(count);
        let lines: Vec<_> = seen.lines.iter().skip(skip).map(String::as_str).collect();
        lines.join(" | ")
    }

    /// The last number before a `%`.
    pub(super) fn percent(&self) -> Option<f64> {
        self.lock().percent
    }

    /// How long nothing has come.
    pub(super) fn silence(&self) -> Duration {
        self.lock().last.elapsed()
    }

    fn take(&self, line: &str) {
        let mut end = line.len().min(LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let mut seen = self.lock();
        seen.last = Instant::now();
        seen.percent = percent(line).or(seen.percent);
        if seen.logged < LOG_BYTES_MAX {
            seen.logged += line.len() + 1;
            if let Some(log) = &mut seen.log {
                // The lines that matter are in memory too.
                let _ = writeln!(log, "{line}");
            }
        }
        if seen.lines.len() == LINES {
            seen.lines.pop_front();
        }
        seen.lines.push_back(line[..end].to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, output: Output, each: EachLine) {
    let (mut line, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        for &byte in &piece[..read] {
            // Programs that show progress go back to the beginning of a line.
            if byte == b'\n' || byte == b'\r' {
                finish_line(&mut line, &output, &each);
            } else if line.len() < 4 * LINE_BYTES_MAX {
                line.push(byte);
            }
        }
    }
    finish_line(&mut line, &output, &each);
}

fn finish_line(line: &mut Vec<u8>, output: &Output, each: &EachLine) {
    let text = String::from_utf8_lossy(line).trim().to_owned();
    line.clear();
    if !text.is_empty() {
        output.take(&text);
        each(&text);
    }
}

/// The last number before a `%` in a line, from 0 to 100.
fn percent(line: &str) -> Option<f64> {
    let before = &line[..line.rfind('%')?].trim_end();
    let digits = |it: char| !(it.is_ascii_digit() || it == '.');
    let start = before.rfind(digits).map_or(0, |index| {
        index + before[index..].chars().next().map_or(1, char::len_utf8)
    });
    let number: f64 = before[start..].parse().ok()?;
    (0.0..=100.0).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::super::commands;
    use super::*;

    #[test]
    fn percentages_are_found_at_the_end_of_whatever_stands_before() {
        for (line, wanted) in [
            ("restored 12.5% of 3 GB", Some(12.5)),
            ("[####] 7 %", Some(7.0)),
            ("…99%", Some(99.0)),
            ("100%", Some(100.0)),
            ("250%", None),
            ("no number %", None),
            ("nothing", None),
        ] {
            assert_eq!(percent(line), wanted, "{line}");
        }
    }

    #[tokio::test]
    async fn lines_of_both_streams_are_seen_and_the_last_are_kept() {
        let script =
            "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; printf '40%%\\r50%%\\r' >&2";
        let command = ["sh", "-c", script].map(str::to_owned);
        let mut child = commands::command(&command, &[]).unwrap().spawn().unwrap();
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let output = Output::new(None);
        let each: EachLine = Arc::new(move |_| *counted.lock().unwrap() += 1);
        let readers = output.follow(&mut child, &each);
        child.wait().await.unwrap();
        readers.finish().await;
        assert_eq!(*count.lock().unwrap(), 12);
        assert_eq!(output.percent(), Some(50.0));
        assert!(output.last_lines(100).contains("line 10"));
        assert!(!output.last_lines(100).contains("line 1 "));
    }
}
