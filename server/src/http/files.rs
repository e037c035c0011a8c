//! Immutable files: whole or a single range (RFC 9110, sections 13 and 14), read in large pieces beside the runtime.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use http_range_header::{EndPosition, StartPosition, SyntacticallyCorrectRange};
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use hyper::{Method, Response, StatusCode};

use super::answer::{Body, Fault, full};
use super::pool::{self, PIECE_BYTES, Pool};

/// Files up to this size are answered at once, without another thread.
const SMALL_BYTES: u64 = 64 << 10;

/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 2;

/// What a request for a file asks.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) content_type: &'static str,
    /// Name of these very bytes; none for a file that is replaced.
    pub(super) etag: Option<String>,
}

/// The file at `path`.
pub(super) fn file(
    path: &Path,
    asked: &Asked<'_>,
    pool: &Arc<Pool>,
) -> Result<Response<Body>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::not_found()),
        Err(error) => return Err(Fault::ours(&error)),
    };
    let length = file.metadata().map_err(|error| Fault::ours(&error))?.len();
    let etag = asked.etag.as_ref().map(|name| format!("\"{name}\""));
    let decision = decide(asked.method, asked.headers, length, etag.as_deref());

    let send = |range: Range<u64>| match *asked.method {
        Method::HEAD => Ok(full(Vec::new())),
        _ => body(file, range, pool),
    };
    let (status, body, bytes) = match &decision {
        Decision::NotModified => (StatusCode::NOT_MODIFIED, full(Vec::new()), None),
        Decision::Unsatisfiable => {
            return Ok(with(
                Fault::theirs(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    format!("the file has {length} bytes"),
                )
                .into_response(),
                &[(CONTENT_RANGE, &format!("bytes */{length}"))],
            ));
        }
        Decision::Whole => (StatusCode::OK, send(0..length)?, Some(length)),
        Decision::Part(range) => (
            StatusCode::PARTIAL_CONTENT,
            send(range.clone())?,
            Some(range.end - range.start),
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Decision::Part(Range { start, end }) = decision {
        let range = format!("bytes {start}-{}/{length}", end - 1);
        response = with(response, &[(CONTENT_RANGE, &range)]);
    }
    if let Some(bytes) = bytes {
        let described = [
            (CONTENT_LENGTH, &*bytes.to_string()),
            (CONTENT_TYPE, asked.content_type),
            (ACCEPT_RANGES, "bytes"),
        ];
        response = with(response, &described);
    }
    Ok(match &etag {
        Some(etag) => with(
            response,
            &[
                (ETAG, etag),
                (CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
        ),
        None => with(response, &[(CACHE_CONTROL, "no-cache")]),
    })
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    NotModified,
    Unsatisfiable,
    Whole,
    Part(Range<u64>),
}

/// Decides what a client gets of a file of `length` bytes. Several ranges, or none that can be read, mean the whole.
fn decide(method: &Method, headers: &HeaderMap, length: u64, etag: Option<&str>) -> Decision {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let (Some(etag), Some(known)) = (etag, header(IF_NONE_MATCH)) {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/") == etag;
        if known.trim() == "*" || known.split(',').any(weak) {
            return Decision::NotModified;
        }
    }
    // Only GET has ranges; a range of other bytes than the client's is of no use to it.
    let (Some(range), &Method::GET) = (header(RANGE), method) else {
        return Decision::Whole;
    };
    if header(IF_RANGE).is_some_and(|wanted| Some(wanted) != etag) {
        return Decision::Whole;
    }
    let Ok(parsed) = http_range_header::parse_range_header(range) else {
        return Decision::Whole;
    };
    match parsed.ranges.as_slice() {
        [one] => cut(one, length),
        _ => Decision::Whole,
    }
}

/// The part of `length` bytes that one range means. The crate's own `validate` gives an empty file a first byte, and refuses
/// the last 500 bytes of a shorter file.
fn cut(range: &SyntacticallyCorrectRange, length: u64) -> Decision {
    let start = match range.start {
        StartPosition::Index(start) => start,
        StartPosition::FromLast(bytes) => length.saturating_sub(bytes),
    };
    let end = match range.end {
        EndPosition::Index(last) if last < start => return Decision::Whole,
        EndPosition::Index(last) => last.saturating_add(1).min(length),
        EndPosition::LastByte => length,
    };
    if start < end {
        Decision::Part(start..end)
    } else {
        Decision::Unsatisfiable
    }
}

/// The bytes of `file` in `range`.
fn body(file: File, range: Range<u64>, pool: &Arc<Pool>) -> Result<Body, Fault> {
    if range.end - range.start > SMALL_BYTES {
        return Ok(stream(file, range, pool.clone()));
    }
    let bytes = pool::read(pool, &file, range.start, piece_bytes(&range));
    let bytes = bytes.map_err(|error| Fault::ours(&error))?;
    Ok(Full::new(bytes).map_err(|never| match never {}).boxed())
}

/// The same, read piece by piece by threads that may wait for the disk.
fn stream(file: File, mut range: Range<u64>, pool: Arc<Pool>) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(PIECES_AHEAD);
    let file = Arc::new(file);
    tokio::spawn(async move {
        while !range.is_empty() {
            let (file, pool, at) = (file.clone(), pool.clone(), range.start);
            let bytes = piece_bytes(&range);
            let read = move || pool::read(&pool, &file, at, bytes);
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(piece)) => {
                    range.start += piece.len() as u64;
                    if sender.send_data(piece).await.is_err() {
                        return; // the client went away
                    }
                }
                Ok(Err(error)) => return sender.abort(error),
                Err(error) => return sender.abort(io::Error::other(error)),
            }
        }
    });
    body.boxed()
}

/// Size of the next piece of `range`.
fn piece_bytes(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).map_or(PIECE_BYTES, |bytes| bytes.min(PIECE_BYTES))
}

fn with(mut response: Response<Body>, headers: &[(HeaderName, &str)]) -> Response<Body> {
    for (name, value) in headers {
        // All of them are ASCII: numbers, digests and constants.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG_HERE: &str = "\"abc\"";

    fn asked(method: &Method, headers: &[(HeaderName, &str)]) -> Decision {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, HeaderValue::from_str(value).unwrap());
        }
        decide(method, &map, 100, Some(ETAG_HERE))
    }

    #[test]
    fn one_range_is_cut_out_and_cut_off_at_the_end() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=90-500", 90..100),
            ("bytes=-5", 95..100),
            ("bytes=-500", 0..100),
        ] {
            assert_eq!(
                asked(&Method::GET, &[(RANGE, range)]),
                Decision::Part(expected),
                "{range}"
            );
        }
    }

    #[test]
    fn a_range_past_the_end_is_unsatisfiable() {
        for range in ["bytes=100-", "bytes=100-200"] {
            assert_eq!(
                asked(&Method::GET, &[(RANGE, range)]),
                Decision::Unsatisfiable,
                "{range}"
            );
        }
    }

    #[test]
    fn ranges_that_are_several_or_make_no_sense_mean_the_whole() {
        for range in [
            "bytes=0-1,5-6",
            "bytes=9-5",
            "bytes=-0",
            "bytes=x",
            "lines=1-2",
            "bytes=",
            "5-6",
        ] {
            assert_eq!(
                asked(&Method::GET, &[(RANGE, range)]),
                Decision::Whole,
                "{range}"
            );
        }
        let head = asked(&Method::HEAD, &[(RANGE, "bytes=0-1")]);
        assert_eq!(head, Decision::Whole);
    }

    #[test]
    fn a_range_of_other_bytes_than_the_clients_is_not_sent() {
        let range = (RANGE, "bytes=0-1");
        let same = asked(&Method::GET, &[range.clone(), (IF_RANGE, ETAG_HERE)]);
        assert_eq!(same, Decision::Part(0..2));
        for other in ["\"other\"", "W/\"abc\"", "Mon, 23 Nov 2026 22:00:00 GMT"] {
            let found = asked(&Method::GET, &[range.clone(), (IF_RANGE, other)]);
            assert_eq!(found, Decision::Whole, "{other}");
        }
    }

    #[test]
    fn a_client_that_has_the_bytes_gets_none() {
        for known in [ETAG_HERE, "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            let found = asked(&Method::GET, &[(IF_NONE_MATCH, known)]);
            assert_eq!(found, Decision::NotModified, "{known}");
        }
        let other = asked(&Method::GET, &[(IF_NONE_MATCH, "\"x\"")]);
        assert_eq!(other, Decision::Whole);
    }

    #[test]
    fn an_empty_file_has_no_range() {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-"))]);
        let found = decide(&Method::GET, &headers, 0, None);
        assert_eq!(found, Decision::Unsatisfiable);
    }
}
