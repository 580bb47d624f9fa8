//! The pages: whatever the bundle, the rules of caching and fallback hold.

use crate::fixture::Served;
use crate::http::{Answer, request};

fn page(served: &Served, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(served.address, "GET", path, headers, b"")
}

#[test]
fn every_page_of_the_application_is_the_index_under_its_policy() {
    let served = Served::start();
    let index = page(&served, "/", &[("Accept", "text/html")]);
    assert_eq!(index.status, 200);
    assert_eq!(
        index.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = index.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("script-src 'unsafe-inline'"));
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    let deep = page(
        &served,
        "/runs/DIG-1?tab=charts",
        &[("Accept", "text/html")],
    );
    assert_eq!(deep.body, index.body);
}

#[test]
fn what_is_neither_file_nor_page_is_not_found() {
    let served = Served::start();
    page(&served, "/assets/gone-123.js", &[]).error(404);
    page(&served, "/api/v2/runs", &[]).error(404);
    page(&served, "/favicon.png", &[("Accept", "image/png")]).error(404);
    page(&served, "/../Cargo.toml", &[("Accept", "image/png")]).error(404);
    let answer = request(served.address, "POST", "/runs/DIG-1", &[], b"");
    answer.error(405);
}

#[test]
fn files_of_the_bundle_are_asked_for_again_by_their_etag() {
    let served = Served::start();
    let index = page(&served, "/index.html", &[]);
    let Some(etag) = index.header("etag") else {
        // Built without a bundle: the stub has no ETag.
        assert!(index.text().contains("without the web bundle"));
        return;
    };
    let again = page(&served, "/index.html", &[("If-None-Match", etag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn scripts_and_styles_are_kept_for_ever_and_compressed() {
    let served = Served::start();
    let index = page(&served, "/", &[]).text();
    let assets: Vec<&str> = index
        .split('"')
        .filter(|part| part.starts_with("/assets/"))
        .collect();
    if index.contains("without the web bundle") {
        return;
    }
    assert!(assets.len() >= 2, "{index}");
    for asset in assets {
        let answer = page(&served, asset, &[("Accept-Encoding", "gzip")]);
        assert_eq!(answer.status, 200, "{asset}");
        let cache = answer.header("cache-control").unwrap();
        assert!(cache.contains("immutable"), "{asset}: {cache}");
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{asset}");
        let kind = answer.header("content-type").unwrap();
        assert!(
            kind.starts_with("text/javascript") || kind.starts_with("text/css"),
            "{asset}: {kind}"
        );
    }
    // The policy has no room for inline scripts, so the page may not need any.
    assert!(!index.contains("<script>"), "{index}");
}
