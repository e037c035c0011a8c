//! HTTP answers: what stage 1 takes from a connection is bounded, and is what was in the answer. Reading heads is hyper's;
//! statuses, ranges, bounds and what is passed over are ours.

use std::cell::RefCell;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use towline_stage1::fetch::{Connection, FetchError, Patience, Server};

use crate::cursor::Cursor;

const STATUSES: [u16; 8] = [200, 200, 206, 206, 204, 301, 404, 503];

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
}

/// Panics when one of the properties does not hold. The first byte chooses: an answer as it comes, or one whose content is
/// known; for a document or for a stream.
pub fn check(bytes: &[u8]) {
    let mut cursor = Cursor(bytes);
    let (form, start, max) = (
        cursor.byte(),
        u64::from(cursor.byte()),
        u64::from(cursor.byte()),
    );
    let start = start & 0x1f;
    let answer = match form & 1 {
        0 => Answer::raw(cursor.0),
        _ => Answer::made(&mut cursor, start),
    };
    let piece = if form & 4 == 0 { usize::MAX } else { 7 };
    let done = async {
        if form & 2 == 0 {
            check_document(&answer, max, piece).await;
        } else {
            check_stream(&answer, start, piece).await;
        }
    };
    RUNTIME.with_borrow(|runtime| runtime.block_on(done));
}

/// The bytes of an answer, and what they mean if that is known.
struct Answer {
    bytes: Vec<u8>,
    meaning: Option<Meaning>,
}

struct Meaning {
    status: u16,
    /// What the body is, as far as it comes.
    body: Vec<u8>,
    /// Whether it comes to its end.
    complete: bool,
    /// Whether the answer says that it begins where it was asked to.
    in_range: bool,
}

impl Answer {
    fn raw(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            meaning: None,
        }
    }

    fn made(cursor: &mut Cursor<'_>, start: u64) -> Self {
        let (status, range, framing) = (cursor.pick(&STATUSES), cursor.byte() % 8, cursor.byte());
        let body = if status == 204 { &[] } else { cursor.0 };
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        let range = match range {
            0..=2 => Some(format!("bytes {start}-{}/*", start + 9)),
            3 => Some(format!("bytes {start}0-99/100")),
            4 => Some(format!("bytes {}-99/100", start + 1)),
            5 => Some(format!("bytes={start}-")),
            6 => Some(format!("items {start}-9")),
            _ => None,
        };
        if let Some(range) = &range {
            head += &format!("content-range: {range}\r\n");
        }
        let (mut complete, mut framed) = (true, body.to_vec());
        match framing % 4 {
            0 if status != 204 => head += &format!("content-length: {}\r\n", body.len()),
            1 if status != 204 => {
                head += &format!("content-length: {}\r\n", body.len() + 1);
                complete = false;
            }
            2 if status != 204 => {
                head += "transfer-encoding: chunked\r\n";
                complete = framing & 4 == 0;
                framed = chunked(body, usize::from(framing >> 3) + 1, complete);
            }
            _ => head += "connection: close\r\n",
        }
        head += "\r\n";
        let in_range = range.is_some_and(|it| it.starts_with(&format!("bytes {start}-")));
        Self {
            bytes: [head.into_bytes(), framed].concat(),
            meaning: Some(Meaning {
                status,
                body: body.to_vec(),
                complete,
                in_range,
            }),
        }
    }
}

fn chunked(body: &[u8], size: usize, complete: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    if complete {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}

/// A connection whose other end answers its first request with these bytes, so many at once, and hangs up.
async fn connect(answer: &[u8], piece: usize) -> Connection {
    let (ours, theirs) = duplex(128 << 10);
    tokio::spawn(serve(theirs, answer.to_vec(), piece));
    let server = Server::parse("http://backup.example").expect("a server");
    let connection = Connection::start(&server, ours, Patience::default());
    connection.await.expect("it can be started")
}

async fn serve(mut stream: DuplexStream, answer: Vec<u8>, piece: usize) {
    let mut request = [0; 4096];
    // All of a request without a body comes at once.
    let _ = stream.read(&mut request).await;
    for part in answer.chunks(piece) {
        if stream.write_all(part).await.is_err() {
            return;
        }
        if piece < answer.len() {
            tokio::task::yield_now().await;
        }
    }
}

async fn check_document(answer: &Answer, max: u64, piece: usize) {
    let mut connection = connect(&answer.bytes, piece).await;
    let found = connection.find("/v1/metadata/1.root.json", max).await;
    if let Ok(Some(document)) = &found {
        assert!(document.len() as u64 <= max, "more than its bound");
    }
    let Some(meaning) = &answer.meaning else {
        return;
    };
    let bytes = meaning.body.len() as u64;
    match (meaning.status, found) {
        (200 | 204 | 206, Ok(Some(document))) => {
            assert_eq!(document, meaning.body);
            assert!(meaning.complete);
        }
        (200 | 204 | 206, Err(FetchError::TooLarge { .. })) => assert!(bytes > max),
        (200 | 204 | 206, Err(_)) => assert!(!meaning.complete),
        (404, Ok(None)) => {}
        (status, Err(FetchError::Status { status: told, .. })) => assert_eq!(status, told),
        (status, other) => panic!("{status}: {other:?}"),
    }
}

async fn check_stream(answer: &Answer, start: u64, piece: usize) {
    let connection = connect(&answer.bytes, piece).await;
    let stream = connection.stream("/v1/layers/x", start).await;
    let mut stream = match (stream, &answer.meaning) {
        (Ok(stream), _) => stream,
        (Err(_), None) => return,
        (Err(FetchError::Range { .. }), Some(meaning)) => {
            assert!(meaning.status == 206 && !meaning.in_range);
            return;
        }
        (Err(FetchError::Status { status, .. }), Some(meaning)) => {
            assert!(status == meaning.status && ![200, 206].contains(&status));
            return;
        }
        (Err(refused), Some(_)) => panic!("{refused:?}"),
    };
    let mut found = Vec::new();
    let complete = loop {
        match stream.next().await {
            Ok(Some(bytes)) => found.extend_from_slice(&bytes),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(found.len() <= answer.bytes.len());
    if let Some(meaning) = &answer.meaning {
        let skip = match meaning.status {
            200 => usize::try_from(start).unwrap_or(usize::MAX),
            206 if meaning.in_range => 0,
            status => panic!("a stream of an answer with status {status}"),
        };
        let wanted = meaning.body.get(skip..).unwrap_or_default();
        assert_eq!(complete, meaning.complete);
        assert!(wanted.starts_with(&found) && (!complete || found == wanted));
    }
}
