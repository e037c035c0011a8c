//! Immutable files: whole or a single range (RFC 9110, section 14), read in large pieces beside the runtime.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, RANGE,
};
use hyper::{Method, Response, StatusCode};

use super::answer::{Body, Fault, empty, full};

/// Bytes read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 2;

/// What a request for a file asks.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) content_type: &'static str,
    /// Digest or other name of these very bytes; none for a file that is replaced.
    pub(crate) etag: Option<String>,
}

/// The file at `path`.
pub(crate) fn file(path: &Path, asked: &Asked<'_>) -> Result<Response<Body>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::theirs(
                StatusCode::NOT_FOUND,
                "there is no such file here",
            ));
        }
        Err(error) => return Err(Fault::ours(&error)),
    };
    let length = file.metadata().map_err(|error| Fault::ours(&error))?.len();
    if let Some(etag) = &asked.etag
        && asked
            .headers
            .get(IF_NONE_MATCH)
            .is_some_and(|given| given.as_bytes() == quoted(etag).as_bytes())
    {
        return Ok(empty(StatusCode::NOT_MODIFIED));
    }
    let range = match wanted(asked.headers, length) {
        Wanted::All => None,
        Wanted::Range(start, end) => Some((start, end)),
        Wanted::Impossible => {
            let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
            return Ok(response);
        }
    };
    let (start, bytes) = range.map_or((0, length), |(start, end)| (start, end - start + 1));
    let body = if asked.method == Method::HEAD {
        full(Vec::new())
    } else {
        stream(file, start, bytes)
    };
    let mut response = Response::new(body);
    if let Some((start, end)) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(
            &mut response,
            CONTENT_RANGE,
            &format!("bytes {start}-{end}/{length}"),
        );
    }
    set(&mut response, CONTENT_LENGTH, &bytes.to_string());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(asked.content_type));
    response
        .headers_mut()
        .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let caching = match &asked.etag {
        Some(etag) => {
            set(&mut response, ETAG, &quoted(etag));
            "public, max-age=31536000, immutable"
        }
        None => "no-cache",
    };
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    Ok(response)
}

enum Wanted {
    All,
    Range(u64, u64),
    Impossible,
}

/// The one range asked for. Several ranges, or none that can be read, mean the whole (RFC 9110, section 14.2).
fn wanted(headers: &HeaderMap, length: u64) -> Wanted {
    let Some(text) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::All;
    };
    let Ok(parsed) = http_range_header::parse_range_header(text) else {
        return Wanted::All;
    };
    if parsed.ranges.len() > 1 {
        return Wanted::All;
    }
    match parsed.validate(length) {
        Ok(ranges) => ranges.first().map_or(Wanted::All, |range| {
            Wanted::Range(*range.start(), *range.end())
        }),
        Err(_) => Wanted::Impossible,
    }
}

/// `bytes` bytes of `file` from `start`, read by a thread that may wait for the disk.
fn stream(file: File, start: u64, bytes: u64) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(PIECES_AHEAD);
    tokio::task::spawn(async move {
        let file = std::sync::Arc::new(file);
        let end = start + bytes;
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            let source = file.clone();
            let read = tokio::task::spawn_blocking(move || piece(&source, at, want)).await;
            match read.map_err(io::Error::other).flatten() {
                Ok(piece) => {
                    at += piece.len() as u64;
                    if sender.send_data(piece).await.is_err() {
                        return; // the client went away
                    }
                }
                Err(error) => return sender.abort(error),
            }
        }
    });
    body.boxed()
}

fn piece(file: &File, at: u64, want: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(want);
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.freeze())
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn set(response: &mut Response<Body>, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
