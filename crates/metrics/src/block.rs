//! Hot points of one series as the index keeps them: a payload, and its [`Summaries`] beside it.
//!
//! A block stands alone and never changes: a fold that adds points writes a new one ([`Points::merge`], [`Points::into_blocks`]).
//! The small tails that a live run's folds append are blocks too. Layout: `docs/formats/block.md`.

use runtree_core::{Error, Result};

use crate::bytes::{Reader, put_varint};
use crate::column::{ColumnReader, ColumnWriter};
use crate::point::Points;
use crate::series::Times;
use crate::summary::{Summaries, unknown_version};

/// Most points of a block.
pub const MAX_POINTS: usize = 4096;

const MAGIC: [u8; 3] = *b"RTM";
const VERSION: u8 = 1;

/// One to [`MAX_POINTS`] points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    points: Points,
}

impl Block {
    /// Takes points; `None` unless there are 1 to [`MAX_POINTS`] of them ([`Points::into_blocks`] cuts more).
    pub fn new(points: Points) -> Option<Self> {
        (1..=MAX_POINTS)
            .contains(&points.len())
            .then_some(Self { points })
    }

    /// The points.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// The points, without the bound.
    pub fn into_points(self) -> Points {
        self.points
    }

    /// What is known of them without the payload.
    pub fn summaries(&self) -> Summaries {
        Summaries::of(&self.points)
    }

    /// The stored payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_varint(&mut out, self.points.len() as u64);
        let mut columns = ColumnWriter::new();
        columns.put_ints(&mut out, self.points.steps());
        columns.put_ints(&mut out, self.points.timestamps());
        columns.put_floats(&mut out, self.points.values());
        out
    }

    /// Reads a stored payload.
    ///
    /// # Errors
    /// `Unsupported` for a newer version; `Corrupt` if the bytes are not a block.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (mut reader, count) = open(bytes)?;
        let mut columns = ColumnReader::new();
        let steps = columns.ints(&mut reader, count)?;
        let timestamps = columns.ints(&mut reader, count)?;
        let values = columns.floats(&mut reader, count)?;
        reader.finish()?;
        Points::from_columns(steps, timestamps, values)
            .and_then(Self::new)
            .ok_or_else(|| Error::corrupt("block has no points, or steps that do not ascend"))
    }

    /// Reads when the points of a stored payload were logged; its values are not looked at.
    ///
    /// # Errors
    /// As [`Block::decode`].
    pub fn decode_times(bytes: &[u8]) -> Result<Times> {
        let (mut reader, count) = open(bytes)?;
        let mut columns = ColumnReader::new();
        let steps = columns.ints(&mut reader, count)?;
        let timestamps = columns.ints(&mut reader, count)?;
        Ok(Times::from_columns(steps, timestamps))
    }
}

/// Reads what stands before the columns: how many points there are.
fn open(bytes: &[u8]) -> Result<(Reader<'_>, usize)> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(Error::corrupt("bytes are not a block of metric points"));
    }
    let version = reader.byte()?;
    if version != VERSION {
        return Err(unknown_version("block payloads", version, VERSION));
    }
    let count = reader.count(MAX_POINTS, "points in a block")?;
    Ok((reader, count))
}
