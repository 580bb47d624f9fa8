//! Boxes of tensors, against a model that looks at every element.

use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::state::region::{Region, cover, is_injective, row_major, stretches};

/// Every index of a box, row-major.
fn indices(region: &Region) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::new()];
    for (offset, size) in region.offset.iter().zip(&region.shape) {
        all = all
            .into_iter()
            .flat_map(|index: Vec<u64>| {
                (*offset..offset + size).map(move |at| {
                    let mut longer = index.clone();
                    longer.push(at);
                    longer
                })
            })
            .collect();
    }
    all
}

fn place(index: &[u64], origin: &[u64], strides: &[u64]) -> u64 {
    index
        .iter()
        .zip(origin)
        .zip(strides)
        .map(|((at, origin), stride)| (at - origin) * stride)
        .sum()
}

/// A tensor's shape, up to four dimensions, zeros included.
fn shapes() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0_u64..6, 0..4)
}

/// A box inside `shape`; empty ones too.
fn inside(shape: &[u64]) -> impl Strategy<Value = Region> + use<> {
    let axes: Vec<_> = shape
        .iter()
        .map(|&size| (0..=size).prop_flat_map(move |offset| (Just(offset), 0..=size - offset)))
        .collect();
    axes.prop_map(|axes| {
        let (offset, shape) = axes.into_iter().unzip();
        Region { offset, shape }
    })
}

fn shape_and_boxes(most: usize) -> impl Strategy<Value = (Vec<u64>, Vec<Region>)> {
    shapes().prop_flat_map(move |shape| {
        let boxes = proptest::collection::vec(inside(&shape), 1..=most);
        (Just(shape), boxes)
    })
}

/// Shards of `shape` as a mesh makes them: a grid with uneven cuts.
fn grid(shape: &[u64], cuts: &[Vec<u64>]) -> Vec<Region> {
    let mut all = vec![Region {
        offset: Vec::new(),
        shape: Vec::new(),
    }];
    for (size, cuts) in shape.iter().zip(cuts) {
        let mut borders: Vec<u64> = cuts.iter().map(|cut| cut % (size + 1)).collect();
        borders.extend([0, *size]);
        borders.sort_unstable();
        all = all
            .into_iter()
            .flat_map(|region| {
                borders
                    .windows(2)
                    .map(move |border| {
                        let mut longer = region.clone();
                        longer.offset.push(border[0]);
                        longer.shape.push(border[1] - border[0]);
                        longer
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    all
}

proptest! {
    #[test]
    fn what_is_common_and_what_is_left_are_the_box((_, boxes) in shape_and_boxes(2)) {
        let a = &boxes[0];
        let b = boxes.last().unwrap();
        let mut seen: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        let others: Vec<_> = indices(b);
        if let Some(common) = a.intersection(b) {
            prop_assert!(!common.is_empty());
            for index in indices(&common) {
                prop_assert!(others.contains(&index));
                *seen.entry(index).or_default() += 1;
            }
        }
        for piece in a.without(b) {
            for index in indices(&piece) {
                prop_assert!(!others.contains(&index));
                *seen.entry(index).or_default() += 1;
            }
        }
        let expected = indices(a);
        prop_assert_eq!(expected.len() as u64, a.elements());
        if !a.is_empty() {
            prop_assert_eq!(seen.len(), expected.len());
        }
        prop_assert!(seen.values().all(|count| *count == 1), "no element twice");
        prop_assert!(expected.iter().all(|index| seen.contains_key(index)));
    }

    #[test]
    fn stretches_copy_every_element_to_its_place((shape, boxes) in shape_and_boxes(1), gap in 1_u64..3) {
        let wanted = &boxes[0];
        let source = Region::whole(&shape);
        // A target that is exactly the box, and one with gaps between its elements.
        let dense = row_major(&wanted.shape);
        let spread: Vec<u64> = dense.iter().map(|stride| stride * gap).collect();
        for strides in [dense, spread] {
            prop_assert!(is_injective(&wanted.shape, &strides));
            let mut copied = Vec::new();
            for stretch in stretches(wanted, &source, wanted, &strides) {
                copied.extend((0..stretch.count).map(|i| (stretch.source + i, stretch.target + i)));
            }
            let expected: Vec<_> = if wanted.is_empty() { Vec::new() } else {
                indices(wanted).iter().map(|index| (
                    place(index, &source.offset, &row_major(&shape)),
                    place(index, &wanted.offset, &strides),
                )).collect()
            };
            prop_assert_eq!(copied, expected);
        }
    }

    #[test]
    fn any_box_is_put_together_from_any_grid_of_shards(
        (shape, boxes) in shape_and_boxes(1),
        cuts in proptest::collection::vec(proptest::collection::vec(0_u64..6, 0..3), 4),
        turn in 0_usize..7,
        more in proptest::collection::vec(0_usize..64, 0..4),
    ) {
        let wanted = &boxes[0];
        let mut shards = grid(&shape, &cuts);
        // Replicas, and an order that has nothing to do with the places.
        let replicas: Vec<_> = more.iter().map(|at| shards[at % shards.len()].clone()).collect();
        shards.extend(replicas);
        let length = shards.len();
        shards.rotate_left(turn % length);
        let mut target = vec![None; wanted.elements() as usize];
        let strides = row_major(&wanted.shape);
        for (index, region) in cover(wanted, &shards).unwrap() {
            let shard = &shards[index];
            for stretch in stretches(&region, shard, wanted, &strides) {
                for i in 0..stretch.count {
                    // The value of an element is its place in the global tensor.
                    let at = stretch.source + i;
                    let local: Vec<u64> = row_major(&shard.shape).iter().zip(&shard.shape).map(|(stride, size)| at / stride % size).collect();
                    let global: Vec<u64> = local.iter().zip(&shard.offset).map(|(at, offset)| at + offset).collect();
                    let slot = &mut target[(stretch.target + i) as usize];
                    prop_assert!(slot.is_none(), "no element is written twice");
                    *slot = Some(global);
                }
            }
        }
        let expected: Vec<_> = if wanted.is_empty() { Vec::new() } else { indices(wanted).into_iter().map(Some).collect() };
        prop_assert_eq!(target, expected);
    }

    #[test]
    fn a_hole_is_found((shape, boxes) in shape_and_boxes(3)) {
        let whole = Region::whole(&shape);
        let covered: std::collections::BTreeSet<_> = boxes.iter().flat_map(indices).collect();
        let complete = whole.is_empty() || covered.len() as u64 == whole.elements();
        prop_assert_eq!(cover(&whole, &boxes).is_ok(), complete);
    }

    #[test]
    fn pieces_of_a_split_are_the_box((_, boxes) in shape_and_boxes(1), most in 1_u64..9) {
        let wanted = &boxes[0];
        let pieces = wanted.clone().split(most);
        let together: Vec<_> = pieces.iter().flat_map(indices).collect();
        prop_assert_eq!(together, indices(wanted));
        for piece in &pieces {
            let last = piece.shape.len().saturating_sub(1);
            prop_assert!(piece.is_empty() || piece.shape[..last].iter().product::<u64>() <= most);
        }
        let windows = wanted.clone().windows(most);
        let together: Vec<_> = windows.iter().flat_map(indices).collect();
        prop_assert_eq!(together, indices(wanted));
        prop_assert!(windows.iter().all(|window| window.elements() <= most));
    }

    #[test]
    fn a_view_that_may_share_elements_is_never_called_injective(
        shape in proptest::collection::vec(1_u64..4, 0..4),
        strides in proptest::collection::vec(0_u64..9, 4),
    ) {
        let strides = &strides[..shape.len()];
        let whole = Region::whole(&shape);
        let places: Vec<_> = indices(&whole).iter().map(|index| place(index, &whole.offset, strides)).collect();
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        if is_injective(&shape, strides) {
            prop_assert_eq!(distinct.len(), places.len());
        }
    }
}

#[test]
fn a_row_shard_read_by_columns_is_one_stretch_per_row() {
    let shard = Region {
        offset: vec![2, 0],
        shape: vec![2, 6],
    };
    let wanted = Region {
        offset: vec![2, 1],
        shape: vec![2, 2],
    };
    let target = Region {
        offset: vec![0, 1],
        shape: vec![4, 2],
    };
    let found: Vec<_> = stretches(&wanted, &shard, &target, &row_major(&target.shape))
        .map(|stretch| (stretch.source, stretch.target, stretch.count))
        .collect();
    assert_eq!(found, [(1, 4, 2), (7, 6, 2)]);
    let rows: Vec<_> = stretches(&shard, &shard, &Region::whole(&[4, 6]), &row_major(&[4, 6]))
        .map(|stretch| (stretch.source, stretch.target, stretch.count))
        .collect();
    assert_eq!(rows, [(0, 12, 12)], "whole rows are one stretch");
}
