//! What an index selects, against a model that looks at every element.

use proptest::prelude::*;
use runtree_core::state::index::{Selection, TensorIndex};
use runtree_core::state::region::{Region, row_major};

/// One part as the model reads it.
#[derive(Clone, Debug)]
enum Part {
    At(i64),
    Range(Option<i64>, Option<i64>, i64),
}

impl Part {
    fn text(&self) -> String {
        let bound = |bound: &Option<i64>| bound.map(|at| at.to_string()).unwrap_or_default();
        match self {
            Self::At(at) => at.to_string(),
            Self::Range(start, stop, 1) => format!("{}:{}", bound(start), bound(stop)),
            Self::Range(start, stop, step) => {
                format!("{}:{}:{step}", bound(start), bound(stop))
            }
        }
    }

    /// The places it selects of a dimension, as Python's `range(size)[part]` would; none if out of range.
    fn places(&self, size: i64) -> Option<Vec<u64>> {
        match *self {
            Self::At(at) => {
                let at = if at < 0 { at + size } else { at };
                (0..size).contains(&at).then(|| vec![at as u64])
            }
            Self::Range(start, stop, step) => {
                let cut = |at: i64| (if at < 0 { at + size } else { at }).clamp(0, size);
                let (start, stop) = (start.map_or(0, cut), stop.map_or(size, cut));
                let mut places = Vec::new();
                let mut at = start;
                while at < stop {
                    places.push(at as u64);
                    at += step;
                }
                Some(places)
            }
        }
    }
}

fn parts() -> impl Strategy<Value = Part> {
    let bound = || proptest::option::of(-9_i64..9);
    prop_oneof![
        (-7_i64..7).prop_map(Part::At),
        (bound(), bound(), 1_i64..5).prop_map(|(a, b, step)| Part::Range(a, b, step)),
    ]
}

/// A shape, an index with as many parts or fewer, and where its `...` stands, if it has one.
fn cases() -> impl Strategy<Value = (Vec<u64>, Vec<Part>, Option<usize>)> {
    proptest::collection::vec(0_u64..7, 1..4).prop_flat_map(|shape| {
        let dimensions = shape.len();
        (
            Just(shape),
            proptest::collection::vec(parts(), 1..=dimensions),
            proptest::option::of(0..=dimensions),
        )
    })
}

/// Every element of a tensor holds its own place: two bytes.
fn content(shape: &[u64], region: &Region) -> Vec<u8> {
    let strides = row_major(shape);
    let mut bytes = Vec::new();
    for index in places(
        &region
            .offset
            .iter()
            .zip(&region.shape)
            .map(|(offset, size)| (*offset..offset + size).collect())
            .collect::<Vec<_>>(),
    ) {
        let at: u64 = index
            .iter()
            .zip(&strides)
            .map(|(at, stride)| at * stride)
            .sum();
        bytes.extend((at as u16).to_le_bytes());
    }
    bytes
}

/// The product of places, row-major.
fn places(axes: &[Vec<u64>]) -> Vec<Vec<u64>> {
    axes.iter().fold(vec![Vec::new()], |all, axis| {
        let longer = |index: Vec<u64>| {
            axis.iter().map(move |at| {
                let mut index = index.clone();
                index.push(*at);
                index
            })
        };
        all.into_iter().flat_map(longer).collect()
    })
}

proptest! {
    #[test]
    fn an_index_selects_what_the_model_says((shape, parts, rest) in cases(), gap in 0_u64..40, most in 1_u64..9) {
        let mut texts: Vec<String> = parts.iter().map(Part::text).collect();
        let written = parts.len();
        let mut full = parts;
        let rest = rest.map(|rest| rest.min(written));
        if let Some(rest) = rest {
            texts.insert(rest, "...".to_owned());
        }
        let missing = shape.len() - written;
        full.splice(rest.unwrap_or(written)..rest.unwrap_or(written), std::iter::repeat_n(Part::Range(None, None, 1), missing));
        let text = format!("[{}]", texts.join(", "));
        let index: TensorIndex = text.parse().unwrap();
        prop_assert_eq!(index.to_string(), text.clone());

        let axes: Option<Vec<Vec<u64>>> = full.iter().zip(&shape).map(|(part, size)| part.places(*size as i64)).collect();
        let Some(axes) = axes else {
            prop_assert!(index.select(&shape).is_err());
            return Ok(());
        };
        let selection = index.select(&shape).unwrap();
        let kept: Vec<u64> = full.iter().zip(&axes).filter(|(part, _)| !matches!(part, Part::At(_))).map(|(_, axis)| axis.len() as u64).collect();
        prop_assert_eq!(selection.shape(), kept);
        let strides = row_major(&shape);
        let expected: Vec<u8> = places(&axes).iter().flat_map(|index| {
            let at: u64 = index.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
            (at as u16).to_le_bytes()
        }).collect();
        prop_assert_eq!(selection.elements(), expected.len() as u64 / 2);

        let mut found = Vec::new();
        for region in selection.boxes(gap).flat_map(|region| region.windows(most)) {
            prop_assert!(region.fits(&shape), "{:?} of {:?}", region, shape);
            let before = found.len();
            selection.pick(&region, 2, &content(&shape, &region), &mut found);
            prop_assert_eq!(selection.count_in(&region), (found.len() - before) as u64 / 2);
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn far_steps_leave_out_what_is_between() {
    let boxes = |index: &str, shape: &[u64], gap: u64| -> Vec<Region> {
        let index: TensorIndex = index.parse().unwrap();
        index.select(shape).unwrap().boxes(gap).collect()
    };
    // Rows of 100 elements: every 1,000th of them is a box of its own, every second is not.
    assert_eq!(boxes("[::1000]", &[5000, 100], 1000).len(), 5);
    assert_eq!(boxes("[::2]", &[5000, 100], 1000).len(), 1);
    // Columns are near each other whatever the step.
    assert_eq!(boxes("[:, ::50]", &[5000, 100], 1000).len(), 1);
    assert_eq!(boxes("[:]", &[5000, 100], 0).len(), 1);
    assert_eq!(boxes("[3:3]", &[5000, 100], 0).len(), 0);
}

#[test]
fn a_name_is_parted_from_its_index_and_nonsense_is_refused() {
    assert_eq!(TensorIndex::split("a.b[0:4, 7]"), Some(("a.b", "[0:4, 7]")));
    assert_eq!(TensorIndex::split("a[0].b[1]"), Some(("a[0].b", "[1]")));
    assert_eq!(TensorIndex::split("a.b"), None);
    assert_eq!(TensorIndex::split("]"), None);
    for text in [
        "",
        "[",
        "[]",
        "[1,]",
        "[a]",
        "[::0]",
        "[::-1]",
        "[1:2:3:4]",
        "[..., 1, ...]",
        "1",
        "[1 2]",
        "[99999999999999999999]",
    ] {
        let error = text.parse::<TensorIndex>().unwrap_err();
        assert_eq!(error.kind(), runtree_core::ErrorKind::Invalid, "{text}");
        assert!(error.hint().is_some(), "{text}");
    }
    let index: TensorIndex = "[0, 0]".parse().unwrap();
    let error = index.select(&[4]).unwrap_err();
    assert!(error.message().contains("2 dimensions"), "{error}");
    let index: TensorIndex = "[-5]".parse().unwrap();
    let error = index.select(&[4]).unwrap_err();
    assert!(error.message().contains("index -5"), "{error}");
    // Numbers at the edge of 64 bits are numbers.
    let index: TensorIndex = "[-9223372036854775808:9223372036854775807:9223372036854775807]"
        .parse()
        .unwrap();
    assert_eq!(index.select(&[u64::MAX]).unwrap().shape(), [0]);
    let whole = Selection::whole(&[]);
    assert_eq!((whole.elements(), whole.shape()), (1, vec![]));
}
