//! `torch.save`'s zips, alone (`.pt`, `.pth`, `.bin`, `.ckpt`) or one after another (`.distcp`: one for each item).
//!
//! Entries are STORED and padded, sizes stand in the central directory alone, records for more than 4 GiB (zip64) are always there, and there is no comment. So a
//! zip is known by its end, from which its length follows, and a chain of them is walked from the end of the file to its beginning; what is before the first
//! zip stays whole. Offsets count from the zip's own beginning. Only what is needed to find large entries is read: directories, and the headers in front of those.
//! Our own reader and not the `zip` crate: that one searches for the end, takes the last directory of a file for the only one, and unpacks; we need three
//! records and a dozen numbers.

use super::{MAX_PAYLOADS, MIN_PAYLOAD_BYTES, Payload, ReadAt, number};

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: usize = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_BYTES: usize = 56;
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// Tag of the extra field with the numbers that do not fit 32 bits.
const EXTRA64: u64 = 1;

/// Largest central directory that is read: about a million entries.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// Zips of a chain, at most: each costs some reads, and a file of nothing but empty zips must not keep a trainer waiting.
const MAX_ZIPS: usize = 1 << 17;
/// How far the end of a zip is searched for that is followed by something else. What DCP writes in front of a safetensors file are small objects.
const MAX_SEARCH_BYTES: u64 = 16 << 20;
/// Ends that are looked at in that search.
const MAX_CANDIDATES: usize = 1 << 16;
/// Read at a time in that search.
const SEARCH_WINDOW_BYTES: u64 = 1 << 18;

/// Zips at the beginning of a file.
#[derive(Debug)]
pub(super) struct Leading {
    /// Large entries in them.
    pub(super) payloads: Vec<Payload>,
    /// Where the last of them ends.
    pub(super) end: u64,
}

/// The zips at the beginning of a file that something else follows; `None` if there are none.
pub(super) fn leading<R: ReadAt + ?Sized>(file: &R) -> Option<Leading> {
    let mut payloads = Vec::new();
    let limit = file.bytes().min(MAX_SEARCH_BYTES);
    let mut start = 0;
    let mut window = Vec::new();
    let mut at = 0;
    let (mut zips, mut candidates) = (0, 0);
    while starts_with(file, start, LOCAL) && zips < MAX_ZIPS {
        // Windows overlap by an end record, so that none is cut in two.
        let found = loop {
            if at + END_BYTES as u64 > limit || candidates > MAX_CANDIDATES {
                break None;
            }
            let bytes = (limit - at).min(SEARCH_WINDOW_BYTES);
            window.resize(bytes as usize, 0);
            file.read_at(at, &mut window)?;
            let hit = ends(&window).find_map(|place| {
                candidates += 1;
                let end = at + place as u64 + END_BYTES as u64;
                Zip::ending_at(file, end).filter(|zip| zip.start == start)
            });
            match hit {
                Some(zip) => break Some(zip),
                None if bytes < SEARCH_WINDOW_BYTES => break None,
                None => at += bytes - END_BYTES as u64 + 1,
            }
        };
        let Some(zip) = found else { break };
        payloads.extend(zip.payloads(file)?);
        zips += 1;
        start = zip.end;
        at = start;
    }
    (zips > 0).then_some(Leading {
        payloads,
        end: start,
    })
}

/// Large entries of the chain of zips that ends with the file; `None` if it does not end with one.
pub(super) fn trailing<R: ReadAt + ?Sized>(file: &R) -> Option<Vec<Payload>> {
    let mut end = file.bytes();
    let mut payloads = Vec::new();
    for _ in 0..MAX_ZIPS {
        let Some(found) =
            Zip::ending_at(file, end).and_then(|zip| Some((zip.start, zip.payloads(file)?)))
        else {
            break;
        };
        end = found.0;
        payloads.extend(found.1.into_iter().rev());
        if payloads.len() > MAX_PAYLOADS {
            return None;
        }
    }
    payloads.reverse();
    (end < file.bytes()).then_some(payloads)
}

fn starts_with<R: ReadAt + ?Sized>(file: &R, at: u64, magic: &[u8]) -> bool {
    let mut found = [0; 4];
    file.read_at(at, &mut found).is_some() && found == magic
}

/// Where an end record may begin. Most bytes are none of its first, so that one is looked for alone: this goes over megabytes.
fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + bytes[from..].iter().position(|&byte| byte == END[0])?;
            from = at + 1;
            if at + END_BYTES <= bytes.len() && bytes[at..].starts_with(END) {
                return Some(at);
            }
        }
    })
}

/// A zip in a file.
#[derive(Clone, Copy, Debug)]
struct Zip {
    start: u64,
    end: u64,
    /// The central directory.
    directory: u64,
    directory_bytes: u64,
    entries: u64,
}

impl Zip {
    /// The zip whose last byte is before `end`.
    fn ending_at<R: ReadAt + ?Sized>(file: &R, end: u64) -> Option<Self> {
        let mut tail = [0; END64_BYTES + LOCATOR_BYTES + END_BYTES];
        let held = (tail.len() as u64).min(end) as usize;
        let first = tail.len() - held;
        file.read_at(end.checked_sub(held as u64)?, &mut tail[first..])?;
        let (end64, rest) = tail.split_at(END64_BYTES);
        let (locator, record) = rest.split_at(LOCATOR_BYTES);
        let short = |at| number::<2>(record, at);
        let long = |at| number::<4>(record, at);
        // One disk, no comment.
        if !record.starts_with(END) || short(4)? != 0 || short(6)? != 0 || short(20)? != 0 {
            return None;
        }
        let mut entries = short(10)?;
        let (mut directory_bytes, mut directory_offset) = (long(12)?, long(16)?);
        let mut records = END_BYTES as u64;
        if locator.starts_with(LOCATOR) {
            if !end64.starts_with(END64) || number::<8>(end64, 4)? != END64_BYTES as u64 - 12 {
                return None;
            }
            let small = (entries, directory_bytes, directory_offset);
            entries = number::<8>(end64, 32)?;
            directory_bytes = number::<8>(end64, 40)?;
            directory_offset = number::<8>(end64, 48)?;
            let same = |small: u64, large: u64, unknown: u64| small == large || small == unknown;
            if !same(small.0, entries, 0xffff)
                || !same(small.1, directory_bytes, 0xffff_ffff)
                || !same(small.2, directory_offset, 0xffff_ffff)
                || number::<8>(locator, 8)? != directory_offset.checked_add(directory_bytes)?
            {
                return None;
            }
            records = tail.len() as u64;
        }
        let directory = end.checked_sub(records)?.checked_sub(directory_bytes)?;
        let start = directory.checked_sub(directory_offset)?;
        let plausible = entries.checked_mul(ENTRY_BYTES as u64)? <= directory_bytes
            && directory_bytes <= MAX_DIRECTORY_BYTES;
        plausible.then_some(Self {
            start,
            end,
            directory,
            directory_bytes,
            entries,
        })
    }

    /// Its large STORED entries, in order; `None` if it contradicts itself.
    fn payloads<R: ReadAt + ?Sized>(&self, file: &R) -> Option<Vec<Payload>> {
        let mut directory = vec![0; self.directory_bytes as usize];
        file.read_at(self.directory, &mut directory)?;
        let mut rest = directory.as_slice();
        let mut payloads = Vec::new();
        for _ in 0..self.entries {
            let (entry, behind) = Entry::parse(rest)?;
            rest = behind;
            if entry.is_plain && entry.bytes >= MIN_PAYLOAD_BYTES {
                payloads.push(self.place(file, &entry)?);
            }
        }
        if !rest.is_empty() {
            return None;
        }
        payloads.sort_by_key(|payload| payload.offset);
        let apart = payloads
            .windows(2)
            .all(|pair| pair[0].end() <= pair[1].offset);
        apart.then_some(payloads)
    }

    /// Where an entry's bytes are: behind a header whose names may be longer than the directory's.
    fn place<R: ReadAt + ?Sized>(&self, file: &R, entry: &Entry) -> Option<Payload> {
        let header = self.start.checked_add(entry.header_offset)?;
        let mut local = [0; LOCAL_BYTES];
        if header.checked_add(LOCAL_BYTES as u64)? > self.directory {
            return None;
        }
        file.read_at(header, &mut local)?;
        if !local.starts_with(LOCAL) {
            return None;
        }
        let names = number::<2>(&local, 26)? + number::<2>(&local, 28)?;
        let offset = header + LOCAL_BYTES as u64 + names;
        (offset.checked_add(entry.bytes)? <= self.directory).then_some(Payload {
            offset,
            bytes: entry.bytes,
            tensor: None,
        })
    }
}

/// What the central directory says of an entry.
#[derive(Debug)]
struct Entry {
    bytes: u64,
    header_offset: u64,
    /// Neither compressed nor encrypted.
    is_plain: bool,
}

impl Entry {
    /// The entry at the beginning of `bytes`, and what follows.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        if !bytes.starts_with(ENTRY) {
            return None;
        }
        let short = |at| number::<2>(bytes, at);
        let long = |at| number::<4>(bytes, at);
        let (flags, method) = (short(8)?, short(10)?);
        let (mut stored, mut size, mut header_offset) = (long(20)?, long(24)?, long(42)?);
        let (name, extra, comment) = (
            short(28)? as usize,
            short(30)? as usize,
            short(32)? as usize,
        );
        let extra_start = ENTRY_BYTES + name;
        let mut fields = bytes.get(extra_start..extra_start + extra)?;
        while !fields.is_empty() {
            let (tag, length) = (number::<2>(fields, 0)?, number::<2>(fields, 2)? as usize);
            let field = fields.get(4..4 + length)?;
            fields = &fields[4 + length..];
            if tag == EXTRA64 {
                // Only what has no room in 32 bits stands here, in this order.
                let mut at = 0;
                for number in [&mut size, &mut stored, &mut header_offset] {
                    if *number == 0xffff_ffff {
                        *number = super::number::<8>(field, at)?;
                        at += 8;
                    }
                }
            }
        }
        let end = extra_start + extra + comment;
        let entry = Self {
            bytes: size,
            header_offset,
            is_plain: method == 0 && flags & 1 == 0 && stored == size,
        };
        Some((entry, bytes.get(end..)?))
    }
}
