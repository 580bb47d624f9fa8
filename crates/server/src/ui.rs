//! The web UI: files of `web/dist`, embedded when the binary was built.
//!
//! Files below `assets/` carry a hash in their name and may be kept for ever; everything else is asked for again with its ETag.
//! A path that is no file is a page of the application, so it gets `index.html`. Without a bundle a page says how to make one:
//! building runtree needs no Node.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use runtree_core::ErrorKind;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::{ApiError, unknown_route};

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Bundle;

const INDEX: &str = "index.html";

/// Scripts and data come from here only; styles may be inline because charts size themselves so.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STUB: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>runtree</title>\
<body style='font:15px system-ui;max-width:40em;margin:4em auto'><h1>runtree</h1>\
<p>This binary was built without the web bundle. The API is at <a href=/api/v1/store>/api/v1</a>.\
<p>To have the pages: <code>make web</code>, then build again.";

/// A file of the bundle.
pub(crate) fn bundled(path: &str) -> Option<Vec<u8>> {
    Bundle::get(path).map(|file| file.data.into_owned())
}

/// Answers everything that is not the API.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        return unknown_route(uri.path()).into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::http(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::Invalid,
            format!("{} does not take {method}", uri.path()),
        )
        .into_response();
    }
    if let Some(file) = Bundle::get(path) {
        return answer(path, &file, &headers);
    }
    let is_page = !path.starts_with("assets/")
        && headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_none_or(|accept| accept.contains("text/html") || accept.contains("*/*"));
    if !is_page {
        return unknown_route(uri.path()).into_response();
    }
    match Bundle::get(INDEX) {
        Some(file) => answer(INDEX, &file, &headers),
        None => page(axum::body::Body::from(STUB)),
    }
}

fn answer(path: &str, file: &EmbeddedFile, request: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let etag = format!(
        "\"{:032x}\"",
        u128::from_be_bytes(hash[..16].try_into().expect("BUG: a SHA-256 has 32 bytes"))
    );
    let unchanged = request
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(',')
                .any(|known| known.trim().trim_start_matches("W/") == etag)
        });
    let cache = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else if path == INDEX {
        page(axum::body::Body::from(file.data.to_vec()))
    } else {
        (
            [(header::CONTENT_TYPE, content_type(path))],
            file.data.to_vec(),
        )
            .into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

fn page(body: axum::body::Body) -> Response {
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        body,
    )
        .into_response()
}

/// The type of a file of the bundle, or of a file attached to a run, by its name.
pub(crate) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" | "log" | "py" | "yaml" | "yml" | "toml" | "csv" => {
            "text/plain; charset=utf-8"
        }
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
