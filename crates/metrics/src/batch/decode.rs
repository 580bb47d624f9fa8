//! Reading a batch.

use runtree_core::{Error, Result, Step, Timestamp};

use super::{BODY_ZSTD, Limits, MAGIC, SERIES_RANK, SERIES_SYSTEM, SeriesName, VERSION};
use crate::bytes::Reader;
use crate::column::ColumnReader;
use crate::point::Point;
use crate::summary::unknown_version;

/// A decoded batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PointsBatch {
    series: Vec<SeriesName>,
    groups: Vec<Group>,
    /// Per series: the (group, column) pairs that hold its points.
    places: Vec<Vec<(u32, u32)>>,
    len: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    series: Vec<u32>,
    /// Place of each row in the batch.
    rows: Vec<u32>,
    steps: Vec<i64>,
    timestamps: Vec<i64>,
    columns: Vec<Vec<f64>>,
}

impl PointsBatch {
    /// Reads a batch.
    ///
    /// # Errors
    /// `Unsupported` for a newer version; `Corrupt` if the bytes are not a batch or exceed the limits.
    pub fn decode(bytes: &[u8], limits: Limits) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(Error::corrupt("bytes are not a batch of metric points"));
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(unknown_version("batches", version, VERSION));
        }
        let mut columns = ColumnReader::new();
        match reader.byte()? {
            0 => decode_body(reader, &mut columns, limits),
            BODY_ZSTD => {
                // What the limits allow at most: names with their fields, and for each point its value, step, timestamp and group.
                let most = limits
                    .max_points
                    .saturating_mul(32)
                    .saturating_add(limits.max_series.saturating_mul(64))
                    .saturating_add(limits.max_names_bytes);
                let length = reader.count(most, "bytes")?;
                columns.decompress(reader.rest(), length)?;
                let body = columns.take_decompressed();
                decode_body(Reader::new(&body), &mut columns, limits)
            }
            flags => Err(Error::corrupt(format!("batch has unknown flags {flags}"))),
        }
    }

    /// The series, in order of first use.
    pub fn series(&self) -> &[SeriesName] {
        &self.series
    }

    /// Points of all series.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The largest step of any user's series, system samples left out.
    pub fn max_step(&self) -> Option<Step> {
        let of_user = |group: &&Group| {
            let mut series = group.series.iter();
            series.any(|&series| !self.series[series as usize].system)
        };
        let groups = self.groups.iter().filter(of_user);
        groups
            .filter_map(|group| group.steps.iter().max())
            .max()
            .map(|&step| Step(step))
    }

    /// The points of a series, in order of arrival; empty for an index outside [`PointsBatch::series`].
    pub fn points(&self, series: usize) -> Vec<Point> {
        let places = self.places.get(series).map_or(&[][..], Vec::as_slice);
        let mut points = Vec::new();
        for &(group, column) in places {
            let group = &self.groups[group as usize];
            let values = &group.columns[column as usize];
            let rows = group.rows.iter().zip(&group.steps).zip(&group.timestamps);
            points.extend(rows.zip(values).map(|(((&row, &step), &time), &value)| {
                let point = Point {
                    step: Step(step),
                    timestamp: Timestamp(time),
                    value,
                };
                (row, point)
            }));
        }
        if places.len() > 1 {
            // Stable: a series named twice in one row keeps the order of its columns.
            points.sort_by_key(|(row, _)| *row);
        }
        points.into_iter().map(|(_, point)| point).collect()
    }

    /// Every series with its points in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesName, Vec<Point>)> {
        let series = self.series.iter().enumerate();
        series.map(|(index, name)| (name, self.points(index)))
    }
}

fn decode_body(
    mut reader: Reader<'_>,
    columns: &mut ColumnReader,
    limits: Limits,
) -> Result<PointsBatch> {
    let series = decode_names(&mut reader, limits)?;
    let heads = decode_group_heads(&mut reader, series.len(), limits)?;
    let total: usize = heads.iter().map(|(_, rows)| rows).sum();
    let order = if heads.len() > 1 {
        columns.indices(&mut reader, total)?
    } else {
        vec![0; total]
    };
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); heads.len()];
    for (row, &group) in order.iter().enumerate() {
        rows.get_mut(group as usize)
            .ok_or_else(|| Error::corrupt(format!("batch row {row} is of group {group}")))?
            .push(row as u32);
    }
    let mut groups = Vec::with_capacity(heads.len());
    let mut places = vec![Vec::new(); series.len()];
    let mut len = 0;
    for ((of_group, count), rows) in heads.into_iter().zip(rows) {
        if rows.len() != count {
            return Err(Error::corrupt(format!(
                "batch group has {count} rows, {} are in order",
                rows.len()
            )));
        }
        let steps = columns.ints(&mut reader, count)?;
        let timestamps = columns.ints(&mut reader, count)?;
        let mut values = Vec::with_capacity(of_group.len());
        for (column, &series) in of_group.iter().enumerate() {
            values.push(columns.floats(&mut reader, count)?);
            places[series as usize].push((groups.len() as u32, column as u32));
        }
        len += count * of_group.len();
        groups.push(Group {
            series: of_group,
            rows,
            steps,
            timestamps,
            columns: values,
        });
    }
    reader.finish()?;
    Ok(PointsBatch {
        series,
        groups,
        places,
        len,
    })
}

fn decode_names(reader: &mut Reader<'_>, limits: Limits) -> Result<Vec<SeriesName>> {
    let count = reader.count(limits.max_series, "series")?;
    let mut series = Vec::new();
    let mut name: Vec<u8> = Vec::new();
    let mut total = 0;
    for _ in 0..count {
        let flags = reader.varint()?;
        if flags & !(SERIES_SYSTEM | SERIES_RANK) != 0 {
            return Err(Error::corrupt(format!(
                "batch series has unknown flags {flags}"
            )));
        }
        let rank = if flags & SERIES_RANK == 0 {
            None
        } else {
            Some(reader.count(u32::MAX as usize, "as a rank")? as u32)
        };
        let shared = reader.count(name.len(), "shared bytes of a name")?;
        let rest = reader.count(
            limits.max_name_bytes.saturating_sub(shared),
            "bytes of a name",
        )?;
        name.truncate(shared);
        name.extend(reader.take(rest)?);
        total += name.len();
        if total > limits.max_names_bytes {
            return Err(Error::corrupt(format!(
                "batch has more than {} bytes of names",
                limits.max_names_bytes
            )));
        }
        let text = std::str::from_utf8(&name)
            .ok()
            .filter(|text| !text.is_empty());
        series.push(SeriesName {
            name: text
                .ok_or_else(|| Error::corrupt("batch has a series name that is not text"))?
                .to_owned(),
            system: flags & SERIES_SYSTEM != 0,
            rank,
        });
    }
    Ok(series)
}

/// Series and number of rows of each group, all within the limits together.
fn decode_group_heads(
    reader: &mut Reader<'_>,
    series: usize,
    limits: Limits,
) -> Result<Vec<(Vec<u32>, usize)>> {
    let count = reader.count(limits.max_series, "groups")?;
    let mut heads = Vec::new();
    let (mut points, mut widths) = (0_usize, 0_usize);
    for _ in 0..count {
        let width = reader.count(limits.max_series - widths, "series in a group")?;
        widths += width;
        let mut of_group = Vec::new();
        let mut previous: i64 = -1;
        for _ in 0..width {
            previous = previous.wrapping_add(reader.zigzag()?);
            let index = u32::try_from(previous).ok();
            of_group.push(
                index
                    .filter(|&index| (index as usize) < series)
                    .ok_or_else(|| {
                        Error::corrupt(format!("batch group names series {previous} of {series}"))
                    })?,
            );
        }
        if width == 0 {
            return Err(Error::corrupt("batch group has no series"));
        }
        let rows = reader.count((limits.max_points - points) / width, "rows in a group")?;
        if rows == 0 {
            return Err(Error::corrupt("batch group has no rows"));
        }
        points += rows * width;
        heads.push((of_group, rows));
    }
    Ok(heads)
}
