//! Retention on a real store: what is read for a plan, what applying it does, what is done after each commit.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, PinRecord};
use runtree_core::retention::{KeepReason, Policy, Protection, Reason};
use runtree_core::{CheckpointId, ErrorKind, RunId, Timestamp};
use runtree_engine::{
    CheckpointScope, Engine, PrunePlan, RetentionScope, RunWriter, TrashBound, UnknownMetric,
    WarningKind,
};

use crate::support::{
    A_SECOND, Bench, assert_error, error_of, fork_of, keyed, log, named, pass, save, train,
};

fn last(count: u32) -> Policy {
    Policy {
        keep_last: Some(count),
        ..Policy::default()
    }
}

fn best(rule: &str) -> Policy {
    Policy {
        keep_best: vec![rule.parse().unwrap()],
        keep_without_metric: false,
        ..Policy::default()
    }
}

fn kept(plan: &PrunePlan) -> Vec<i64> {
    let kept = plan.decisions.iter().filter(|decision| decision.keep);
    kept.map(|decision| decision.name.key.step.0).collect()
}

fn plan(engine: &Engine, run: RunId, policy: &Policy) -> PrunePlan {
    engine
        .plan_prune(run, policy, UnknownMetric::Refuse)
        .unwrap()
}

/// Steps of the checkpoints that the run itself has.
fn own(engine: &Engine, run: RunId) -> Vec<i64> {
    let all = engine.checkpoints(run, CheckpointScope::default()).unwrap();
    let own = all.iter().filter(|info| !info.inherited);
    own.map(|info| info.step.0).collect()
}

fn reasons(plan: &PrunePlan, step: i64) -> Vec<Reason> {
    let mut at = plan
        .decisions
        .iter()
        .filter(|decision| decision.name.key.step.0 == step);
    at.next().unwrap().reasons.clone()
}

fn name_of(engine: &Engine, run: RunId, step: i64) -> CheckpointName {
    let reference = format!("{run}@{step}").parse().unwrap();
    engine
        .resolve_checkpoint(&reference, None, runtree_engine::Purpose::Read)
        .unwrap()
}

#[test]
fn what_no_rule_keeps_goes_to_the_trash_and_comes_back() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=50, &[10, 20, 30, 40, 50]);
    let decided = plan(&bench.engine, run, &last(2));
    assert_eq!(kept(&decided), [40, 50]);
    assert_eq!(
        own(&bench.engine, run),
        [10, 20, 30, 40, 50],
        "a plan changes nothing"
    );
    let report = bench
        .engine
        .apply_prune(&decided, None, TrashBound::default())
        .unwrap();
    assert_eq!(report.deleted.len(), 3);
    // What it said: two of the three keep their bytes in the trash.
    assert_eq!(Some(report.trash.freed_bytes), decided.freed_at_once);
    assert!(decided.freed_at_once < decided.freed_bytes);
    assert_eq!(own(&bench.engine, run), [40, 50]);
    bench.engine.undelete_checkpoint(report.deleted[2]).unwrap();
    assert_eq!(own(&bench.engine, run), [30, 40, 50]);
    // A second time nothing is left to do.
    let report = bench
        .engine
        .apply_prune(&decided, None, TrashBound::default())
        .unwrap();
    assert_eq!(report.deleted.len(), 1, "what was taken back goes again");
    assert!(
        plan(&bench.engine, run, &last(2))
            .deleted()
            .next()
            .is_none()
    );
}

#[test]
fn forks_bases_pins_leases_and_tags_are_read_from_the_store() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=70, &[10, 20, 30, 40, 50, 60, 70]);
    let child = bench.forked(run, 10, 20, &[]);
    let mut based = named("b");
    based.base = Some(format!("{run}@20").parse().unwrap());
    let based = bench.start(based);
    let engine = &bench.engine;
    engine
        .pin(name_of(engine, run, 30), "for the paper")
        .unwrap();
    let lease = PinRecord {
        checkpoint: name_of(engine, run, 40),
        reason: "eval".to_owned(),
        created: Timestamp(0),
        ttl_seconds: Some(3600),
    };
    engine.store().write_pin("lease-1", &lease).unwrap();
    let tagged = name_of(engine, run, 50);
    engine
        .annotate_checkpoint(tagged, BTreeMap::new(), vec!["good".to_owned()], Vec::new())
        .unwrap();
    let decided = plan(engine, run, &last(1));
    assert_eq!(kept(&decided), [10, 20, 30, 40, 50, 70]);
    let protected = |protection| vec![Reason::Keep(KeepReason::Protected(protection))];
    assert_eq!(
        reasons(&decided, 10),
        protected(Protection::ForkedBy(child))
    );
    assert_eq!(
        reasons(&decided, 20),
        protected(Protection::BaseOf(based.run()))
    );
    let pinned = Protection::Pinned {
        reason: "for the paper".to_owned(),
    };
    assert_eq!(reasons(&decided, 30), protected(pinned));
    let leased = Protection::Leased {
        reason: "eval".to_owned(),
    };
    assert_eq!(reasons(&decided, 40), protected(leased));
    // The fork's own rules do not reach what it inherited.
    assert!(plan(engine, child, &last(1)).decisions.is_empty());
    based.finish(None, None, None).unwrap();
}

#[test]
fn what_was_pinned_since_the_plan_was_made_stays() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let decided = plan(&bench.engine, run, &last(1));
    bench
        .engine
        .pin(name_of(&bench.engine, run, 20), "no")
        .unwrap();
    let other = bench.other();
    other
        .fork(runtree_engine::ForkSpec::new(crate::support::at_step(
            run, 30,
        )))
        .unwrap();
    bench
        .engine
        .apply_prune(&decided, None, TrashBound::default())
        .unwrap();
    assert_eq!(own(&bench.engine, run), [20, 30, 40]);
}

#[test]
fn the_value_at_the_step_ranks_unless_one_was_given() {
    let bench = Bench::new();
    let run = bench.start(named("a"));
    for step in 0..=40 {
        run.log(
            Some(runtree_core::Step(step)),
            None,
            &[
                ("reward", (step % 30) as f64),
                ("loss", 1.0 / (step + 1) as f64),
            ],
            true,
        )
        .unwrap();
        if step % 10 == 0 {
            save(&run, step);
        }
    }
    run.finish(None, None, None).unwrap();
    let (engine, run) = (&bench.engine, run.run());
    // 0, 10, 20, 0, 10
    assert_eq!(kept(&plan(engine, run, &best("reward"))), [20, 40]);
    assert_eq!(kept(&plan(engine, run, &best("loss:max"))), [0, 40]);
    let given = BTreeMap::from([("reward".to_owned(), 99.0)]);
    engine
        .annotate_checkpoint(name_of(engine, run, 10), given, Vec::new(), Vec::new())
        .unwrap();
    assert_eq!(kept(&plan(engine, run, &best("reward"))), [10, 40]);
}

#[test]
fn a_metric_that_nobody_knows_is_an_error_and_deletes_nothing() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let engine = &bench.engine;
    let error = error_of(engine.plan_prune(run, &best("los:min"), UnknownMetric::Refuse));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.hint().unwrap().contains("did you mean loss?"),
        "{error:?}"
    );
    let lenient = engine
        .plan_prune(run, &best("los:min"), UnknownMetric::KeepAll)
        .unwrap();
    assert_eq!(kept(&lenient), [10, 20, 30, 40]);
    assert!(lenient.unranked.unwrap().contains("did you mean loss?"));
    assert_error(
        engine.plan_prune(run, &Policy::default(), UnknownMetric::Refuse),
        ErrorKind::Invalid,
        &["no rule"],
    );
}

#[test]
fn a_tail_that_was_left_behind_counts_for_nothing() {
    let bench = Bench::new();
    let run = bench.start(keyed("k", runtree_engine::ResumePolicy::Allow));
    train(&run, 0..=40, &[10, 20, 30, 40]);
    run.finish(None, None, None).unwrap();
    let mut again = keyed("k", runtree_engine::ResumePolicy::Allow);
    again.resume_from = "20".to_owned();
    let again = bench.start(again);
    train(&again, 21..=30, &[30]);
    again.finish(None, None, None).unwrap();
    let decided = plan(&bench.engine, run.run(), &last(2));
    let kept: Vec<(i64, u32)> = decided
        .decisions
        .iter()
        .filter(|decision| decision.keep)
        .map(|decision| (decision.name.key.step.0, decision.name.key.attempt.0))
        .collect();
    assert_eq!(kept, [(20, 1), (30, 2)]);
    assert_eq!(
        reasons(&decided, 40)[0].to_string(),
        "left behind by attempt 1"
    );
}

#[test]
fn the_newest_is_verified_before_anything_goes_for_it() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let engine = &bench.engine;
    let decided = plan(engine, run, &last(1));
    damage(&bench, name_of(engine, run, 40));
    let report = engine
        .apply_prune(&decided, None, TrashBound::default())
        .unwrap();
    let gone: Vec<i64> = report.deleted.iter().map(|name| name.key.step.0).collect();
    assert_eq!(gone, [10, 20], "30 is the newest that is whole");
    assert!(
        engine
            .verify(Some(name_of(engine, run, 30)))
            .unwrap()
            .problems
            .is_empty()
    );
}

/// Flips a bit in every chunk that a checkpoint alone has.
fn damage(bench: &Bench, name: CheckpointName) {
    let plan = bench.engine.load_plan(name).unwrap();
    for chunk in plan.parts.iter().flat_map(|part| &part.chunks) {
        let path = format!("chunks/{}/{}", &chunk.object[..2], chunk.object);
        bench.damage(path, |bytes| bytes[0] ^= 1);
    }
}

#[test]
fn policies_are_the_runs_else_the_projects_else_the_stores() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=10, &[10]);
    let engine = &bench.engine;
    assert_eq!(engine.retention(run).unwrap(), None);
    let project = RetentionScope::Project("my project".parse().unwrap());
    for (scope, policy) in [
        (RetentionScope::Store, last(1)),
        (project.clone(), last(2)),
        (RetentionScope::Run(run), last(3)),
    ] {
        engine.set_retention(&scope, Some(&policy)).unwrap();
        let found = bench.elsewhere("far").retention(run).unwrap().unwrap();
        assert_eq!((found.policy, found.scope), (policy, scope));
    }
    engine
        .set_retention(&RetentionScope::Run(run), None)
        .unwrap();
    assert_eq!(engine.retention(run).unwrap().unwrap().scope, project);
    let nowhere = RetentionScope::Project("nowhere".parse().unwrap());
    assert_error(
        engine.set_retention(&nowhere, Some(&last(1))),
        ErrorKind::NotFound,
        &["nowhere"],
    );
    let wrong = engine.set_retention(&RetentionScope::Store, Some(&last(0)));
    assert_error(wrong, ErrorKind::Invalid, &["at least 1"]);
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is waited for has no condition outside"
)]
fn settled(run: &Arc<RunWriter>, engine: &Engine, steps: &[i64]) {
    // The next save waits for what was deleted; so does this.
    for _ in 0..200 {
        if own(engine, run.run()) == steps {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(own(engine, run.run()), steps);
}

#[test]
fn a_live_run_prunes_after_each_commit() {
    let bench = Bench::new();
    let mut spec = named("a");
    spec.retention = Some(last(2));
    let run = bench.start(spec);
    for step in 1..=6 {
        train(&run, step..=step, &[step]);
        let first = (step - 1).max(1);
        settled(&run, &bench.engine, &(first..=step).collect::<Vec<_>>());
    }
    // Somebody else changes it meanwhile.
    bench
        .other()
        .set_retention(&RetentionScope::Run(run.run()), Some(&last(3)))
        .unwrap();
    train(&run, 7..=7, &[7]);
    settled(&run, &bench.engine, &[5, 6, 7]);
    run.finish(None, None, None).unwrap();
    assert_eq!(run.take_warnings(), []);
}

#[test]
fn a_live_run_waits_for_its_metric_and_warns_once() {
    let bench = Bench::new();
    let run = bench.start(named("a"));
    let policy = best("val/reward");
    for step in 1..=3 {
        train(&run, step..=step, &[step]);
        let decided = run.prune(&policy).unwrap();
        assert!(decided.unranked.is_some());
    }
    assert_eq!(own(&bench.engine, run.run()), [1, 2, 3]);
    let warnings = run.take_warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].kind, WarningKind::Retention);
    for step in 4..=6 {
        let reward = if step == 4 { 1.0 } else { 0.5 };
        run.log(
            Some(runtree_core::Step(step)),
            None,
            &[("val/reward", reward)],
            true,
        )
        .unwrap();
        save(&run, step);
        run.prune(&policy).unwrap();
    }
    assert_eq!(own(&bench.engine, run.run()), [4, 6]);
    run.finish(None, None, None).unwrap();
    assert_eq!(run.take_warnings(), []);
}

#[test]
fn a_launch_that_was_fenced_deletes_nothing() {
    let bench = Bench::new();
    let spec = || keyed("k", runtree_engine::ResumePolicy::Allow);
    let old = bench.start(spec());
    train(&old, 1..=3, &[1, 2, 3]);
    let new = bench.other().start_run(spec()).unwrap();
    assert_error(
        old.prune(&last(1)),
        ErrorKind::Conflict,
        &["continued elsewhere"],
    );
    new.finish(None, None, None).unwrap();
    drop(old.finish(None, None, None));
    assert_eq!(own(&bench.engine, new.run()), [1, 2, 3]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the store's clock is the disk's")]
fn young_checkpoints_stay_by_the_stores_clock() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let engine = &bench.engine;
    let mut policy = Policy {
        keep_newer_than_micros: Some(3_600_000_000),
        ..Policy::default()
    };
    // The engine's own clock is years away.
    bench.clock.advance(100_000_000);
    assert_eq!(kept(&plan(engine, run, &policy)), [10, 20, 30, 40]);
    if bench.is_bucket() {
        policy.keep_newer_than_micros = Some(1_000_000);
        pass(A_SECOND);
        assert_eq!(kept(&plan(engine, run, &policy)), [40]);
        return;
    }
    let root = bench.store_dir();
    let old = name_of(engine, run, 20);
    let commit = root.join(format!("runs/{run}/commits/{}", old.key));
    let hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::open(commit)
        .unwrap()
        .set_modified(hours_ago)
        .unwrap();
    assert_eq!(kept(&plan(engine, run, &policy)), [10, 30, 40]);
}

#[test]
fn a_fork_of_what_is_in_the_trash_is_refused_with_what_to_do() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let decided = plan(&bench.engine, run, &last(1));
    bench
        .engine
        .apply_prune(&decided, None, TrashBound::default())
        .unwrap();
    let mut fork = fork_of(run, 20);
    fork.fork = runtree_engine::ForkChoice::Reference(
        format!(
            "{run}@{}",
            CheckpointId::of(run, decided.decisions[1].name.key)
        )
        .parse()
        .unwrap(),
    );
    let error = error_of(bench.engine.start_run(fork));
    assert!(
        error.chain().contains("trash")
            || error.hint().is_some_and(|hint| hint.contains("undelete")),
        "{error:?}"
    );
    assert!(log(&bench.start(named("b")), 1, 1.0).is_ok());
}
