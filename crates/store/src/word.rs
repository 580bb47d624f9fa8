//! Objects that hold one word and its checksum.

use bytes::Bytes;
use runtree_core::{Error, Result};

use crate::layout::ObjectPath;

/// What an object holds that is one word: the word, a point, and 16 hexadecimal digits of its BLAKE3. Most flipped bits of a run id
/// leave another run id, and a key that names another run must not become that run.
pub(crate) fn checked(word: &str) -> Bytes {
    let hash = blake3::hash(word.as_bytes()).to_hex();
    Bytes::from(format!("{word}.{}", &hash[..16]))
}

/// The word that [`checked`] wrote.
pub(crate) fn unchecked<'a>(bytes: &'a [u8], path: &ObjectPath) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.rsplit_once('.'))
        .map(|(word, _)| word)
        .filter(|word| checked(word) == bytes)
        .ok_or_else(|| {
            Error::corrupt(format!(
                "{path} is damaged: its checksum does not match its content"
            ))
        })
}
