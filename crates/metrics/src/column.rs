//! Columns of numbers as byte planes.
//!
//! Noise does not compress and structure does, and in a column of numbers they live in different bytes: the low bytes of a
//! mantissa are random, the exponents hardly change, the steps differ by one. So a column is cut into planes (all lowest bytes,
//! all second bytes, …) and every plane is stored on its own as what is smallest: as it is, as one repeated byte, or through
//! zstd. Integers are differences above the smallest difference, so a regular cadence needs no plane at all. Floats that were
//! born as `f32` take four planes, and are stored as differences of their bits where that has less entropy (constants, ramps).
//! Layout: `docs/formats/block.md`, "Columns".

use runtree_core::{Error, Result};

use crate::bytes::{Reader, put_varint, put_zigzag};

/// zstd's default: planes are either noise (stored as they are) or so regular that higher levels find nothing more.
const ZSTD_LEVEL: i32 = 3;
/// Shorter planes are not offered to zstd: its frame alone would eat what it saves.
const ZSTD_MIN_BYTES: usize = 48;
/// Shorter float columns are stored as they are, without planes.
const PLANES_MIN_ROWS: usize = 24;

const PLANE_RAW: u8 = 0;
const PLANE_CONSTANT: u8 = 1;
const PLANE_ZSTD: u8 = 2;

const FLOAT_WIDE: u8 = 1;
const FLOAT_ROWS: u8 = 0 << 1;
const FLOAT_PLANES: u8 = 1 << 1;
const FLOAT_DELTAS: u8 = 2 << 1;

/// Writes columns; keeps the compressor between them.
#[derive(Default)]
pub(crate) struct ColumnWriter {
    /// Made at first use: a short column needs none, and making one costs more than writing that column.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    plane: Vec<u8>,
    words: Vec<u64>,
}

impl ColumnWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Compresses bytes whose length the reader will know; `None` if that does not make them smaller.
    pub(crate) fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.zstd.is_none() {
            // Without memory for it everything is stored as it is.
            let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?;
            // The reader knows how long a plane is; a failure only makes frames a byte or two longer.
            let _ = zstd.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false));
            self.zstd = Some(zstd);
        }
        let packed = self.zstd.as_mut()?.compress(bytes).ok()?;
        (packed.len() < bytes.len()).then_some(packed)
    }

    /// Integers whose differences are small or regular.
    pub(crate) fn put_ints(&mut self, out: &mut Vec<u8>, values: &[i64]) {
        let Some(&first) = values.first() else { return };
        put_zigzag(out, first);
        let deltas = || values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        let Some(base) = deltas().min() else { return };
        put_zigzag(out, base);
        self.words.clear();
        // Wrapping on both sides: `first + delta` gives the value back whatever overflowed.
        self.words
            .extend(deltas().map(|delta| delta.wrapping_sub(base) as u64));
        self.put_words(out);
    }

    /// Small numbers without order, like the group of each row.
    pub(crate) fn put_indices(&mut self, out: &mut Vec<u8>, values: &[u32]) {
        self.words.clear();
        self.words
            .extend(values.iter().map(|&value| u64::from(value)));
        self.put_words(out);
    }

    /// Floats, bit for bit.
    pub(crate) fn put_floats(&mut self, out: &mut Vec<u8>, values: &[f64]) {
        let Some(&first) = values.first() else { return };
        let is_single = |&value: &f64| f64::from(value as f32).to_bits() == value.to_bits();
        let (wide, width) = if values.iter().all(is_single) {
            (0, 4)
        } else {
            (FLOAT_WIDE, 8)
        };
        let bits = |value: &f64| {
            if wide == 0 {
                u64::from((*value as f32).to_bits())
            } else {
                value.to_bits()
            }
        };
        let signed = |bits: u64| {
            if wide == 0 {
                i64::from(bits as u32 as i32)
            } else {
                bits as i64
            }
        };
        let mut deltas = Vec::with_capacity(values.len() - 1);
        deltas.extend(
            values
                .windows(2)
                .map(|pair| signed(bits(&pair[1]).wrapping_sub(bits(&pair[0])))),
        );
        let base = deltas.iter().copied().min().unwrap_or(0);
        let residual = |delta: i64| delta.wrapping_sub(base) as u64 & mask(width);
        let constant_deltas = deltas.iter().all(|&delta| delta == base);

        self.words.clear();
        if values.len() < PLANES_MIN_ROWS {
            if constant_deltas && values.len() > 2 {
                out.push(wide | FLOAT_DELTAS);
                put_word(out, bits(&first), width);
                put_word(out, base as u64, width);
                out.push(0);
            } else {
                out.push(wide | FLOAT_ROWS);
                for value in values {
                    put_word(out, bits(value), width);
                }
            }
            return;
        }
        self.words
            .extend(deltas.iter().map(|&delta| residual(delta)));
        let delta_cost = entropy_bits(&self.words, width);
        let delta_words = std::mem::take(&mut self.words);
        self.words.extend(values.iter().map(bits));
        if delta_cost < entropy_bits(&self.words, width) {
            self.words = delta_words;
            out.push(wide | FLOAT_DELTAS);
            put_word(out, bits(&first), width);
            put_word(out, base as u64, width);
            self.put_words(out);
        } else {
            out.push(wide | FLOAT_PLANES);
            self.put_words(out);
        }
    }

    /// The number of planes that are not all zero at the top, then those planes, lowest bytes first.
    fn put_words(&mut self, out: &mut Vec<u8>) {
        let words = std::mem::take(&mut self.words);
        let all = words.iter().fold(0, |all, word| all | word);
        let planes = (64 - all.leading_zeros()).div_ceil(8);
        out.push(planes as u8);
        for plane in 0..planes {
            let mut bytes = std::mem::take(&mut self.plane);
            bytes.clear();
            bytes.extend(words.iter().map(|word| (word >> (8 * plane)) as u8));
            self.put_plane(out, &bytes);
            self.plane = bytes;
        }
        self.words = words;
    }

    fn put_plane(&mut self, out: &mut Vec<u8>, plane: &[u8]) {
        if plane.iter().all(|byte| *byte == plane[0]) {
            out.extend([PLANE_CONSTANT, plane[0]]);
            return;
        }
        if plane.len() >= ZSTD_MIN_BYTES
            && let Some(packed) = self.compress(plane)
            && packed.len() + 2 < plane.len()
        {
            out.push(PLANE_ZSTD);
            put_varint(out, packed.len() as u64);
            out.extend(packed);
            return;
        }
        out.push(PLANE_RAW);
        out.extend(plane);
    }
}

/// Reads columns; keeps the decompressor between them.
#[derive(Default)]
pub(crate) struct ColumnReader {
    /// Made at first use, as in [`ColumnWriter`].
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    scratch: Vec<u8>,
    words: Vec<u64>,
}

impl ColumnReader {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Decompresses to exactly `length` bytes. The caller has capped `length`.
    pub(crate) fn decompress(&mut self, packed: &[u8], length: usize) -> Result<&[u8]> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => {
                let zstd = zstd::bulk::Decompressor::new()
                    .map_err(|error| Error::internal("zstd did not start").with_source(error))?;
                none.insert(zstd)
            }
        };
        self.scratch.clear();
        self.scratch.reserve(length);
        let written = zstd
            .decompress_to_buffer(packed, &mut self.scratch)
            .map_err(|error| {
                Error::corrupt("metric payload does not decompress").with_source(error)
            })?;
        if written != length {
            return Err(Error::corrupt(format!(
                "metric payload decompresses to {written} bytes, {length} expected"
            )));
        }
        Ok(&self.scratch[..length])
    }

    /// Hands over what [`ColumnReader::decompress`] gave last.
    pub(crate) fn take_decompressed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    /// Reads what [`ColumnWriter::put_ints`] wrote. The caller has capped `count`.
    pub(crate) fn ints(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut value = reader.zigzag()?;
        let mut values = Vec::with_capacity(count);
        values.push(value);
        if count == 1 {
            return Ok(values);
        }
        let base = reader.zigzag()?;
        self.read_words(reader, count - 1, 8)?;
        values.extend(self.words.iter().map(|&word| {
            value = value.wrapping_add(base).wrapping_add(word as i64);
            value
        }));
        Ok(values)
    }

    /// Reads what [`ColumnWriter::put_indices`] wrote. The caller has capped `count`.
    pub(crate) fn indices(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<u32>> {
        self.read_words(reader, count, 4)?;
        Ok(self.words.iter().map(|&word| word as u32).collect())
    }

    /// Reads what [`ColumnWriter::put_floats`] wrote. The caller has capped `count`.
    pub(crate) fn floats(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let kind = reader.byte()?;
        let wide = kind & FLOAT_WIDE != 0;
        let width = if wide { 8 } else { 4 };
        let value = |bits: u64| {
            if wide {
                f64::from_bits(bits)
            } else {
                f64::from(f32::from_bits(bits as u32))
            }
        };
        match kind & !FLOAT_WIDE {
            FLOAT_ROWS => {
                let bytes = reader.take(count.saturating_mul(width))?;
                Ok(bytes
                    .chunks_exact(width)
                    .map(|word| value(get_word(word)))
                    .collect())
            }
            FLOAT_PLANES => {
                self.read_words(reader, count, width)?;
                Ok(self.words.iter().map(|&bits| value(bits)).collect())
            }
            FLOAT_DELTAS => {
                let mut bits = get_word(reader.take(width)?);
                let base = get_word(reader.take(width)?);
                self.read_words(reader, count - 1, width)?;
                let mut values = Vec::with_capacity(count);
                values.push(value(bits));
                values.extend(self.words.iter().map(|&word| {
                    bits = bits.wrapping_add(base).wrapping_add(word);
                    value(bits)
                }));
                Ok(values)
            }
            _ => Err(Error::corrupt(format!(
                "metric payload has a float column of unknown kind {kind}"
            ))),
        }
    }

    fn read_words(&mut self, reader: &mut Reader<'_>, count: usize, width: usize) -> Result<()> {
        let planes = usize::from(reader.byte()?);
        if planes > width {
            return Err(Error::corrupt(format!(
                "metric payload has {planes} planes in a column of {width} bytes"
            )));
        }
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        words.resize(count, 0);
        for plane in 0..planes {
            let shift = 8 * plane;
            let add = |words: &mut [u64], bytes: &[u8]| {
                for (word, &byte) in words.iter_mut().zip(bytes) {
                    *word |= u64::from(byte) << shift;
                }
            };
            match reader.byte()? {
                PLANE_RAW => add(&mut words, reader.take(count)?),
                PLANE_CONSTANT => {
                    let byte = u64::from(reader.byte()?) << shift;
                    for word in &mut words {
                        *word |= byte;
                    }
                }
                PLANE_ZSTD => {
                    let length = reader.count(reader.rest().len(), "bytes in a plane")?;
                    let packed = reader.take(length)?;
                    add(&mut words, self.decompress(packed, count)?);
                }
                kind => {
                    return Err(Error::corrupt(format!(
                        "metric payload has a plane of unknown kind {kind}"
                    )));
                }
            }
        }
        self.words = words;
        Ok(())
    }
}

fn put_word(out: &mut Vec<u8>, word: u64, width: usize) {
    out.extend(&word.to_le_bytes()[..width]);
}

fn get_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

fn mask(width: usize) -> u64 {
    u64::MAX >> (64 - 8 * width)
}

/// Bits that an ideal order-0 coder would spend on the planes: what decides between two ways to store a column.
fn entropy_bits(words: &[u64], width: usize) -> f64 {
    let total = words.len() as f64;
    let plane_bits = |plane: usize| {
        let mut counts = [0_u32; 256];
        for word in words {
            counts[usize::from((word >> (8 * plane)) as u8)] += 1;
        }
        let bits = |&count: &u32| -f64::from(count) * (f64::from(count) / total).log2();
        counts
            .iter()
            .filter(|&&count| count > 0)
            .map(bits)
            .sum::<f64>()
    };
    (0..width).map(plane_bits).sum()
}
