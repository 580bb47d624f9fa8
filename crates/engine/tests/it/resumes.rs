//! Resuming, rewinding, fencing: the next attempt of a run.

use std::time::Duration;

use runtree_core::event::RunStatus;
use runtree_core::manifest::AttemptKind;
use runtree_core::{AttemptNumber, ErrorKind, Step};
use runtree_engine::{HistoryQuery, ResumePolicy, RunSpec};

use crate::support::*;

fn crash(run: std::sync::Arc<runtree_engine::RunWriter>) {
    run.flush().unwrap();
    drop(run);
}

#[test]
fn a_resume_continues_after_its_newest_checkpoint_and_leaves_a_ghost_tail() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=27, &[10, 20]);
    crash(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    assert_eq!(second.attempt(), AttemptNumber(2));
    assert_eq!(second.next_step(), Step(21));
    assert_eq!(second.resumed_from().unwrap().key.step, Step(20));
    assert_eq!(second.attempt_record().kind, AttemptKind::Resume);
    train(&second, 21..=23, &[]);
    log(&second, 24, 5.0).unwrap();
    log(&second, 25, 5.0).unwrap();
    second.finish(None, None, None).unwrap();
    let run = second.run();
    assert_eq!(bench.steps(run), (0..=25).collect::<Vec<_>>());
    assert_eq!(bench.values(run)[24..], [5.0, 5.0]);
    let ghost = HistoryQuery {
        attempt: Some(AttemptNumber(1)),
        ..HistoryQuery::default()
    };
    assert_eq!(
        bench
            .engine
            .history(run, "loss", ghost)
            .unwrap()
            .steps
            .len(),
        28
    );
    let detail = bench.engine.run(run).unwrap();
    assert_eq!(detail.attempts[0].ghost_from, Some(Step(21)));
    assert_eq!(detail.attempts[1].ghost_from, None);
    let report = detail.resume_report.unwrap();
    assert_eq!(report.overlapping_steps, 5);
    assert_eq!(report.bit_equal_steps, 3);
    assert_eq!(report.diverged_at, Some(Step(24)));
    assert_eq!(report.metric.as_deref(), Some("loss"));
}

#[test]
fn a_resume_that_repeats_everything_is_bit_equal() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=27, &[20]);
    log(&first, 28, f64::NAN).unwrap();
    crash(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    train(&second, 21..=27, &[]);
    log(&second, 28, f64::NAN).unwrap();
    train(&second, 29..=30, &[]);
    second.flush().unwrap();
    let report = bench.engine.resume_report(second.run()).unwrap().unwrap();
    assert_eq!(report.text, "bit-equal for 8 steps");
    assert_eq!(report.diverged_at, None);
}

#[test]
fn a_resume_without_a_checkpoint_continues_after_the_last_step() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=7, &[]);
    crash(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    assert_eq!((second.next_step(), second.resumed_from()), (Step(8), None));
    second.log(None, None, &[("loss", 3.0)], true).unwrap();
    second.flush().unwrap();
    assert_eq!(bench.steps(second.run()), (0..=8).collect::<Vec<_>>());
}

#[test]
fn a_resumed_run_may_begin_lower_than_it_was_asked_to() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=30, &[10, 20]);
    crash(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    // The first explicit step lies below the checkpoint: history starts there.
    log(&second, 5, 1.5).unwrap();
    log(&second, 6, 1.5).unwrap();
    assert_error(
        log(&second, 4, 1.5),
        ErrorKind::Invalid,
        &["below the start"],
    );
    second.flush().unwrap();
    assert_eq!(bench.steps(second.run()), (0..=6).collect::<Vec<_>>());
    assert_eq!(bench.values(second.run())[5..], [1.5, 1.5]);
}

#[test]
fn loading_an_older_checkpoint_moves_the_start() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=9, &[]);
    let older = save(&first, 9);
    train(&first, 10..=20, &[20]);
    crash(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    second.note_loaded(older).unwrap();
    assert_eq!(second.next_step(), Step(10));
    second.log(None, None, &[("loss", 4.0)], true).unwrap();
    second.flush().unwrap();
    assert_eq!(bench.steps(second.run()), (0..=10).collect::<Vec<_>>());
    assert_eq!(bench.values(second.run())[10], 4.0);
}

#[test]
fn resume_from_names_another_checkpoint() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=30, &[10, 20, 30]);
    crash(first);
    let resumed = bench.start(RunSpec {
        resume_from: "<=25".to_owned(),
        ..keyed("k", ResumePolicy::Allow)
    });
    assert_eq!(resumed.resumed_from().unwrap().key.step, Step(20));
    assert_eq!(resumed.next_step(), Step(21));
}

#[test]
fn policies_for_a_key_that_exists_and_one_that_does_not() {
    let bench = Bench::new();
    assert_error(
        bench.engine.start_run(keyed("k", ResumePolicy::Must)),
        ErrorKind::NotFound,
        &["k", "allow"],
    );
    let first = bench.start(keyed("k", ResumePolicy::Never));
    first.finish(None, None, None).unwrap();
    assert_error(
        bench.engine.start_run(keyed("k", ResumePolicy::Never)),
        ErrorKind::Conflict,
        &["k", &first.display_id().to_string(), "resume"],
    );
    for policy in [ResumePolicy::Allow, ResumePolicy::Must] {
        let again = bench.start(keyed("k", policy));
        assert_eq!(again.run(), first.run());
        again.finish(None, None, None).unwrap();
    }
}

#[test]
fn ranks_of_one_launch_are_one_attempt_and_start_from_one_checkpoint() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=10, &[10]);
    crash(first);
    let rank = |rank| RunSpec {
        rank,
        world_size: 4,
        ..launched_as("job-7", keyed("k", ResumePolicy::Never))
    };
    // The first comes with resume allowed, the others find its launch.
    let leader = bench.start(RunSpec {
        resume: ResumePolicy::Allow,
        ..rank(0)
    });
    for other in 1..4 {
        let other = bench.start(rank(other));
        assert_eq!(other.attempt(), leader.attempt());
        assert_eq!(other.resumed_from(), leader.resumed_from());
        other
            .log(Some(Step(11)), None, &[("loss", 9.0)], true)
            .unwrap();
        assert_eq!(
            other.take_warnings().len(),
            1,
            "log off rank 0 says so once"
        );
        other.log(None, None, &[("loss", 9.0)], true).unwrap();
        assert_eq!(other.take_warnings(), []);
        other.finish(None, None, None).unwrap();
    }
    leader.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(leader.run()), (0..=10).collect::<Vec<_>>());
    assert_eq!(bench.engine.run(leader.run()).unwrap().attempts.len(), 2);
}

#[test]
fn a_newer_launch_fences_the_older_one() {
    let bench = Bench::new();
    let zombie = bench.start(keyed("k", ResumePolicy::Allow));
    train(&zombie, 0..=10, &[10]);
    let newer = bench.start(keyed("k", ResumePolicy::Allow));
    assert_eq!(newer.attempt(), AttemptNumber(2));
    // The zombie wakes up: its points are a ghost tail, its saves are not committed, it is told.
    log(&zombie, 11, 77.0).unwrap();
    zombie.flush().unwrap();
    assert_eq!(zombie.fenced_by(), Some(AttemptNumber(2)));
    let pending = zombie
        .save(runtree_engine::SaveRequest::of(vec![entry(b"late")]))
        .unwrap();
    assert_error(
        pending.wait(Some(Duration::from_secs(30))),
        ErrorKind::Conflict,
        &["continued elsewhere as attempt 2"],
    );
    train(&newer, 11..=12, &[]);
    newer.finish(None, None, None).unwrap();
    assert_error(
        zombie.finish(None, None, None),
        ErrorKind::Conflict,
        &["continued elsewhere as attempt 2"],
    );
    let run = newer.run();
    assert!(!bench.values(run).contains(&77.0));
    assert_eq!(bench.steps(run), (0..=12).collect::<Vec<_>>());
    assert_eq!(
        bench.engine.summary(run).unwrap().status,
        RunStatus::Completed
    );
}

#[test]
fn a_rewind_in_the_process_is_a_new_attempt() {
    let bench = Bench::new();
    let run = bench.start(named("r"));
    train(&run, 0..=20, &[10, 20]);
    run.rewind(Step(12)).unwrap();
    assert_eq!(
        (run.attempt(), run.next_step()),
        (AttemptNumber(2), Step(13))
    );
    assert_eq!(run.resumed_from().unwrap().key.step, Step(10));
    log(&run, 13, 5.0).unwrap();
    let again = save(&run, 14);
    assert_eq!(again.key.attempt, AttemptNumber(2));
    log(&run, 14, 5.0).unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), (0..=14).collect::<Vec<_>>());
    let checkpoints = bench
        .engine
        .checkpoints(run.run(), Default::default())
        .unwrap();
    let effective: Vec<_> = checkpoints
        .iter()
        .filter(|info| info.effective)
        .map(|info| info.step.0)
        .collect();
    assert_eq!(effective, [10, 14]);
    assert_eq!(checkpoints.len(), 3);
    assert_error(
        run.engine().rewind(run.run(), Step(15)).map(drop),
        ErrorKind::Invalid,
        &["0 to 14"],
    );
}

#[test]
fn a_rewind_from_outside_fences_and_the_next_launch_continues_there() {
    let bench = Bench::new();
    let run = bench.start(keyed("k", ResumePolicy::Allow));
    train(&run, 0..=20, &[5, 15]);
    run.flush().unwrap();
    bench.engine.rewind(run.run(), Step(10)).unwrap();
    run.flush().unwrap();
    assert_eq!(run.fenced_by(), Some(AttemptNumber(2)));
    let next = bench.start(keyed("k", ResumePolicy::Allow));
    assert_eq!(next.attempt(), AttemptNumber(3));
    assert_eq!(next.resumed_from().unwrap().key.step, Step(5));
    assert_eq!(next.next_step(), Step(6));
}

#[test]
fn a_fork_made_without_a_process_is_launched_by_the_next_init() {
    let bench = Bench::new();
    let parent = bench.trained("A", 0..=100, &[50]);
    let fork = bench
        .engine
        .fork(runtree_engine::ForkSpec::new(at_step(parent, 50)))
        .unwrap();
    assert_eq!(
        bench.engine.summary(fork).unwrap().status,
        RunStatus::Created
    );
    let child = bench.start(RunSpec {
        run: Some(fork),
        ..spec()
    });
    assert_eq!(child.next_step(), Step(51));
    assert_eq!(child.resumed_from().unwrap().key.step, Step(50));
    train(&child, 51..=55, &[]);
    child.flush().unwrap();
    assert_eq!(
        bench.engine.summary(fork).unwrap().status,
        RunStatus::Running
    );
    child.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(fork), (0..=55).collect::<Vec<_>>());
}

#[test]
fn a_silent_run_is_lost_after_a_minute_and_found_again_when_it_speaks() {
    let bench = Bench::new();
    let run = bench.start(named("quiet"));
    train(&run, 0..=3, &[]);
    run.flush().unwrap();
    let status = || bench.engine.summary(run.run()).unwrap().status;
    assert_eq!(status(), RunStatus::Running);
    bench.clock.advance(61);
    assert_eq!(status(), RunStatus::Lost);
    run.finish(
        Some(RunStatus::Failed),
        Some("loss is NaN".to_owned()),
        None,
    )
    .unwrap();
    let summary = bench.engine.summary(run.run()).unwrap();
    assert_eq!(summary.status, RunStatus::Failed);
    assert_eq!(summary.status_reason.as_deref(), Some("loss is NaN"));
}
