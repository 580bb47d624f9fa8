//! A run in one file: the page of `web/dist/report.html` with data in it.
//!
//! The page allows itself one script, by its hash, and no network. The data goes in as base64 of gzip: it has no character that could end the element it stands in, so
//! nothing that a run is called or logs can become part of the page.

use std::io::Write as _;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use runtree_core::{Error, Result};
use serde_json::Value;

use crate::ui::bundled;

const PAGE: &str = "report.html";
/// What stands in the page where data goes.
const MARK: &str = "RUNTREE-REPORT-DATA";

/// The page of a run, given what [`Engine::report`](runtree_engine::Engine::report) says of it.
///
/// # Errors
/// `Unsupported` if this binary was built without the web bundle.
pub fn report_page(report: &Value) -> Result<Vec<u8>> {
    let without = || {
        Error::unsupported("this runtree was built without its pages")
            .with_hint("`make web`, then build again")
    };
    let page = bundled(PAGE).ok_or_else(without)?;
    let page = String::from_utf8(page).map_err(|_| without())?;
    let (before, after) = page.split_once(MARK).ok_or_else(without)?;
    let packed = pack(report)
        .map_err(|error| Error::internal("a report can not be packed").with_source(error))?;
    Ok([before.as_bytes(), packed.as_bytes(), after.as_bytes()].concat())
}

fn pack(report: &Value) -> std::io::Result<String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut gzip, report)?;
    gzip.flush()?;
    Ok(base64::engine::general_purpose::STANDARD.encode(gzip.finish()?))
}
