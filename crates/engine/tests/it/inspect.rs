//! Looking into checkpoints: what is in them, what differs, what is damaged, what they cost.

use runtree_core::wire::TensorChangeKind;

use crate::save_support::*;

#[test]
fn tensors_are_listed_with_type_shape_and_place() {
    let bench = Bench::new();
    let name = save(
        &bench.run(),
        1,
        &[floats("model.w", &[1.0, 2.0]), bytes("rng", vec![0; 9])],
    );
    let found = bench.engine.tensors(name).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].name, "model.w");
    assert_eq!(
        (
            found[0].dtype.as_str(),
            found[0].shape.as_slice(),
            found[0].bytes
        ),
        ("f32", &[2][..], 8)
    );
    assert_eq!(
        (found[1].part.as_str(), found[1].entry.as_str()),
        ("trainer-0", "state")
    );
}

#[test]
fn a_comparison_says_what_came_went_changed_and_by_how_much() {
    let bench = Bench::new();
    let run = bench.run();
    let large = noise(5, 70 << 20);
    let mut other = large.clone();
    other[50 << 20] ^= 1;
    let mut reshaped = floats("reshaped", &[1.0, 2.0]);
    let a = [
        floats("model.w", &[3.0, 4.0]),
        floats("same", &[1.0; 100]),
        floats("gone", &[1.0]),
        reshaped.clone(),
        bytes("large", large),
    ];
    reshaped.shape = vec![2, 1];
    let b = [
        bytes("large", other),
        floats("new", &[1.0]),
        floats("model.w", &[3.0, 4.5]),
        floats("same", &[1.0; 100]),
        reshaped,
    ];
    let (first, second) = (save(&run, 1, &a), save(&run, 2, &b));
    let report = bench.engine.diff_checkpoints(first, second).unwrap();
    assert_eq!(report.equal_tensors, 1);
    let found: Vec<_> = report
        .tensors
        .iter()
        .map(|change| (change.name.as_str(), change.change, change.changed_elements))
        .collect();
    assert_eq!(
        found,
        [
            ("gone", TensorChangeKind::Removed, None),
            ("large", TensorChangeKind::Changed, Some(1)),
            ("model.w", TensorChangeKind::Changed, Some(1)),
            ("new", TensorChangeKind::Added, None),
            ("reshaped", TensorChangeKind::Reshaped, None),
        ]
    );
    let norm = report.tensors[2].relative_norm.unwrap().0;
    assert!((norm - 0.1).abs() < 1e-12, "{norm}");
    assert_eq!(report.tensors[4].a.as_deref(), Some("f32[2]"));
    assert_eq!(report.tensors[4].b.as_deref(), Some("f32[2,1]"));
    let nothing = bench.engine.diff_checkpoints(first, first).unwrap();
    assert_eq!((nothing.equal_tensors, nothing.tensors.len()), (5, 0));
}

#[test]
fn elements_larger_than_a_window_are_compared_too() {
    let bench = Bench::new();
    let run = bench.run();
    let bytes = 40 << 20;
    let tensor = |last: u8| {
        let mut data = vec![7; 2 * bytes];
        data[2 * bytes - 1] = last;
        Tensor {
            name: "records".to_owned(),
            dtype: format!("numpy:|V{bytes}").parse().unwrap(),
            shape: vec![2],
            data,
        }
    };
    let (first, second) = (save(&run, 1, &[tensor(7)]), save(&run, 2, &[tensor(8)]));
    let report = bench.engine.diff_checkpoints(first, second).unwrap();
    assert_eq!(report.tensors[0].changed_elements, Some(1));
    assert_eq!(report.tensors[0].relative_norm, None);
}

#[test]
fn equal_checkpoints_are_compared_without_reading_a_chunk() {
    let bench = Bench::new();
    let run = bench.run();
    let tensors = [bytes("w", noise(1, 2 << 20)), bytes("b", noise(2, 20))];
    let (first, second) = (save(&run, 1, &tensors), save(&run, 2, &tensors));
    bench.remove_below("chunks");
    let report = bench.engine.diff_checkpoints(first, second).unwrap();
    assert_eq!((report.equal_tensors, report.tensors.len()), (2, 0));
}

#[test]
fn verification_finds_what_is_damaged_and_who_needs_it() {
    let bench = Bench::new();
    let run = bench.run();
    let tensors = [bytes("w", noise(1, 2 << 20)), bytes("b", noise(2, 20))];
    save(&run, 1, &tensors);
    save(&run, 2, &tensors);
    let other = save(&run, 3, &[bytes("w", noise(3, 10))]);
    let report = bench.engine.verify(None).unwrap();
    assert_eq!(
        (report.checkpoints, report.chunks, report.bytes),
        (3, 3, (2 << 20) + 30)
    );
    assert_eq!(report.problems, Vec::<String>::new());

    let large = bench
        .files("chunks")
        .into_iter()
        .max_by_key(|path| bench.size(path))
        .unwrap();
    bench.damage(&large, |content| content[1_500_000] ^= 128);
    let report = bench.engine.verify(None).unwrap();
    assert_eq!(report.problems.len(), 1);
    let problem = &report.problems[0];
    let hash = &large.file_name().unwrap().to_string_lossy()[..64];
    assert!(
        problem.contains(hash) && problem.contains("and 1 more") && problem.contains("damaged"),
        "{problem}"
    );
    assert!(
        bench
            .engine
            .verify(Some(other))
            .unwrap()
            .problems
            .is_empty()
    );

    bench.remove(&large);
    assert!(bench.engine.verify(None).unwrap().problems[0].contains("missing"));

    let part = bench
        .files("runs")
        .into_iter()
        .find(|path| path.to_string_lossy().contains("/parts/1-3-0/"))
        .unwrap();
    bench.damage(&part, |content| content[40] ^= 1);
    assert_eq!(bench.engine.verify(Some(other)).unwrap().problems.len(), 1);
}

#[test]
fn statistics_count_shared_bytes_once() {
    let bench = Bench::new();
    let run = bench.run();
    let tensors = [bytes("w", noise(1, 3 << 20))];
    for step in 0..4 {
        save(&run, step, &tensors);
    }
    save(&bench.run(), 0, &[bytes("other", noise(2, 100))]);
    let all = bench.engine.stats(None).unwrap();
    assert_eq!((all.runs, all.checkpoints, all.chunks), (2, 5, 2));
    assert_eq!(all.logical_bytes, 4 * (3 << 20) + 100);
    assert_eq!(all.stored_bytes, (3 << 20) + 100);
    assert_eq!(all.saved_bytes, 3 * (3 << 20));
    let one = bench.engine.stats(Some(run.run())).unwrap();
    assert_eq!(
        (one.runs, one.checkpoints, one.stored_bytes),
        (1, 4, 3 << 20)
    );
}

#[test]
fn what_a_checkpoint_takes_is_counted_in_the_store_and_once() {
    let bench = Bench::new();
    let run = bench.run();
    let noise = noise(1, 3 << 20);
    // The same bytes under two names are one chunk.
    let name = save(&run, 0, &[bytes("a", noise.clone()), bytes("b", noise)]);
    let listed = bench.engine.checkpoint_info(name).unwrap();
    assert_eq!((listed.bytes, listed.stored_bytes), (6 << 20, None));
    let detail = bench.engine.checkpoint_detail(name).unwrap();
    assert_eq!(detail.stored_bytes, Some(3 << 20));
    for file in bench.files("runs") {
        if file.components().any(|part| part.as_os_str() == "parts") {
            bench.remove(file);
        }
    }
    let hurt = bench.engine.checkpoint_detail(name).unwrap();
    assert_eq!(hurt.stored_bytes, None);
}
