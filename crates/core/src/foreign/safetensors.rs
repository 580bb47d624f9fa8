//! safetensors: `u64` LE length of a JSON header, the header, then the tensors' bytes without holes to the end of the file.
//!
//! As strict as the format: no key twice, every byte of the data belongs to exactly one tensor, sizes are what dtype and shape say. A dtype that is not ours (parts
//! of bytes) leaves its tensor without a name, still cut. Our own reader and not the `safetensors` crate: that wants the whole header in memory and
//! owned names in a map, and brings a second opinion on what this project's exporter writes; this one streams the header from the file.

use std::collections::HashSet;
use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{MAX_PAYLOADS, Payload, PayloadTensor, ReadAt};
use crate::state::Dtype;

/// Largest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Dimensions of a tensor that are taken for meant.
const MAX_DIMENSIONS: usize = 64;
const MAX_NAME_BYTES: usize = 4096;

/// The tensors of the safetensors file that is the rest of `file` from `start` on.
pub(super) fn payloads<R: ReadAt + ?Sized>(file: &R, start: u64) -> Option<Vec<Payload>> {
    let mut head = [0; 9];
    file.read_at(start, &mut head)?;
    let (length, first) = (super::number::<8>(&head, 0)?, head[8]);
    let header = start.checked_add(8)?;
    let data = header.checked_add(length)?;
    // Not even one tensor, or something else altogether.
    if first != b'{' || length > MAX_HEADER_BYTES || data > file.bytes() {
        return None;
    }
    let reader = BufReader::with_capacity(
        length.min(1 << 16) as usize,
        Section {
            file,
            at: header,
            end: data,
        },
    );
    let mut json = serde_json::Deserializer::from_reader(reader);
    let Header(mut tensors) = Header::deserialize(&mut json).ok()?;
    json.end().ok()?;
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    let mut at = 0;
    for tensor in &tensors {
        if tensor.begin != at || tensor.end < at {
            return None;
        }
        at = tensor.end;
    }
    if data.checked_add(at)? != file.bytes() {
        return None;
    }
    tensors
        .into_iter()
        .map(|tensor| tensor.into_payload(data))
        .collect()
}

/// A part of a file, read from its start to its end.
struct Section<'f, R: ?Sized> {
    file: &'f R,
    at: u64,
    end: u64,
}

impl<R: ReadAt + ?Sized> Read for Section<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = (self.end - self.at).min(into.len() as u64);
        self.file
            .read_at(self.at, &mut into[..count as usize])
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        self.at += count;
        Ok(count as usize)
    }
}

struct Header(Vec<HeaderTensor>);

struct HeaderTensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

impl HeaderTensor {
    /// `None` if dtype and shape do not give the bytes.
    fn into_payload(self, data: u64) -> Option<Payload> {
        let bytes = self.end - self.begin;
        let tensor = match dtype_of(&self.dtype) {
            Some(dtype) => {
                let elements = crate::state::element_count(&self.shape)?;
                if elements.checked_mul(dtype.item_bytes())? != bytes {
                    return None;
                }
                Some(PayloadTensor {
                    name: self.name,
                    dtype,
                    shape: self.shape,
                })
            }
            None => None,
        };
        Some(Payload {
            offset: data.checked_add(self.begin)?,
            bytes,
            tensor,
        })
    }
}

fn dtype_of(text: &str) -> Option<Dtype> {
    Some(match text {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "F8_E4M3" => Dtype::F8E4M3FN,
        "F8_E5M2" => Dtype::F8E5M2,
        "F8_E8M0" => Dtype::F8E8M0FNU,
        "F8_E4M3FNUZ" => Dtype::F8E4M3FNUZ,
        "F8_E5M2FNUZ" => Dtype::F8E5M2FNUZ,
        "U16" => Dtype::U16,
        "I16" => Dtype::I16,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "U32" => Dtype::U32,
        "I32" => Dtype::I32,
        "F32" => Dtype::F32,
        "C64" => Dtype::C64,
        "U64" => Dtype::U64,
        "I64" => Dtype::I64,
        "F64" => Dtype::F64,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Info {
                    dtype: String,
                    shape: Vec<u64>,
                    data_offsets: (u64, u64),
                }

                let mut seen = HashSet::new();
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let is_metadata = name == "__metadata__";
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                    if is_metadata {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let info: Info = map.next_value()?;
                    if tensors.len() >= MAX_PAYLOADS
                        || info.shape.len() > MAX_DIMENSIONS
                        || name.len() > MAX_NAME_BYTES
                    {
                        return Err(A::Error::custom("more than is looked for"));
                    }
                    tensors.push(HeaderTensor {
                        name,
                        dtype: info.dtype,
                        shape: info.shape,
                        begin: info.data_offsets.0,
                        end: info.data_offsets.1,
                    });
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
