//! Who may talk to the server: one middleware before every route.
//!
//! Three attacks, three checks. *DNS rebinding* (a page on evil.example whose name suddenly resolves to 127.0.0.1): a loopback
//! server answers only to loopback names in `Host`. *Cross-site writes* (a page that posts to localhost): a request that changes
//! something and carries `Origin` must carry that of the server itself; browsers always send it. *Strangers on the network*:
//! with a token every request carries it, as `Authorization: Bearer`, or as a cookie that `?token=` sets once; the redirect
//! that follows takes it out of the address bar, and `Referrer-Policy` keeps it from leaking before that.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use runtree_core::ErrorKind;

use crate::error::ApiError;
use crate::options::Token;

/// What the guard knows.
#[derive(Debug)]
pub(crate) struct Access {
    /// Whether the server listens on loopback only.
    pub(crate) loopback: bool,
    /// What requests must carry.
    pub(crate) token: Option<Token>,
    /// Cookies are shared by all ports of a host, so each server has its own name.
    pub(crate) cookie: String,
}

/// Lets a request pass, or answers it.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match access.check(&request) {
        Ok(Verdict::Pass) => next.run(request).await,
        Ok(Verdict::SetCookie(location)) => access.set_cookie(&location),
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

enum Verdict {
    Pass,
    /// Go to this path, with the token as a cookie.
    SetCookie(String),
}

impl Access {
    fn check(&self, request: &Request) -> Result<Verdict, ApiError> {
        let headers = request.headers();
        let host = text(headers, &header::HOST);
        if self.loopback && !host.is_some_and(is_loopback_name) {
            return Err(denied(format!(
                "this server answers to localhost only, not to {:?}",
                host.unwrap_or_default()
            ))
            .with_hint("open it as http://localhost:PORT, through ssh -L from another machine"));
        }
        let writes = !matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        if writes && !same_origin(headers, host) {
            return Err(denied(
                "a page of another site may not change this store".to_owned(),
            ));
        }
        self.check_token(request)
    }

    fn check_token(&self, request: &Request) -> Result<Verdict, ApiError> {
        let Some(token) = &self.token else {
            return Ok(Verdict::Pass);
        };
        let headers = request.headers();
        let bearer = text(headers, &header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|candidate| token.matches(candidate));
        if bearer || request.uri().path() == "/api/v1/health" {
            return Ok(Verdict::Pass);
        }
        if let Some((candidate, location)) = take_token(request.uri())
            && request.method() == Method::GET
            && token.matches(candidate)
        {
            return Ok(Verdict::SetCookie(location));
        }
        let cookie = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && token.matches(value));
        if cookie {
            return Ok(Verdict::Pass);
        }
        Err(ApiError::http(
            StatusCode::UNAUTHORIZED,
            ErrorKind::Denied,
            "this server wants its token",
        )
        .with_hint("open the address that `runtree serve` printed, it carries the token; programs send `Authorization: Bearer TOKEN`"))
    }

    fn set_cookie(&self, location: &str) -> Response {
        let secret = self.token.as_ref().map_or("", Token::reveal);
        let cookie = format!(
            "{}={secret}; HttpOnly; SameSite=Strict; Path=/",
            self.cookie
        );
        (
            StatusCode::SEE_OTHER,
            [
                (header::LOCATION, location.to_owned()),
                (header::SET_COOKIE, cookie),
                (header::CACHE_CONTROL, "no-store".to_owned()),
            ],
        )
            .into_response()
    }
}

fn denied(message: String) -> ApiError {
    ApiError::http(StatusCode::FORBIDDEN, ErrorKind::Denied, message)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether `host` (with or without a port) names this machine for a browser on it. The port is whatever `ssh -L` made of it.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_end_matches('.');
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a request that writes comes from our own page or from no page at all.
fn same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    if let Some(origin) = text(headers, &header::ORIGIN) {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        return authority.is_some() && authority == host;
    }
    match text(headers, &HeaderName::from_static("sec-fetch-site")) {
        Some(site) => matches!(site, "same-origin" | "none"),
        None => true,
    }
}

/// The token of a query string, and the address without it. Only a path on this server comes back: never `//elsewhere`.
fn take_token(uri: &Uri) -> Option<(&str, String)> {
    let query = uri.query()?;
    let token = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))?;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("token="))
        .collect();
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    let location = if rest.is_empty() {
        path
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    Some((token, location))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass_the_host_check() {
        for good in [
            "localhost",
            "localhost:6780",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:6780",
            "runtree.localhost:6780",
            "localhost.",
        ] {
            assert!(is_loopback_name(good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "192.168.0.1",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "",
            "a b",
        ] {
            assert!(!is_loopback_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_leaves_the_address_and_never_leads_elsewhere() {
        let take =
            |uri: &str| take_token(&uri.parse().unwrap()).map(|(token, to)| (token.to_owned(), to));
        assert_eq!(take("/?token=abc"), Some(("abc".into(), "/".into())));
        assert_eq!(
            take("/runs/x?a=1&token=abc&b=2"),
            Some(("abc".into(), "/runs/x?a=1&b=2".into()))
        );
        assert_eq!(take("/runs?b=2"), None);
        assert_eq!(
            take("//evil.example/x?token=abc"),
            Some(("abc".into(), "/evil.example/x".into()))
        );
    }
}
