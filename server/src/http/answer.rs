//! Answers: bodies, errors with two texts.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use towline_contract::api::ErrorBody;

use crate::log;

/// Any body that we send.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// A fault with what the caller is told and what the log says.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) told: ErrorBody,
    pub(super) logged: String,
    /// The methods that would be right.
    allow: Option<&'static str>,
}

impl Fault {
    /// The caller's own fault: both texts are the same.
    pub(super) fn theirs(status: StatusCode, message: impl Into<String>) -> Self {
        let told = ErrorBody {
            message: message.into(),
            next: None,
        };
        Self::refused(status, told)
    }

    /// A refusal with a next step.
    pub(super) fn refused(status: StatusCode, told: ErrorBody) -> Self {
        Self {
            status,
            logged: log::clean(&told.message),
            told,
            allow: None,
        }
    }

    /// The same, for which the log says why.
    pub(super) fn because(self, error: &dyn std::error::Error) -> Self {
        Self {
            logged: log::chain(error),
            ..self
        }
    }

    /// Nothing has that name.
    pub(super) fn not_found() -> Self {
        Self::theirs(
            StatusCode::NOT_FOUND,
            "there is nothing of that name on this server",
        )
    }

    /// Another method than `allowed`.
    pub(super) fn method(allowed: &'static str) -> Self {
        let message = format!("the method here is {allowed}");
        Self {
            allow: Some(allowed),
            ..Self::theirs(StatusCode::METHOD_NOT_ALLOWED, message)
        }
    }

    /// Ours: the caller learns that it is, the log why.
    pub(super) fn ours(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            told: ErrorBody {
                message: "the server cannot answer because of a fault of its own".into(),
                next: Some("look at the server's log, or use another server".into()),
            },
            logged: log::chain(error),
            allow: None,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self.told).unwrap_or_default();
        let mut response = json(self.status, body);
        if let Some(allow) = self.allow {
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// A JSON document.
pub(super) fn json(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A sealed answer. Nobody on the way can read it, and nobody may keep it.
pub(super) fn secret(sealed: Vec<u8>) -> Response<Body> {
    const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
    let mut response = Response::new(full(sealed));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, BYTES);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer without a body.
/// JSON that is another one soon.
pub(super) fn fresh_json(bytes: Vec<u8>) -> Response<Body> {
    let mut response = json(StatusCode::OK, bytes);
    let no_cache = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, no_cache);
    response
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Vec::new()));
    *response.status_mut() = status;
    response
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed()
}
