//! Histories out of the store: what runs effectively logged, or logged themselves, as Parquet, CSV or lines of JSON.
//!
//! Points leave block by block: memory does not grow with the length of a history. Floats are exact: Parquet has their bits, the texts the shortest digits that
//! read back the same, and `NaN`, `Infinity`, `-Infinity`. A file appears whole or not at all.

use std::io::Write;
use std::path::Path;

use runtree_core::{Error, Result, RunId, Step};
use runtree_metrics::Points;
use runtree_metrics::export::{ParquetExport, Provenance};

use super::glob_matches;
use crate::engine::Engine;
use crate::series::{MetricName, SeriesView, rows_of, segments_of, system_segments, timeline_of};

pub(super) mod file;
mod text;

use text::{CsvExport, JsonExport};

/// How points are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl MetricsFormat {
    /// The format that a file's name says.
    pub fn of_path(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }
}

impl std::str::FromStr for MetricsFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            _ => Err(
                Error::invalid(format!("{text:?} is no format of exported metrics"))
                    .with_hint("parquet, csv or jsonl"),
            ),
        }
    }
}

/// Which points are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsScope {
    /// What the run effectively logged: inherited points too, abandoned ones not.
    #[default]
    Effective,
    /// Of these, what it logged itself.
    Own,
}

/// What is exported, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsExport {
    /// The format.
    pub format: MetricsFormat,
    /// Globs that a metric's name must match one of; without any, all metrics that users log.
    pub metrics: Vec<String>,
    /// Whether the machine's metrics are exported too. Where a glob names them, they are anyway.
    pub system: bool,
    /// Which points.
    pub scope: MetricsScope,
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MetricsReport {
    /// Runs.
    pub runs: u64,
    /// Metrics, of all runs together.
    pub metrics: u64,
    /// Points.
    pub points: u64,
}

/// Takes points in the order in which they are exported.
trait Sink {
    fn push(
        &mut self,
        whose: Provenance<'_>,
        points: &Points,
        range: std::ops::Range<usize>,
    ) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

impl Engine {
    /// Writes histories to `out`, run by run, metric by metric, telling what was written so far.
    ///
    /// # Errors
    /// `NotFound` if a run is not there, or no run has a metric that matches; `Corrupt` if what a history needs is damaged; as `out` says.
    pub fn export_metrics(
        &self,
        runs: &[RunId],
        what: &MetricsExport,
        out: &mut (dyn Write + Send),
        progress: &mut dyn FnMut(MetricsReport),
    ) -> Result<MetricsReport> {
        let mut sink: Box<dyn Sink + '_> = match what.format {
            MetricsFormat::Parquet => Box::new(ParquetExport::new(out)?),
            MetricsFormat::Csv => Box::new(CsvExport::new(out)),
            MetricsFormat::Jsonl => Box::new(JsonExport::new(out)),
        };
        let mut report = MetricsReport::default();
        self.refresh()?;
        for &run in runs {
            self.export_run(run, what, &mut *sink, &mut report, progress)?;
            report.runs += 1;
        }
        if report.metrics == 0 && !what.metrics.is_empty() {
            let patterns = what.metrics.join(", ");
            return Err(
                Error::not_found(format!("no metric of these runs matches {patterns}"))
                    .with_hint("`runtree show RUN` lists the metrics of a run"),
            );
        }
        sink.finish()?;
        progress(report);
        Ok(report)
    }

    /// [`Engine::export_metrics`] into a file, which appears when it is whole. What has its name is replaced.
    ///
    /// # Errors
    /// As [`Engine::export_metrics`]; as the disk says.
    pub fn export_metrics_to(
        &self,
        runs: &[RunId],
        what: &MetricsExport,
        path: &Path,
        progress: &mut dyn FnMut(MetricsReport),
    ) -> Result<MetricsReport> {
        file::write_whole(path, self.options.entropy.bits(), |out| {
            self.export_metrics(runs, what, out, progress)
        })
    }

    fn export_run(
        &self,
        run: RunId,
        what: &MetricsExport,
        sink: &mut dyn Sink,
        report: &mut MetricsReport,
        progress: &mut dyn FnMut(MetricsReport),
    ) -> Result<()> {
        self.refresh_known(run)?;
        self.check_lineage(run)?;
        let record = self.store.read_run(run)?;
        let inherited = what.scope == MetricsScope::Effective;
        for name in self.names_to_export(run, what)? {
            // A snapshot for each metric: one for all would hold back the database's housekeeping for as long as somebody reads a pipe.
            let snapshot = self.snapshot()?;
            let segments = segments_of(&*snapshot, run, &name, None, inherited)?;
            self.check_damage(segments.iter().map(|segment| segment.id.run))?;
            let rows = rows_of(&*snapshot, &segments, vec![name.name.clone()])?;
            let view = SeriesView::along(&*snapshot, &segments, &name, &rows)?;
            let metric = name.to_string();
            let run_id = record.run.to_string();
            let mut written = 0;
            let mut logged_by = (None, String::new());
            view.stitched().for_each_piece(
                (Step::MIN, Step::MAX),
                &view,
                &mut |segment, points, range| {
                    let id = segments[segment].id;
                    if logged_by.0 != Some(id.run) {
                        logged_by = (Some(id.run), id.run.to_string());
                    }
                    written += range.len() as u64;
                    let whose = Provenance {
                        run: &run_id,
                        metric: &metric,
                        logged_by: &logged_by.1,
                        attempt: id.attempt,
                    };
                    let before = report.points;
                    report.points += range.len() as u64;
                    // Seldom enough to cost nothing.
                    if before >> 16 != report.points >> 16 {
                        progress(*report);
                    }
                    sink.push(whose, points, range)
                },
            )?;
            report.metrics += u64::from(written > 0);
        }
        Ok(())
    }

    /// Metrics of a run that are wanted: users' along its timeline, the machine's of the run itself; by name.
    fn names_to_export(&self, run: RunId, what: &MetricsExport) -> Result<Vec<MetricName>> {
        let snapshot = self.snapshot()?;
        let mut segments = timeline_of(&*snapshot, run)?.segments().to_vec();
        let mut names = std::collections::BTreeSet::new();
        let mut take = |segments: &[runtree_core::lineage::Segment], system: bool| -> Result<()> {
            for row in rows_of(&*snapshot, segments, Vec::new())?
                .values()
                .flatten()
            {
                let name = MetricName::of(row);
                let text = name.to_string();
                let matches = what.metrics.iter().any(|glob| glob_matches(glob, &text));
                let all = what.metrics.is_empty() && (!system || what.system);
                if row.system == system && (matches || all) {
                    names.insert(name);
                }
            }
            Ok(())
        };
        take(&segments, false)?;
        segments = system_segments(&*snapshot, run, None)?;
        take(&segments, true)?;
        Ok(names.into_iter().collect())
    }
}

impl<W: Write + Send> Sink for ParquetExport<W> {
    fn push(
        &mut self,
        whose: Provenance<'_>,
        points: &Points,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        Self::push(self, whose, points, range)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Self::finish(*self).map(drop)
    }
}
