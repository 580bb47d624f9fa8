//! Collecting: what is needed stays, whoever needs it; what is not goes.

use std::time::Duration;

use runtree_core::manifest::{CheckpointName, PinRecord};
use runtree_core::retention::Protection;
use runtree_core::{ErrorKind, RunId, Timestamp};
use runtree_engine::{Engine, ForkChoice, ForkSpec, GcOptions, GcReport, TrashBound};

use crate::save_support::{Bench, Tensor, bytes, expected, load, noise, save};
use crate::support::{A_SECOND, assert_error, pass};

pub(crate) fn now() -> GcOptions {
    GcOptions {
        grace: Duration::ZERO,
        trash_bytes: Some(u64::MAX),
        ..GcOptions::default()
    }
}

/// The same with nothing in the trash.
pub(crate) fn all_gone() -> GcOptions {
    GcOptions {
        trash: TrashBound { checkpoints: 0 },
        ..now()
    }
}

pub(crate) fn gc(engine: &Engine, options: GcOptions) -> GcReport {
    engine.gc(&options, &mut |_| {}).unwrap()
}

/// A state of its own for each number: nothing of it is anything of another's.
pub(crate) fn state(number: u64) -> Vec<Tensor> {
    vec![bytes("weights", noise(number, 200_000))]
}

/// A run with checkpoints at the steps 0, 1, …
pub(crate) fn saved(bench: &Bench, count: u64) -> (RunId, Vec<CheckpointName>) {
    let run = bench.run();
    let names = (0..count)
        .map(|number| save(&run, number as i64, &state(1000 + number)))
        .collect();
    run.finish(None, None, None).unwrap();
    (run.run(), names)
}

pub(crate) fn assert_whole(bench: &Bench, name: CheckpointName) {
    let state = state(1000 + name.key.step.0 as u64);
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&state, &[]));
}

/// Makes a file look as if it had been written an hour before. A bucket's clock can only be waited for.
fn make_old(bench: &Bench, path: impl AsRef<std::path::Path>) {
    let path = bench.store_dir().join(path);
    let file = std::fs::File::options().append(true).open(path).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - Duration::from_secs(3600))
        .unwrap();
}

pub(crate) fn delete(bench: &Bench, name: CheckpointName) {
    bench.engine.delete_checkpoint(name, "a test").unwrap();
}

fn reference(bench: &Bench, name: CheckpointName) -> String {
    let id = runtree_core::CheckpointId::of(name.run, name.key);
    let record = bench.engine.store().read_run(name.run).unwrap();
    format!("{}@{id}", record.display_id)
}

fn fork(bench: &Bench, name: CheckpointName) -> runtree_core::Result<RunId> {
    let reference = format!("digits/{}", reference(bench, name))
        .parse()
        .unwrap();
    bench
        .engine
        .fork(ForkSpec::new(ForkChoice::Reference(reference)))
}

#[test]
fn what_is_needed_stays_and_a_deleted_checkpoint_goes_when_it_left_the_trash() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 4);
    assert_eq!(gc(&bench.engine, now()).removed_objects, 0);
    for &name in &names[..3] {
        delete(&bench, name);
    }
    let before = bench.chunk_bytes();
    let would = gc(
        &bench.engine,
        GcOptions {
            dry_run: true,
            ..now()
        },
    );
    assert_eq!(bench.chunk_bytes(), before);
    let report = gc(&bench.engine, now());
    assert_eq!((report.removed_objects, report.freed_bytes), (1, 200_000));
    assert_eq!((would.removed_objects, would.freed_bytes), (1, 200_000));
    assert_eq!((report.kept.trash, report.kept.checkpoints), (2, 1));
    assert_eq!(bench.chunk_bytes(), before - 200_000);
    assert_error(load(&bench.engine, names[0]), ErrorKind::NotFound, &[]);
    for &name in &names[1..] {
        assert_whole(&bench, name);
    }
    assert!(bench.engine.store().list_rounds().unwrap().open.is_empty());
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn grace_is_by_the_stores_clock() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 2);
    delete(&bench, names[0]);
    let mut options = GcOptions {
        grace: Duration::from_secs(600),
        ..all_gone()
    };
    let report = gc(&bench.engine, options);
    assert_eq!((report.removed_objects, report.kept.young_objects), (0, 1));
    assert_eq!(report.kept.young_bytes, 200_000);
    if bench.is_bucket() {
        options.grace = Duration::from_secs(1);
        pass(A_SECOND);
    } else {
        for path in bench.files("chunks") {
            make_old(&bench, path);
        }
    }
    assert_eq!(gc(&bench.engine, options).removed_objects, 1);
    assert_whole(&bench, names[1]);
}

#[test]
fn pins_leases_and_forks_keep_what_is_deleted() {
    let bench = Bench::new();
    let (run, names) = saved(&bench, 5);
    bench.engine.pin(names[0], "a paper").unwrap();
    let child = fork(&bench, names[1]).unwrap();
    let lease = |seconds| PinRecord {
        checkpoint: names[2],
        reason: "an evaluation".to_owned(),
        created: Timestamp(0),
        ttl_seconds: Some(seconds),
    };
    bench.engine.store().write_pin("eval", &lease(600)).unwrap();
    for index in [0, 2] {
        assert_error(
            bench.engine.delete_checkpoint(names[index], "no"),
            ErrorKind::Conflict,
            &[],
        );
    }
    let protected = bench.engine.protected_checkpoints(run).unwrap();
    let reason = |text: &str| text.to_owned();
    assert_eq!(
        protected.into_iter().collect::<Vec<_>>(),
        [
            (
                names[0],
                vec![Protection::Pinned {
                    reason: reason("a paper")
                }]
            ),
            (names[1], vec![Protection::ForkedBy(child)]),
            (
                names[2],
                vec![Protection::Leased {
                    reason: reason("an evaluation")
                }]
            ),
        ]
    );
    // Somebody deleted them all the same, a moment before they were pinned.
    for &name in &names[..4] {
        tombstone(&bench, name);
    }
    let report = gc(&bench.engine, all_gone());
    assert_eq!((report.removed_objects, report.kept.protected), (1, 3));
    for index in [0, 1, 2, 4] {
        assert_whole(&bench, names[index]);
    }
    // A lease lapses by the store's clock: its holder has not rewritten it for a second.
    bench.engine.store().write_pin("eval", &lease(1)).unwrap();
    if bench.is_bucket() {
        pass(A_SECOND);
    } else {
        make_old(&bench, "pins/eval");
    }
    let report = gc(&bench.engine, all_gone());
    assert_eq!((report.removed_objects, report.lapsed_leases), (1, 1));
    assert!(!bench.exists("pins/eval"));
    // What is pinned goes when it is not any more; what is forked stays, whoever deletes the fork.
    bench.engine.unpin(names[0]).unwrap();
    bench.engine.delete_run(child).unwrap();
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 1);
    assert_whole(&bench, names[1]);
}

/// What two processes at one moment may come to: deleted, and protected.
fn tombstone(bench: &Bench, name: CheckpointName) {
    let record = runtree_core::manifest::TombstoneRecord {
        checkpoint: name,
        reason: "a test".to_owned(),
        created: Timestamp(0),
    };
    let says = runtree_store::Tombstone::Deleted;
    assert!(bench.engine.store().write_tombstone(says, &record).unwrap());
}

#[test]
fn what_another_run_starts_from_without_forking_is_kept() {
    let bench = Bench::new();
    let (run, names) = saved(&bench, 2);
    let spec = runtree_engine::RunSpec {
        base: Some(
            format!("digits/{}", reference(&bench, names[0]))
                .parse()
                .unwrap(),
        ),
        ..runtree_engine::RunSpec::new("digits".parse().unwrap())
    };
    let child = bench.engine.start_run(spec).unwrap();
    child.finish(None, None, None).unwrap();
    let protected = bench.engine.protected_checkpoints(run).unwrap();
    assert_eq!(protected[&names[0]], [Protection::BaseOf(child.run())]);
    delete(&bench, names[0]);
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 0);
    assert_whole(&bench, names[0]);
}

#[test]
fn a_deleted_checkpoint_can_be_neither_forked_nor_pinned_nor_a_base() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 2);
    delete(&bench, names[0]);
    let hint = &["undelete it first"];
    assert_error(fork(&bench, names[0]), ErrorKind::Conflict, hint);
    assert_error(bench.engine.pin(names[0], ""), ErrorKind::Conflict, hint);
    let spec = runtree_engine::RunSpec {
        base: Some(
            format!("digits/{}", reference(&bench, names[0]))
                .parse()
                .unwrap(),
        ),
        ..runtree_engine::RunSpec::new("digits".parse().unwrap())
    };
    assert_error(bench.engine.start_run(spec), ErrorKind::Conflict, hint);
}

#[test]
fn a_second_copy_of_a_chunk_goes() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 1);
    let plan = bench.engine.load_plan(names[0]).unwrap();
    let chunk = &plan.parts[0].chunks[0];
    let path = |put: u64| {
        let put = runtree_core::PutId::from_bits(put);
        format!("chunks/{}/{}.{put}", &chunk.object[..2], chunk.hash)
    };
    let object = format!("chunks/{}/{}", &chunk.object[..2], chunk.object);
    bench.copy(&object, path(1));
    bench.copy(&object, path(2));
    let report = gc(&bench.engine, now());
    assert_eq!(
        (report.removed_objects, bench.files("chunks").len()),
        (2, 1)
    );
    assert_whole(&bench, names[0]);
    // A damaged one is none that another could be left for.
    bench.write(path(3), vec![1; 200_000]);
    gc(&bench.engine, now());
    assert_whole(&bench, names[0]);
}

#[test]
fn a_save_that_is_not_decided_is_needed() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let tensors = state(1000);
    let entries = vec![crate::save_support::state(&tensors, &[])];
    let request = runtree_engine::SaveRequest {
        sharded: true,
        world_size: 2,
        ..crate::save_support::at(0, entries)
    };
    let pending = ranks[0].save(request).unwrap();
    let name = pending.name();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let store = bench.engine.store();
    while !store
        .list_parts(name.run, name.key)
        .unwrap()
        .iter()
        .any(|part| part.confirmed)
    {
        assert!(
            std::time::Instant::now() < deadline,
            "no part was published"
        );
        std::thread::yield_now();
    }
    let report = gc(&bench.engine, all_gone());
    assert_eq!((report.removed_objects, report.kept.pending), (0, 1));
    store.abandon(name.run, name.key).unwrap();
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 1);
}

#[test]
fn nothing_is_deleted_while_it_can_not_be_told_what_is_needed() {
    let bench = Bench::new();
    let (run, names) = saved(&bench, 3);
    delete(&bench, names[0]);
    let key = names[1].key;
    let part = format!("runs/{run}/parts/{key}/trainer-0");
    bench.damage(&part, |bytes| bytes[40] ^= 1);
    let before = bench.chunk_bytes();
    assert_error(
        bench.engine.gc(&all_gone(), &mut |_| {}),
        ErrorKind::Corrupt,
        &["nothing is deleted", "runtree delete"],
    );
    assert_eq!(bench.chunk_bytes(), before);
    // The way out that the error names.
    delete(&bench, names[1]);
    assert_eq!(gc(&bench.engine, all_gone()).kept.checkpoints, 1);
    assert_whole(&bench, names[2]);
}
