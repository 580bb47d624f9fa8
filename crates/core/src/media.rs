//! What a run logs besides numbers: images, text, histograms, tables, files, at a step and under a name like a metric's; and alerts.
//!
//! An entry is all that one call logged under one name at one step: a list of [`MediaItem`]s of one kind. Every item is bytes with a content type,
//! whatever its kind, so that there is one way to store, copy and serve them: short text stands in the journal itself, everything else in chunks.
//!
//! What the bytes of each kind are is in `docs/formats/media.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::ChunkRecord;

/// Longest content that stands in the journal.
pub const MAX_INLINE_BYTES: usize = 4096;
/// Most items of an entry.
pub const MAX_ITEMS: usize = 1024;
/// Longest content of an item: more is a file of the run, or a checkpoint.
pub const MAX_ITEM_BYTES: u64 = 64 << 20;
/// Longest caption.
pub const MAX_CAPTION_BYTES: usize = 4096;
/// Longest name of a file, and of a content type.
const MAX_NAME_BYTES: usize = 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Pictures.
    Image,
    /// Text.
    Text,
    /// Counts between edges.
    Histogram,
    /// Columns and rows.
    Table,
    /// Any other file.
    File,
}

impl MediaKind {
    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Histogram => "histogram",
            Self::Table => "table",
            Self::File => "file",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for MediaKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [
            Self::Image,
            Self::Text,
            Self::Histogram,
            Self::Table,
            Self::File,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| Error::invalid(format!("{text:?} is not a kind of media")))
    }
}

/// One picture, text, histogram, table or file, as a journal holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaItem {
    /// What its bytes are: `image/png`, `text/plain`, `application/json`.
    pub content_type: String,
    /// How many bytes.
    pub bytes: u64,
    /// Words beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// A file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Pixels of a picture: across, down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<(u32, u32)>,
    /// The bytes, if they are short text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// The chunks that hold the bytes, in order, if they are not inline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkRecord>,
}

/// Refuses what no writer writes: too many or too large items, captions and names that are too long.
///
/// # Errors
/// `Invalid` that names the bound.
pub fn check_items(name: &str, items: &[MediaItem]) -> Result<()> {
    if items.is_empty() {
        return Err(Error::invalid(format!(
            "an empty list was logged as {name:?}"
        )));
    }
    if items.len() > MAX_ITEMS {
        return Err(Error::invalid(format!(
            "{} items were logged as {name:?} at one step, at most {MAX_ITEMS} can be",
            items.len()
        )));
    }
    for item in items {
        if item.bytes > MAX_ITEM_BYTES {
            return Err(Error::invalid(format!(
                "an item logged as {name:?} has {} bytes, at most {MAX_ITEM_BYTES} can be logged at a step",
                item.bytes
            ))
            .with_hint("attach it to the run with run.log_file(path), which waits until it is stored"));
        }
        let long = |text: &Option<String>, most: usize| {
            text.as_ref().is_some_and(|text| text.len() > most)
        };
        if long(&item.caption, MAX_CAPTION_BYTES) {
            return Err(Error::invalid(format!(
                "a caption in {name:?} is longer than {MAX_CAPTION_BYTES} bytes"
            )));
        }
        if long(&item.file_name, MAX_NAME_BYTES) || item.content_type.len() > MAX_NAME_BYTES {
            return Err(Error::invalid(format!(
                "a file name or content type in {name:?} is longer than {MAX_NAME_BYTES} bytes"
            )));
        }
    }
    Ok(())
}

/// How much an alert matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    /// Good to know.
    #[default]
    Info,
    /// Should be looked at.
    Warn,
    /// Something is wrong.
    Error,
}

impl AlertLevel {
    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl std::str::FromStr for AlertLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                Error::invalid(format!("{text:?} is not an alert level"))
                    .with_hint("info, warn or error")
            })
    }
}
