//! Names of chunk objects.

use std::fmt;
use std::str::FromStr;

use runtree_core::{ChunkHash, Error, PutId};

/// How a chunk object holds its raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectEncoding {
    /// The file is exactly the raw bytes.
    Raw,
    /// Byte planes and zstd, block by block (`docs/formats/chunks.md`); suffix `.z`.
    Planes,
    /// Planes and zstd of the difference (XOR) to another chunk of the same length; suffix `.d~<base>`.
    Delta(ChunkHash),
}

/// The file name of a chunk object: `<hash>.<put id>` and a suffix for its encoding. A put id never returns, so neither does a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// BLAKE3 of the raw bytes it holds.
    pub hash: ChunkHash,
    /// Which put made it.
    pub put: PutId,
    /// How.
    pub encoding: ObjectEncoding,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.hash, self.put)?;
        match self.encoding {
            ObjectEncoding::Raw => Ok(()),
            ObjectEncoding::Planes => f.write_str(".z"),
            ObjectEncoding::Delta(base) => write!(f, ".d~{base}"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let mut fields = text.split('.');
            let hash = fields.next()?.parse().ok()?;
            let put = super::parse_put_id(fields.next()?)?;
            let encoding = match fields.next() {
                None => ObjectEncoding::Raw,
                Some("z") => ObjectEncoding::Planes,
                Some(delta) => ObjectEncoding::Delta(delta.strip_prefix("d~")?.parse().ok()?),
            };
            fields.next().is_none().then_some(Self {
                hash,
                put,
                encoding,
            })
        };
        parse().ok_or_else(|| Error::invalid(format!("{text:?} is not the name of a chunk object")))
    }
}
