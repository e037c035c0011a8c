//! Asks the person at any of the consoles for a line.

use std::io;
use std::time::Duration;

use futures_util::future::select_all;
use rustix::termios::{QueueSelector, tcflush};
use tokio::net::unix::pipe::Receiver;
use zeroize::Zeroizing;

use super::{Console, open_device};

/// Longest line that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1024;

/// A line that somebody typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The line, without blanks around it.
    pub text: String,
    /// Name of the console it came from, below `/dev`.
    pub console: String,
}

impl Console {
    /// Shows `prompt` and waits for a line from any console; `None` after `patience`. What was typed before the prompt is
    /// thrown away: it was no answer to it.
    pub async fn ask(&self, prompt: &str, patience: Option<Duration>) -> Option<Answer> {
        let inputs = self.inputs();
        for (_, input) in &inputs {
            let _ = tcflush(input, QueueSelector::IFlush);
        }
        self.plain(format_args!("{prompt}"));
        let answer = first_line(&inputs);
        match patience {
            Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
            None => Some(answer.await),
        }
    }

    fn inputs(&self) -> Vec<(String, Receiver)> {
        let open = |name: String| {
            let device = open_device(&name).ok()?;
            // A terminal is waited for like a pipe.
            let input = Receiver::from_owned_fd_unchecked(device).ok()?;
            Some((name, input))
        };
        self.names().into_iter().filter_map(open).collect()
    }
}

/// The first line from any of `inputs`; never, when none of them works.
async fn first_line(inputs: &[(String, Receiver)]) -> Answer {
    if inputs.is_empty() {
        return std::future::pending().await;
    }
    let lines = inputs
        .iter()
        .map(|(name, input)| Box::pin(line(name, input)));
    select_all(lines).await.0
}

/// The next line of one console. The terminal itself handles echo and erasing.
async fn line(console: &str, input: &Receiver) -> Answer {
    // It may be a recovery code.
    let mut bytes = Zeroizing::new(vec![0; ANSWER_BYTES_MAX]);
    match read(input, &mut bytes).await {
        // A console that has hung up answers nothing; the others may.
        Ok(0) | Err(_) => std::future::pending().await,
        Ok(read) => Answer {
            text: String::from_utf8_lossy(&bytes[..read]).trim().to_owned(),
            console: console.to_owned(),
        },
    }
}

async fn read(input: &Receiver, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        input.readable().await?;
        match input.try_read(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
