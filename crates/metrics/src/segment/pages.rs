//! What the pages of a column claim to be unpacked to, read before anything is allocated for them.
//!
//! The Parquet library allocates what a page's header says, up to 2 GiB, before it looks at the page. So the headers are walked here first: a struct of
//! Thrift's compact protocol each, of which the sizes are wanted and the rest is skipped.

use runtree_core::Result;

use super::corrupt;

/// Most bytes of one page, unpacked: pages are cut at 1 MiB, after at most 1,024 names of 1,024 bytes more.
const MAX_PAGE_BYTES: i64 = 8 << 20;
/// Structs in structs, of which page headers have three.
const MAX_DEPTH: u32 = 8;

/// Checks every page of a column chunk.
///
/// # Errors
/// `Corrupt` if a page is larger than any that is written, or the pages do not fill the chunk.
pub(super) fn check(mut chunk: &[u8]) -> Result<()> {
    while !chunk.is_empty() {
        let mut reader = Compact { rest: chunk };
        let (unpacked, packed) = reader.page_header()?;
        if !(0..=MAX_PAGE_BYTES).contains(&unpacked) {
            return Err(corrupt(format!("a page of {unpacked} bytes")));
        }
        let packed = usize::try_from(packed).ok();
        chunk = packed
            .and_then(|packed| reader.rest.get(packed..))
            .ok_or_else(|| corrupt("a page hangs over its column"))?;
    }
    Ok(())
}

/// A reader of Thrift's compact protocol.
struct Compact<'a> {
    rest: &'a [u8],
}

impl Compact<'_> {
    fn page_header(&mut self) -> Result<(i64, i64)> {
        let (mut unpacked, mut packed) = (None, None);
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (2, 5) => unpacked = Some(self.zigzag()?),
                (3, 5) => packed = Some(self.zigzag()?),
                _ => self.skip(kind, 0)?,
            }
        }
        unpacked
            .zip(packed)
            .ok_or_else(|| corrupt("a page without a size"))
    }

    /// The type of the next field and its id; none at the end of a struct.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.zigzag()?,
            more => id.wrapping_add(i64::from(more)),
        };
        Ok(Some(head & 15))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(corrupt("a page header has no end"));
        }
        match kind {
            // A bool is in its type.
            1 | 2 => Ok(()),
            3 => self.take(1),
            4..=6 => self.varint().map(drop),
            7 => self.take(8),
            8 => {
                let bytes = self.varint()?;
                self.take(bytes)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    few => u64::from(few),
                };
                // An element of a list of bools is a byte; any other is at least one.
                let kind = head & 15;
                for _ in 0..count.min(self.rest.len() as u64 + 1) {
                    match kind {
                        1 | 2 => self.take(1)?,
                        kind => self.skip(kind, depth + 1)?,
                    }
                }
                Ok(())
            }
            12 => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(corrupt("a page header that is none")),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| corrupt("a page header is cut off"))?;
        self.rest = rest;
        Ok(byte)
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).ok();
        self.rest = bytes
            .and_then(|bytes| self.rest.get(bytes..))
            .ok_or_else(|| corrupt("a page header is cut off"))?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a page header has a number without an end"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }
}
