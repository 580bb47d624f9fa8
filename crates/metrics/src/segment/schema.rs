//! The columns of a segment and how each is written.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

/// What a reader finds. The order is that of the columns' numbers below.
const MESSAGE: &str = "message runtree {
  REQUIRED BYTE_ARRAY metric (STRING);
  REQUIRED INT64 step;
  REQUIRED INT64 timestamp (TIMESTAMP(MICROS,true));
  REQUIRED DOUBLE value;
  OPTIONAL INT32 rank (INTEGER(32,false));
  REQUIRED BOOLEAN system;
  REQUIRED BYTE_ARRAY run (STRING);
  REQUIRED INT32 attempt (INTEGER(32,false));
  REQUIRED BYTE_ARRAY writer (STRING);
  REQUIRED INT64 ordinal;
}";

pub(super) const METRIC: usize = 0;
pub(super) const STEP: usize = 1;
pub(super) const TIMESTAMP: usize = 2;
pub(super) const VALUE: usize = 3;
pub(super) const RANK: usize = 4;
pub(super) const SYSTEM: usize = 5;
pub(super) const ORDINAL: usize = 9;

/// zstd's default. Level 9 makes points 1 % smaller for four times the time.
const ZSTD_LEVEL: i32 = 3;
/// A page is what a reader unpacks at once.
const PAGE_BYTES: usize = 1 << 20;

pub(super) fn message() -> TypePtr {
    Arc::new(parse_message_type(MESSAGE).expect("BUG: the schema is a constant"))
}

/// Integers that grow by steps are stored as differences, values as byte planes (noise and structure live in different bytes), names in a dictionary.
/// Measured beside PLAIN in `tests/it/segment.rs` and `docs/formats/segment.md`.
pub(super) fn properties() -> WriterPropertiesPtr {
    let column = |name: &str| ColumnPath::from(name);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("BUG: the level is a constant");
    let ascending = |column_idx: usize| SortingColumn {
        column_idx: column_idx as i32,
        descending: false,
        nulls_first: false,
    };
    let mut builder = WriterProperties::builder()
        .set_created_by("runtree".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(super::MAX_GROUP_ROWS)
        .set_sorting_columns(Some(vec![ascending(METRIC), ascending(STEP)]))
        .set_column_encoding(column("value"), Encoding::BYTE_STREAM_SPLIT)
        .set_column_dictionary_enabled(column("value"), false);
    for name in ["step", "timestamp", "ordinal"] {
        builder = builder
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled(column(name), false);
    }
    // Constant in a file: nothing to find by them.
    for name in ["run", "attempt", "writer", "system", "rank"] {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    Arc::new(builder.build())
}
