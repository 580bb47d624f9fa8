//! Names of segments of sealed points.

use std::fmt;
use std::str::FromStr;

use runtree_core::{Error, WriterId};

/// The file name of a segment: `<writer>-<from>-<to>-<hash>.parquet`. It says what the segment covers, frames `from` up to and without `to` of one
/// writer's journal, and the first 8 bytes of the BLAKE3 of its bytes.
///
/// Ordered as the names are, which decides between segments that cover the same frame: the smaller one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Whose journal.
    pub writer: WriterId,
    /// First frame that is covered.
    pub from: u64,
    /// First frame that is not.
    pub to: u64,
    /// First 8 bytes of the BLAKE3 of the file, most significant first.
    pub hash: u64,
}

impl SegmentName {
    /// The name of a segment with these bytes.
    pub fn of(writer: WriterId, from: u64, to: u64, bytes: &[u8]) -> Self {
        Self {
            writer,
            from,
            to,
            hash: hash_of(bytes),
        }
    }

    /// Whether these are the bytes that it names.
    pub fn names(&self, bytes: &[u8]) -> bool {
        hash_of(bytes) == self.hash
    }

    /// Whether it covers a frame.
    pub fn covers(&self, ordinal: u64) -> bool {
        (self.from..self.to).contains(&ordinal)
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writer,
            from,
            to,
            hash,
        } = self;
        write!(f, "{writer}-{from:020}-{to:020}-{hash:016x}.parquet")
    }
}

impl FromStr for SegmentName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let mut words = text.strip_suffix(".parquet")?.split('-');
            let name = Self {
                writer: words.next()?.parse().ok()?,
                from: words.next()?.parse().ok()?,
                to: words.next()?.parse().ok()?,
                hash: u64::from_str_radix(words.next()?, 16).ok()?,
            };
            // One spelling: signs, capitals and missing zeros are somebody else's.
            (words.next().is_none() && name.from < name.to && name.to_string() == text)
                .then_some(name)
        };
        parse().ok_or_else(|| Error::invalid(format!("{text:?} is no name of a segment")))
    }
}
