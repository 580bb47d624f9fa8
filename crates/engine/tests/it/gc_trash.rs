//! The trash: how long what was deleted can be taken back, and what deleting frees.

use runtree_core::manifest::CheckpointName;
use runtree_core::{ErrorKind, Timestamp};
use runtree_engine::{GcOptions, TrashBound};
use runtree_store::{ObjectEncoding, ObjectName};

use crate::gc::{all_gone, assert_whole, delete, gc, now, saved, state};
use crate::save_support::{Bench, bytes, expected, load, noise, save};
use crate::support::assert_error;

#[test]
fn an_undelete_in_time_brings_all_back_and_too_late_says_what_is_gone() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 3);
    delete(&bench, names[0]);
    delete(&bench, names[1]);
    gc(&bench.engine, now());
    bench.engine.undelete_checkpoint(names[0]).unwrap();
    // Once more is nothing, and leaves nothing.
    bench.engine.undelete_checkpoint(names[0]).unwrap();
    assert!(bench.files("pins").is_empty());
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 1);
    assert_whole(&bench, names[0]);
    assert_error(
        bench.engine.undelete_checkpoint(names[1]),
        ErrorKind::NotFound,
        &["1 of its 1 chunks are gone", "200000 bytes"],
    );
    assert!(bench.files("pins").is_empty());
    // What is saved again under another key brings its bytes back, too.
    let run = bench.run();
    save(&run, 1, &state(1001));
    run.finish(None, None, None).unwrap();
    bench.engine.undelete_checkpoint(names[1]).unwrap();
    assert_whole(&bench, names[1]);
}

#[test]
fn an_undelete_takes_what_a_killed_collector_condemned() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 2);
    delete(&bench, names[0]);
    let store = bench.engine.store();
    let plan = bench.engine.load_plan(names[0]).unwrap();
    let object: ObjectName = plan.parts[0].chunks[0].object.parse().unwrap();
    // Opened, and killed before it deleted anything.
    store
        .open_rounds([object], Timestamp(0))
        .unwrap()
        .unwrap()
        .leave_open();
    bench.engine.undelete_checkpoint(names[0]).unwrap();
    let objects = store.list_objects(object.hash).unwrap();
    assert_eq!(
        objects.len(),
        2,
        "put again, under a name that nobody condemned"
    );
    // The next collection does what the killed one did not come to, and nothing is lost.
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 1);
    assert_whole(&bench, names[0]);
    assert_eq!(store.list_objects(object.hash).unwrap().len(), 1);
}

#[test]
fn the_trash_is_bounded_and_emptied_by_who_deletes() {
    let bench = Bench::new();
    let (run, names) = saved(&bench, 6);
    let two = TrashBound::default();
    let mut freed = Vec::new();
    for &name in &names[..4] {
        delete(&bench, name);
        freed.push(
            bench
                .engine
                .collect_trash(run, two)
                .unwrap()
                .removed_objects,
        );
    }
    assert_eq!(freed, [0, 0, 1, 1]);
    let again = bench.engine.collect_trash(run, two).unwrap();
    assert_eq!((again.removed_objects, again.rounds), (0, 0));
    let one = TrashBound { checkpoints: 1 };
    assert_eq!(
        bench.engine.collect_trash(run, one).unwrap().freed_bytes,
        200_000
    );
    for &name in &names[3..] {
        assert_whole(&bench, name);
    }
    // Undeleted and deleted again, it is the newest in the trash, and goes when others came after it.
    bench.engine.undelete_checkpoint(names[3]).unwrap();
    delete(&bench, names[3]);
    delete(&bench, names[4]);
    assert_eq!(
        bench
            .engine
            .collect_trash(run, one)
            .unwrap()
            .removed_objects,
        1
    );
    assert_whole(&bench, names[4]);
    assert_eq!(bench.files("chunks").len(), 2);
}

#[test]
fn the_trash_takes_no_more_than_it_may_of_the_disk() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 4);
    for &name in &names[..3] {
        delete(&bench, name);
    }
    let options = GcOptions {
        trash_bytes: Some(300_000),
        ..now()
    };
    let report = gc(&bench.engine, options);
    assert_eq!((report.kept.trash, report.removed_objects), (1, 2));
    assert_whole(&bench, names[2]);
}

#[test]
fn what_would_be_freed_is_what_is_freed() {
    let bench = Bench::new();
    let run = bench.run();
    let shared = bytes("frozen", noise(7, 300_000));
    let mut names = Vec::new();
    for number in 0..4 {
        let mut state = state(number);
        state.push(bytes("shared", shared.data.clone()));
        names.push(save(&run, number as i64, &state));
    }
    run.finish(None, None, None).unwrap();
    let engine = &bench.engine;
    // Chunks follow tensors, but small ones share a slab: what is shared here is whatever the files say.
    let each = engine.reclaimable(&names[..1]).unwrap();
    assert!(each > 0 && each <= 500_000, "{each}");
    let all = engine.reclaimable(&names).unwrap();
    assert_eq!(all, bench.chunk_bytes());
    assert_eq!(engine.reclaimable(&[]).unwrap(), 0);
    for &name in &names[..3] {
        delete(&bench, name);
    }
    let three = engine.reclaimable(&names[..3]).unwrap();
    assert_eq!(gc(engine, all_gone()).freed_bytes, three);
}

#[test]
fn bases_of_differences_stay_and_go_with_the_last_that_needs_them() {
    let bench = Bench::new();
    let run = bench.run();
    let states = crate::encode::training(8);
    let names: Vec<CheckpointName> = (0..)
        .zip(&states)
        .map(|(step, state)| save(&run, step, state))
        .collect();
    run.finish(None, None, None).unwrap();
    let engine = &bench.engine;
    engine.encode_cold(&[run.run()], &mut |_| {}).unwrap();
    // Number 3 is a difference to 2, and that one to 0.
    for index in [0, 1, 2] {
        delete(&bench, names[index]);
    }
    let one = engine.reclaimable(&names[1..2]).unwrap();
    let report = gc(engine, all_gone());
    assert!(report.freed_bytes >= one && one > 0);
    for index in 3..8 {
        assert_eq!(
            load(engine, names[index]).unwrap(),
            expected(&states[index], &[])
        );
    }
    let deltas = differences(&bench);
    for index in [3, 4, 5] {
        delete(&bench, names[index]);
    }
    gc(engine, all_gone());
    assert!(differences(&bench) < deltas);
    for index in 6..8 {
        assert_eq!(
            load(engine, names[index]).unwrap(),
            expected(&states[index], &[])
        );
    }
    assert!(engine.verify(None).unwrap().problems.is_empty());
    // All that is left is what the two newest need.
    delete(&bench, names[6]);
    delete(&bench, names[7]);
    gc(engine, all_gone());
    assert_eq!(bench.chunk_bytes(), 0);
}

fn differences(bench: &Bench) -> usize {
    let names = bench.files("chunks");
    let parsed = names.iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.parse::<ObjectName>().unwrap()
    });
    parsed
        .filter(|name| matches!(name.encoding, ObjectEncoding::Delta(_)))
        .count()
}
