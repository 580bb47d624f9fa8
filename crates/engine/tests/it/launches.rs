//! Launches of several processes: rewinds on every rank, processes that come back into their launch, what a fork starts from later.

use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::{AttemptNumber, CheckpointId, ChunkHash, ErrorKind, RunId, Step};
use runtree_engine::{ForkSpec, LaunchKey, ResumePolicy, RunSpec, RunWriter, SaveRequest};

use crate::support::*;

/// Ranks of one launch, each with an engine of its own, like processes.
fn ranks(bench: &Bench, count: u32) -> Vec<Arc<RunWriter>> {
    let spec = |rank, run| RunSpec {
        rank,
        run,
        world_size: count,
        ..launched_as("job-1", named("ranks"))
    };
    let first = bench.start(spec(0, None));
    let run: RunId = first.run();
    let others = (1..count).map(|rank| bench.other().start_run(spec(rank, Some(run))).unwrap());
    std::iter::once(Arc::clone(&first)).chain(others).collect()
}

fn checkpoint_of(bench: &Bench, run: RunId) -> CheckpointName {
    let newest = bench.engine.checkpoints(run, Default::default()).unwrap();
    let id: CheckpointId = newest.last().unwrap().id.parse().unwrap();
    bench.engine.find_checkpoint(id).unwrap()
}

#[test]
fn ranks_that_rewind_one_after_another_share_one_new_attempt() {
    let bench = Bench::new();
    let ranks = ranks(&bench, 3);
    train(&ranks[0], 0..=20, &[10]);
    for rank in &ranks {
        rank.rewind(Step(12)).unwrap();
        assert_eq!(rank.attempt(), AttemptNumber(2));
        assert_eq!(rank.resumed_from().unwrap().key.step, Step(10));
        assert_eq!(rank.fenced_by(), None);
    }
    // Again, and this time the ranks disagree.
    ranks[1].rewind(Step(11)).unwrap();
    assert_eq!(ranks[1].attempt(), AttemptNumber(3));
    assert_error(
        ranks[0].rewind(Step(12)),
        ErrorKind::Conflict,
        &["another rank", "step 11", "12"],
    );
    let run = ranks[0].run();
    assert_eq!(bench.engine.run(run).unwrap().attempts.len(), 3);
}

#[test]
fn ranks_that_rewind_at_once_share_one_new_attempt() {
    let bench = Bench::new();
    let ranks = ranks(&bench, 4);
    train(&ranks[0], 0..=20, &[10]);
    ranks[0].flush().unwrap();
    for round in 0..5 {
        std::thread::scope(|scope| {
            for rank in &ranks {
                scope.spawn(move || rank.rewind(Step(15 - round)).unwrap());
            }
        });
        for rank in &ranks {
            assert_eq!(rank.attempt(), AttemptNumber(2 + round as u32));
        }
    }
}

#[test]
fn a_process_that_comes_back_into_its_launch_saves_the_same_step_again() {
    let bench = Bench::new();
    let spec = || launched_as("job-1", keyed("k", ResumePolicy::Allow));
    let first = bench.start(spec());
    train(&first, 0..=5, &[5]);
    save(&first, 5);
    first.flush().unwrap();
    drop(first);
    let again = bench.other().start_run(spec()).unwrap();
    assert_eq!(again.attempt(), AttemptNumber(1));
    let third = save(&again, 5);
    assert_eq!((third.key.attempt.0, third.key.k), (1, 2));
    assert_eq!(save(&again, 5).key.k, 3);
    assert_eq!(save(&again, 6).key.k, 0);
    again.finish(None, None, None).unwrap();
}

#[test]
fn a_fork_that_saved_nothing_starts_again_from_what_it_was_born_with() {
    let bench = Bench::new();
    let parent = bench.start(named("A"));
    train(&parent, 0..=20, &[10, 20]);
    let born_with = checkpoint_of(&bench, parent.run());
    let child = bench
        .engine
        .fork(ForkSpec::new(at_step(parent.run(), 20)))
        .unwrap();
    let launch = || {
        bench.start(RunSpec {
            run: Some(child),
            ..spec()
        })
    };
    // The parent saves the fork step once more: another checkpoint, and not the child's.
    let newer = save(&parent, 20);
    assert_ne!(newer, born_with);
    assert_eq!(launch().resumed_from(), Some(born_with));
    parent.finish(None, None, None).unwrap();
    bench.engine.delete_checkpoint(newer, "test").unwrap();
    assert_eq!(launch().resumed_from(), Some(born_with));
    // Deleted, it is in the trash, which keeps what a fork starts from.
    bench.engine.delete_checkpoint(born_with, "test").unwrap();
    let relaunched = launch();
    assert_eq!(relaunched.resumed_from(), Some(born_with));
    assert_eq!(relaunched.next_step(), Step(21));
    train(&relaunched, 21..=22, &[22]);
    relaunched.finish(None, None, None).unwrap();
    assert_eq!(launch().resumed_from().unwrap().key.step, Step(22));
}

#[test]
fn a_run_does_not_resume_from_a_stranger() {
    let bench = Bench::new();
    let stranger = bench.trained("S", 0..=10, &[10]);
    let id = CheckpointId::of(stranger, checkpoint_of(&bench, stranger).key);
    let run = bench.start(keyed("k", ResumePolicy::Allow));
    train(&run, 0..=5, &[5]);
    run.finish(None, None, None).unwrap();
    let refused = bench.engine.start_run(RunSpec {
        resume_from: id.to_string(),
        ..keyed("k", ResumePolicy::Allow)
    });
    assert_error(
        refused,
        ErrorKind::Invalid,
        &["not in the history", "base="],
    );
}

/// A process of a launch that torchrun, or SLURM, made.
fn launched_by(key: &str, rank: u32, run: Option<RunId>) -> RunSpec {
    RunSpec {
        launch_key: LaunchKey::Launcher(key.to_owned()),
        rank,
        world_size: 2,
        run,
        ..keyed("k", ResumePolicy::Allow)
    }
}

fn shard(rank: u32, bytes: &[u8]) -> SaveRequest<'_> {
    SaveRequest {
        step: Some(Step(5)),
        sharded: true,
        rank,
        world_size: 2,
        ..SaveRequest::of(vec![entry(bytes)])
    }
}

#[test]
fn a_rank_that_comes_again_under_its_launchers_key_was_launched_again() {
    let bench = Bench::new();
    let first = bench.start(launched_by("job", 0, None));
    let second = bench
        .other()
        .start_run(launched_by("job", 1, None))
        .unwrap();
    train(&first, 0..=5, &[3]);
    first.flush().unwrap();
    // The same command again, under the same name: it resumes, and the old processes are fenced, if they live.
    let again = bench
        .other()
        .start_run(launched_by("job", 1, None))
        .unwrap();
    assert_eq!(again.attempt(), AttemptNumber(2));
    assert_eq!(again.resumed_from().unwrap().key.step, Step(3));
    assert_eq!(again.next_step(), Step(4));
    let sibling = bench
        .other()
        .start_run(launched_by("job", 0, None))
        .unwrap();
    assert_eq!(sibling.attempt(), AttemptNumber(2));
    for old in [first, second] {
        assert_error(
            old.finish(None, None, None),
            ErrorKind::Conflict,
            &["attempt 2"],
        );
    }
    // Going back is not coming again: the ranks keep their seats, and the next launch still finds them taken.
    train(&sibling, 4..=8, &[]);
    for rank in [&sibling, &again] {
        rank.rewind(Step(6)).unwrap();
        assert_eq!((rank.attempt(), rank.fenced_by()), (AttemptNumber(3), None));
    }
    let third = bench
        .other()
        .start_run(launched_by("job", 0, None))
        .unwrap();
    assert_eq!(third.attempt(), AttemptNumber(4));
}

#[test]
fn a_key_that_may_not_be_resumed_is_no_rank_that_comes_again() {
    let bench = Bench::new();
    let never = |rank| RunSpec {
        resume: ResumePolicy::Never,
        ..launched_by("job", rank, None)
    };
    let ranks = [
        bench.start(never(0)),
        bench.other().start_run(never(1)).unwrap(),
    ];
    assert_eq!(ranks[0].run(), ranks[1].run());
    assert_error(
        bench.other().start_run(never(0)),
        ErrorKind::Conflict,
        &["is taken by run", "resume=\"allow\""],
    );
}

/// 1. Both ranks save step 5. Rank 0 publishes its part and dies, rank 1 dies before. 2. The same command runs again under the same key.
/// 3. Both ranks come to step 5 again, and save. If they joined the old attempt, rank 1 would find rank 0's old part confirmed beside its new one.
#[test]
fn a_relaunch_under_the_same_key_never_mixes_shards_of_two_launches() {
    let bench = Bench::new();
    for order in [[0, 1], [1, 0]] {
        let first = bench.start(launched_by("job", 0, None));
        let run = first.run();
        let second = bench
            .other()
            .start_run(launched_by("job", 1, Some(run)))
            .unwrap();
        log(&first, 5, 0.5).unwrap();
        let old = first.save(shard(0, b"old")).unwrap();
        let confirmed = format!("runs/{run}/parts/{}/trainer-0.ok", old.key());
        while !bench.exists(&confirmed) {
            std::thread::yield_now();
        }
        drop((first, second));
        let ranks = order.map(|rank| {
            let started = bench.other().start_run(launched_by("job", rank, Some(run)));
            (rank, started.unwrap())
        });
        // The rank that had not published is the first to save again.
        let pending: Vec<_> = [1, 0]
            .into_iter()
            .map(|rank| {
                let (_, writer) = ranks.iter().find(|(other, _)| *other == rank).unwrap();
                writer.save(shard(rank, b"new")).unwrap()
            })
            .collect();
        for saved in &pending {
            saved.wait(None).unwrap();
        }
        assert_eq!(pending[0].name(), pending[1].name());
        assert_ne!(pending[0].name(), old.name());
        let loaded = bench.engine.load_plan(pending[0].name()).unwrap();
        let new = ChunkHash::of(b"new");
        assert!(loaded.parts.iter().all(|part| part.chunks[0].hash == new));
        for (_, rank) in ranks {
            rank.finish(None, None, None).unwrap();
        }
    }
}

#[test]
fn a_launch_commits_what_the_ranks_before_it_had_confirmed_whole() {
    let bench = Bench::new();
    let first = bench.start(launched_by("job", 0, None));
    let run = first.run();
    let second = bench
        .other()
        .start_run(launched_by("job", 1, Some(run)))
        .unwrap();
    let pending = [(0, &first), (1, &second)]
        .map(|(rank, writer)| writer.save(shard(rank, b"both")).unwrap());
    for saved in &pending {
        saved.wait(None).unwrap();
    }
    // As if both had died before the last step.
    let name = pending[0].name();
    let commit = runtree_store::layout::commit(run, name.key);
    let commit = commit.as_ref();
    let bytes = bench.read(commit);
    bench.remove(commit);
    let again = bench
        .other()
        .start_run(launched_by("job", 1, Some(run)))
        .unwrap();
    assert_eq!(again.resumed_from(), Some(name));
    assert_eq!(bench.read(commit), bytes, "whoever commits writes the same");
}

#[test]
fn a_rank_that_comes_late_begins_where_the_others_began() {
    let bench = Bench::new();
    for first_step in [0, 4] {
        let first = bench.start(launched_by("job", 0, None));
        assert_eq!(first.next_step(), Step(first_step));
        train(&first, first_step..=first_step + 3, &[first_step + 3]);
        first.flush().unwrap();
        let second = bench
            .other()
            .start_run(launched_by("job", 1, None))
            .unwrap();
        assert_eq!(second.attempt(), first.attempt());
        assert_eq!(second.next_step(), Step(first_step));
    }
}
