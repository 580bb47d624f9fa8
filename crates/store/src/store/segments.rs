//! Segments of sealed points: immutable objects whose names say what they cover and what their bytes hash to.

use bytes::Bytes;
use runtree_core::{Error, Result, RunId, WriterId};

use super::{Created, Store};
use crate::layout::{self, SegmentName};

impl Store {
    /// Segments of a run, sorted by name.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_segments(&self, run: RunId) -> Result<Vec<SegmentName>> {
        self.parsed(&layout::metrics(run), false, layout::parse_id)
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if they are not those that its name says.
    pub fn read_segment(&self, run: RunId, name: &SegmentName) -> Result<Bytes> {
        let path = layout::segment(run, name);
        let bytes = self.read_bytes(&path)?;
        if name.names(&bytes) {
            return Ok(bytes);
        }
        Err(Error::corrupt(format!(
            "{path} is damaged: its bytes are not those that its name says"
        ))
        .with_hint(format!(
            "where the journal is still there, `runtree seal {run}` writes it again"
        )))
    }

    /// Writes a segment that covers the frames `from` to `to` of a journal. It is durable when this returns; somebody who sealed the same frames
    /// made the same object. One that was damaged is put right: nothing but these bytes belongs under this name.
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn create_segment(
        &self,
        run: RunId,
        writer: WriterId,
        frames: std::ops::Range<u64>,
        bytes: Bytes,
    ) -> Result<SegmentName> {
        let name = SegmentName::of(writer, frames.start, frames.end, &bytes);
        let path = layout::segment(run, &name);
        if let Created::ExistsOther(_) = self.create_bytes(&path, bytes.clone())? {
            self.overwrite_bytes(&path, bytes)?;
        }
        Ok(name)
    }
}
