//! What stands in the brackets behind a tensor's name, and which elements that selects: `[3]`, `[0:4, 7]`, `[..., ::2]`, `[-1]`.
//!
//! Read as numpy reads it: an int takes one element of a dimension, which is gone from the result; `a:b` takes from `a` up to and without `b`, cut to
//! what there is; a step is positive; negative numbers count from the end; `...` stands for all dimensions that are not written, as does the end.
//!
//! A [`Selection`] says which boxes to read ([`Selection::boxes`]) and which of their elements are meant ([`Selection::pick`]), both in order.

use std::fmt;
use std::str::FromStr;

use super::region::{Region, row_major};
use crate::error::{Error, Result};

/// Most characters of an index: it is typed by hand.
const MAX_CHARACTERS: usize = 4096;

/// An index as it is written, brackets included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorIndex {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    At(i64),
    Range {
        start: Option<i64>,
        stop: Option<i64>,
        step: u64,
    },
    Rest,
}

/// The elements that an index selects of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    axes: Vec<Axis>,
    /// Elements of the tensor between two neighbours of each dimension.
    strides: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    start: u64,
    count: u64,
    step: u64,
    /// Whether the result has this dimension.
    kept: bool,
}

impl TensorIndex {
    /// Parts a name from the index behind it: `layer.weight[0:4]` into `layer.weight` and `[0:4]`.
    pub fn split(text: &str) -> Option<(&str, &str)> {
        let open = text.strip_suffix(']')?.rfind('[')?;
        Some(text.split_at(open))
    }

    /// What it selects of a tensor of `shape`.
    ///
    /// # Errors
    /// `Invalid` if it has more dimensions than the tensor, or an int is out of range.
    pub fn select(&self, shape: &[u64]) -> Result<Selection> {
        let written = self.parts.iter().filter(|part| **part != Part::Rest);
        let written = written.count();
        if written > shape.len() {
            return Err(Error::invalid(format!(
                "{self} has {written} dimensions, the tensor has {}: {shape:?}",
                shape.len()
            )));
        }
        let rest = self.parts.iter().position(|part| *part == Part::Rest);
        let before = rest.unwrap_or(self.parts.len());
        let all = Part::Range {
            start: None,
            stop: None,
            step: 1,
        };
        let behind = self.parts.get(before + 1..).unwrap_or_default();
        let parts = self.parts[..before]
            .iter()
            .chain(std::iter::repeat_n(&all, shape.len() - written))
            .chain(behind);
        let axes = parts
            .zip(shape)
            .enumerate()
            .map(|(axis, (part, size))| part.resolve(axis, *size))
            .collect::<Result<_>>()?;
        Ok(Selection {
            axes,
            strides: row_major(shape),
        })
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "..." {
            return Some(Self::Rest);
        }
        let mut numbers = text.split(':').map(str::trim);
        let first = numbers.next()?;
        let Some(stop) = numbers.next() else {
            return first.parse().ok().map(Self::At);
        };
        let bound = |text: &str| -> Option<Option<i64>> {
            if text.is_empty() {
                return Some(None);
            }
            text.parse().ok().map(Some)
        };
        let step = match numbers.next() {
            None | Some("") => 1,
            Some(step) => step
                .parse::<i64>()
                .ok()
                .and_then(|step| u64::try_from(step).ok())?,
        };
        (numbers.next().is_none() && step > 0).then_some(Self::Range {
            start: bound(first)?,
            stop: bound(stop)?,
            step,
        })
    }

    fn resolve(self, axis: usize, size: u64) -> Result<Axis> {
        // Wide enough for any size and any index, whatever their sum.
        let from_end = |at: i64| i128::from(at) + if at < 0 { i128::from(size) } else { 0 };
        match self {
            Self::At(at) => {
                let start = u64::try_from(from_end(at)).ok().filter(|at| *at < size);
                let start = start.ok_or_else(|| {
                    Error::invalid(format!(
                        "index {at} is out of range for dimension {axis}, which has {size} elements"
                    ))
                })?;
                Ok(Axis {
                    start,
                    count: 1,
                    step: 1,
                    kept: false,
                })
            }
            Self::Range { start, stop, step } => {
                let cut = |at: i64| from_end(at).clamp(0, i128::from(size)) as u64;
                let start = start.map_or(0, cut);
                let stop = stop.map_or(size, cut);
                Ok(Axis {
                    start,
                    count: stop.saturating_sub(start).div_ceil(step),
                    step,
                    kept: true,
                })
            }
            Self::Rest => Err(Error::invalid("an index has at most one `...`")),
        }
    }
}

impl FromStr for TensorIndex {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            Error::invalid(what).with_hint(
                "write ints, a:b, a:b:step with a positive step, and one ...: [0:4, 7], [-1], [..., ::2]",
            )
        };
        if text.len() > MAX_CHARACTERS {
            return Err(wrong(format!(
                "an index of {} characters is too long",
                text.len()
            )));
        }
        let inner = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .ok_or_else(|| wrong(format!("index {text:?} does not stand in brackets")))?;
        let parts = inner
            .split(',')
            .map(|part| {
                Part::parse(part).ok_or_else(|| {
                    wrong(format!(
                        "{:?} of index {text} selects nothing that is known",
                        part.trim()
                    ))
                })
            })
            .collect::<Result<Vec<Part>>>()?;
        if parts.iter().filter(|part| **part == Part::Rest).count() > 1 {
            return Err(wrong(format!("index {text} has more than one `...`")));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for TensorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            match part {
                Part::At(at) => write!(f, "{at}")?,
                Part::Rest => f.write_str("...")?,
                Part::Range { start, stop, step } => {
                    let text = |bound: &Option<i64>| bound.map(|at| at.to_string());
                    let text = |bound| text(bound).unwrap_or_default();
                    write!(f, "{}:{}", text(start), text(stop))?;
                    if *step != 1 {
                        write!(f, ":{step}")?;
                    }
                }
            }
        }
        f.write_str("]")
    }
}

impl Selection {
    /// All of a tensor.
    pub fn whole(shape: &[u64]) -> Self {
        let axes = shape.iter().map(|size| Axis {
            start: 0,
            count: *size,
            step: 1,
            kept: true,
        });
        Self {
            axes: axes.collect(),
            strides: row_major(shape),
        }
    }

    /// Shape of the result.
    pub fn shape(&self) -> Vec<u64> {
        let kept = self.axes.iter().filter(|axis| axis.kept);
        kept.map(|axis| axis.count).collect()
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        if self.axes.iter().any(|axis| axis.count == 0) {
            return 0;
        }
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// Boxes that hold what is selected: each element in one of them, in order. Where a step leaves out at least `gap` elements of memory, what is between is
    /// in no box.
    pub fn boxes(&self, gap: u64) -> impl Iterator<Item = Region> + use<> {
        let leaves_gap = |(axis, stride): (&Axis, &u64)| {
            axis.step > 1 && axis.count > 1 && axis.step.saturating_mul(*stride) > gap
        };
        // Up to the last such dimension every place is a box of its own: only so are boxes in the order of their elements.
        let last = self.axes.iter().zip(&self.strides).rposition(leaves_gap);
        let single = last.map_or(0, |last| last + 1);
        let axes = self.axes.clone();
        let mut next = (self.elements() > 0).then(|| vec![0_u64; single]);
        std::iter::from_fn(move || {
            let at = next.take()?;
            let place = |axis: &Axis, index: u64| axis.start + index * axis.step;
            let region = Region {
                offset: (axes.iter().enumerate())
                    .map(|(d, axis)| place(axis, at.get(d).copied().unwrap_or(0)))
                    .collect(),
                shape: (axes.iter().enumerate())
                    .map(|(d, axis)| {
                        if d < single {
                            1
                        } else {
                            (axis.count - 1) * axis.step + 1
                        }
                    })
                    .collect(),
            };
            let mut following = at;
            for d in (0..single).rev() {
                following[d] += 1;
                if following[d] < axes[d].count {
                    next = Some(following);
                    break;
                }
                following[d] = 0;
            }
            Some(region)
        })
    }

    /// Number of elements of a box that are selected; the box is (a part of) one of [`Selection::boxes`].
    pub fn count_in(&self, region: &Region) -> u64 {
        self.places(region).map(|(_, count, _)| count).product()
    }

    /// Appends the elements of a box that are selected, in order. `bytes` are the box's, row-major, `item` bytes each.
    pub fn pick(&self, region: &Region, item: usize, bytes: &[u8], into: &mut Vec<u8>) {
        let places: Vec<(u64, u64, u64)> = self.places(region).collect();
        let dense = |(place, size): (&(u64, u64, u64), &u64)| place.1 == *size;
        if places.iter().zip(&region.shape).all(dense) {
            into.extend_from_slice(bytes);
            return;
        }
        let strides = row_major(&region.shape);
        pick_axis(&places, &strides, item, bytes, into);
    }

    /// Per dimension of a box: the first place that is selected, how many, and how far apart.
    fn places(&self, region: &Region) -> impl Iterator<Item = (u64, u64, u64)> {
        let boxes = region.offset.iter().zip(&region.shape);
        self.axes.iter().zip(boxes).map(|(axis, (&offset, &size))| {
            let passed = offset.saturating_sub(axis.start);
            let first = passed.next_multiple_of(axis.step) - passed;
            (
                first,
                size.saturating_sub(first).div_ceil(axis.step),
                axis.step,
            )
        })
    }
}

fn pick_axis(
    places: &[(u64, u64, u64)],
    strides: &[u64],
    item: usize,
    bytes: &[u8],
    into: &mut Vec<u8>,
) {
    let Some(((first, count, step), places)) = places.split_first() else {
        into.extend_from_slice(&bytes[..item]);
        return;
    };
    let (stride, strides) = (strides[0] as usize * item, &strides[1..]);
    for index in 0..*count {
        let at = (first + index * step) as usize * stride;
        pick_axis(places, strides, item, &bytes[at..], into);
    }
}
