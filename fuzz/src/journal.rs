//! Journal pieces: headers and frames, one after another as a reader meets them.

use runtree_store::journal::{FRAME_HEADER_BYTES, FileHeader, ParsedFrame, parse_frame};

/// Journal pieces: headers and frames, one after another as a reader meets them.
pub fn journal(bytes: &[u8]) {
    drop(FileHeader::parse(bytes));
    let (mut rest, mut ordinal, mut hash) = (bytes, 0, 0);
    while let ParsedFrame::Whole {
        payload_bytes,
        hash: next,
        ..
    } = parse_frame(rest, ordinal, hash)
    {
        rest = &rest[FRAME_HEADER_BYTES + payload_bytes..];
        ordinal += 1;
        hash = next;
    }
}
