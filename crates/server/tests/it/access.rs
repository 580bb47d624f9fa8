//! Who may talk to the server.

use runtree_engine::OpenMode;
use runtree_server::{ServeOptions, Token};
use serde_json::Value;

use crate::fixture::Served;
use crate::http::request;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn an_open_address_needs_a_token() {
    let open = ServeOptions {
        address: "0.0.0.0:0".parse().unwrap(),
        token: None,
        log: None,
    };
    assert_eq!(open.check().unwrap_err().kind().as_str(), "denied");
    let guarded = ServeOptions {
        token: Some(Token::new(TOKEN).unwrap()),
        ..open
    };
    guarded.check().unwrap();
    assert!(!format!("{guarded:?}").contains(TOKEN));
    for weak in [
        "",
        "short",
        "has spaces in it, long enough",
        "semi;colons;semi;colons",
    ] {
        assert!(Token::new(weak).is_err(), "{weak}");
    }
}

#[test]
fn a_name_that_was_rebound_to_this_machine_gets_nothing() {
    let served = Served::start();
    let (kind, _) = served
        .request("GET", "/runs", &[("Host", "evil.example")], b"")
        .error(403);
    assert_eq!(kind, "denied");
    served
        .request("GET", "/runs", &[("Host", "127.0.0.1:9999")], b"")
        .json();
    let page = request(
        served.address,
        "GET",
        "/",
        &[("Host", "evil.example:80")],
        b"",
    );
    assert_eq!(page.status, 403);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let served = Served::start();
    for headers in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "http://localhost:1")],
        &[("Sec-Fetch-Site", "cross-site")],
    ] {
        served
            .request("DELETE", "/runs/DIG-2", headers, b"")
            .error(403);
    }
    assert_eq!(served.get("/runs").json()["total"], 2);
    let own = format!("http://localhost:{}", served.address.port());
    served
        .request("DELETE", "/runs/DIG-2", &[("Origin", &own)], b"")
        .json();
    assert_eq!(served.get("/runs").json()["total"], 1);
}

#[test]
fn a_form_can_not_pose_as_json() {
    let served = Served::start();
    let body = br#"{"reference": "DIG-1@50", "tags": []}"#;
    let (kind, _) = served
        .request("POST", "/forks", &[("Content-Type", "text/plain")], body)
        .error(415);
    assert_eq!(kind, "invalid");
}

#[test]
fn with_a_token_every_request_carries_it() {
    let served = Served::with(Some(TOKEN), OpenMode::ReadWrite);
    assert!(served.url.ends_with(&format!("/?token={TOKEN}")));
    let (kind, message) = served.get("/runs").error(401);
    assert_eq!(kind, "denied");
    assert!(!message.contains(TOKEN));
    served.get("/health").json();

    let bearer = format!("Bearer {TOKEN}");
    served
        .request("GET", "/runs", &[("Authorization", &bearer)], b"")
        .json();
    let mut wrong = bearer.clone();
    wrong.replace_range(wrong.len() - 1.., "0");
    served
        .request("GET", "/runs", &[("Authorization", &wrong)], b"")
        .error(401);
    served.get("/runs?token=0123456789abcdef").error(401);
}

#[test]
fn a_token_in_the_address_becomes_a_cookie_and_leaves_the_address() {
    let served = Served::with(Some(TOKEN), OpenMode::ReadWrite);
    let path = format!("/runs/DIG-1?tab=charts&token={TOKEN}");
    let answer = request(served.address, "GET", &path, &[], b"");
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), Some("/runs/DIG-1?tab=charts"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    served
        .request(
            "GET",
            "/runs",
            &[("Cookie", &format!("theme=dark; {pair}"))],
            b"",
        )
        .json();
    // The token does not ride along with a request that changes something.
    let answer = served.request("DELETE", &format!("/runs/DIG-1?token={TOKEN}"), &[], b"");
    answer.error(401);
}

#[test]
fn a_read_only_server_says_so_and_refuses_changes() {
    let served = Served::with(None, OpenMode::ReadOnly);
    assert_eq!(served.get("/store").json()["writable"], false);
    let (kind, _) = served
        .send("DELETE", "/runs/DIG-1", &Value::Null)
        .error(403);
    assert_eq!(kind, "denied");
}

#[test]
fn every_request_is_logged_without_its_token() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let served = Served::logging(
        Some(TOKEN),
        OpenMode::ReadWrite,
        Some(|request| {
            let line = format!("{} {} {}", request.method, request.path, request.status);
            LINES.lock().unwrap().push(line);
        }),
    );
    served.request("GET", "/runs?limit=1", &[], b"").error(401);
    let bearer = format!("Bearer {TOKEN}");
    let authorised = &[("Authorization", bearer.as_str())][..];
    served.request("GET", "/runs", authorised, b"").json();
    request(served.address, "GET", &format!("/?token={TOKEN}"), &[], b"");
    let lines = LINES.lock().unwrap().clone();
    assert_eq!(
        lines,
        ["GET /api/v1/runs 401", "GET /api/v1/runs 200", "GET / 303"]
    );
}
