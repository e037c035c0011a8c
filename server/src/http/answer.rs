//! Answers: bodies, errors with two texts.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use towline_contract::api::ErrorBody;

/// Any body that we send.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// A fault with what the caller is told and what the log says.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) told: ErrorBody,
    pub(crate) logged: String,
}

impl Fault {
    /// The caller's own fault: both texts are the same.
    pub(crate) fn theirs(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            logged: message.clone(),
            told: ErrorBody {
                message,
                next: None,
            },
        }
    }

    /// Ours: the caller learns that it is, the log why.
    pub(crate) fn ours(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            told: ErrorBody {
                message: "the server has a fault of its own".into(),
                next: Some("look at its log".into()),
            },
            logged: super::chain(error),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        json(
            self.status,
            serde_json::to_vec(&self.told).unwrap_or_default(),
        )
    }
}

/// A JSON document.
pub(crate) fn json(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Vec::new()));
    *response.status_mut() = status;
    response
}

pub(crate) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed()
}
