//! One run as the answers that its page asks for: what `runtree export-html` packs into a file.

use std::path::Path;

use runtree_core::wire::{SeriesRequest, SeriesSelector, XAxis};
use runtree_core::{Result, RunId, wire};
use runtree_index::ConsoleFilter;
use serde_json::{Map, Value, json};

use super::metrics::file::write_whole;
use crate::engine::Engine;
use crate::queries::CheckpointScope;

/// Version of the value.
const VERSION: u32 = 1;
/// Lines of the console that are kept: the last.
const MAX_LINES: usize = 1000;
/// Largest lineage that is kept.
const MAX_FAMILY: usize = 200;
/// Up to so many metrics have charts over time, too.
const MAX_TIMED: usize = 40;
/// Most buckets of all charts over steps together: what keeps the file of a normal run below a megabyte.
const MAX_BUCKETS: u32 = 40_000;
/// Pixels of a chart, at least and at most.
const PIXELS: (u32, u32) = (60, 800);

impl Engine {
    /// The answers to what the page of a run asks, at this moment: `answers` to GET by path (`/runs/it` is the run), and `series` with the buckets of every
    /// metric, stitched, and of every ghost tail. Each bucket is exact for its interval.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if what it shows is damaged.
    pub fn report(&self, run: RunId) -> Result<Value> {
        let detail = self.run(run)?;
        let all = CheckpointScope {
            inherited: true,
            pending: true,
            deleted: true,
        };
        let mut answers = Map::new();
        let mut put = |path: &str, value: Result<Value>| -> Result<()> {
            answers.insert(path.to_owned(), value?);
            Ok(())
        };
        let info = wire::StoreInfo {
            writable: false,
            ..self.store_info()
        };
        put("/store", to_json(&info))?;
        put("/runs/it", to_json(&detail))?;
        put(
            "/runs/it/checkpoints",
            to_json(&self.checkpoints(run, all)?),
        )?;
        put("/runs/it/console", to_json(&self.console_tail(run)?))?;
        let family = self.lineage(run)?;
        if family.runs.len() <= MAX_FAMILY {
            put("/runs/it/lineage", to_json(&family))?;
        }
        Ok(json!({
            "version": VERSION,
            "run": detail.summary.display_id,
            "run_id": run.to_string(),
            "made": self.now(),
            "answers": answers,
            "series": self.report_series(&detail)?,
        }))
    }

    /// Writes a file that appears whole or not at all; what has its name is replaced.
    ///
    /// # Errors
    /// `Invalid` if a directory has the name; as the disk says.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        write_whole(path, self.options.entropy.bits(), |out| {
            out.write_all(bytes).map_err(|error| {
                runtree_core::Error::unavailable(format!("can not write {}", path.display()))
                    .with_source(error)
            })
        })
    }

    fn console_tail(&self, run: RunId) -> Result<wire::ConsolePage> {
        let mut lines: Vec<wire::ConsoleLine> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.console(run, cursor.as_deref(), MAX_LINES, ConsoleFilter::default())?;
            let is_end = page.lines.is_empty() || page.next_cursor.is_none();
            lines.extend(page.lines);
            let early = lines.len().saturating_sub(MAX_LINES);
            lines.drain(..early);
            if is_end {
                return Ok(wire::ConsolePage {
                    lines,
                    next_cursor: None,
                });
            }
            cursor = page.next_cursor;
        }
    }

    fn report_series(&self, detail: &wire::RunDetail) -> Result<Vec<Value>> {
        let ghosts: Vec<_> = detail
            .attempts
            .iter()
            .filter(|attempt| attempt.ghost_from.is_some())
            .map(|attempt| attempt.attempt)
            .collect();
        let users = detail.metrics.iter().filter(|metric| !metric.system);
        let drawn = detail.metrics.len() + users.clone().count() * ghosts.len();
        let pixels = (MAX_BUCKETS / drawn.max(1) as u32).clamp(PIXELS.0, PIXELS.1);
        let mut axes = vec![(XAxis::Step, pixels)];
        if drawn <= MAX_TIMED {
            axes.extend([XAxis::Relative, XAxis::Wall].map(|x| (x, pixels / 2)));
        }
        let selector = |metric: &wire::MetricInfo, attempt| SeriesSelector {
            run: detail.summary.id.clone(),
            metric: metric.name.clone(),
            attempt,
            from: None,
        };
        let mut wanted: Vec<SeriesSelector> = detail
            .metrics
            .iter()
            .map(|metric| selector(metric, None))
            .collect();
        for metric in users {
            wanted.extend(
                ghosts
                    .iter()
                    .map(|&attempt| selector(metric, Some(attempt))),
            );
        }
        let mut packed = Vec::new();
        for (x, pixels) in axes {
            let answer = self.series(&SeriesRequest {
                series: wanted.clone(),
                x,
                x_metric: None,
                from: None,
                to: None,
                pixels,
                inherited: true,
            })?;
            for buckets in answer.series {
                packed.push(json!({"x": to_json(&x)?, "buckets": to_json(&buckets)?}));
            }
        }
        Ok(packed)
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| {
        runtree_core::Error::internal("an answer can not be written as JSON").with_source(error)
    })
}
