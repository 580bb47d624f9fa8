//! Appending to a journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use runtree_core::event::Event;
use runtree_core::manifest::JournalPosition;
use runtree_core::{Error, Result, RunId, WriterId};

use super::frame::{
    FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, ParsedFrame, parse_frame,
    start_hash, write_frame,
};
use super::{FrameKind, describe};
use crate::error::from_object;
use crate::layout;
use crate::store::{Created, Store};

/// A buffer that grew beyond this is given back after a sync.
const KEEP_BUFFER_BYTES: usize = 8 << 20;

/// The writer of one journal. Not shared: one thread owns it and syncs it, as often as it wants points to be safe.
///
/// Frames are kept in memory until they are durable, so that nothing is lost if the disk is full for a while ([`JournalWriter::sync`] can be called
/// again), and a failed sync leads to a new piece of the journal with the same frames, never to a second try on the same file.
#[derive(Debug)]
pub struct JournalWriter {
    store: Store,
    run: RunId,
    writer: WriterId,
    piece: Piece,
    /// Frames that are not durable, as they stand (or will stand) at `piece.end`.
    pending: Vec<u8>,
    next_ordinal: u64,
    hash: u64,
    durable: JournalPosition,
}

#[derive(Debug)]
struct Piece {
    /// Where frames are appended; none in a bucket, where each sync makes an object of its own.
    file: Option<(File, PathBuf)>,
    first_ordinal: u64,
    /// Durable bytes.
    end: u64,
    /// Whether the file's name is durable.
    anchored: bool,
    /// Set by a failed sync: nobody knows what is on the disk.
    broken: bool,
}

impl JournalWriter {
    /// Begins a journal. The writer id must be fresh: a journal has one author.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; `Conflict` if the journal exists.
    pub fn create(store: &Store, run: RunId, writer: WriterId) -> Result<Self> {
        store.check_writable()?;
        let hash = start_hash(run, writer);
        let header = FileHeader {
            run,
            writer,
            first_ordinal: 0,
            hash,
        };
        Ok(Self {
            store: store.clone(),
            run,
            writer,
            piece: Piece::create(store, header)?,
            pending: Vec::new(),
            next_ordinal: 0,
            hash,
            durable: JournalPosition {
                writer,
                ordinal: 0,
                hash,
            },
        })
    }

    /// Whose journal it is.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// Appends a frame, in memory; returns its ordinal.
    ///
    /// # Errors
    /// `Invalid` if the payload is larger than 64 MiB.
    pub fn append(&mut self, kind: FrameKind, payload: &[u8]) -> Result<u64> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::invalid(format!(
                "a frame holds at most {MAX_PAYLOAD_BYTES} bytes, not {}",
                payload.len()
            )));
        }
        let ordinal = self.next_ordinal;
        self.hash = write_frame(&mut self.pending, ordinal, kind, payload, self.hash);
        self.next_ordinal += 1;
        Ok(ordinal)
    }

    /// Appends an event, in memory; returns its ordinal.
    ///
    /// # Errors
    /// `Invalid` if it is larger than 64 MiB.
    pub fn append_event(&mut self, event: &Event) -> Result<u64> {
        let json = serde_json::to_vec(event).map_err(|error| {
            Error::internal("an event can not be written as JSON").with_source(error)
        })?;
        self.append(FrameKind::Event, &json)
    }

    /// Bytes that are not durable yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// How far the journal is durable.
    pub fn position(&self) -> JournalPosition {
        self.durable
    }

    /// Makes every appended frame durable. After an error nothing is lost: call it again later.
    ///
    /// # Errors
    /// As the disk says.
    pub fn sync(&mut self) -> Result<JournalPosition> {
        if self.pending.is_empty() && self.piece.anchored {
            return Ok(self.durable);
        }
        if self.piece.file.is_none() {
            return self.sync_object();
        }
        if self.piece.broken {
            self.begin_piece()?;
        }
        self.piece.write(&self.pending)?;
        if !self.piece.anchored {
            let path = layout::journal_piece(self.run, self.writer, self.piece.first_ordinal);
            self.store.sync_dirs([&path])?;
            self.piece.anchored = true;
        }
        self.piece.end += self.pending.len() as u64;
        self.pending.clear();
        if self.pending.capacity() > KEEP_BUFFER_BYTES {
            self.pending = Vec::new();
        }
        self.durable = JournalPosition {
            writer: self.writer,
            ordinal: self.next_ordinal,
            hash: self.hash,
        };
        Ok(self.durable)
    }

    /// Makes the pending frames an object: a piece that begins where the last one ended. After an error it is tried again under the same name, with whatever is pending by then, which
    /// begins with the same frames: if the first try had won after all, its object is there, and holds these frames or fewer.
    fn sync_object(&mut self) -> Result<JournalPosition> {
        if self.pending.is_empty() {
            self.piece.anchored = true;
            return Ok(self.durable);
        }
        let header = FileHeader {
            run: self.run,
            writer: self.writer,
            first_ordinal: self.durable.ordinal,
            hash: self.durable.hash,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&self.pending);
        let path = layout::journal_piece(self.run, self.writer, header.first_ordinal);
        match self.store.create_bytes(&path, bytes.into())? {
            Created::Created | Created::ExistsEqual => {}
            Created::ExistsOther(there) => self.take_over(&header, &there)?,
        }
        self.pending.clear();
        self.durable = JournalPosition {
            writer: self.writer,
            ordinal: self.next_ordinal,
            hash: self.hash,
        };
        Ok(self.durable)
    }

    /// An earlier try of ours won, with fewer frames: what it does not hold goes into the next piece.
    fn take_over(&mut self, header: &FileHeader, there: &[u8]) -> Result<()> {
        let frames = there.strip_prefix(&header.to_bytes()[..]);
        let Some(frames) = frames.filter(|frames| self.pending.starts_with(frames)) else {
            return Err(Error::conflict(format!(
                "{} has a piece at frame {} that somebody else wrote: a writer id is never used twice",
                describe(self.run, self.writer),
                header.first_ordinal
            )));
        };
        let (mut at, mut hash, mut ordinal) = (0, header.hash, header.first_ordinal);
        while let ParsedFrame::Whole {
            payload_bytes,
            hash: next,
            ..
        } = parse_frame(&frames[at..], ordinal, hash)
        {
            at += FRAME_HEADER_BYTES + payload_bytes;
            (hash, ordinal) = (next, ordinal + 1);
        }
        if at == 0 {
            return Err(Error::corrupt(format!(
                "{} has a piece at frame {} without a whole frame",
                describe(self.run, self.writer),
                header.first_ordinal
            ))
            .with_hint("no writer makes such an object: something else wrote into the store"));
        }
        self.pending.drain(..at);
        self.durable = JournalPosition {
            writer: self.writer,
            ordinal,
            hash,
        };
        if !self.pending.is_empty() {
            self.sync_object()?;
        }
        Ok(())
    }

    /// A new file that starts with the frames the broken one may have lost. It may hold them too: readers go over at the new one's first ordinal.
    fn begin_piece(&mut self) -> Result<()> {
        if self.durable.ordinal == self.piece.first_ordinal {
            return Err(Error::unavailable(format!(
                "{} could not be written from its first frame on",
                describe(self.run, self.writer)
            ))
            .with_hint(
                "check the disk, then start the run again: it continues from its last checkpoint",
            ));
        }
        let header = FileHeader {
            run: self.run,
            writer: self.writer,
            first_ordinal: self.durable.ordinal,
            hash: self.durable.hash,
        };
        self.piece = Piece::create(&self.store, header)?;
        Ok(())
    }
}

impl Piece {
    fn create(store: &Store, header: FileHeader) -> Result<Self> {
        let Some(local) = store.local() else {
            // An object is written whole: there is nothing to begin.
            return Ok(Self {
                file: None,
                first_ordinal: header.first_ordinal,
                end: 0,
                anchored: false,
                broken: false,
            });
        };
        let location = layout::journal_piece(header.run, header.writer, header.first_ordinal);
        let begun = local.begin_file(&location, &header.to_bytes());
        let (file, path) = begun.map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => Error::conflict(format!(
                "{location} exists: a writer id is never used twice"
            )),
            error => from_object(error, "create a journal"),
        })?;
        Ok(Self {
            file: Some((file, path)),
            first_ordinal: header.first_ordinal,
            end: HEADER_BYTES as u64,
            anchored: false,
            broken: false,
        })
    }

    /// Writes at the end of what is durable, over whatever an earlier try left there, and syncs.
    fn write(&mut self, frames: &[u8]) -> Result<()> {
        let (file, path) = self
            .file
            .as_ref()
            .ok_or_else(|| Error::internal("a piece in a bucket is not appended to"))?;
        let path = path.display();
        file.write_all_at(frames, self.end)
            .map_err(|error| failed("write", &path, error))?;
        file.sync_data().map_err(|error| {
            self.broken = true;
            failed("sync", &path, error)
        })
    }
}

fn failed(verb: &str, what: &dyn std::fmt::Display, error: io::Error) -> Error {
    let message = format!("can not {verb} {what}");
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied(message)
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::unavailable(message).with_hint("free some space on the disk of the store")
        }
        _ => Error::unavailable(message),
    }
    .with_source(error)
}
