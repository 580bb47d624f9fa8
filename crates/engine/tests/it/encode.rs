//! Cold checkpoints become small, and come back as they were saved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtree_core::manifest::CheckpointName;
use runtree_core::state::Dtype;
use runtree_engine::{Engine, ForkChoice, ForkSpec, RunSpec, RunWriter};
use runtree_testkit::place::Place;

use crate::save_support::{Bench, Tensor, expected, load, noise, save};

/// bf16 weights: exponents alike, mantissas noise.
fn weights(seed: u64, count: usize) -> Vec<u8> {
    noise(seed, 2 * count)
        .chunks_exact(2)
        .flat_map(|pair| [pair[0], 0x3c | (pair[1] & 0x83)])
        .collect()
}

/// What a model and its adapters look like after each of `steps` small steps; the frozen part never changes.
pub(crate) fn training(steps: usize) -> Vec<Vec<Tensor>> {
    let count = 900_000;
    let mut large = weights(1, count);
    let frozen = weights(2, count);
    (0..steps)
        .map(|step| {
            for item in (step * 37..count).step_by(61) {
                large[2 * item] ^= 1;
            }
            let tensor = |name: &str, data: Vec<u8>| Tensor {
                name: name.to_owned(),
                dtype: Dtype::BF16,
                shape: vec![data.len() as u64 / 2],
                data,
            };
            vec![
                tensor("large", large.clone()),
                tensor("frozen", frozen.clone()),
                tensor("small", vec![step as u8; 8000]),
            ]
        })
        .collect()
}

fn save_all(run: &Arc<RunWriter>, states: &[Vec<Tensor>]) -> Vec<CheckpointName> {
    (0..)
        .zip(states)
        .map(|(step, state)| save(run, step, state))
        .collect()
}

fn check_all(engine: &Engine, names: &[CheckpointName], states: &[Vec<Tensor>]) {
    for (&name, state) in names.iter().zip(states) {
        assert_eq!(load(engine, name).unwrap(), expected(state, &[]));
    }
}

fn suffixes(bench: &Bench) -> (usize, usize, usize) {
    let names: Vec<String> = bench
        .files("chunks")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let delta = names.iter().filter(|name| name.contains(".d~")).count();
    let planes = names
        .iter()
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "z"))
        .count();
    (names.len() - delta - planes, planes, delta)
}

#[test]
fn cold_checkpoints_shrink_and_the_newest_two_stay_raw() {
    let bench = Bench::new();
    let run = bench.run();
    let states = training(10);
    let names = save_all(&run, &states);
    run.finish(None, None, None).unwrap();
    let before = bench.chunk_bytes();
    let stats = bench.engine.stats(Some(run.run())).unwrap();
    assert_eq!((stats.waiting, stats.depths.len()), (8, 0));
    let report = bench.engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    assert_eq!(report.checkpoints, 8);
    check_all(&bench.engine, &names, &states);
    // Raw: two large, two slabs, and the frozen tensor, which the newest checkpoints hold too.
    let (raw, planes, delta) = suffixes(&bench);
    assert_eq!((raw, planes + delta), (5, report.chunks as usize));
    assert!(delta >= 7, "every large tensor but the first: {delta}");
    let each = before / 11;
    assert!(
        bench.chunk_bytes() < 5 * each,
        "{} of {before}",
        bench.chunk_bytes()
    );
    assert_eq!(
        report.freed_bytes - report.encoded_bytes,
        before - bench.chunk_bytes()
    );
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
    let stats = bench.engine.stats(Some(run.run())).unwrap();
    assert_eq!((stats.waiting, stats.rows.len()), (0, 10));
    assert_eq!(stats.depths.iter().sum::<u64>(), delta as u64);
    let depth: Vec<u64> = stats.rows.iter().map(|row| row.depth).collect();
    assert_eq!(depth, [0, 1, 1, 2, 1, 2, 2, 3, 0, 0]);
    let rows: u64 = stats.rows.iter().map(|row| row.stored_bytes).sum();
    assert_eq!((rows, stats.stored_bytes), (bench.chunk_bytes(), rows));
    // Again: nothing is left to do.
    let again = bench.engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    assert_eq!((again.chunks, again.removed_objects), (0, 0));
}

#[test]
fn a_fork_is_encoded_against_where_it_was_forked() {
    let bench = Bench::new();
    let run = bench.run();
    let states = training(7);
    let names = save_all(&run, &states[..4]);
    run.finish(None, None, None).unwrap();
    let reference = format!("digits/{}", run.display_id());
    let fork = bench
        .engine
        .fork(ForkSpec::new(ForkChoice::Reference(
            reference.parse().unwrap(),
        )))
        .unwrap();
    let child = bench
        .engine
        .start_run(RunSpec {
            run: Some(fork),
            ..RunSpec::new("digits".parse().unwrap())
        })
        .unwrap();
    let own: Vec<CheckpointName> = (4..)
        .zip(&states[4..])
        .map(|(step, state)| save(&child, step, state))
        .collect();
    child.finish(None, None, None).unwrap();
    let report = bench.engine.encode_cold(&[fork], &mut |_| {}).unwrap();
    assert_eq!(report.checkpoints, 1);
    let (_, planes, delta) = suffixes(&bench);
    // The base got a self-contained object beside its raw one: that of a fork must not hang on what its parent does with it later.
    assert!(planes >= 1 && delta >= 1, "{planes} {delta}");
    check_all(&bench.engine, &names, &states[..4]);
    check_all(&bench.engine, &own, &states[4..]);
    let report = bench.engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    assert_eq!(report.checkpoints, 2);
    check_all(&bench.engine, &names, &states[..4]);
    check_all(&bench.engine, &own, &states[4..]);
}

#[test]
fn a_damaged_cold_checkpoint_is_left_alone_and_the_others_are_encoded() {
    let bench = Bench::new();
    let run = bench.run();
    let states = training(6);
    let names = save_all(&run, &states);
    run.finish(None, None, None).unwrap();
    let plan = bench.engine.load_plan(names[1]).unwrap();
    let object = &plan.parts[0].chunks[0].object;
    let path = format!("chunks/{}/{object}", &object[..2]);
    bench.damage(&path, |bytes| bytes[5] ^= 1);
    let report = bench.engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    assert_eq!(report.checkpoints, 4);
    assert!(
        bench.exists(&path),
        "what can not be read back is not removed"
    );
    for number in [0, 2, 3, 4, 5] {
        check_all(
            &bench.engine,
            &names[number..=number],
            &states[number..=number],
        );
    }
    load(&bench.engine, names[1]).unwrap_err();
}

#[test]
fn a_live_run_encodes_in_the_background_and_finish_leaves_things_in_order() {
    let place = Place::new();
    let engine = Engine::open(place.options("cache").with_encoder()).unwrap();
    let bench = Bench { place, engine };
    let run = bench.run();
    let states = training(6);
    let names = save_all(&run, &states);
    let deadline = Instant::now() + Duration::from_secs(60);
    while suffixes(&bench).1 + suffixes(&bench).2 == 0 {
        assert!(Instant::now() < deadline, "nothing was encoded");
        std::thread::yield_now();
    }
    run.finish(None, None, None).unwrap();
    assert_eq!(run.take_warnings().len(), 0);
    let files = bench.files("chunks");
    check_all(&bench.engine, &names, &states);
    let rounds = bench.engine.store().list_rounds().unwrap();
    assert!(rounds.open.is_empty(), "every round is closed: {rounds:?}");
    // Nothing goes on after `finish`.
    assert_eq!(bench.files("chunks"), files);
}
