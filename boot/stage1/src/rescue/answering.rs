//! For tests of reports: a server that gives the answers it is told to, one after the other, and counts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Added to a status: it comes without the words of a server of ours, as from who stands before one.
pub(crate) const BARE: u16 = 1000;

/// A server; it takes nothing any more after its last answer.
pub(crate) struct Answering {
    /// Its base URL.
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Answering {
    /// Starts on loopback; its answers have these statuses.
    pub(crate) fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let it = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            asked: asked.clone(),
        };
        let statuses = statuses.to_vec();
        std::thread::spawn(move || {
            for status in statuses {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut piece) = (Vec::new(), [0; 4096]);
                // An event ends with the only brace that closes one.
                while !request.ends_with(b"}") {
                    match stream.read(&mut piece).unwrap() {
                        0 => break,
                        length => request.extend_from_slice(&piece[..length]),
                    }
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let words = match status {
                    400..BARE => r#"{"message": "no"}"#,
                    _ => "",
                };
                let answer = format!(
                    "HTTP/1.1 {} It\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{words}",
                    status % BARE,
                    words.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        it
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}
