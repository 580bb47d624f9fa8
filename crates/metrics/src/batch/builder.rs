//! Collecting rows and writing them as a batch.

use std::collections::HashMap;

use runtree_core::{Error, Result, Step, Timestamp};

use super::{
    BODY_ZSTD, MAGIC, MAX_NAME_BYTES, MAX_NAMES_BYTES, MAX_POINTS, MAX_SERIES, SERIES_RANK,
    SERIES_SYSTEM, SeriesName, VERSION,
};
use crate::bytes::{put_varint, put_zigzag};
use crate::column::ColumnWriter;

/// A series of one [`BatchBuilder`], valid for as long as that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesIndex(u32);

/// Collects rows until they are taken as bytes.
///
/// Names are registered once and stay; a row costs a comparison with the row before and a copy of its values.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    names: Vec<SeriesName>,
    by_name: HashMap<SeriesName, SeriesIndex>,
    groups: Vec<Group>,
    by_series: HashMap<Vec<SeriesIndex>, usize>,
    /// The group of each row: what tells the order of arrival between groups.
    order: Vec<u32>,
    points: usize,
    /// Series of all groups, and the bytes of their names: each group counts its own, so this is an upper bound.
    series: usize,
    names_bytes: usize,
}

/// Rows with the same series.
#[derive(Debug)]
struct Group {
    series: Vec<SeriesIndex>,
    steps: Vec<i64>,
    timestamps: Vec<i64>,
    /// Row by row.
    values: Vec<f64>,
}

impl BatchBuilder {
    /// An empty builder that knows no series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds or adds a series.
    ///
    /// # Errors
    /// `Invalid` if the name is empty or longer than [`MAX_NAME_BYTES`].
    pub fn series(&mut self, name: &SeriesName) -> Result<SeriesIndex> {
        if let Some(&index) = self.by_name.get(name) {
            return Ok(index);
        }
        check_name(&name.name)?;
        let index = u32::try_from(self.names.len())
            .map(SeriesIndex)
            .map_err(|_| Error::invalid("more than 2^32 metrics in one run"))?;
        self.names.push(name.clone());
        self.by_name.insert(name.clone(), index);
        Ok(index)
    }

    /// Adds one row. An empty row is nothing. Of a series named twice in a row the later value wins when it is read.
    ///
    /// # Errors
    /// `Unavailable` if the batch is full: [`BatchBuilder::take`] it first. `Invalid` if the row alone is more than a batch holds.
    pub fn push(
        &mut self,
        step: Step,
        timestamp: Timestamp,
        row: &[(SeriesIndex, f64)],
    ) -> Result<()> {
        if row.is_empty() {
            return Ok(());
        }
        if self.points + row.len() > MAX_POINTS {
            return Err(self.full(row.len()));
        }
        let group = self.group_of(row)?;
        self.order.push(group as u32);
        self.points += row.len();
        let group = &mut self.groups[group];
        group.steps.push(step.0);
        group.timestamps.push(timestamp.0);
        group.values.extend(row.iter().map(|(_, value)| value));
        Ok(())
    }

    /// Points since the last [`BatchBuilder::take`].
    pub fn points(&self) -> usize {
        self.points
    }

    /// Whether nothing was pushed since the last [`BatchBuilder::take`].
    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// Encodes what was pushed and forgets it; names stay registered. `None` if nothing was pushed.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let groups = std::mem::take(&mut self.groups);
        let order = std::mem::take(&mut self.order);
        self.by_series.clear();
        (self.points, self.series, self.names_bytes) = (0, 0, 0);

        let mut columns = ColumnWriter::new();
        let mut body = Vec::new();
        let local = put_names(&mut body, &self.names, &groups);
        put_varint(&mut body, groups.len() as u64);
        for group in &groups {
            put_varint(&mut body, group.series.len() as u64);
            // Neighbours mostly follow each other: as differences they are all ones, which zstd likes.
            let mut previous = -1;
            for series in &group.series {
                let index = i64::from(local[series]);
                put_zigzag(&mut body, index - previous);
                previous = index;
            }
            put_varint(&mut body, group.steps.len() as u64);
        }
        if groups.len() > 1 {
            columns.put_indices(&mut body, &order);
        }
        let mut column = Vec::new();
        for group in &groups {
            columns.put_ints(&mut body, &group.steps);
            columns.put_ints(&mut body, &group.timestamps);
            let width = group.series.len();
            for series in 0..width {
                column.clear();
                column.extend(group.values.iter().skip(series).step_by(width));
                columns.put_floats(&mut body, &column);
            }
        }
        Some(seal(&mut columns, &body))
    }

    fn group_of(&mut self, row: &[(SeriesIndex, f64)]) -> Result<usize> {
        let same = |group: &Group| {
            group.series.len() == row.len()
                && group.series.iter().zip(row).all(|(a, (b, _))| a == b)
        };
        if let Some(&last) = self.order.last()
            && same(&self.groups[last as usize])
        {
            return Ok(last as usize);
        }
        let series: Vec<SeriesIndex> = row.iter().map(|(series, _)| *series).collect();
        if let Some(&group) = self.by_series.get(&series) {
            return Ok(group);
        }
        let mut names_bytes = 0;
        for series in &series {
            let name = self.names.get(series.0 as usize).ok_or_else(|| {
                Error::invalid(format!("series {} is not of this batch", series.0))
            })?;
            names_bytes += name.name.len();
        }
        if self.names_bytes + names_bytes > MAX_NAMES_BYTES
            || self.series + series.len() > MAX_SERIES
        {
            return Err(self.full(row.len()));
        }
        self.series += series.len();
        self.names_bytes += names_bytes;
        self.by_series.insert(series.clone(), self.groups.len());
        self.groups.push(Group {
            series,
            steps: Vec::new(),
            timestamps: Vec::new(),
            values: Vec::new(),
        });
        Ok(self.groups.len() - 1)
    }

    fn full(&self, row: usize) -> Error {
        if self.is_empty() {
            return Error::invalid(format!(
                "one log call with {row} metrics is more than a batch holds"
            ));
        }
        Error::unavailable(format!(
            "batch is full: {} points of {} series with {} bytes of names",
            self.points, self.series, self.names_bytes
        ))
    }
}

/// Writes the names that the groups use, each without the start it shares with the one before; returns their places.
fn put_names(
    out: &mut Vec<u8>,
    names: &[SeriesName],
    groups: &[Group],
) -> HashMap<SeriesIndex, u32> {
    let mut local = HashMap::new();
    let mut used = Vec::new();
    for &series in groups.iter().flat_map(|group| &group.series) {
        local.entry(series).or_insert_with(|| {
            used.push(&names[series.0 as usize]);
            (used.len() - 1) as u32
        });
    }
    put_varint(out, used.len() as u64);
    let mut previous: &[u8] = b"";
    for series in used {
        let mut flags = 0;
        if series.system {
            flags |= SERIES_SYSTEM;
        }
        if series.rank.is_some() {
            flags |= SERIES_RANK;
        }
        put_varint(out, flags);
        if let Some(rank) = series.rank {
            put_varint(out, u64::from(rank));
        }
        let name = series.name.as_bytes();
        let shared = previous.iter().zip(name).take_while(|(a, b)| a == b);
        let shared = shared.count();
        put_varint(out, shared as u64);
        put_varint(out, (name.len() - shared) as u64);
        out.extend(&name[shared..]);
        previous = name;
    }
    local
}

/// Puts the head before the body, compressed as a whole where that helps: names repeat, and short batches have no planes.
fn seal(columns: &mut ColumnWriter, body: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    let packed = columns.compress(body).filter(|packed| {
        // Less than a thirty-second is not worth decompressing twice.
        packed.len() + packed.len() / 32 + 3 < body.len()
    });
    if let Some(packed) = packed {
        out.push(BODY_ZSTD);
        put_varint(&mut out, body.len() as u64);
        out.extend(packed);
    } else {
        out.push(0);
        out.extend(body);
    }
    out
}

/// Refuses what can not be the name of a series.
///
/// # Errors
/// `Invalid` if it is empty or longer than [`MAX_NAME_BYTES`].
pub fn check_name(name: &str) -> Result<()> {
    let bytes = name.len();
    if (1..=MAX_NAME_BYTES).contains(&bytes) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a metric name has 1 to {MAX_NAME_BYTES} bytes, {:?} has {bytes}",
        name.chars().take(80).collect::<String>()
    )))
}
