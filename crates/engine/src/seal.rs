//! Sealing: what journals say becomes Parquet segments. See `docs/design/0008`.
//!
//! A segment covers frames of one journal. It is made from the journal alone, put under a name that says what it covers and what its bytes hash to,
//! and changes nothing for whoever has the journal. So sealing needs no lock and no agreement: two processes that seal the same frames make the same
//! object, and two that seal overlapping ones make segments of which readers take one. A crash leaves a temporary file, and the frames unsealed.
//!
//! A run's own process seals when it finishes and each time much is unsealed ([`worker`]), the next launch seals what a crashed one left, and
//! [`Engine::seal`] what nobody has. Journals stay: gc alone removes what is covered.

use runtree_core::event::Event;
use runtree_core::manifest::JournalPosition;
use runtree_core::{AttemptNumber, ErrorKind, Result, RunId, WriterId};
use runtree_metrics::{Limits, PointsBatch, SegmentBuilder, segment::TARGET_POINTS};
use runtree_store::{Cursor, Frame, FrameKind, JournalReader};

use crate::engine::Engine;
use crate::fold::sealed::Sealed;

mod mend;
mod worker;

pub(crate) use worker::{Sealer, Urgency};

/// Bytes of a journal after which a live run seals them.
pub const SEAL_BYTES: u64 = 64 << 20;
/// A segment with as many bytes of events is finished, however few points it has.
const TARGET_EVENT_BYTES: usize = 32 << 20;

/// What was sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SealReport {
    /// Journals that had something to seal.
    pub journals: u64,
    /// Segments written.
    pub segments: u64,
    /// Points in them.
    pub points: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl SealReport {
    /// Adds what else was sealed.
    pub fn add(&mut self, other: Self) {
        self.journals += other.journals;
        self.segments += other.segments;
        self.points += other.points;
        self.bytes += other.bytes;
    }
}

/// Which journals of a run are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journals {
    /// All, whether their writers live or not.
    All,
    /// One.
    Of(WriterId),
    /// Those of launches before this one, and those of this rank that were closed: nobody writes into them any more.
    Ended { attempt: AttemptNumber, rank: u32 },
}

impl Engine {
    /// Seals all that is not sealed of some runs, and writes damaged segments again, telling how far it is after each journal.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; `Corrupt` that names the first damaged journal, or the first segment that nothing can mend, after all
    /// others were sealed.
    pub fn seal(&self, runs: &[RunId], progress: &mut dyn FnMut(SealReport)) -> Result<SealReport> {
        self.require_writable()?;
        let mut report = SealReport::default();
        let mut failed = None;
        for &run in runs {
            let mut done = |journal| {
                report.add(journal);
                progress(report);
            };
            let there = Sealed::list(&self.store, run)?;
            let mended = self.mend_segments(run, &there, &mut done);
            let sealed = self.seal_journals(run, Journals::All, &|| false, &mut done);
            for error in [mended, sealed].into_iter().filter_map(Result::err) {
                if error.kind() != ErrorKind::Corrupt {
                    return Err(error);
                }
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(report), Err)
    }

    /// Seals journals of a run until `stop` says so.
    pub(crate) fn seal_journals(
        &self,
        run: RunId,
        which: Journals,
        stop: &dyn Fn() -> bool,
        done: &mut dyn FnMut(SealReport),
    ) -> Result<()> {
        let sealed = Sealed::list(&self.store, run)?;
        let mut failed = None;
        for writer in self.writers_to_seal(run, which, &sealed)? {
            if stop() {
                break;
            }
            match self.seal_journal(run, writer, &sealed, stop) {
                Ok(report) if report == SealReport::default() => {}
                Ok(report) => done(report),
                // One damaged journal must not keep the others open.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The writers whose journals have something that is not sealed, as far as the index knows; where it does not, they are looked at.
    fn writers_to_seal(
        &self,
        run: RunId,
        which: Journals,
        sealed: &Sealed,
    ) -> Result<Vec<WriterId>> {
        let mut writers: Vec<WriterId> = Vec::new();
        if let Journals::Of(writer) = which {
            return Ok(vec![writer]);
        }
        self.refresh_known(run)?;
        let rows = self.snapshot()?.writers(run)?;
        for journal in self.store.list_journals(run)? {
            let row = rows.iter().find(|row| row.writer == journal.writer);
            let Some(row) = row else {
                if which == Journals::All {
                    writers.push(journal.writer);
                }
                continue;
            };
            let ended = match which {
                Journals::Ended { attempt, rank } => {
                    let earlier = row.attempt.is_some_and(|launch| launch < attempt);
                    earlier
                        || (row.attempt == Some(attempt)
                            && row.rank == rank
                            && row.closed.is_some())
                }
                Journals::All | Journals::Of(_) => true,
            };
            // Tools log no points.
            let known = row.cursor.ordinal;
            let open = known == 0 || sealed.reach(row.writer, 0) < known;
            if ended && open && row.attempt.is_some() {
                writers.push(journal.writer);
            }
        }
        Ok(writers)
    }

    /// Seals what is not sealed of one journal. One that holds no points at all is left as it is.
    fn seal_journal(
        &self,
        run: RunId,
        writer: WriterId,
        sealed: &Sealed,
        stop: &dyn Fn() -> bool,
    ) -> Result<SealReport> {
        let mut report = SealReport::default();
        let Some(mut open) = self.begin_sealing(run, writer, sealed)? else {
            return Ok(report);
        };
        loop {
            let frame = open.reader.next_frame()?;
            let is_end = frame.is_none();
            if let Some(frame) = frame {
                open.add(&frame)?;
            }
            if !is_end && !open.is_full() {
                continue;
            }
            if let Some(bytes) = open.next_segment()? {
                let frames = open.from.ordinal..open.reader.cursor().ordinal;
                report.bytes += bytes.len() as u64;
                report.segments += 1;
                report.points += open.points as u64;
                report.journals = 1;
                self.store
                    .create_segment(run, writer, frames, bytes.into())?;
                self.sealer().remember(run, writer, open.reader.cursor());
                open.begin_next();
            }
            if is_end || stop() {
                return Ok(report);
            }
        }
    }

    /// Opens a journal behind what is sealed of it.
    fn begin_sealing(
        &self,
        run: RunId,
        writer: WriterId,
        sealed: &Sealed,
    ) -> Result<Option<Unsealed>> {
        let reach = sealed.reach(writer, 0);
        if reach == 0 {
            let reader = JournalReader::open(&self.store, run, writer, Cursor::START);
            let reader = match reader {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                reader => reader?,
            };
            return Ok(Some(Unsealed::new(run, writer, reader, None)));
        }
        let last = self.segment_at(run, writer, sealed, reach - 1);
        let (attempt, position) = match last {
            Ok(Some(segment)) => {
                let head = segment.head();
                let position = JournalPosition {
                    writer,
                    ordinal: head.to,
                    hash: head.hash_to,
                };
                (head.attempt, position)
            }
            Ok(None) => return Ok(None),
            // A damaged segment: the journal, if it is whole, says it all again.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let reader = JournalReader::open(&self.store, run, writer, Cursor::START);
                let reader = reader.map_err(|_| error)?;
                return Ok(Some(Unsealed::new(run, writer, reader, None)));
            }
            Err(error) => return Err(error),
        };
        let remembered = self.sealer().place(run, writer);
        let reader = match remembered {
            Some(cursor) if (cursor.ordinal, cursor.hash) == (position.ordinal, position.hash) => {
                Some(JournalReader::open(&self.store, run, writer, cursor)?)
            }
            _ => JournalReader::open_behind(&self.store, run, position)?,
        };
        Ok(reader.map(|reader| Unsealed::new(run, writer, reader, Some(attempt))))
    }
}

/// A journal that is being sealed.
struct Unsealed {
    run: RunId,
    writer: WriterId,
    reader: JournalReader,
    attempt: Option<AttemptNumber>,
    /// Where the segment at hand begins.
    from: Cursor,
    builder: Option<SegmentBuilder>,
    /// Points of the segment that was made last.
    points: usize,
}

impl Unsealed {
    fn new(
        run: RunId,
        writer: WriterId,
        reader: JournalReader,
        attempt: Option<AttemptNumber>,
    ) -> Self {
        Self {
            run,
            writer,
            from: reader.cursor(),
            reader,
            attempt,
            builder: None,
            points: 0,
        }
    }

    /// Adds a frame that was read.
    fn add(&mut self, frame: &Frame) -> Result<()> {
        if self.attempt.is_none() {
            self.attempt = launch_of(frame)?;
        }
        // A tool's journal: it belongs to no launch, and holds no points.
        let Some(attempt) = self.attempt else {
            return Ok(());
        };
        let (run, writer, from) = (self.run, self.writer, self.from);
        let builder = self.builder.get_or_insert_with(|| {
            // Before the first frame of a journal its reader has not said the hash yet.
            let hash = if from == Cursor::START {
                runtree_store::journal::start_hash(run, writer)
            } else {
                from.hash
            };
            SegmentBuilder::new(run, writer, attempt, from.ordinal, hash)
        });
        match frame.kind {
            FrameKind::Event => builder.push_event(frame.ordinal, &frame.payload)?,
            FrameKind::Points => {
                let batch = PointsBatch::decode(&frame.payload, Limits::default())?;
                builder.push_points(frame.ordinal, &batch);
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.builder.as_ref().is_some_and(|builder| {
            builder.points() >= TARGET_POINTS || builder.event_bytes() >= TARGET_EVENT_BYTES
        })
    }

    /// The segment of what was read; none if there is nothing to seal: events alone are worth a segment only behind an earlier one, so that all of the
    /// journal is covered in the end.
    fn next_segment(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(builder) = self.builder.take() else {
            return Ok(None);
        };
        self.points = builder.points();
        let is_full = builder.event_bytes() >= TARGET_EVENT_BYTES;
        if self.points == 0 && self.from.ordinal == 0 && !is_full {
            return Ok(None);
        }
        let end = self.reader.cursor();
        builder.finish(end.ordinal, end.hash).map(Some)
    }

    fn begin_next(&mut self) {
        self.from = self.reader.cursor();
    }
}

/// The launch that a frame opens, if it opens one.
fn launch_of(frame: &Frame) -> Result<Option<AttemptNumber>> {
    if frame.kind != FrameKind::Event {
        return Ok(None);
    }
    match frame.event()? {
        Event::Opened { attempt, .. } => Ok(attempt),
        _ => Ok(None),
    }
}
