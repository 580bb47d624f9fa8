//! The one error envelope: whatever goes wrong in a request, the answer is [`ErrorBody`] with a fitting status.
//!
//! The status of an engine error comes from [`ErrorKind::http_status`]; what HTTP itself refuses (unknown route, method, body)
//! keeps its own status and is `invalid`, `not_found` or `denied` in the envelope.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runtree_core::wire::{ErrorBody, ErrorDetail};
use runtree_core::{Error, ErrorKind};

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    /// An error that HTTP rather than the engine found.
    pub(crate) fn http(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody {
                error: ErrorDetail {
                    kind,
                    message: message.into(),
                    hint: None,
                },
            },
        }
    }

    /// Adds what to do next.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.body.error.hint = Some(hint.into());
        self
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.kind().http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut api = Self::http(status, error.kind(), error.chain());
        api.body.error.hint = error.hint().map(str::to_owned);
        api
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// The answer to an unknown path below `/api`.
pub(crate) fn unknown_route(path: &str) -> ApiError {
    ApiError::http(
        StatusCode::NOT_FOUND,
        ErrorKind::NotFound,
        format!("there is nothing at {path}"),
    )
    .with_hint("GET /api/v1/openapi.json lists every route")
}

/// The answer to a known path asked with another method.
pub(crate) async fn method_not_allowed(
    method: axum::http::Method,
    uri: axum::http::Uri,
) -> ApiError {
    ApiError::http(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Invalid,
        format!("{} does not take {method}", uri.path()),
    )
    .with_hint("GET /api/v1/openapi.json lists every route with its methods")
}
