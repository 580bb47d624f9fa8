//! Collecting that is stopped between any two changes of the store: nothing is harmed, and the next collection finishes.

use std::path::Path;
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_engine::{Engine, ForkChoice, ForkSpec, TrashBound};
use runtree_testkit::faulty::StopsAfter;

use crate::support::*;

/// Four checkpoints, of which two are deleted.
fn store(dir: &Path) -> Vec<CheckpointName> {
    let engine = open(dir);
    let run = start(&engine);
    let names: Vec<_> = (0..4).map(|step| save(&run, step, step as u64)).collect();
    run.finish(None, None, None).expect("an end");
    for &name in &names[..2] {
        engine.delete_checkpoint(name, "a test").expect("deleted");
    }
    names
}

/// Does something with a store that stops after each number of changes, until it is not stopped any more; after each time it looks.
fn at_each_change(
    work: impl Fn(&Arc<Engine>, &[CheckpointName]) -> runtree_core::Result<()>,
    look: impl Fn(&Path, &Arc<Engine>, &[CheckpointName]),
) -> i64 {
    let template = tempfile::tempdir().expect("a directory");
    let names = store(template.path());
    for changes in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        copy(&template.path().join("store"), &dir.path().join("store"));
        let stopping = open_wrapped(dir.path(), |objects| StopsAfter::new(objects, changes));
        let done = work(&stopping, &names);
        drop(stopping);
        let engine = open(dir.path());
        assert_sound(&engine);
        look(dir.path(), &engine, &names);
        if done.is_ok() {
            return changes;
        }
    }
    unreachable!("nothing needs so many changes")
}

fn assert_next_finishes(dir: &Path, engine: &Engine, left: usize) {
    engine.gc(&everything(), &mut |_| {}).expect("a collection");
    assert_eq!(chunk_files(dir), left);
    assert_sound(engine);
}

#[test]
fn a_collection_is_stopped_anywhere() {
    let changes = at_each_change(
        |engine, _| engine.gc(&everything(), &mut |_| {}).map(drop),
        |dir, engine, _| assert_next_finishes(dir, engine, 2),
    );
    assert!(changes >= 4, "a round, two objects, and its end: {changes}");
}

#[test]
fn emptying_the_trash_is_stopped_anywhere() {
    at_each_change(
        |engine, names| {
            let bound = TrashBound { checkpoints: 1 };
            engine.collect_trash(names[0].run, bound).map(drop)
        },
        |dir, engine, names| {
            let bound = TrashBound { checkpoints: 1 };
            engine
                .collect_trash(names[0].run, bound)
                .expect("a collection");
            assert_eq!(chunk_files(dir), 3);
            assert_next_finishes(dir, engine, 2);
        },
    );
}

#[test]
fn an_undelete_is_stopped_anywhere() {
    at_each_change(
        |engine, names| engine.undelete_checkpoint(names[0]),
        |dir, engine, names| {
            engine.undelete_checkpoint(names[0]).expect("it is back");
            assert_next_finishes(dir, engine, 3);
            engine.load_plan(names[0]).expect("it is there");
        },
    );
}

#[test]
fn a_pin_and_a_fork_are_stopped_anywhere() {
    at_each_change(
        |engine, names| engine.pin(names[2], "a test"),
        |dir, engine, _| assert_next_finishes(dir, engine, 2),
    );
    at_each_change(
        |engine, names| {
            let id = runtree_core::CheckpointId::of(names[3].run, names[3].key);
            let reference = format!("{}@{id}", names[3].run).parse()?;
            let spec = ForkSpec::new(ForkChoice::Reference(reference));
            engine.fork(spec).map(drop)
        },
        |dir, engine, _| assert_next_finishes(dir, engine, 2),
    );
}

#[test]
fn a_repair_is_stopped_anywhere() {
    at_each_change(
        |engine, _| engine.repair(false, None).map(drop),
        |dir, engine, _| assert_next_finishes(dir, engine, 2),
    );
}
