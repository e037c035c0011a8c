//! Bodies of requests: of bounded size, within bounded time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, StatusCode};

use super::answer::Fault;

/// Longest a client may take for a request's body, 64 KiB.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);

/// Most bytes of a refused body that are read all the same: twice a session.
const DISCARDED_BYTES_MAX: usize = 8 << 20;

/// The request's body, of at most `max` bytes.
pub(super) async fn body(request: Request<Incoming>, max: usize) -> Result<Bytes, Fault> {
    body_within(request, max, BODY_TIME_MAX).await
}

/// The request's body, of at most `max` bytes, that comes within `time`.
pub(super) async fn body_within(
    request: Request<Incoming>,
    max: usize,
    time: Duration,
) -> Result<Bytes, Fault> {
    let too_large = || {
        let message = format!("the body is larger than {max} bytes");
        Fault::theirs(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if request.body().size_hint().lower() > max as u64 {
        discard(request.into_body(), time).await;
        return Err(too_large());
    }
    let collected = Limited::new(request.into_body(), max).collect();
    let too_slow = |_| {
        let message = "the body did not come in time";
        Fault::theirs(StatusCode::REQUEST_TIMEOUT, message)
    };
    let collected = tokio::time::timeout(time, collected).await;
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        if error.is::<http_body_util::LengthLimitError>() {
            too_large()
        } else {
            Fault::theirs(StatusCode::BAD_REQUEST, "the body is not complete")
        }
    };
    Ok(collected.map_err(too_slow)?.map_err(broken)?.to_bytes())
}

/// Reads a body that nobody wants, and keeps nothing of it: a client that is cut off while it sends does not hear why.
pub(super) async fn discard(mut body: Incoming, time: Duration) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await
            && bytes < DISCARDED_BYTES_MAX
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever takes longer is cut off.
    let _ = tokio::time::timeout(time, reading).await;
}
