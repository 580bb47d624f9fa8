//! What a log call holds besides numbers: `runtree._media` says what it is, in Python, and this takes the bytes over.

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runtree_core::media::MediaKind;
use runtree_engine::{MediaContent, MediaEntry, MediaSource, Pixels};

use crate::errors::IntoPyResult as _;

/// An item as `runtree.media.Payload` is.
#[derive(FromPyObject)]
struct Payload<'py> {
    content_type: String,
    caption: Option<String>,
    file_name: Option<String>,
    size: Option<(u32, u32)>,
    data: Data<'py>,
}

#[derive(FromPyObject)]
enum Data<'py> {
    Bytes(Bound<'py, PyBytes>),
    Pixels(u32, u32, u8, Bound<'py, PyBytes>),
}

/// A value that is no number, as an entry; an error that names it if it is nothing that can be logged.
pub(crate) fn entry(name: &str, value: &Bound<'_, PyAny>) -> PyResult<MediaEntry> {
    let py = value.py();
    let (kind, payloads): (String, Vec<Payload<'_>>) = py
        .import(intern!(py, "runtree._media"))?
        .call_method1(intern!(py, "entry"), (name, value))?
        .extract()?;
    let kind: MediaKind = kind.parse().into_py(py)?;
    let items = payloads
        .into_iter()
        .map(|payload| source(py, payload))
        .collect::<PyResult<_>>()?;
    Ok(MediaEntry {
        name: name.to_owned(),
        kind,
        items,
    })
}

fn source(py: Python<'_>, payload: Payload<'_>) -> PyResult<MediaSource> {
    // Copied: what Python may change or free must not be what a thread writes.
    let content = match payload.data {
        Data::Bytes(bytes) => MediaContent::Bytes(Bytes::copy_from_slice(bytes.as_bytes())),
        Data::Pixels(width, height, channels, bytes) => {
            let bytes = Bytes::copy_from_slice(bytes.as_bytes());
            MediaContent::Pixels(Pixels::new(width, height, channels, bytes).into_py(py)?)
        }
    };
    Ok(MediaSource {
        content,
        content_type: payload.content_type,
        caption: payload.caption,
        file_name: payload.file_name,
        size: payload.size,
    })
}
