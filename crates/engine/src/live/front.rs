//! The fast side of `log`: a push into a builder under a mutex.

use std::collections::{BTreeMap, HashMap, VecDeque};

use runtree_core::event::{Event, Lamport};
use runtree_core::manifest::AttemptRecord;
use runtree_core::{ErrorKind, Result, Step, Timestamp};
use runtree_metrics::{BatchBuilder, SeriesIndex, SeriesName};

/// Most bytes that wait for the disk; then new points are dropped and counted.
pub(super) const QUEUE_BYTES: usize = 64 << 20;
/// What a point in a builder is counted as: step, time and value.
const POINT_BYTES: usize = 24;
/// A batch of more points than this is closed: it is one frame.
const BATCH_POINTS: usize = 1 << 18;
/// The flusher is woken early when this much waits.
pub(super) const WAKE_BYTES: usize = 8 << 20;

/// Lines printed within this time after the first of an event join it, up to so many.
const JOINED_MICROS: i64 = 100_000;
const JOINED_LINES: usize = 1000;

/// Points that are collected, with the names they know.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) builder: BatchBuilder,
    user: HashMap<String, SeriesIndex>,
    system: HashMap<String, SeriesIndex>,
    row: Vec<(SeriesIndex, f64)>,
}

impl Batch {
    fn index(&mut self, name: &str, system: bool, rank: Option<u32>) -> Result<SeriesIndex> {
        let names = if system {
            &mut self.system
        } else {
            &mut self.user
        };
        if let Some(index) = names.get(name) {
            return Ok(*index);
        }
        let index = self.builder.series(&SeriesName {
            name: name.to_owned(),
            system,
            rank,
        })?;
        names.insert(name.to_owned(), index);
        Ok(index)
    }

    fn push<'a>(
        &mut self,
        step: Step,
        timestamp: Timestamp,
        values: impl Iterator<Item = (&'a str, f64)>,
        system: bool,
        rank: Option<u32>,
    ) -> Result<()> {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        for (name, value) in values {
            row.push((self.index(name, system, rank)?, value));
        }
        let pushed = self.builder.push(step, timestamp, &row);
        self.row = row;
        pushed
    }
}

/// What waits for the flusher, in order.
#[derive(Debug)]
pub(super) enum Item {
    /// A control event.
    Event(Event),
    /// A batch that is complete.
    Points(Box<Batch>),
    /// What comes after belongs to another launch, in a journal of its own.
    Reopen(Box<AttemptRecord>),
}

/// Points of one step that wait for `commit`.
#[derive(Debug)]
struct PendingRow {
    step: Step,
    timestamp: Timestamp,
    /// By name: who never commits logs the same names again and again.
    values: BTreeMap<String, f64>,
}

/// What a launch may log, and what it logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Steps below are not this launch's to log.
    pub(crate) first: Step,
    /// How far down `first` may move before the first point; none: it may not move.
    pub(crate) floor: Option<Step>,
    /// What `log` without a step takes before anything was logged.
    pub(crate) start: Step,
    /// Last step that is inherited, if any.
    pub(crate) inherited_last: Option<Step>,
    /// Largest step this launch logged.
    pub(crate) last: Option<Step>,
}

/// State under the mutex.
#[derive(Debug)]
pub(super) struct Front {
    bounds: Bounds,
    rank: Option<u32>,
    batch: Box<Batch>,
    spare: Option<Box<Batch>>,
    queue: VecDeque<Item>,
    /// Bytes in `queue`.
    queued: usize,
    /// Bytes that the flusher has taken and not written yet.
    in_flight: usize,
    pending: Option<PendingRow>,
    refused_below: bool,
    dropped: BTreeMap<String, u64>,
    unreported: BTreeMap<(&'static str, String), u64>,
    lamport: u64,
    /// Flushes asked for.
    pub(super) asked: u64,
    pub(super) stopping: bool,
}

/// What became of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Kept,
    /// Kept, and the flusher should come early.
    KeptMuch,
    /// Below the start: the first time.
    FirstBelow(Step),
    /// Below the start: again.
    Below,
    /// The queue is full.
    Full,
}

impl Pushed {
    pub(super) fn is_below(&self) -> bool {
        matches!(self, Self::FirstBelow(_) | Self::Below)
    }
}

impl Front {
    pub(super) fn new(bounds: Bounds, rank: Option<u32>) -> Self {
        Self {
            bounds,
            rank,
            batch: Box::default(),
            spare: Some(Box::default()),
            queue: VecDeque::new(),
            queued: 0,
            in_flight: 0,
            pending: None,
            refused_below: false,
            dropped: BTreeMap::new(),
            unreported: BTreeMap::new(),
            lamport: 0,
            asked: 0,
            stopping: false,
        }
    }

    pub(super) fn next_step(&self) -> Step {
        self.bounds.last.map_or(self.bounds.start, Step::next)
    }

    /// The same for a `log` without a step, which must not write over what is there.
    pub(super) fn automatic_step(&self) -> Result<Step> {
        match self.last_step() {
            Some(Step::MAX) => Step::MAX.following(),
            _ => Ok(self.next_step()),
        }
    }

    pub(super) fn last_step(&self) -> Option<Step> {
        self.bounds.last.or(self.bounds.inherited_last)
    }

    pub(super) fn own_last_step(&self) -> Option<Step> {
        self.bounds.last
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.refused_below = false;
    }

    pub(super) fn dropped(&self) -> &BTreeMap<String, u64> {
        &self.dropped
    }

    /// Bytes that wait, those the flusher has taken but not written included.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued + self.in_flight + self.batch.builder.points() * POINT_BYTES
    }

    /// The flusher wrote or gave up so many bytes.
    pub(super) fn release(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// The next count, above what this process used and what it has `seen` of others.
    pub(super) fn next_lamport(&mut self, seen: u64) -> Lamport {
        self.lamport = self.lamport.max(seen) + 1;
        Lamport(self.lamport)
    }

    pub(super) fn push_event(&mut self, event: Event) {
        // The last word comes after the last point, or a journal that lost its end would look whole.
        if matches!(event, Event::Closed { .. }) {
            self.close_batch();
        }
        self.queued += event_bytes(&event);
        self.queue.push_back(Item::Event(event));
    }

    /// For events that may come in any amount: says whether there was room. Lines that are printed one soon after another become one event.
    pub(super) fn push_bounded(&mut self, event: Event) -> bool {
        let bytes = event_bytes(&event);
        if self.queued_bytes() + bytes > QUEUE_BYTES {
            return false;
        }
        let last = self.queue.back_mut();
        match (last, event) {
            (
                Some(Item::Event(Event::Console {
                    stream: last_stream,
                    at: last_at,
                    lines: last_lines,
                })),
                Event::Console { stream, at, lines },
            ) if *last_stream == stream
                && (0..=JOINED_MICROS).contains(&at.micros_since(*last_at))
                && last_lines.len() < JOINED_LINES =>
            {
                last_lines.extend(lines);
                self.queued += bytes;
            }
            (_, event) => self.push_event(event),
        }
        true
    }

    pub(super) fn push_reopen(&mut self, attempt: AttemptRecord) {
        self.close_batch();
        self.queue.push_back(Item::Reopen(Box::new(attempt)));
    }

    fn close_batch(&mut self) {
        if self.batch.builder.is_empty() {
            return;
        }
        self.queued += self.batch.builder.points() * POINT_BYTES;
        let next = self.spare.take().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch, next);
        self.queue.push_back(Item::Points(full));
    }

    /// Everything that waits. Its bytes count until [`Front::release`].
    pub(super) fn take(&mut self) -> (VecDeque<Item>, usize) {
        self.close_batch();
        let taken = std::mem::take(&mut self.queued);
        self.in_flight += taken;
        (std::mem::take(&mut self.queue), taken)
    }

    /// Gives an emptied batch back, so that its memory and names are used again.
    pub(super) fn give_back(&mut self, batch: Box<Batch>) {
        if batch.builder.is_empty() {
            self.spare.get_or_insert(batch);
        }
    }

    /// Points dropped since the last call, by (reason, metric).
    pub(super) fn take_unreported(&mut self) -> BTreeMap<(&'static str, String), u64> {
        std::mem::take(&mut self.unreported)
    }

    pub(super) fn count_dropped<'a>(
        &mut self,
        reason: &'static str,
        names: impl Iterator<Item = &'a str>,
    ) {
        for name in names {
            *self.dropped.entry(name.to_owned()).or_default() += 1;
            *self
                .unreported
                .entry((reason, name.to_owned()))
                .or_default() += 1;
        }
    }

    /// One call of `log`.
    pub(super) fn log(
        &mut self,
        step: Option<Step>,
        timestamp: Timestamp,
        values: &[(&str, f64)],
        commit: bool,
    ) -> Result<Pushed> {
        if !commit || self.pending.is_some() {
            return self.log_buffered(step, timestamp, values, commit);
        }
        let step = step.map_or_else(|| self.automatic_step(), Ok)?;
        self.push_row(step, timestamp, values)
    }

    fn log_buffered(
        &mut self,
        step: Option<Step>,
        timestamp: Timestamp,
        values: &[(&str, f64)],
        commit: bool,
    ) -> Result<Pushed> {
        let mut pushed = Pushed::Kept;
        let mut row = match self.pending.take() {
            Some(row) if step.is_none_or(|step| step == row.step) => row,
            other => {
                // Another step: what waited is complete.
                if let Some(row) = other {
                    pushed = self.push_pending(row)?;
                }
                PendingRow {
                    step: step.map_or_else(|| self.automatic_step(), Ok)?,
                    timestamp,
                    values: BTreeMap::new(),
                }
            }
        };
        row.timestamp = timestamp;
        row.values
            .extend(values.iter().map(|&(name, value)| (name.to_owned(), value)));
        if commit {
            let now = self.push_pending(row)?;
            return Ok(if pushed == Pushed::Kept { now } else { pushed });
        }
        self.pending = Some(row);
        Ok(pushed)
    }

    /// What still waits for `commit` is committed: at the end, or before a rewind.
    pub(super) fn commit_pending(&mut self) -> Result<()> {
        if let Some(row) = self.pending.take() {
            self.push_pending(row)?;
        }
        Ok(())
    }

    fn push_pending(&mut self, row: PendingRow) -> Result<Pushed> {
        let values: Vec<(&str, f64)> = row
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        self.push_row(row.step, row.timestamp, &values)
    }

    fn push_row(
        &mut self,
        step: Step,
        timestamp: Timestamp,
        values: &[(&str, f64)],
    ) -> Result<Pushed> {
        let names = || values.iter().map(|(name, _)| *name);
        if let Some(below) = self.refuse_below(step, names()) {
            return Ok(below);
        }
        if self.queued_bytes() + values.len() * POINT_BYTES > QUEUE_BYTES {
            self.count_dropped("the queue was full", names());
            return Ok(Pushed::Full);
        }
        self.push_points(step, timestamp, values, false, self.rank)?;
        self.settle_start(step);
        Ok(if self.queued_bytes() > WAKE_BYTES {
            Pushed::KeptMuch
        } else {
            Pushed::Kept
        })
    }

    /// One call of `log` with media beside the values, which are logged at the step that the values have. Says which step that is, and the rank that
    /// keeps a series of its own.
    pub(super) fn log_beside(
        &mut self,
        step: Option<Step>,
        timestamp: Timestamp,
        values: &[(&str, f64)],
        media: &[&str],
        commit: bool,
    ) -> Result<(Step, Pushed, Option<u32>)> {
        let step = match (step, &self.pending) {
            (Some(step), _) => step,
            (None, Some(row)) => row.step,
            (None, None) => self.automatic_step()?,
        };
        let mut pushed = Pushed::Kept;
        if !values.is_empty() || !commit || self.pending.is_some() {
            pushed = self.log(Some(step), timestamp, values, commit)?;
        }
        if pushed.is_below() {
            if pushed == Pushed::Below {
                self.count_dropped("step below the start of the run", media.iter().copied());
            }
            return Ok((step, pushed, self.rank));
        }
        if let Some(below) = self.refuse_below(step, media.iter().copied()) {
            return Ok((step, below, self.rank));
        }
        self.settle_start(step);
        Ok((step, pushed, self.rank))
    }

    /// Refuses a step below the start, unless it is the first of a resumed launch and moves the start.
    fn refuse_below<'a>(
        &mut self,
        step: Step,
        names: impl Iterator<Item = &'a str>,
    ) -> Option<Pushed> {
        if step >= self.bounds.first || self.lowered_by(step).is_some() {
            return None;
        }
        if !std::mem::replace(&mut self.refused_below, true) {
            // The caller is told, so nothing is lost silently.
            return Some(Pushed::FirstBelow(self.bounds.first));
        }
        self.count_dropped("step below the start of the run", names);
        Some(Pushed::Below)
    }

    /// Something was logged at a step: the start of the launch does not move any more.
    fn settle_start(&mut self, step: Step) {
        if let Some(first) = self.lowered_by(step) {
            self.bounds.first = first;
            self.push_event(Event::StartLowered { first });
        }
        if self.bounds.last.is_none_or(|last| last < step) {
            self.bounds.last = Some(step);
        }
        // Only once the start is settled by a first point may it not move any more.
        self.bounds.floor = None;
    }

    /// Where the start moves if `step` is the first that a resumed launch logs.
    fn lowered_by(&self, step: Step) -> Option<Step> {
        let floor = self.bounds.floor?;
        (step < self.bounds.start && step >= floor).then_some(step)
    }

    pub(super) fn log_system(
        &mut self,
        step: Step,
        timestamp: Timestamp,
        values: &[(&str, f64)],
        rank: Option<u32>,
    ) -> Result<Pushed> {
        if self.queued_bytes() + values.len() * POINT_BYTES > QUEUE_BYTES {
            let names = values.iter().map(|(name, _)| *name);
            self.count_dropped("the queue was full", names);
            return Ok(Pushed::Full);
        }
        self.push_points(step, timestamp, values, true, rank)?;
        Ok(Pushed::Kept)
    }

    /// Pushes into the open batch, or into the next one if that is full: of points, or of ever new combinations of names.
    fn push_points(
        &mut self,
        step: Step,
        timestamp: Timestamp,
        values: &[(&str, f64)],
        system: bool,
        rank: Option<u32>,
    ) -> Result<()> {
        if self.batch.builder.points() + values.len() > BATCH_POINTS {
            self.close_batch();
        }
        let row = || values.iter().copied();
        match self.batch.push(step, timestamp, row(), system, rank) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.close_batch();
                self.batch.push(step, timestamp, row(), system, rank)
            }
            pushed => pushed,
        }
    }
}

/// What an event is counted as in the queue; only texts can be large.
fn event_bytes(event: &Event) -> usize {
    let text = match event {
        Event::Console { lines, .. } => lines.iter().map(|line| line.len() + 24).sum(),
        Event::Alert { title, text, .. } => title.len() + text.len(),
        Event::Media { items, .. } => items
            .iter()
            .map(|item| 256 + item.inline.as_ref().map_or(0, String::len) + 192 * item.chunks.len())
            .sum(),
        Event::Config { .. } | Event::File { .. } | Event::Environment { .. } => 1024,
        _ => 64,
    };
    text + 64
}
