//! What is in tensors: statistics while they are read, and elements by index.

use std::sync::Arc;

use proptest::prelude::*;
use runtree_core::ErrorKind;
use runtree_core::manifest::{CheckpointName, EntryContent, Extent};
use runtree_core::state::Dtype;
use runtree_core::state::index::{Selection, TensorIndex};
use runtree_core::wire::{EncodingKind, TensorStatistics};
use runtree_engine::{Engine, LoadedManifest};
use runtree_testkit::place;

use crate::encode::training;
use crate::save_support::*;

/// All statistics, in steps of `bytes`, by place.
fn scan(engine: &Engine, manifest: LoadedManifest, bytes: u64) -> Vec<TensorStatistics> {
    let mut scan = engine.statistics(manifest, None, u64::MAX).unwrap();
    let mut found = Vec::new();
    while !scan.is_done() {
        let before = scan.open_bytes();
        found.extend(scan.step(bytes).unwrap());
        assert!(scan.open_bytes() < before || scan.is_done());
    }
    assert_eq!(scan.open_bytes(), 0);
    found.sort_by_key(|statistics| statistics.tensor);
    found
}

fn of(engine: &Engine, name: CheckpointName) -> Vec<TensorStatistics> {
    scan(engine, engine.load_plan(name).unwrap(), u64::MAX)
}

fn typed(name: &str, dtype: &str, shape: &[u64], data: Vec<u8>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: dtype.parse().unwrap(),
        shape: shape.to_vec(),
        data,
    }
}

fn select(
    engine: &Engine,
    manifest: &LoadedManifest,
    name: &str,
    index: &str,
    limit: u64,
) -> runtree_core::Result<Vec<u8>> {
    let found = manifest.find_tensor(name).unwrap();
    let index: TensorIndex = index.parse()?;
    let selection = index.select(&found.tensor.shape)?;
    let mut bytes = Vec::new();
    engine.read_selection(manifest, &found.tensor, &selection, limit, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

#[test]
fn a_tensor_of_several_chunks_is_measured_whole_and_to_the_same_bits_in_steps() {
    let bench = Bench::new();
    // 0, 1, 2, …: more than one chunk of 64 MiB, and small ones around it that share a slab.
    let count = (17 << 20) + 5_u32;
    let large: Vec<u8> = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let nan = floats(
        "nan",
        &[1.0, f32::NAN, 3.0, f32::INFINITY, f32::NEG_INFINITY],
    );
    let name = save(
        &bench.run(),
        1,
        &[
            floats("before", &[-1.0, 2.0]),
            typed("large", "f32", &[u64::from(count)], large),
            nan,
            typed("text", "numpy:|S3", &[2], b"abcdef".to_vec()),
            typed("empty", "i64", &[0, 3], Vec::new()),
        ],
    );
    let manifest = bench.engine.load_plan(name).unwrap();
    let whole = scan(&bench.engine, manifest.clone(), u64::MAX);
    let steps = scan(&bench.engine, manifest, 1);
    assert_eq!(format!("{whole:?}"), format!("{steps:?}"), "bit for bit");
    let [before, large, nan, text, empty] = whole.as_slice() else {
        panic!("{whole:?}")
    };
    assert_eq!((before.elements, before.nonfinite()), (2, 0));
    let finite = large.finite.as_ref().unwrap();
    let last = f64::from(count - 1);
    assert_eq!(large.elements, u64::from(count));
    assert_eq!(
        (finite.min.as_f64(), finite.max.as_f64()),
        (Some(0.0), Some(f64::from(last as f32)))
    );
    assert!(
        (finite.mean.0 / (last / 2.0) - 1.0).abs() < 1e-7,
        "{finite:?}"
    );
    let std = ((f64::from(count).powi(2) - 1.0) / 12.0).sqrt();
    assert!((finite.std.0 / std - 1.0).abs() < 1e-7, "{finite:?}");
    assert_eq!(
        (nan.nan, nan.positive_infinity, nan.negative_infinity),
        (1, 1, 1)
    );
    let finite = nan.finite.as_ref().unwrap();
    assert_eq!((finite.mean.0, finite.std.0), (2.0, 1.0));
    assert_eq!((text.elements, text.finite.as_ref()), (2, None));
    assert_eq!((empty.elements, empty.finite.as_ref()), (0, None));
}

#[test]
fn some_tensors_are_measured_and_no_more_bytes_than_allowed() {
    let bench = Bench::new();
    let tensors: Vec<Tensor> = (0..4)
        .map(|i| bytes(&format!("t{i}"), vec![i; 1000]))
        .collect();
    let name = save(&bench.run(), 1, &tensors);
    let taken = |places: &[u64], most| -> runtree_core::Result<Vec<u64>> {
        let manifest = bench.engine.load_plan(name)?;
        let mut scan = bench.engine.statistics(manifest, Some(places), most)?;
        let found = scan.step(u64::MAX)?;
        Ok(found.iter().map(|statistics| statistics.tensor).collect())
    };
    assert_eq!(taken(&[2, 0], u64::MAX).unwrap(), [0, 2]);
    assert_eq!(taken(&[3, 1, 2, 0], 2000).unwrap(), [1, 3]);
    assert_eq!(taken(&[3, 1], 5).unwrap(), [3], "one in any case");
    assert_eq!(taken(&[4], 5).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn differences_are_measured_like_what_they_stand_for() {
    let bench = Bench::new();
    let run = bench.run();
    let states = training(6);
    let names: Vec<CheckpointName> = (0..)
        .zip(&states)
        .map(|(step, state)| save(&run, step, state))
        .collect();
    run.finish(None, None, None).unwrap();
    let before: Vec<_> = names.iter().map(|name| of(&bench.engine, *name)).collect();
    bench.engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    let after: Vec<_> = names.iter().map(|name| of(&bench.engine, *name)).collect();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    let encodings = |name| -> Vec<(EncodingKind, u64, bool)> {
        let tensors = bench.engine.tensors_with_encodings(name).unwrap();
        tensors
            .iter()
            .map(|tensor| {
                let encoding = tensor.encoding.as_ref().unwrap();
                let is_smaller = encoding.stored_bytes < tensor.bytes;
                (encoding.kind, encoding.depth, is_smaller)
            })
            .collect()
    };
    assert_eq!(encodings(names[0])[0], (EncodingKind::Planes, 0, true));
    assert_eq!(encodings(names[3])[0], (EncodingKind::Difference, 2, true));
    // The frozen tensor is in the newest checkpoints, too.
    assert_eq!(encodings(names[3])[1], (EncodingKind::Raw, 0, false));
    assert_eq!(encodings(names[5])[0], (EncodingKind::Raw, 0, false));
    assert!(
        bench.engine.tensors(names[3]).unwrap()[0]
            .encoding
            .is_none()
    );
    // A slice of a difference reads through its bases.
    let manifest = bench.engine.load_plan(names[3]).unwrap();
    let found = select(
        &bench.engine,
        &manifest,
        "large",
        "[700000:700003]",
        u64::MAX,
    )
    .unwrap();
    assert_eq!(found, states[3][0].data[1_400_000..1_400_006]);
}

#[test]
fn what_is_damaged_is_an_error_only_for_those_who_read_it() {
    let bench = Bench::new();
    let name = save(
        &bench.run(),
        1,
        &[bytes("w", noise(1, 3 << 20)), bytes("small", noise(2, 10))],
    );
    let path = bench
        .files("chunks")
        .into_iter()
        .max_by_key(|path| bench.size(path))
        .unwrap();
    bench.damage(&path, |content| content[(1 << 20) + 17] ^= 1);
    let manifest = bench.engine.load_plan(name).unwrap();
    let error = bench
        .engine
        .statistics(manifest.clone(), None, u64::MAX)
        .unwrap()
        .step(u64::MAX)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("\"w\""), "{}", error.chain());
    let mut scan = bench
        .engine
        .statistics(manifest.clone(), Some(&[1]), u64::MAX)
        .unwrap();
    assert_eq!(scan.step(u64::MAX).unwrap()[0].elements, 10);
    // The first and the third block are sound, and the second is not looked at.
    let cat = |index, limit| select(&bench.engine, &manifest, "w", index, limit);
    let data = noise(1, 3 << 20);
    assert_eq!(cat("[10:14]", u64::MAX).unwrap(), data[10..14]);
    assert_eq!(cat("[:]", 20).unwrap(), data[..20]);
    assert_eq!(
        cat("[::2097152]", u64::MAX).unwrap(),
        [data[0], data[2 << 20]]
    );
    assert_eq!(cat("[-1]", u64::MAX).unwrap(), data[(3 << 20) - 1..]);
    assert_eq!(
        cat("[1048576]", u64::MAX).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

/// Puts the one tensor of a checkpoint of bytes together anew: another dtype, and bytes that come from anywhere in its chunks.
fn recut(manifest: &LoadedManifest, dtype: Dtype, cuts: &[u64]) -> LoadedManifest {
    let mut part = (*manifest.parts[0]).clone();
    let EntryContent::State { tensors, .. } = &mut part.entries[0].content else {
        panic!("a state")
    };
    let record = &mut tensors[0];
    let item = dtype.item_bytes();
    let bytes = record.extents[0].bytes / item * item;
    let mut places: Vec<u64> = cuts.iter().map(|cut| cut % (bytes + 1)).collect();
    places.extend([0, bytes]);
    places.sort_unstable();
    // The pieces from the last to the first: nothing is where it was, and elements lie astride.
    record.extents = places
        .windows(2)
        .rev()
        .map(|pair| Extent {
            chunk: 0,
            offset: pair[0],
            bytes: pair[1] - pair[0],
        })
        .filter(|extent| extent.bytes > 0)
        .collect();
    record.shape = vec![bytes / item];
    record.dtype = dtype;
    LoadedManifest {
        name: manifest.name,
        parts: vec![Arc::new(part)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(place::cases(24, 8)))]
    #[test]
    fn elements_astride_of_pieces_are_put_together(
        cuts in proptest::collection::vec(any::<u64>(), 0..6),
        dtype in prop_oneof![Just("u8"), Just("i16"), Just("f32"), Just("i64"), Just("c128")],
        step in 1_u64..40_000_000,
    ) {
        thread_local! {
            static SAVED: (Bench, LoadedManifest) = {
                let bench = Bench::new();
                let name = save(&bench.run(), 1, &[bytes("w", noise(9, 9_000_011))]);
                let manifest = bench.engine.load_plan(name).unwrap();
                (bench, manifest)
            };
        }
        SAVED.with(|(bench, manifest)| {
            let manifest = recut(manifest, dtype.parse().unwrap(), &cuts);
            let data = noise(9, 9_000_011);
            let EntryContent::State { tensors, .. } = &manifest.parts[0].entries[0].content else { panic!("a state") };
            let expected: Vec<u8> = tensors[0].extents.iter()
                .flat_map(|extent| &data[extent.offset as usize..(extent.offset + extent.bytes) as usize])
                .copied()
                .collect();
            // The same bytes as a tensor of their own.
            let plain = save(&bench.run(), 1, &[typed("w", dtype, &tensors[0].shape, expected.clone())]);
            let found = scan(&bench.engine, manifest.clone(), step);
            assert_eq!(format!("{found:?}"), format!("{:?}", of(&bench.engine, plain)));

            let all = manifest.find_tensor("w").unwrap().tensor;
            let mut read = Vec::new();
            bench.engine.read_selection(&manifest, &all, &Selection::whole(&all.shape), u64::MAX, |bytes| {
                read.extend_from_slice(bytes);
                Ok(())
            }).unwrap();
            assert!(read == expected);
        });
    }
}
