//! Pixels become a PNG: lossless, and small enough where rows are like their neighbours.
//!
//! Nothing here reads pictures: what users hand over as PNG, JPEG, GIF or WebP is kept as it is.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use runtree_core::{Error, Result};

/// Longest side of a picture.
const MAX_SIDE: u32 = 1 << 16;

/// Pixels of 8 bits a channel, row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    channels: u8,
    data: Bytes,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            width,
            height,
            channels,
            ..
        } = self;
        write!(f, "Pixels({width} x {height} x {channels})")
    }
}

impl Pixels {
    /// Takes `height` rows of `width` pixels of `channels` bytes: grey, grey and alpha, RGB, or RGBA.
    ///
    /// # Errors
    /// `Invalid` if there are no pixels, too many, or not as many bytes as they need.
    pub fn new(width: u32, height: u32, channels: u8, data: Bytes) -> Result<Self> {
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(Error::invalid(format!(
                "a picture has 1 to {MAX_SIDE} pixels a side, this one {width} x {height}"
            )));
        }
        if !(1..=4).contains(&channels) {
            return Err(Error::invalid(format!(
                "a picture has 1 to 4 channels, this one {channels}"
            )));
        }
        let expected = u64::from(width) * u64::from(height) * u64::from(channels);
        if data.len() as u64 != expected {
            return Err(Error::invalid(format!(
                "a picture of {width} x {height} x {channels} has {expected} bytes, not {}",
                data.len()
            )));
        }
        Ok(Self {
            width,
            height,
            channels,
            data,
        })
    }

    /// Across and down.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The same picture as a PNG.
    ///
    /// # Errors
    /// `Internal` if it can not be compressed, which only memory could prevent.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut header = Vec::with_capacity(13);
        header.extend_from_slice(&self.width.to_be_bytes());
        header.extend_from_slice(&self.height.to_be_bytes());
        // 8 bits; grey, grey and alpha, RGB, RGBA; deflate, the one set of filters, not interlaced.
        let colour = [0, 4, 2, 6][usize::from(self.channels) - 1];
        header.extend_from_slice(&[8, colour, 0, 0, 0]);
        let compressed = self.compress().map_err(|error| {
            Error::internal("a picture can not be compressed").with_source(error)
        })?;
        let mut png = Vec::with_capacity(compressed.len() + 64);
        png.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        push_chunk(&mut png, *b"IHDR", &header);
        push_chunk(&mut png, *b"IDAT", &compressed);
        push_chunk(&mut png, *b"IEND", &[]);
        Ok(png)
    }

    fn compress(&self) -> std::io::Result<Vec<u8>> {
        let stride = self.width as usize * usize::from(self.channels);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(4));
        let nothing = vec![0; stride];
        let mut above: &[u8] = &nothing;
        let mut filtered: [Vec<u8>; FILTERS.len()] = Default::default();
        for row in self.data.chunks_exact(stride) {
            let mut best = (u64::MAX, 0);
            for (at, (_, filter)) in FILTERS.iter().enumerate() {
                let sum = apply(
                    *filter,
                    row,
                    above,
                    usize::from(self.channels),
                    &mut filtered[at],
                );
                best = best.min((sum, at));
            }
            encoder.write_all(&[FILTERS[best.1].0])?;
            encoder.write_all(&filtered[best.1])?;
            above = row;
        }
        encoder.finish()
    }
}

/// What a byte is predicted to be from those before it, above it, and before that.
type Filter = fn(left: u8, up: u8, up_left: u8) -> u8;

/// The filters that are tried, with their numbers in a PNG: none, left, up, and the nearest of three.
const FILTERS: [(u8, Filter); 4] = [
    (0, |_, _, _| 0),
    (1, |left, _, _| left),
    (2, |_, up, _| up),
    (4, nearest),
];

/// Of left, up and both, the one that a plane through them is nearest to.
fn nearest(left: u8, up: u8, up_left: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(up_left));
    let (to_left, to_up, to_both) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if to_left <= to_up && to_left <= to_both {
        left
    } else if to_up <= to_both {
        up
    } else {
        up_left
    }
}

/// Filters a row; says how far its bytes are from zero in all, which is less where it compresses better.
fn apply(filter: Filter, row: &[u8], above: &[u8], pixel: usize, out: &mut Vec<u8>) -> u64 {
    out.clear();
    let mut sum = 0;
    for (at, &byte) in row.iter().enumerate() {
        let (left, up_left) = match at.checked_sub(pixel) {
            Some(before) => (row[before], above[before]),
            None => (0, 0),
        };
        let difference = byte.wrapping_sub(filter(left, above[at], up_left));
        sum += u64::from(difference.cast_signed().unsigned_abs());
        out.push(difference);
    }
    sum
}

fn push_chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    png.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = png.len();
    png.extend_from_slice(&kind);
    png.extend_from_slice(data);
    let mut crc = Crc::new();
    crc.update(&png[start..]);
    png.extend_from_slice(&crc.sum().to_be_bytes());
}
