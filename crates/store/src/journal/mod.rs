//! The append-only record of what one process did to one run. See `docs/formats/journal.md`.
//!
//! One writer, one file (in a bucket, an object for each sync: a *piece*): frames with an ordinal, a CRC and a running hash that chains each to all before it. A reader can then tell a *torn tail* (what
//! the writer was appending when the power went; nothing valid follows) from *corruption* (something valid follows, so it had been written whole), and a
//! journal that lost frames it once had from one that never had them, by a [`JournalPosition`] that was recorded elsewhere.
//!
//! [`JournalPosition`]: runtree_core::manifest::JournalPosition

use runtree_core::event::Event;
use runtree_core::{Error, Result, RunId, WriterId};
use serde::{Deserialize, Serialize};

mod copy;
mod frame;
mod reader;
mod writer;

pub use frame::{
    FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, ParsedFrame, parse_frame,
    start_hash,
};
pub use reader::JournalReader;
pub use writer::JournalWriter;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// An [`Event`] as JSON.
    Event = 0,
    /// A batch of points, as the metrics crate encodes it.
    Points = 1,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Event),
            1 => Some(Self::Points),
            _ => None,
        }
    }
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the journal, from 0.
    pub ordinal: u64,
    /// What it holds.
    pub kind: FrameKind,
    /// What it holds, as bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The event it holds.
    ///
    /// # Errors
    /// `Invalid` if it holds points; `Corrupt` if it is no event that this build knows.
    pub fn event(&self) -> Result<Event> {
        if self.kind != FrameKind::Event {
            return Err(Error::invalid(format!(
                "frame {} holds points, not an event",
                self.ordinal
            )));
        }
        serde_json::from_slice(&self.payload).map_err(|error| {
            Error::corrupt(format!("frame {} is not an event", self.ordinal)).with_source(error)
        })
    }
}

/// Where a reader of a journal stands: before the frame `ordinal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Byte in the file; 0 before the first frame.
    pub offset: u64,
    /// Frames before it.
    pub ordinal: u64,
    /// Running hash after them; 0 before the first frame.
    pub hash: u64,
}

impl Cursor {
    /// Before the first frame.
    pub const START: Self = Self {
        offset: 0,
        ordinal: 0,
        hash: 0,
    };
}

fn describe(run: RunId, writer: WriterId) -> String {
    format!("journal {writer} of run {run}")
}
