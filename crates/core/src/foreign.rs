//! Where the tensors lie in files that others wrote: `.safetensors`, `torch.save`'s zips, torch's `.distcp`.
//!
//! A file that is saved byte for byte is cut along what is found here, so that a tensor in it is the same chunk as the same tensor in a state tree or in
//! another file. Nothing here decides about the bytes themselves: whatever is said, a file's pieces in order are the file. So a mistake costs a few bytes
//! of disk and never a byte of content, and everything that is not understood, damaged or absurdly large is simply not cut ([`Payload`]s are left out).
//!
//! Formats are known by what is in them, not by names. Pickles are never run, nor read: DCP's `.metadata` lists where each item begins, but the items say it
//! themselves. What a format is: `safetensors` and `zip`, beside this file. Reading files is the caller's ([`ReadAt`]).

use crate::state::Dtype;

mod safetensors;
mod zip;

/// Shorter tensors are not cut out: it would cost the manifest more than it saves. As much as gives a tensor of a state tree a chunk of its own.
pub const MIN_PAYLOAD_BYTES: u64 = 1 << 20;
/// Most tensors that are looked for in one file; with more of them it stays whole.
pub const MAX_PAYLOADS: usize = 1 << 17;

/// A file that can be read anywhere.
pub trait ReadAt {
    /// Its length.
    fn bytes(&self) -> u64;
    /// Fills `into` from byte `offset` on; `None` if it can not be read there, which is then said by whoever copies the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()>;
}

impl ReadAt for [u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        into.copy_from_slice(self.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

/// A stretch of a file that is one tensor, or the storage of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// What it is, if the file says so in words that need not be run.
    pub tensor: Option<PayloadTensor>,
}

/// What a file says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadTensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape; its elements have exactly the payload's bytes.
    pub shape: Vec<u64>,
}

impl Payload {
    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// The tensors in a file, in order of their places; none of them overlap, and all lie inside. Empty if the file is nothing that is known, or not in order.
///
/// Zips show only what has at least [`MIN_PAYLOAD_BYTES`]; safetensors show everything, empty tensors too, with names.
pub fn payloads<R: ReadAt + ?Sized>(file: &R) -> Vec<Payload> {
    let end = file.bytes();
    let mut found = safetensors::payloads(file, 0);
    if found.is_none() && end >= MIN_PAYLOAD_BYTES {
        found = zip::trailing(file).or_else(|| {
            // As torch's DCP writes it with `SerializationFormat.SAFETENSORS`: what is no tensor first, each a zip of its own.
            let zip::Leading { mut payloads, end } = zip::leading(file)?;
            payloads.extend(safetensors::payloads(file, end)?);
            Some(payloads)
        });
    }
    let found = found.unwrap_or_default();
    if is_in_order(&found, end) {
        found
    } else {
        Vec::new()
    }
}

/// What callers rely on, whatever the parsers do.
fn is_in_order(payloads: &[Payload], end: u64) -> bool {
    let mut at = 0;
    payloads.len() <= MAX_PAYLOADS
        && payloads.iter().all(|payload| {
            let after = payload.offset.checked_add(payload.bytes);
            let fits = payload.offset >= at && after.is_some_and(|after| after <= end);
            at = after.unwrap_or(end);
            fits
        })
}

/// Little-endian numbers at places of a slice.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let part: [u8; N] = bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
    Some(
        part.iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    )
}
