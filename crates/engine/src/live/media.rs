//! Images, texts, histograms, tables and files on their way into the store.
//!
//! ```text
//! log ── admit at the step ──▶ queue ── one thread ──▶ encode pixels, put chunks, publish their list ──▶ Event::Media ──▶ flusher
//! ```
//!
//! `log` hands bytes over and returns: what is slow (encoding a picture, a disk) happens on the thread, which is started by the first entry. The event
//! follows its chunks and their list, which is what collectors read (W1–W4), so a journal never names bytes that are not there. While the disk refuses, entries wait and are tried again each second;
//! what does not fit into the queue is dropped, counted per name and journaled as lost, like points.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::event::Event;
use runtree_core::manifest::ChunkRecord;
use runtree_core::media::{MAX_INLINE_BYTES, MediaItem, MediaKind, check_items};
use runtree_core::{ChunkHash, ErrorKind, Result, Step, Timestamp};
use runtree_store::{SaveSession, checksum};

use super::{RunWriter, Shared, WarningKind, lock};
use crate::picture::Pixels;

/// Most bytes that wait; one entry alone may be larger.
const QUEUE_BYTES: usize = 128 << 20;
/// How long the thread waits before it tries a refused entry again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How many times an entry is tried once the run is finishing.
const LAST_TRIES: u32 = 2;
/// Entries that are put together: one look at the collectors, one sync of directories.
const BATCH: usize = 32;

/// What was logged under one name in one call.
#[derive(Clone, Debug)]
pub struct MediaEntry {
    /// The name.
    pub name: String,
    /// What all items are.
    pub kind: MediaKind,
    /// The items, in order.
    pub items: Vec<MediaSource>,
}

/// One item, before it is stored.
#[derive(Clone, Debug)]
pub struct MediaSource {
    /// Its bytes.
    pub content: MediaContent,
    /// What they are; `image/png` for pixels.
    pub content_type: String,
    /// Words beside it.
    pub caption: Option<String>,
    /// A file's name.
    pub file_name: Option<String>,
    /// Pixels of a picture, across and down.
    pub size: Option<(u32, u32)>,
}

/// Where an item's bytes come from.
#[derive(Clone, Debug)]
pub enum MediaContent {
    /// They are these.
    Bytes(Bytes),
    /// A picture that becomes a PNG on the thread.
    Pixels(Pixels),
}

impl MediaSource {
    fn len(&self) -> usize {
        match &self.content {
            MediaContent::Bytes(bytes) => bytes.len(),
            MediaContent::Pixels(pixels) => pixels.bytes(),
        }
    }

    /// What is known of it before its bytes are stored.
    fn outline(&self) -> MediaItem {
        MediaItem {
            content_type: self.content_type.clone(),
            bytes: self.len() as u64,
            caption: self.caption.clone(),
            file_name: self.file_name.clone(),
            size: match &self.content {
                MediaContent::Bytes(_) => self.size,
                MediaContent::Pixels(pixels) => Some(pixels.size()),
            },
            inline: None,
            chunks: Vec::new(),
        }
    }
}

/// An entry that waits.
#[derive(Debug)]
struct Job {
    entry: MediaEntry,
    rank: Option<u32>,
    step: Step,
    at: Timestamp,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    /// Bytes in `queue`, and in what the thread has taken and not stored.
    bytes: usize,
    taken: u64,
    done: u64,
    stopping: bool,
    /// Nobody waits any more: what is not stored is lost.
    abandoned: bool,
    /// What the store said last, while it refuses.
    failed: Option<String>,
    thread: Option<JoinHandle<()>>,
}

/// The queue and its thread.
#[derive(Debug, Default)]
pub(crate) struct MediaLane {
    state: Mutex<State>,
    wake: Condvar,
    stored: Condvar,
}

impl MediaLane {
    /// Bytes that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Waits until everything handed over before is stored and its events are in the front's queue; an error if the store refuses, or does not
    /// answer until `deadline`.
    pub(super) fn drain(&self, deadline: Option<Instant>) -> std::result::Result<(), String> {
        let mut state = lock(&self.state);
        let until = state.taken;
        while state.done < until {
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            let left = deadline.map_or(RETRY_INTERVAL, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Err("the disk has not answered in time".to_owned());
            }
            state = self
                .stored
                .wait_timeout(state, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        Ok(())
    }

    /// Ends the thread once it has stored what waits, at most until `deadline`.
    pub(super) fn finish(&self, deadline: Option<Instant>) {
        let thread = {
            let mut state = lock(&self.state);
            state.stopping = true;
            self.wake.notify_all();
            while state.thread.is_some() && state.done < state.taken {
                let left = deadline.map_or(RETRY_INTERVAL, |deadline| {
                    deadline.saturating_duration_since(Instant::now())
                });
                if left.is_zero() {
                    // It ends by itself when the disk answers; its events come too late for this journal.
                    state.abandoned = true;
                    state.thread = None;
                    break;
                }
                state = self
                    .stored
                    .wait_timeout(state, left)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0;
            }
            state.thread.take()
        };
        if let Some(thread) = thread {
            // A panic of it has been printed; what it took is not stored.
            let _ = thread.join();
        }
    }
}

impl RunWriter {
    /// Logs values and media of one step. Without a step: the next, or the one that values wait for a commit at. Returns the step.
    ///
    /// Media do not wait for a commit; under one name the last call at a step counts. Never waits for a disk.
    ///
    /// # Errors
    /// As [`RunWriter::log`]; `Invalid` for a name or items that can not be written. Then nothing of the call is logged.
    pub fn log_media(
        &self,
        step: Option<Step>,
        timestamp: Option<Timestamp>,
        values: &[(&str, f64)],
        media: Vec<MediaEntry>,
        commit: bool,
    ) -> Result<Step> {
        let shared = &self.shared;
        for entry in &media {
            runtree_metrics::check_name(&entry.name)?;
            let outlines: Vec<_> = entry.items.iter().map(MediaSource::outline).collect();
            check_items(&entry.name, &outlines)?;
        }
        if !shared.logs() {
            self.log(step, timestamp, values, commit)?;
            return Ok(step.unwrap_or_else(|| self.next_step()));
        }
        let timestamp = timestamp.unwrap_or_else(|| shared.engine.now());
        let names: Vec<&str> = media.iter().map(|entry| entry.name.as_str()).collect();
        let (step, pushed, rank) =
            lock(&shared.front).log_beside(step, timestamp, values, &names, commit)?;
        // A full queue of points is none of media, which have one of their own.
        let is_admitted = !pushed.is_below();
        self.after_push(pushed, Some(step))?;
        if is_admitted {
            for entry in media {
                self.enqueue(entry, rank, step, timestamp)?;
            }
        }
        Ok(step)
    }

    fn enqueue(
        &self,
        entry: MediaEntry,
        rank: Option<u32>,
        step: Step,
        at: Timestamp,
    ) -> Result<()> {
        let shared = &self.shared;
        let lane = &shared.media;
        let bytes: usize = entry.items.iter().map(MediaSource::len).sum();
        let mut state = lock(&lane.state);
        if state.stopping || (state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES) {
            drop(state);
            let names = std::iter::once(entry.name.as_str());
            lock(&shared.front).count_dropped("the media queue was full", names);
            shared.warn(
                WarningKind::QueueFull,
                "the disk is slower than the media that are logged: new ones are dropped and counted",
            );
            return Ok(());
        }
        if state.thread.is_none() {
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new()
                .name("runtree-media".to_owned())
                .spawn(move || run(&shared))
                .map_err(|error| {
                    runtree_core::Error::unavailable("can not start the thread that stores media")
                        .with_source(error)
                })?;
            state.thread = Some(thread);
        }
        state.bytes += bytes;
        state.taken += 1;
        state.queue.push_back(Job {
            entry,
            rank,
            step,
            at,
            bytes,
        });
        lane.wake.notify_one();
        Ok(())
    }
}

/// The thread.
fn run(shared: &Arc<Shared>) {
    let lane = &shared.media;
    loop {
        let jobs: Vec<Job> = {
            let mut state = lock(&lane.state);
            while state.queue.is_empty() {
                if state.stopping {
                    return;
                }
                state = lane
                    .wake
                    .wait(state)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            let count = state.queue.len().min(BATCH);
            state.queue.drain(..count).collect()
        };
        let (count, bytes) = (jobs.len(), jobs.iter().map(|job| job.bytes).sum::<usize>());
        let events = store_all(shared, jobs);
        {
            let mut front = lock(&shared.front);
            for event in events {
                front.push_event(event);
            }
        }
        let mut state = lock(&lane.state);
        state.bytes -= bytes;
        state.done += count as u64;
        state.failed = None;
        lane.stored.notify_all();
    }
}

/// Stores what was taken, as often as it takes; the events of what is stored.
fn store_all(shared: &Arc<Shared>, jobs: Vec<Job>) -> Vec<Event> {
    let lane = &shared.media;
    let mut tries = 0;
    loop {
        let error = match store(shared, &jobs) {
            Ok(events) => return events,
            Err(error) => error,
        };
        let text = error.chain();
        let is_hopeless = error.kind() == ErrorKind::Invalid;
        if !is_hopeless {
            shared.warn(
                WarningKind::Storage,
                format!("media can not be stored, they wait in memory: {text}"),
            );
        }
        let mut state = lock(&lane.state);
        tries += u32::from(state.stopping);
        if is_hopeless || state.abandoned || tries >= LAST_TRIES {
            drop(state);
            let names = jobs.iter().map(|job| job.entry.name.as_str());
            lock(&shared.front).count_dropped("they could not be stored", names);
            shared.warn(
                WarningKind::QueueFull,
                format!("media could not be stored and are lost: {text}"),
            );
            return Vec::new();
        }
        state.failed = Some(text);
        lane.stored.notify_all();
        drop(
            lane.wake
                .wait_timeout(state, RETRY_INTERVAL)
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }
}

fn store(shared: &Shared, jobs: &[Job]) -> Result<Vec<Event>> {
    let session = shared.engine.store.begin_save()?;
    let mut events = Vec::with_capacity(jobs.len());
    let mut put_bytes = HashMap::new();
    for job in jobs {
        let items = job
            .entry
            .items
            .iter()
            .map(|source| put(&session, source, &mut put_bytes))
            .collect::<Result<Vec<_>>>()?;
        events.push(Event::Media {
            name: job.entry.name.clone(),
            rank: job.rank,
            step: job.step,
            at: job.at,
            kind: job.entry.kind,
            items,
        });
    }
    let refill = |chunk: &ChunkRecord| Ok(put_bytes.get(&chunk.hash).cloned());
    session.publish_files(&mut lock(&shared.files), refill)?;
    Ok(events)
}

/// Puts what an item needs, and keeps it in `put_bytes`: a collector may take it before the list is there.
fn put(
    session: &SaveSession,
    source: &MediaSource,
    put_bytes: &mut HashMap<ChunkHash, Bytes>,
) -> Result<MediaItem> {
    let mut item = source.outline();
    let bytes = match &source.content {
        MediaContent::Bytes(bytes) => bytes.clone(),
        MediaContent::Pixels(pixels) => Bytes::from(pixels.to_png()?),
    };
    item.bytes = bytes.len() as u64;
    if bytes.len() <= MAX_INLINE_BYTES
        && let Ok(text) = std::str::from_utf8(&bytes)
    {
        item.inline = Some(text.to_owned());
        return Ok(item);
    }
    for chunk in chunks_of(bytes) {
        let sum = checksum(&chunk);
        put_bytes.insert(sum.hash, chunk.clone());
        item.chunks.push(session.put_chunk(chunk, sum)?.record);
    }
    Ok(item)
}

fn chunks_of(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    let most = runtree_core::manifest::MAX_CHUNK_BYTES as usize;
    (0..bytes.len())
        .step_by(most)
        .map(move |at| bytes.slice(at..bytes.len().min(at + most)))
}
