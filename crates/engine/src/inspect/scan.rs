//! Statistics of tensors, step by step: bounded memory, several threads, and whoever asks may stop between two steps.
//!
//! Tensors are cut into stretches of at most [`UNIT_BYTES`], which are read in the order of their places in the store: the small tensors of a slab share their
//! blocks, which are read and verified once. A thread holds one unit of stretches at a time. Stretches of a tensor are merged in the order of its elements, so
//! that equal tensors have equal statistics to the bit, on any number of threads, for any size of step, and wherever their bytes lie.

use std::collections::VecDeque;

use runtree_core::state::TensorRecord;
use runtree_core::state::region::Region;
use runtree_core::wire::TensorStatistics;
use runtree_core::{Error, Result};

use super::decode::decode_run_of;
use super::moments::Moments;
use crate::engine::Engine;
use crate::load::stream::slice;
use crate::load::{LoadedManifest, ReadJob};
use crate::parallel::work_off;
use crate::save::threads;

/// Bytes that a thread holds at a time.
const UNIT_BYTES: u64 = 8 << 20;

/// Statistics that are being taken, see [`Engine::statistics`].
#[derive(Debug)]
pub struct StatisticsScan<'e> {
    engine: &'e Engine,
    manifest: LoadedManifest,
    wanted: Vec<Wanted>,
    /// What was not read yet, by place.
    open: VecDeque<Stretch>,
    /// What needs no reading and was not handed out.
    ready: Vec<TensorStatistics>,
    open_bytes: u64,
}

/// A tensor that is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    /// Its place in the list of all.
    place: u64,
    part: usize,
    entry: usize,
    tensor: usize,
    /// Stretches that are not read.
    open: u64,
    /// What is known of the others, by their offsets.
    pieces: Vec<(u64, Moments)>,
}

/// A stretch of a tensor.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Index into `wanted`.
    wanted: usize,
    offset: u64,
    bytes: u64,
}

impl Engine {
    /// Starts to take statistics of the tensors that [`Engine::tensors`] lists: of all, or of those at the places `tensors`. Of these, the first are taken
    /// that have at most `most_bytes` bytes together, at least one. Reads nothing yet.
    ///
    /// # Errors
    /// `Invalid` if there is no tensor at a place.
    pub fn statistics(
        &self,
        manifest: LoadedManifest,
        tensors: Option<&[u64]>,
        most_bytes: u64,
    ) -> Result<StatisticsScan<'_>> {
        let mut all = Vec::new();
        for (part, record) in manifest.parts.iter().enumerate() {
            for (entry, found) in record.entries.iter().enumerate() {
                let count = found.content.tensors().len();
                all.extend((0..count).map(|tensor| (part, entry, tensor)));
            }
        }
        let every = || (0..all.len() as u64).collect();
        let places: Vec<u64> = tensors.map_or_else(every, <[u64]>::to_vec);
        let mut scan = StatisticsScan {
            engine: self,
            manifest,
            wanted: Vec::new(),
            open: VecDeque::new(),
            ready: Vec::new(),
            open_bytes: 0,
        };
        for place in places {
            let found = usize::try_from(place).ok().and_then(|place| all.get(place));
            let Some(&(part, entry, tensor)) = found else {
                return Err(Error::invalid(format!(
                    "the checkpoint has {} tensors, and none at place {place}",
                    all.len()
                )));
            };
            let wanted = Wanted {
                place,
                part,
                entry,
                tensor,
                open: 0,
                pieces: Vec::new(),
            };
            if !scan.take(wanted, most_bytes) {
                break;
            }
        }
        scan.sort();
        Ok(scan)
    }
}

impl StatisticsScan<'_> {
    /// Bytes that are to be read yet.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// Whether all statistics were handed out.
    pub fn is_done(&self) -> bool {
        self.open.is_empty() && self.ready.is_empty()
    }

    /// Reads and verifies what comes next, about `bytes` bytes, and gives the statistics of the tensors that are done with it.
    ///
    /// # Errors
    /// As [`Engine::read_tensors`].
    pub fn step(&mut self, bytes: u64) -> Result<Vec<TensorStatistics>> {
        let mut units: Vec<Vec<Stretch>> = Vec::new();
        let (mut taken, mut held) = (0, UNIT_BYTES);
        while taken < bytes.max(1)
            && let Some(stretch) = self.open.pop_front()
        {
            if held + stretch.bytes > UNIT_BYTES {
                units.push(Vec::new());
                held = 0;
            }
            held += stretch.bytes;
            taken += stretch.bytes;
            units
                .last_mut()
                .expect("BUG: a unit was pushed")
                .push(stretch);
        }
        self.open_bytes -= taken;
        let measured = self.measure(&units)?;
        let mut done = std::mem::take(&mut self.ready);
        for (stretch, moments) in units.iter().flatten().zip(measured) {
            let wanted = &mut self.wanted[stretch.wanted];
            wanted.pieces.push((stretch.offset, moments));
            wanted.open -= 1;
            if wanted.open == 0 {
                let mut pieces = std::mem::take(&mut wanted.pieces);
                pieces.sort_unstable_by_key(|(offset, _)| *offset);
                let mut moments = Moments::default();
                for (_, piece) in &pieces {
                    moments.merge(piece);
                }
                done.push(self.report(&self.wanted[stretch.wanted], &moments));
            }
        }
        Ok(done)
    }

    /// Takes a tensor if it fits.
    fn take(&mut self, mut wanted: Wanted, most_bytes: u64) -> bool {
        let index = self.wanted.len();
        let record = self.record(&wanted);
        let bytes = record.byte_len().unwrap_or(0);
        if bytes == 0 || decode_run_of(&record.dtype).is_none() {
            let moments = Moments::counted(Region::whole(&record.shape).elements());
            let report = self.report(&wanted, &moments);
            self.ready.push(report);
            return true;
        }
        if index > 0 && self.open_bytes.saturating_add(bytes) > most_bytes {
            return false;
        }
        let unit = UNIT_BYTES / record.dtype.item_bytes() * record.dtype.item_bytes();
        let mut offset = 0;
        while offset < bytes {
            let stretch = Stretch {
                wanted: index,
                offset,
                bytes: unit.min(bytes - offset),
            };
            offset += stretch.bytes;
            wanted.open += 1;
            self.open.push_back(stretch);
        }
        self.open_bytes += bytes;
        self.wanted.push(wanted);
        true
    }

    fn sort(&mut self) {
        let mut open: Vec<_> = std::mem::take(&mut self.open)
            .into_iter()
            .map(|stretch| {
                let wanted = &self.wanted[stretch.wanted];
                let first = slice(&self.record(wanted).extents, stretch.offset, 1);
                let place = first.first().map(|extent| (extent.chunk, extent.offset));
                (
                    (wanted.part, place, stretch.wanted, stretch.offset),
                    stretch,
                )
            })
            .collect();
        open.sort_unstable_by_key(|(place, _)| *place);
        self.open = open.into_iter().map(|(_, stretch)| stretch).collect();
    }

    fn record(&self, wanted: &Wanted) -> &TensorRecord {
        let entry = &self.manifest.parts[wanted.part].entries[wanted.entry];
        &entry.content.tensors()[wanted.tensor]
    }

    fn report(&self, wanted: &Wanted, moments: &Moments) -> TensorStatistics {
        TensorStatistics {
            tensor: wanted.place,
            elements: moments.elements,
            nan: moments.nan,
            positive_infinity: moments.positive_infinity,
            negative_infinity: moments.negative_infinity,
            finite: moments.finite(&self.record(wanted).dtype),
        }
    }

    /// Of every stretch, in order.
    fn measure(&self, units: &[Vec<Stretch>]) -> Result<Vec<Moments>> {
        // A thread has one buffer, and what it found: of which units is chance.
        let states = work_off(
            units.iter().enumerate(),
            threads(),
            "measuring",
            || (Vec::new(), Vec::new()),
            |(buffer, found), (index, unit)| {
                found.push((index, self.measure_unit(unit, buffer)?));
                Ok(())
            },
        )?;
        let mut found: Vec<_> = states.into_iter().flat_map(|(_, found)| found).collect();
        found.sort_unstable_by_key(|(index, _)| *index);
        Ok(found.into_iter().flat_map(|(_, moments)| moments).collect())
    }

    fn measure_unit(&self, unit: &[Stretch], buffer: &mut Vec<u8>) -> Result<Vec<Moments>> {
        let records: Vec<(usize, &TensorRecord)> = unit
            .iter()
            .map(|stretch| {
                let wanted = &self.wanted[stretch.wanted];
                (wanted.part, self.record(wanted))
            })
            .collect();
        let extents: Vec<_> = unit
            .iter()
            .zip(&records)
            .map(|(stretch, (_, record))| slice(&record.extents, stretch.offset, stretch.bytes))
            .collect();
        buffer.resize(unit.iter().map(|stretch| stretch.bytes as usize).sum(), 0);
        let mut rest = buffer.as_mut_slice();
        let mut jobs = Vec::with_capacity(unit.len());
        for ((stretch, (part, record)), extents) in unit.iter().zip(&records).zip(&extents) {
            let (into, behind) = std::mem::take(&mut rest).split_at_mut(stretch.bytes as usize);
            rest = behind;
            jobs.push(ReadJob {
                part: *part,
                extents,
                what: &record.name,
                into,
            });
        }
        self.engine.read_tensors(&self.manifest, jobs, 1)?;
        let mut rest = buffer.as_slice();
        let mut found = Vec::with_capacity(unit.len());
        for (stretch, (_, record)) in unit.iter().zip(&records) {
            let (bytes, behind) = rest.split_at(stretch.bytes as usize);
            rest = behind;
            let mut moments = Moments::default();
            moments.add(&record.dtype, bytes);
            found.push(moments);
        }
        Ok(found)
    }
}
