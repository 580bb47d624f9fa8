//! Reading a segment.

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use runtree_core::{Error, Result};

use super::{
    HEAD_KEY, MAX_BYTES, MAX_EVENTS_BYTES, MAX_FOOTER_BYTES, MAX_GROUP_ROWS, MAX_GROUPS,
    SegmentHead, VERSION, corrupt, pages, schema, unreadable,
};
use crate::batch::{MAX_NAME_BYTES, SeriesName};
use crate::bytes::Reader;
use crate::point::Points;

/// Rows decoded at once.
const BATCH_ROWS: usize = 16 << 10;

/// Points of one series, steps strictly ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedSeries {
    /// The series.
    pub name: SeriesName,
    /// Its points.
    pub points: Points,
    /// For each of them the frame that it stood in.
    pub ordinals: Vec<u64>,
}

impl SealedSeries {
    /// Lets go of points that stood in frames before `ordinal`.
    pub fn keep_from(&mut self, ordinal: u64) {
        if self.ordinals.iter().all(|&at| at >= ordinal) {
            return;
        }
        let kept = |at: &usize| self.ordinals[*at] >= ordinal;
        let rows: Vec<usize> = (0..self.ordinals.len()).filter(kept).collect();
        let points = rows.iter().filter_map(|&row| self.points.get(row));
        self.points = Points::from_arrival(points);
        self.ordinals = rows.iter().map(|&row| self.ordinals[row]).collect();
    }
}

/// An open segment. Its rows are decoded group by group.
pub struct Segment {
    head: SegmentHead,
    bytes: Bytes,
    file: SerializedFileReader<Bytes>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("head", &self.head)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Opens a segment: reads its footer.
    ///
    /// # Errors
    /// `Unsupported` for a newer version; `Corrupt` if the bytes are not a segment or exceed the limits.
    pub fn open(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        check_footer(&bytes)?;
        let file = guarded(|| SerializedFileReader::new(bytes.clone()).map_err(unreadable))?;
        let segment = Self {
            head: head_of(&file)?,
            bytes,
            file,
        };
        segment.check_columns()?;
        Ok(segment)
    }

    /// What it covers.
    pub fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// How many row groups it has.
    pub fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    /// The control events of the frames that it covers: ordinal and payload, ascending.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn events(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let place = self.head.events;
        if place.count == 0 {
            return Ok(Vec::new());
        }
        let raw_bytes = usize::try_from(place.raw_bytes)
            .ok()
            .filter(|&bytes| bytes <= MAX_EVENTS_BYTES)
            .ok_or_else(|| corrupt(format!("{} bytes of events", place.raw_bytes)))?;
        let packed = usize::try_from(place.offset)
            .ok()
            .zip(usize::try_from(place.bytes).ok())
            .and_then(|(offset, bytes)| self.bytes.get(offset..offset.checked_add(bytes)?))
            .ok_or_else(|| corrupt("its events lie outside"))?;
        let raw = zstd::bulk::decompress(packed, raw_bytes)
            .map_err(|error| corrupt("its events can not be unpacked").with_source(error))?;
        let mut reader = Reader::new(&raw);
        let (mut events, mut last) = (Vec::new(), self.head.from);
        for number in 0..place.count {
            let ordinal = last.checked_add(reader.varint()?);
            let ordinal = ordinal
                .filter(|&ordinal| ordinal < self.head.to && (number == 0 || ordinal > last));
            last = ordinal.ok_or_else(|| corrupt("its events are not in order"))?;
            let length = reader.count(MAX_EVENTS_BYTES, "bytes of an event")?;
            events.push((last, reader.take(length)?.to_vec()));
        }
        reader.finish()?;
        Ok(events)
    }

    /// Decodes a row group: its series by (metric, system, rank). One that continues in the next group ends here and begins again there.
    ///
    /// # Errors
    /// `Corrupt` if the rows are not as they should be.
    pub fn read_group(&self, group: usize) -> Result<Vec<SealedSeries>> {
        guarded(|| self.try_read_group(group))
    }

    fn try_read_group(&self, number: usize) -> Result<Vec<SealedSeries>> {
        let group = self.file.get_row_group(number).map_err(unreadable)?;
        let rows = group.metadata().num_rows() as usize;
        let mut gathering = Gathering::new(&self.head);
        let mut columns = Columns::open(&*group)?;
        let mut done = 0;
        while done < rows {
            let wanted = BATCH_ROWS.min(rows - done);
            columns.read(wanted)?;
            gathering.add(&columns)?;
            done += wanted;
        }
        Ok(gathering.finish())
    }

    /// What row groups and columns claim, before anything is allocated for them.
    fn check_columns(&self) -> Result<()> {
        let metadata = self.file.metadata();
        let expected = parquet::schema::types::SchemaDescriptor::new(schema::message());
        let found = metadata.file_metadata().schema_descr();
        let same = found.num_columns() == expected.num_columns()
            && (0..expected.num_columns()).all(|at| {
                let (a, b) = (found.column(at), expected.column(at));
                a.path() == b.path()
                    && a.physical_type() == b.physical_type()
                    && a.max_def_level() == b.max_def_level()
                    && a.max_rep_level() == b.max_rep_level()
            });
        if !same {
            return Err(corrupt("its columns are not those of a segment"));
        }
        if metadata.num_row_groups() > MAX_GROUPS {
            return Err(corrupt(format!("{} row groups", metadata.num_row_groups())));
        }
        let mut points: u64 = 0;
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
            if rows > MAX_GROUP_ROWS as u64 || group.num_columns() != expected.num_columns() {
                return Err(corrupt(format!("a row group of {rows} rows")));
            }
            points += rows;
            for column in group.columns() {
                if u64::try_from(column.num_values()).ok() != Some(rows) {
                    return Err(corrupt("a column with another number of rows"));
                }
                let start = column
                    .dictionary_page_offset()
                    .unwrap_or_else(|| column.data_page_offset());
                let chunk = usize::try_from(start)
                    .ok()
                    .zip(usize::try_from(column.compressed_size()).ok())
                    .and_then(|(start, length)| self.bytes.get(start..start.checked_add(length)?))
                    .ok_or_else(|| corrupt("a column lies outside"))?;
                pages::check(chunk)?;
            }
        }
        if points != self.head.points {
            return Err(corrupt(format!(
                "{points} rows, its head says {}",
                self.head.points
            )));
        }
        Ok(())
    }
}

/// The length that the file's end claims for the footer, before the footer is parsed.
fn check_footer(bytes: &[u8]) -> Result<()> {
    let tail = bytes.last_chunk::<8>();
    let tail = tail.filter(|tail| bytes.starts_with(b"PAR1") && tail.ends_with(b"PAR1"));
    let tail = tail.ok_or_else(|| corrupt("it is not a Parquet file"))?;
    let footer = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
    if bytes.len() > MAX_BYTES || footer > MAX_FOOTER_BYTES || footer + 12 > bytes.len() {
        return Err(corrupt(format!(
            "a footer of {footer} bytes in a file of {}",
            bytes.len()
        )));
    }
    Ok(())
}

fn head_of(file: &SerializedFileReader<Bytes>) -> Result<SegmentHead> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let entries = file.metadata().file_metadata().key_value_metadata();
    let json = entries
        .into_iter()
        .flatten()
        .find(|entry| entry.key == HEAD_KEY)
        .and_then(|entry| entry.value.as_deref())
        .ok_or_else(|| corrupt("it has no head"))?;
    let not_json = |error| corrupt("its head can not be read").with_source(error);
    let Version { version } = serde_json::from_str(json).map_err(not_json)?;
    if version != VERSION {
        return Err(Error::unsupported(format!(
            "a segment has version {version}, this runtree reads {VERSION}"
        ))
        .with_hint("upgrade runtree: pip install -U runtree"));
    }
    let head: SegmentHead = serde_json::from_str(json).map_err(not_json)?;
    if head.from >= head.to {
        return Err(corrupt(format!(
            "it covers frames {} to {}",
            head.from, head.to
        )));
    }
    Ok(head)
}

/// Runs what may panic: the Parquet library is careful, and not proved to be. A panic here is about the bytes, and nothing that it held is used again.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(corrupt("the Parquet library can not read it")))
}

/// The columns of a group that are wanted, and the rows of them that were decoded last.
struct Columns {
    metric: ColumnReaderImpl<ByteArrayType>,
    step: ColumnReaderImpl<Int64Type>,
    timestamp: ColumnReaderImpl<Int64Type>,
    value: ColumnReaderImpl<DoubleType>,
    rank: ColumnReaderImpl<parquet::data_type::Int32Type>,
    system: ColumnReaderImpl<parquet::data_type::BoolType>,
    ordinal: ColumnReaderImpl<Int64Type>,
    metrics: Vec<ByteArray>,
    steps: Vec<i64>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    rank_levels: Vec<i16>,
    ranks: Vec<i32>,
    systems: Vec<bool>,
    ordinals: Vec<i64>,
}

impl Columns {
    fn open(group: &dyn RowGroupReader) -> Result<Self> {
        let column = |at| group.get_column_reader(at).map_err(unreadable);
        Ok(Self {
            metric: typed(column(schema::METRIC)?),
            step: typed(column(schema::STEP)?),
            timestamp: typed(column(schema::TIMESTAMP)?),
            value: typed(column(schema::VALUE)?),
            rank: typed(column(schema::RANK)?),
            system: typed(column(schema::SYSTEM)?),
            ordinal: typed(column(schema::ORDINAL)?),
            metrics: Vec::new(),
            steps: Vec::new(),
            timestamps: Vec::new(),
            values: Vec::new(),
            rank_levels: Vec::new(),
            ranks: Vec::new(),
            systems: Vec::new(),
            ordinals: Vec::new(),
        })
    }

    fn read(&mut self, rows: usize) -> Result<()> {
        fill(&mut self.metric, rows, &mut self.metrics)?;
        fill(&mut self.step, rows, &mut self.steps)?;
        fill(&mut self.timestamp, rows, &mut self.timestamps)?;
        fill(&mut self.value, rows, &mut self.values)?;
        fill(&mut self.system, rows, &mut self.systems)?;
        fill(&mut self.ordinal, rows, &mut self.ordinals)?;
        self.ranks.clear();
        self.rank_levels.clear();
        let levels = Some(&mut self.rank_levels);
        let read = self.rank.read_records(rows, levels, None, &mut self.ranks);
        let (records, values, _) = read.map_err(unreadable)?;
        let ranked = self.rank_levels.iter().filter(|&&level| level == 1).count();
        let whole = records == rows && self.rank_levels.len() == rows;
        if !whole || values != ranked || self.ranks.len() != ranked {
            return Err(corrupt("a column ends early"));
        }
        Ok(())
    }
}

fn typed<T: DataType>(reader: ColumnReader) -> ColumnReaderImpl<T> {
    get_typed_column_reader(reader)
}

/// Decodes the next rows of a required column.
fn fill<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    rows: usize,
    values: &mut Vec<T::T>,
) -> Result<()> {
    values.clear();
    while values.len() < rows {
        let wanted = rows - values.len();
        let (read, ..) = column
            .read_records(wanted, None, None, values)
            .map_err(unreadable)?;
        if read == 0 {
            return Err(corrupt("a column ends early"));
        }
    }
    Ok(())
}

/// Rows become series.
struct Gathering<'a> {
    head: &'a SegmentHead,
    done: Vec<SealedSeries>,
    /// Series of the metric at hand.
    open: Vec<(SeriesName, Open)>,
    last_step: i64,
}

#[derive(Default)]
struct Open {
    steps: Vec<i64>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    ordinals: Vec<u64>,
}

impl<'a> Gathering<'a> {
    fn new(head: &'a SegmentHead) -> Self {
        Self {
            head,
            done: Vec::new(),
            open: Vec::new(),
            last_step: i64::MIN,
        }
    }

    fn add(&mut self, columns: &Columns) -> Result<()> {
        let mut ranks = columns.ranks.iter();
        let mut at = 0;
        for row in 0..columns.steps.len() {
            let metric = columns.metrics[row].data();
            let rank = match columns.rank_levels[row] {
                1 => ranks.next().map(|rank| rank.cast_unsigned()),
                _ => None,
            };
            let system = columns.systems[row];
            let is_same = |(name, _): &(SeriesName, Open)| {
                name.rank == rank && name.system == system && name.name.as_bytes() == metric
            };
            // Mostly it is the series of the row before.
            if !self.open.get(at).is_some_and(is_same) {
                at = match self.open.iter().position(is_same) {
                    Some(at) => at,
                    None => self.begin(metric, rank, system)?,
                };
            }
            self.push(at, columns, row)?;
        }
        Ok(())
    }

    /// A series that was not met in this metric yet.
    fn begin(&mut self, metric: &[u8], rank: Option<u32>, system: bool) -> Result<usize> {
        if let Some((current, _)) = self.open.first()
            && current.name.as_bytes() != metric
        {
            if current.name.as_bytes() > metric {
                return Err(corrupt("its metrics are not in order"));
            }
            self.close();
        }
        let name = std::str::from_utf8(metric).ok();
        let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
        let name = name.ok_or_else(|| corrupt("a metric without a proper name"))?;
        self.open.push((
            SeriesName {
                name: name.to_owned(),
                system,
                rank,
            },
            Open::default(),
        ));
        Ok(self.open.len() - 1)
    }

    fn push(&mut self, at: usize, columns: &Columns, row: usize) -> Result<()> {
        let step = columns.steps[row];
        let ordinal = columns.ordinals[row].cast_unsigned();
        let covered = (self.head.from..self.head.to).contains(&ordinal);
        let open = &mut self.open[at].1;
        let ascends = open.steps.last().is_none_or(|&last| last < step);
        if step < self.last_step || !ascends {
            return Err(corrupt("its steps are not in order"));
        }
        if !covered {
            return Err(corrupt(format!(
                "a point of frame {ordinal}, which it does not cover"
            )));
        }
        self.last_step = step;
        open.steps.push(step);
        open.timestamps.push(columns.timestamps[row]);
        open.values.push(columns.values[row]);
        open.ordinals.push(ordinal);
        Ok(())
    }

    /// The metric at hand is complete.
    fn close(&mut self) {
        self.last_step = i64::MIN;
        let sealed = |(name, open): (SeriesName, Open)| {
            let points = Points::from_columns(open.steps, open.timestamps, open.values)
                .expect("BUG: steps were checked to ascend as they were added");
            SealedSeries {
                name,
                points,
                ordinals: open.ordinals,
            }
        };
        let mut closed: Vec<SealedSeries> = self.open.drain(..).map(sealed).collect();
        closed.sort_by(|a, b| a.name.cmp(&b.name));
        self.done.extend(closed);
    }

    fn finish(mut self) -> Vec<SealedSeries> {
        self.close();
        self.done
    }
}
