//! What a run logged besides numbers, along its timeline: media are stitched as metrics are.
//!
//! A fork shows its ancestors' entries up to the fork step, what a rewound launch logged beyond is a ghost, and where neighbouring segments meet, at a base
//! step, the later one's own entry wins, per name. Alerts, like the console, belong to their run.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::lineage::{AttemptId, Segment};
use runtree_core::media::MediaItem;
use runtree_core::{AttemptNumber, Error, Result, RunId, Step, wire};
use runtree_index::{MediaQuery, MediaRow, Snapshot, StepSpan};

use super::legible;
use crate::engine::Engine;
use crate::series::{MetricName, timeline_of};

/// Longest page of entries.
const MAX_ENTRIES: usize = 1000;
/// Most steps that a list names: beyond, every so many, the first and the last among them.
const MAX_STEPS: usize = 10_000;
/// Newest alerts that are shown.
pub(super) const MAX_ALERTS: u32 = 200;

/// Which entries of a name are wanted.
#[derive(Clone, Debug)]
pub struct MediaSelection {
    /// First and last step, inclusive.
    pub steps: (Step, Step),
    /// One launch's own entries alone, its ghost tail among them; none: along the timeline.
    pub attempt: Option<AttemptNumber>,
    /// Whether ancestors' entries are wanted.
    pub inherited: bool,
    /// Most entries.
    pub limit: usize,
}

impl Default for MediaSelection {
    fn default() -> Self {
        Self {
            steps: (Step::MIN, Step::MAX),
            attempt: None,
            inherited: true,
            limit: 100,
        }
    }
}

/// The bytes of an item, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaContentInfo {
    /// `image/png`, `text/plain`.
    pub content_type: String,
    /// A file's name.
    pub file_name: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Engine {
    /// Names that a run's effective history has media under, and the steps of all of them.
    ///
    /// # Errors
    /// `NotFound` if the run, or the launch that is asked for, is not there.
    pub fn media(&self, run: RunId, selection: &MediaSelection) -> Result<wire::MediaList> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let segments = media_segments(&*snapshot, run, selection)?;
        let mut keys: BTreeMap<MetricName, wire::MediaKey> = BTreeMap::new();
        let mut steps: BTreeSet<Step> = BTreeSet::new();
        for segment in &segments {
            let span = span_of(segment);
            let found = snapshot.media_keys(segment.id, span)?;
            if found.is_empty() {
                continue;
            }
            steps.extend(snapshot.media_steps(segment.id, span, None)?);
            for row in found {
                let name = MetricName {
                    name: row.name,
                    rank: row.rank,
                };
                // At a base step the later segment's own entry takes the place of the earlier one's.
                let before = keys.get(&name).map(|key| key.last);
                let repeats = u64::from(before == Some(row.first));
                let is_own = segment.id.run == run;
                let key = keys.entry(name.clone()).or_insert_with(|| wire::MediaKey {
                    name: name.to_string(),
                    kind: row.kind,
                    entries: 0,
                    first: row.first,
                    last: row.last,
                    own: false,
                });
                key.entries += row.entries - repeats;
                key.last = row.last;
                key.kind = row.kind;
                key.own |= is_own;
            }
        }
        let steps: Vec<Step> = steps.into_iter().collect();
        Ok(wire::MediaList {
            keys: keys.into_values().collect(),
            steps: thinned(steps),
        })
    }

    /// Entries of a name, ascending by step. `next_step` of the page is where the next one begins.
    ///
    /// # Errors
    /// `NotFound` that lists the names there are.
    pub fn media_entries(
        &self,
        run: RunId,
        name: &str,
        selection: &MediaSelection,
    ) -> Result<wire::MediaPage> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let segments = media_segments(&*snapshot, run, selection)?;
        let metric = MetricName::parse(name);
        let limit = selection.limit.clamp(1, MAX_ENTRIES);
        let mut found: BTreeMap<Step, MediaRow> = BTreeMap::new();
        for segment in &segments {
            // One more than is wanted says that there is more; a base step may take one away.
            let query = MediaQuery {
                attempt: segment.id,
                name: metric.name.clone(),
                rank: metric.rank,
                span: span_of(segment),
                newest_first: false,
                limit: limit as u32 + 2,
            };
            for row in snapshot.media(&query)? {
                found.insert(row.step, row);
            }
            if found.len() > limit
                && found
                    .keys()
                    .nth(limit)
                    .is_some_and(|step| *step < segment.last)
            {
                break;
            }
        }
        if found.is_empty() {
            self.require_media(&*snapshot, run, name)?;
        }
        let next_step = found.keys().nth(limit).copied();
        let entries = found
            .into_values()
            .take(limit)
            .map(|row| entry(run, &metric, row))
            .collect();
        Ok(wire::MediaPage { entries, next_step })
    }

    /// Of every name the newest entry at or before a step: what a slider shows.
    ///
    /// # Errors
    /// `NotFound` if the run, or the launch that is asked for, is not there.
    pub fn media_at(
        &self,
        run: RunId,
        step: Step,
        selection: &MediaSelection,
    ) -> Result<Vec<wire::MediaEntry>> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let up_to = MediaSelection {
            steps: (selection.steps.0, selection.steps.1.min(step)),
            ..selection.clone()
        };
        let segments = media_segments(&*snapshot, run, &up_to)?;
        let mut newest: BTreeMap<MetricName, wire::MediaEntry> = BTreeMap::new();
        // From the leaf up: a name that was found is not looked for any further.
        for segment in segments.iter().rev() {
            for key in snapshot.media_keys(segment.id, span_of(segment))? {
                let name = MetricName {
                    name: key.name,
                    rank: key.rank,
                };
                if newest.contains_key(&name) {
                    continue;
                }
                let query = MediaQuery {
                    attempt: segment.id,
                    name: name.name.clone(),
                    rank: name.rank,
                    span: span_of(segment),
                    newest_first: true,
                    limit: 1,
                };
                if let Some(row) = snapshot.media(&query)?.pop() {
                    newest.insert(name.clone(), entry(run, &name, row));
                }
            }
        }
        Ok(newest.into_values().collect())
    }

    /// The bytes of one item, verified.
    ///
    /// # Errors
    /// `NotFound` if there is no such item; `Corrupt` if its bytes are damaged.
    pub fn read_media(
        &self,
        run: RunId,
        name: &str,
        step: Step,
        item: usize,
        attempt: Option<AttemptNumber>,
    ) -> Result<MediaContentInfo> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let selection = MediaSelection {
            steps: (step, step),
            attempt,
            ..MediaSelection::default()
        };
        let metric = MetricName::parse(name);
        let mut found = None;
        for segment in media_segments(&*snapshot, run, &selection)? {
            let query = MediaQuery {
                attempt: segment.id,
                name: metric.name.clone(),
                rank: metric.rank,
                span: span_of(&segment),
                newest_first: false,
                limit: 1,
            };
            found = snapshot.media(&query)?.pop().or(found);
        }
        let Some(row) = found else {
            self.require_media(&*snapshot, run, name)?;
            return Err(Error::not_found(format!(
                "run {run} logged nothing as {name:?} at step {step}"
            )));
        };
        let items = row.items.len();
        let Some(found) = row.items.into_iter().nth(item) else {
            return Err(Error::not_found(format!(
                "{name:?} at step {step} of run {run} has {items} items, none with the number {item}"
            )));
        };
        drop(snapshot);
        let what = format!("{name:?} at step {step} of run {run}");
        self.read_item(found, &what)
    }

    fn read_item(&self, item: MediaItem, what: &str) -> Result<MediaContentInfo> {
        let mut bytes = item.inline.map(String::into_bytes).unwrap_or_default();
        for chunk in &item.chunks {
            let chunk = self
                .store
                .read_chunk(chunk)
                .map_err(|error| error.in_context(what.to_owned()))?;
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() as u64 != item.bytes {
            return Err(Error::corrupt(format!(
                "{what} has {} bytes, {} were written",
                bytes.len(),
                item.bytes
            )));
        }
        Ok(MediaContentInfo {
            content_type: item.content_type,
            file_name: item.file_name,
            bytes,
        })
    }

    /// Refuses a name that the run never logged media under.
    fn require_media(&self, snapshot: &dyn Snapshot, run: RunId, name: &str) -> Result<()> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        for segment in timeline_of(snapshot, run)?.segments() {
            for key in snapshot.media_keys(segment.id, StepSpan::ALL)? {
                let name = MetricName {
                    name: key.name,
                    rank: key.rank,
                };
                names.insert(name.to_string());
            }
        }
        if names.contains(name) {
            return Ok(());
        }
        let record = self.store.read_run(run)?;
        let error = Error::not_found(format!("run {} has no media {name:?}", record.display_id));
        let names: Vec<_> = names.iter().map(|name| legible(name)).collect();
        Err(error.with_hint(if names.is_empty() {
            "it has logged none".to_owned()
        } else {
            format!("it has {}", names.join(", "))
        }))
    }
}

/// The segments that are asked for, cut to the steps that are.
fn media_segments(
    snapshot: &dyn Snapshot,
    run: RunId,
    selection: &MediaSelection,
) -> Result<Vec<Segment>> {
    let (first, last) = selection.steps;
    let segments = if let Some(attempt) = selection.attempt {
        if !snapshot
            .attempts(run)?
            .iter()
            .any(|row| row.record.attempt == attempt)
        {
            return Err(Error::not_found(format!(
                "run {run} has no attempt {attempt}"
            )));
        }
        let id = AttemptId { run, attempt };
        vec![Segment {
            id,
            first: Step::MIN,
            last: Step::MAX,
        }]
    } else {
        timeline_of(snapshot, run)?.segments().to_vec()
    };
    let cut = segments.into_iter().filter_map(|segment| {
        let cut = Segment {
            id: segment.id,
            first: segment.first.max(first),
            last: segment.last.min(last),
        };
        let is_wanted = selection.inherited || segment.id.run == run;
        (is_wanted && cut.first <= cut.last).then_some(cut)
    });
    Ok(cut.collect())
}

fn span_of(segment: &Segment) -> StepSpan {
    StepSpan {
        first: segment.first,
        last: segment.last,
    }
}

fn entry(run: RunId, name: &MetricName, row: MediaRow) -> wire::MediaEntry {
    wire::MediaEntry {
        name: name.to_string(),
        kind: row.kind,
        step: row.step,
        at: row.at,
        run: row.attempt.run.to_string(),
        attempt: row.attempt.attempt,
        inherited: row.attempt.run != run,
        items: row.items.into_iter().map(item_info).collect(),
    }
}

fn item_info(item: MediaItem) -> wire::MediaItemInfo {
    let (width, height) = item.size.unzip();
    wire::MediaItemInfo {
        content_type: item.content_type,
        bytes: item.bytes,
        caption: item.caption,
        file_name: item.file_name,
        width,
        height,
        hash: item.chunks.first().map(|chunk| chunk.hash.to_string()),
        inline: item.inline,
    }
}

/// At most [`MAX_STEPS`] of some steps, evenly, the first and the last among them.
fn thinned(steps: Vec<Step>) -> Vec<Step> {
    if steps.len() <= MAX_STEPS {
        return steps;
    }
    let last = steps.len() - 1;
    (0..MAX_STEPS)
        .map(|at| steps[at * last / (MAX_STEPS - 1)])
        .collect()
}
