//! Points of histories as one Parquet file for others: what `runtree export-metrics` writes.
//!
//! Unlike a [segment](crate::segment) it holds what a run *effectively* logged, with whose point each is. Rows come in the order in which they are pushed and
//! leave memory a row group at a time.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use runtree_core::{AttemptNumber, Error, Result};

use crate::point::Points;

const MESSAGE: &str = "message runtree {
  REQUIRED BYTE_ARRAY run (STRING);
  REQUIRED BYTE_ARRAY metric (STRING);
  REQUIRED INT64 step;
  REQUIRED DOUBLE value;
  REQUIRED INT64 timestamp (TIMESTAMP(MICROS,true));
  REQUIRED BYTE_ARRAY logged_by (STRING);
  REQUIRED INT32 attempt (INTEGER(32,false));
}";

/// Rows of a row group: 12 MiB in memory.
const GROUP_ROWS: usize = 256 << 10;
/// Rows handed to a column at once.
const BATCH_ROWS: usize = 4096;

/// Whose points are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance<'a> {
    /// The run whose history it is.
    pub run: &'a str,
    /// The metric.
    pub metric: &'a str,
    /// The run that logged them.
    pub logged_by: &'a str,
    /// The launch of that run.
    pub attempt: AttemptNumber,
}

/// A file that grows.
pub struct ParquetExport<W: Write + Send> {
    file: SerializedFileWriter<W>,
    stretches: Vec<Stretch>,
    steps: Vec<i64>,
    values: Vec<f64>,
    timestamps: Vec<i64>,
}

/// Rows that share all but their point.
struct Stretch {
    rows: usize,
    run: ByteArray,
    metric: ByteArray,
    logged_by: ByteArray,
    attempt: i32,
}

impl<W: Write + Send> std::fmt::Debug for ParquetExport<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetExport")
            .field("waiting", &self.steps.len())
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> ParquetExport<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// As `out` says.
    pub fn new(out: W) -> Result<Self> {
        let message = parse_message_type(MESSAGE).expect("BUG: the schema is a constant");
        let file = SerializedFileWriter::new(out, Arc::new(message), properties());
        Ok(Self {
            file: file.map_err(unwritable)?,
            stretches: Vec::new(),
            steps: Vec::new(),
            values: Vec::new(),
            timestamps: Vec::new(),
        })
    }

    /// Adds points.
    ///
    /// # Errors
    /// As `out` says.
    ///
    /// # Panics
    /// If the range leaves the points.
    pub fn push(
        &mut self,
        whose: Provenance<'_>,
        points: &Points,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
        self.stretches.push(Stretch {
            rows: range.len(),
            run: text(whose.run),
            metric: text(whose.metric),
            logged_by: text(whose.logged_by),
            attempt: whose.attempt.0.cast_signed(),
        });
        self.steps.extend(&points.steps()[range.clone()]);
        self.values.extend(&points.values()[range.clone()]);
        self.timestamps.extend(&points.timestamps()[range]);
        if self.steps.len() >= GROUP_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the file and hands back what it was written to.
    ///
    /// # Errors
    /// As `out` says.
    pub fn finish(mut self) -> Result<W> {
        self.flush()?;
        self.file.into_inner().map_err(unwritable)
    }

    fn flush(&mut self) -> Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        self.write_group().map_err(unwritable)?;
        self.stretches.clear();
        self.steps.clear();
        self.values.clear();
        self.timestamps.clear();
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        let stretches = &self.stretches;
        write_stretches::<W, ByteArrayType>(&mut group, stretches, |it| it.run.clone())?;
        write_stretches::<W, ByteArrayType>(&mut group, stretches, |it| it.metric.clone())?;
        write::<W, Int64Type>(&mut group, &self.steps)?;
        write::<W, DoubleType>(&mut group, &self.values)?;
        write::<W, Int64Type>(&mut group, &self.timestamps)?;
        write_stretches::<W, ByteArrayType>(&mut group, stretches, |it| it.logged_by.clone())?;
        write_stretches::<W, Int32Type>(&mut group, stretches, |it| it.attempt)?;
        group.close().map(drop)
    }
}

fn write<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("no more columns".to_owned()));
    };
    for batch in values.chunks(BATCH_ROWS) {
        column.typed::<T>().write_batch(batch, None, None)?;
    }
    column.close()
}

fn write_stretches<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    stretches: &[Stretch],
    value: impl Fn(&Stretch) -> T::T,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("no more columns".to_owned()));
    };
    for stretch in stretches {
        let values = vec![value(stretch); stretch.rows.min(BATCH_ROWS)];
        let mut rows = stretch.rows;
        while rows > 0 {
            let batch = rows.min(BATCH_ROWS);
            column
                .typed::<T>()
                .write_batch(&values[..batch], None, None)?;
            rows -= batch;
        }
    }
    column.close()
}

fn properties() -> WriterPropertiesPtr {
    let level = ZstdLevel::try_new(3).expect("BUG: the level is a constant");
    let mut builder = WriterProperties::builder()
        .set_created_by("runtree".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(GROUP_ROWS);
    for (name, encoding) in [
        ("step", Encoding::DELTA_BINARY_PACKED),
        ("value", Encoding::BYTE_STREAM_SPLIT),
        ("timestamp", Encoding::DELTA_BINARY_PACKED),
    ] {
        builder = builder
            .set_column_encoding(ColumnPath::from(name), encoding)
            .set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Arc::new(builder.build())
}

fn unwritable(error: ParquetError) -> Error {
    Error::unavailable("the Parquet file can not be written").with_source(error)
}
