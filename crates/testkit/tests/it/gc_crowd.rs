//! Collectors beside trainers on a real directory: threads that share nothing but the store, and processes that are killed.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtree_core::ErrorKind;
use runtree_core::manifest::CheckpointName;
use runtree_engine::{RunWriter, TrashBound};

use crate::support::*;

const CHILD_DIR: &str = "RUNTREE_GC_CHILD_DIR";

#[test]
fn two_collectors_beside_two_trainers_that_prune() {
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path());
    let over = AtomicBool::new(false);
    let kept: Vec<CheckpointName> = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let engine = open(dir.path());
                while !over.load(Ordering::Relaxed) {
                    engine.gc(&everything(), &mut |_| {}).expect("a collection");
                }
            });
        }
        let trainers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let engine = open(dir.path());
                    let run = start(&engine);
                    let mut names = Vec::new();
                    for step in 0..30 {
                        // Both save the same few states again and again: what one deletes the other is about to save.
                        names.extend(save_or_lose(&run, step, step as u64 % 5));
                        if names.len() > 2 {
                            let old = names.remove(0);
                            engine.delete_checkpoint(old, "pruned").expect("deleted");
                            let bound = TrashBound { checkpoints: 0 };
                            engine
                                .collect_trash(run.run(), bound)
                                .expect("a collection");
                        }
                    }
                    end(&run);
                    names
                })
            })
            .collect();
        let join = std::thread::ScopedJoinHandle::join;
        let ends: Vec<_> = trainers.into_iter().map(join).collect();
        // Also where a trainer failed: else the collectors would go on for ever.
        over.store(true, Ordering::Relaxed);
        ends.into_iter()
            .flat_map(|end| end.expect("a trainer"))
            .collect()
    });
    let engine = open(dir.path());
    assert!(!kept.is_empty());
    assert_sound(&engine);
    engine.gc(&everything(), &mut |_| {}).expect("a collection");
    assert_sound(&engine);
    // One object of each state at most: those of saves that lost something are needed until the next launch gives them up.
    assert!(chunk_files(dir.path()) <= 5);
    assert!(
        engine
            .store()
            .list_rounds()
            .expect("rounds")
            .open
            .is_empty()
    );
}

/// Saves. Without any grace a collector may take what a save no longer has the bytes of: then the save says so, and there is no checkpoint.
fn save_or_lose(run: &Arc<RunWriter>, step: i64, seed: u64) -> Option<CheckpointName> {
    match try_save(run, step, &noise(seed)) {
        Ok(name) => Some(name),
        Err(error) if error.kind() == ErrorKind::LostData => None,
        Err(error) => panic!("{}", error.chain()),
    }
}

/// Ends a run, which says once more what it lost.
fn end(run: &RunWriter) {
    match run.finish(None, None, None) {
        Err(error) if error.kind() != ErrorKind::LostData => panic!("{}", error.chain()),
        _ => {}
    }
}

/// Kills of a run of the tests; `RUNTREE_GC_KILLS` sets more.
#[expect(clippy::disallowed_methods, reason = "a test is an edge")]
fn kills() -> u64 {
    let kills = std::env::var("RUNTREE_GC_KILLS");
    kills.map_or(10, |text| text.parse().expect("a number"))
}

#[test]
#[ignore = "a process of the test below"]
#[expect(clippy::disallowed_methods, reason = "a test is an edge")]
fn child_that_collects_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let engine = open(dir.as_ref());
    loop {
        engine.gc(&everything(), &mut |_| {}).expect("a collection");
    }
}

#[test]
fn kill_nine_at_any_moment_of_a_collection_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path());
    let run = start(&engine);
    let mut kept = Vec::new();
    for kill in 0..kills() {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "gc_crowd::child_that_collects_until_it_is_killed",
                "--ignored",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let began = std::time::Instant::now();
        let moment = Duration::from_millis(20 + kill * 37 % 180);
        let mut step = 0;
        while began.elapsed() < moment {
            let number = kill as i64 * 1000 + step;
            kept.extend(save_or_lose(&run, number, number as u64 % 7));
            step += 1;
            if kept.len() > 3 {
                engine
                    .delete_checkpoint(kept.remove(0), "pruned")
                    .expect("deleted");
            }
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert_sound(&engine);
        for name in &kept {
            engine.load_plan(*name).expect("it is there");
        }
    }
    end(&run);
    engine.gc(&everything(), &mut |_| {}).expect("a collection");
    assert_sound(&engine);
    // One object of each state at most.
    assert!(chunk_files(dir.path()) <= 7);
}
