//! Writing a segment.

use std::collections::HashMap;

use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use runtree_core::{AttemptNumber, Error, Result, RunId, Timestamp, WriterId};

use super::rows::{self, Columns, MetricRows, Stretch};
use super::{EventsPlace, HEAD_KEY, MAX_EVENTS_BYTES, SegmentHead, VERSION, schema};
use crate::batch::{PointsBatch, SeriesName};
use crate::bytes::put_varint;

/// Rows handed to a column at once.
const BATCH_ROWS: usize = 4096;
/// What a Parquet file begins with; the events follow it.
const MAGIC_BYTES: u64 = 4;

/// A segment that is being put together, frame by frame in the journal's order.
#[derive(Debug)]
pub struct SegmentBuilder {
    run: RunId,
    writer: WriterId,
    attempt: AttemptNumber,
    from: u64,
    hash_from: u64,
    series: HashMap<SeriesName, Columns>,
    points: usize,
    newest: Option<Timestamp>,
    events: Vec<u8>,
    event_count: u64,
    last_event: u64,
}

impl SegmentBuilder {
    /// Begins a segment of `writer`'s journal with frame `from`, before which the journal's running hash is `hash`.
    pub fn new(run: RunId, writer: WriterId, attempt: AttemptNumber, from: u64, hash: u64) -> Self {
        Self {
            run,
            writer,
            attempt,
            from,
            hash_from: hash,
            series: HashMap::new(),
            points: 0,
            newest: None,
            events: Vec::new(),
            event_count: 0,
            last_event: from,
        }
    }

    /// Adds the points of a frame.
    pub fn push_points(&mut self, ordinal: u64, batch: &PointsBatch) {
        for (name, points) in batch.iter() {
            if !self.series.contains_key(name) {
                self.series.insert(name.clone(), Columns::default());
            }
            let Some(columns) = self.series.get_mut(name) else {
                continue;
            };
            self.points += points.len();
            for point in points {
                self.newest = self.newest.max(Some(point.timestamp));
                columns.steps.push(point.step.0);
                columns.timestamps.push(point.timestamp.0);
                columns.values.push(point.value);
                columns.ordinals.push(ordinal as i64);
            }
        }
    }

    /// Adds the payload of a frame that holds an event.
    ///
    /// # Errors
    /// `Invalid` if the segment would hold more of them than is read: finish it before this frame.
    pub fn push_event(&mut self, ordinal: u64, payload: &[u8]) -> Result<()> {
        if self.events.len() + payload.len() + 20 > MAX_EVENTS_BYTES {
            return Err(Error::invalid("a segment is full of events"));
        }
        put_varint(&mut self.events, ordinal.wrapping_sub(self.last_event));
        put_varint(&mut self.events, payload.len() as u64);
        self.events.extend(payload);
        self.event_count += 1;
        self.last_event = ordinal;
        Ok(())
    }

    /// Points so far, those that are written again counted each time.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Bytes of events so far.
    pub fn event_bytes(&self) -> usize {
        self.events.len()
    }

    /// Writes the file. It covers the frames before `to`, before which the journal's running hash is `hash`.
    ///
    /// # Errors
    /// `Internal` if the Parquet library refuses.
    pub fn finish(self, to: u64, hash: u64) -> Result<Vec<u8>> {
        let mut head = SegmentHead {
            version: VERSION,
            run: self.run,
            writer: self.writer,
            attempt: self.attempt,
            from: self.from,
            to,
            hash_from: self.hash_from,
            hash_to: hash,
            points: 0,
            newest: self.newest,
            events: EventsPlace::default(),
        };
        let mut packed = Vec::new();
        if self.event_count > 0 {
            packed = zstd::bulk::compress(&self.events, 0).map_err(|error| {
                Error::internal("events can not be compressed").with_source(error)
            })?;
            head.events = EventsPlace {
                offset: MAGIC_BYTES,
                bytes: packed.len() as u64,
                raw_bytes: self.events.len() as u64,
                count: self.event_count,
            };
        }
        drop(self.events);
        let metrics = rows::sort(self.series);
        head.points = metrics.iter().map(|rows| rows.len() as u64).sum();
        write(&head, &packed, &metrics).map_err(|error| {
            Error::internal("points can not be written as Parquet").with_source(error)
        })
    }
}

fn write(
    head: &SegmentHead,
    events: &[u8],
    metrics: &[MetricRows],
) -> Result<Vec<u8>, ParquetError> {
    let mut file = SerializedFileWriter::new(Vec::new(), schema::message(), schema::properties())?;
    file.write_all(events)?;
    for group in rows::groups(metrics) {
        let mut writer = file.next_row_group()?;
        write_group(&mut writer, head, metrics, &group)?;
        writer.close()?;
    }
    let json =
        serde_json::to_string(head).map_err(|error| ParquetError::External(Box::new(error)))?;
    file.append_key_value_metadata(KeyValue::new(HEAD_KEY.to_owned(), json));
    file.into_inner()
}

/// All columns of a group, in the order of the schema.
fn write_group(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    head: &SegmentHead,
    metrics: &[MetricRows],
    stretches: &[Stretch],
) -> Result<(), ParquetError> {
    let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    let names: Vec<ByteArray> = stretches
        .iter()
        .map(|stretch| text(&metrics[stretch.metric].name))
        .collect();
    let rows = Rows { metrics, stretches };
    rows.write::<ByteArrayType>(group, |at, _, _| names[at].clone())?;
    rows.write::<Int64Type>(group, |_, metric, row| metric.columns.steps[row])?;
    rows.write::<Int64Type>(group, |_, metric, row| metric.columns.timestamps[row])?;
    rows.write::<DoubleType>(group, |_, metric, row| metric.columns.values[row])?;
    rows.write_ranks(group)?;
    rows.write::<BoolType>(group, |_, metric, row| metric.kind(row).1)?;
    let run = text(&head.run.to_string());
    rows.write::<ByteArrayType>(group, |_, _, _| run.clone())?;
    // The bits of an unsigned number, as the column's logical type says.
    rows.write::<Int32Type>(group, |_, _, _| head.attempt.0.cast_signed())?;
    let writer = text(&head.writer.to_string());
    rows.write::<ByteArrayType>(group, |_, _, _| writer.clone())?;
    rows.write::<Int64Type>(group, |_, metric, row| metric.columns.ordinals[row])
}

/// The rows of a group.
struct Rows<'a> {
    metrics: &'a [MetricRows],
    stretches: &'a [Stretch],
}

impl Rows<'_> {
    /// The rows in pieces: number of the stretch, its metric, rows.
    fn pieces(&self) -> impl Iterator<Item = (usize, &MetricRows, std::ops::Range<usize>)> {
        self.stretches.iter().enumerate().flat_map(|(at, stretch)| {
            let metric = &self.metrics[stretch.metric];
            let end = stretch.rows.end;
            stretch
                .rows
                .clone()
                .step_by(BATCH_ROWS)
                .map(move |start| (at, metric, start..end.min(start + BATCH_ROWS)))
        })
    }

    fn write<T: DataType>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
        value: impl Fn(usize, &MetricRows, usize) -> T::T,
    ) -> Result<(), ParquetError> {
        let mut column = next_column(group)?;
        let mut values = Vec::with_capacity(BATCH_ROWS);
        for (at, metric, rows) in self.pieces() {
            values.clear();
            values.extend(rows.map(|row| value(at, metric, row)));
            column.typed::<T>().write_batch(&values, None, None)?;
        }
        column.close()
    }

    fn write_ranks(
        &self,
        group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    ) -> Result<(), ParquetError> {
        let mut column = next_column(group)?;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        for (_, metric, rows) in self.pieces() {
            values.clear();
            levels.clear();
            for row in rows {
                let rank = metric.kind(row).0;
                levels.push(i16::from(rank.is_some()));
                values.extend(rank.map(u32::cast_signed));
            }
            column
                .typed::<Int32Type>()
                .write_batch(&values, Some(&levels), None)?;
        }
        column.close()
    }
}

fn next_column<'a>(
    group: &'a mut SerializedRowGroupWriter<'_, Vec<u8>>,
) -> Result<parquet::file::writer::SerializedColumnWriter<'a>, ParquetError> {
    group
        .next_column()?
        .ok_or_else(|| ParquetError::General("the schema has no more columns".to_owned()))
}
