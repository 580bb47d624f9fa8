//! Forks: owners, ranges, inheritance, and what they cost.

use std::collections::BTreeSet;

use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{CheckpointId, ErrorKind, RunId, Step};
use runtree_engine::{
    CheckpointScope, ForkChoice, ForkSpec, HistoryQuery, ResumePolicy, RunSpec, WarningKind,
};
use serde_json::json;

use crate::support::*;

fn reference(text: &str) -> ForkChoice {
    ForkChoice::Reference(text.parse::<Reference>().unwrap())
}

fn owner(bench: &Bench, run: RunId) -> (RunId, Step) {
    let summary = bench.engine.summary(run).unwrap();
    (
        summary.owner.unwrap().id.parse().unwrap(),
        summary.fork_step.unwrap(),
    )
}

#[test]
fn the_seed_example_resolves_owners_and_stitches() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[0, 50, 100]);
    let b = bench.forked(a, 50, 200, &[75, 150, 200]);
    let c = bench.forked(b, 150, 260, &[160, 200]);
    for (step, expected) in [(75, b), (30, a), (50, a), (150, b), (151, c), (261, c)] {
        let fork = bench.engine.fork(ForkSpec::new(at_step(c, step))).unwrap();
        assert_eq!(
            owner(&bench, fork),
            (expected, Step(step)),
            "forking C at {step}"
        );
        let parent = bench.engine.summary(fork).unwrap().parent.unwrap();
        assert_eq!(parent.id, c.to_string(), "the declared parent is kept");
        assert_eq!(bench.steps(fork), (0..=step.min(260)).collect::<Vec<_>>());
    }
    assert_eq!(bench.steps(c), (0..=260).collect::<Vec<_>>());
    let stretches = bench
        .engine
        .history(c, "loss", HistoryQuery::default())
        .unwrap()
        .stretches;
    let who: Vec<_> = stretches
        .iter()
        .map(|stretch| (stretch.run, stretch.points))
        .collect();
    assert_eq!(who, [(a, 51), (b, 100), (c, 110)]);
    let own = HistoryQuery {
        inherited: false,
        ..HistoryQuery::default()
    };
    let own = bench.engine.history(c, "loss", own).unwrap().steps;
    assert_eq!(own, (151..=260).collect::<Vec<_>>());
}

#[test]
fn an_owner_that_is_not_the_declared_parent_is_said() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[50]);
    let b = bench.forked(a, 50, 120, &[]);
    let (_, warnings) = bench
        .engine
        .fork_with_warnings(ForkSpec::new(at_step(b, 50)))
        .unwrap();
    let kinds: Vec<_> = warnings.iter().map(|warning| warning.kind).collect();
    assert_eq!(kinds, [WarningKind::Owner]);
    let (_, warnings) = bench
        .engine
        .fork_with_warnings(ForkSpec::new(at_step(a, 50)))
        .unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn a_step_out_of_range_is_refused_with_the_range() {
    let bench = Bench::new();
    let a = bench.trained("A", 10..=100, &[]);
    for step in [9, 102, 5000, -1] {
        let refused = bench.engine.fork(ForkSpec::new(at_step(a, step)));
        assert_error(
            refused,
            ErrorKind::Invalid,
            &["10 to 101", &step.to_string()],
        );
    }
    for step in [10, 101] {
        bench.engine.fork(ForkSpec::new(at_step(a, step))).unwrap();
    }
    let empty = bench.start(spec());
    empty.finish(None, None, None).unwrap();
    let refused = bench.engine.fork(ForkSpec::new(at_step(empty.run(), 0)));
    assert_error(refused, ErrorKind::Invalid, &["has logged no step"]);
}

#[test]
fn system_metrics_do_not_widen_the_range() {
    let bench = Bench::new();
    let run = bench.start(spec());
    bench.clock.advance(5000);
    run.log_system(None, &[("gpu", 0.5)]).unwrap();
    train(&run, 0..=9, &[]);
    run.finish(None, None, None).unwrap();
    let refused = bench.engine.fork(ForkSpec::new(at_step(run.run(), 11)));
    assert_error(refused, ErrorKind::Invalid, &["0 to 10"]);
}

#[test]
fn a_live_parent_is_given_a_flush_before_a_step_is_refused() {
    let bench = Bench::new();
    let parent = bench.start(named("alive"));
    train(&parent, 0..=20, &[]);
    // Nothing was flushed by hand: the step becomes known within the flush interval.
    let fork = bench
        .engine
        .fork(ForkSpec::new(at_step(parent.run(), 20)))
        .unwrap();
    assert_eq!(bench.steps(fork), (0..=20).collect::<Vec<_>>());
    let refused = bench.engine.fork(ForkSpec::new(at_step(parent.run(), 300)));
    assert_error(refused, ErrorKind::Invalid, &["0 to 21"]);
}

#[test]
fn points_that_a_live_parent_delivers_late_are_inherited_up_to_the_fork_step() {
    let bench = Bench::new();
    let parent = bench.start(named("alive"));
    train(&parent, 0..=20, &[]);
    parent.flush().unwrap();
    let fork = bench.start(fork_of(parent.run(), 21));
    // The child is born before the parent has said what happened at 21.
    train(&parent, 21..=40, &[]);
    parent.flush().unwrap();
    train(&fork, 22..=25, &[]);
    fork.flush().unwrap();
    assert_eq!(bench.steps(fork.run()), (0..=25).collect::<Vec<_>>());
    // What a newer attempt of the parent logs is never the child's.
    let key = "again";
    let again = bench.engine.rewind(parent.run(), Step(10)).unwrap();
    assert_eq!(again.0, 2);
    let resumed = bench.start(launched_as(
        key,
        RunSpec {
            run: Some(parent.run()),
            ..spec()
        },
    ));
    resumed
        .log(Some(Step(11)), None, &[("loss", 99.0)], true)
        .unwrap();
    resumed.flush().unwrap();
    assert!(bench.values(parent.run()).contains(&99.0));
    assert!(!bench.values(fork.run()).contains(&99.0));
}

#[test]
fn a_childs_own_point_at_the_fork_step_wins_and_lower_steps_are_refused_once() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[]);
    let child = bench.start(fork_of(a, 50));
    assert_eq!(child.next_step(), Step(51));
    log(&child, 50, 7.0).unwrap();
    assert_error(
        log(&child, 49, 1.0),
        ErrorKind::Invalid,
        &["below the start", "50"],
    );
    log(&child, 48, 1.0).unwrap();
    log(&child, 47, 1.0).unwrap();
    log(&child, 51, 8.0).unwrap();
    let report = child.finish(None, None, None).unwrap();
    assert_eq!(report.dropped_points["loss"], 2);
    let below = |warning: &&runtree_engine::Warning| warning.kind == WarningKind::BelowStart;
    assert_eq!(report.warnings.iter().filter(below).count(), 1);
    let values = bench.values(child.run());
    assert_eq!(values.len(), 52);
    assert_eq!(&values[49..], [loss(49), 7.0, 8.0]);
    let lost = bench.engine.run(child.run()).unwrap().lost;
    assert_eq!(lost[0].points["loss"], 2);
}

#[test]
fn seed_001s_sample_shows_all_points_after_the_fork_step() {
    let bench = Bench::new();
    let parent = bench.trained("lr-sweep", 0..=800, &[]);
    let number = bench.engine.summary(parent).unwrap().number;
    let child = bench.start(RunSpec {
        name: Some("lr-sweep-v2".to_owned()),
        fork: ForkChoice::RunAndStep {
            run: number.to_string(),
            step: Step(500),
        },
        config: Some(json!({"lr": 0.001})),
        ..spec()
    });
    for _ in 500..1000 {
        child
            .log(None, None, &[("loss", 0.4), ("lr", 0.001)], true)
            .unwrap();
    }
    child.finish(None, None, None).unwrap();
    let steps = bench.steps(child.run());
    assert_eq!(steps, (0..=1000).collect::<Vec<_>>());
    assert_eq!(bench.values(child.run())[501..], vec![0.4; 500]);
}

#[test]
fn what_a_fork_inherits_is_the_table_of_seed_001() {
    let bench = Bench::new();
    let parent = bench.start(RunSpec {
        name: Some("grand".to_owned()),
        config: Some(json!({"lr": 0.1, "model": {"layers": 4, "width": 8}})),
        tags: vec!["base".to_owned(), "shared".to_owned()],
        notes: Some("the first".to_owned()),
        ..spec()
    });
    train(&parent, 0..=100, &[50]);
    parent.update_config(json!({"seed": 1})).unwrap();
    parent.log_system(None, &[("gpu", 0.9)]).unwrap();
    parent.console("stdout", vec!["hello".to_owned()]).unwrap();
    let file = bench.dir.path().join("notes.txt");
    std::fs::write(&file, "a file").unwrap();
    parent.log_file(&file, None).unwrap();
    parent.finish(None, None, None).unwrap();
    // The middle run changes everything; a fork of it below its own start must not see that.
    let middle = bench.start(RunSpec {
        config: Some(json!({"lr": 9.0, "middle": true})),
        tags: vec!["middle".to_owned()],
        ..fork_of(parent.run(), 50)
    });
    train(&middle, 51..=90, &[]);
    middle.finish(None, None, None).unwrap();

    let child = bench
        .engine
        .fork(ForkSpec {
            config: Some(json!({"model": {"width": 16}})),
            tags: vec!["shared".to_owned(), "new".to_owned()],
            inherit_tags: true,
            ..ForkSpec::new(at_step(middle.run(), 40))
        })
        .unwrap();
    let detail = bench.engine.run(child).unwrap();
    // Config: deep merge over the owner's, explicit keys win.
    assert_eq!(
        detail.summary.config,
        json!({"lr": 0.1, "model": {"layers": 4, "width": 16}, "seed": 1})
    );
    let keys: Vec<_> = detail
        .config_diff
        .iter()
        .map(|change| change.key.as_str())
        .collect();
    assert_eq!(keys, ["model.width"]);
    // Tags: the owner's first, then the explicit ones, each once.
    assert_eq!(detail.summary.tags, ["base", "shared", "new"]);
    // Metrics: at query time, up to the fork step. System metrics, console, files: not.
    assert_eq!(bench.steps(child), (0..=40).collect::<Vec<_>>());
    assert!(
        detail
            .metrics
            .iter()
            .all(|metric| !metric.system && metric.own_points == 0)
    );
    assert!(detail.files.is_empty());
    assert!(
        bench
            .engine
            .console(child, None, 10, Default::default())
            .unwrap()
            .lines
            .is_empty()
    );
    assert_eq!(detail.notes, None);
    // Experiment: the root's name. The run's own: its declared parent's, counted.
    assert_eq!(detail.summary.experiment, "grand");
    let middle_name = bench.engine.summary(middle.run()).unwrap().name;
    assert_eq!(middle_name, "grand-f1");
    assert_eq!(detail.summary.name, "grand-f1-f1");
    assert_eq!(detail.summary.status, RunStatus::Created);

    // The defaults: config yes, tags no. And switched off.
    let plain = bench
        .engine
        .fork(ForkSpec::new(at_step(parent.run(), 50)))
        .unwrap();
    let plain = bench.engine.summary(plain).unwrap();
    assert_eq!(plain.tags, Vec::<String>::new());
    assert_eq!(plain.config["seed"], 1);
    let bare = bench
        .engine
        .fork(ForkSpec {
            inherit_config: false,
            ..ForkSpec::new(at_step(parent.run(), 50))
        })
        .unwrap();
    assert_eq!(bench.engine.summary(bare).unwrap().config, json!({}));
    // The parent's own files are where they were.
    assert_eq!(
        bench.engine.read_file(parent.run(), "notes.txt").unwrap(),
        b"a file"
    );
}

#[test]
fn a_fork_by_reference_needs_a_checkpoint_and_the_error_offers_one() {
    let bench = Bench::new();
    let a = bench.trained("base", 0..=100, &[20, 60]);
    let id = bench.engine.summary(a).unwrap().display_id;
    let refused = bench
        .engine
        .fork(ForkSpec::new(reference(&format!("{id}@50"))));
    assert_error(
        refused,
        ErrorKind::NotFound,
        &["20, 60", &format!("{id}@<=50")],
    );
    let forked = |text: &str| {
        let fork = bench.engine.fork(ForkSpec::new(reference(text))).unwrap();
        owner(&bench, fork).1
    };
    assert_eq!(forked(&format!("{id}@<=50")), Step(20));
    assert_eq!(forked(&format!("{id}@20")), Step(20));
    assert_eq!(forked(&id), Step(60));
    assert_eq!(forked("base@best:loss"), Step(60));
    assert_eq!(forked("my project/base@last-good"), Step(60));
    let ck = bench
        .engine
        .checkpoints(a, CheckpointScope::default())
        .unwrap()
        .remove(0)
        .id;
    assert_eq!(forked(&format!("{id}@{ck}")), Step(20));
}

#[test]
fn a_fork_by_run_and_step_keeps_the_step_and_warns_of_an_older_checkpoint() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[40]);
    let child = bench.start(fork_of(a, 55));
    let warnings = child.take_warnings();
    assert_eq!(warnings[0].kind, WarningKind::ForkGap);
    assert!(
        warnings[0].message.contains("at 40"),
        "{}",
        warnings[0].message
    );
    assert_eq!(child.next_step(), Step(56));
    assert_eq!(child.resumed_from().unwrap().key.step, Step(40));
    assert_eq!(child.take_warnings(), []);
}

#[test]
fn a_fork_writes_no_chunk_and_a_handful_of_objects() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=10, &[10]);
    let files = || -> BTreeSet<String> {
        let found = bench.files("").into_iter();
        found.map(|path| path.display().to_string()).collect()
    };
    let before = files();
    bench.engine.fork(ForkSpec::new(at_step(a, 10))).unwrap();
    let after = files();
    let (hints, new): (Vec<_>, Vec<_>) = after
        .difference(&before)
        .partition(|path| path.starts_with("touched/"));
    assert!(
        new.iter().all(|path| !path.starts_with("chunks/")),
        "{new:?}"
    );
    assert_eq!(new.len(), 3, "number, run, attempt: {new:?}");
    assert!(hints.len() <= 1, "{hints:?}");
}

#[test]
fn a_checkpoint_in_the_trash_can_not_be_forked() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=10, &[5, 10]);
    let id = bench.engine.summary(a).unwrap().display_id;
    let name = |step: &str| {
        let reference: Reference = format!("{id}@{step}").parse().unwrap();
        bench
            .engine
            .resolve_checkpoint(&reference, None, runtree_engine::Purpose::Write)
            .unwrap()
    };
    let ten: CheckpointName = name("10");
    bench.engine.delete_checkpoint(ten, "test").unwrap();
    let ck = CheckpointId::of(ten.run, ten.key);
    let refused = bench
        .engine
        .fork(ForkSpec::new(reference(&format!("{id}@{ck}"))));
    assert_error(refused, ErrorKind::Conflict, &["trash", "undelete"]);
    assert_eq!(name("latest").key.step, Step(5));
    bench.engine.undelete_checkpoint(ten).unwrap();
    assert_eq!(name("latest"), ten);
}

#[test]
fn deleting_a_run_leaves_its_children_what_they_show() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[50]);
    let b = bench.forked(a, 50, 80, &[]);
    bench.engine.delete_run(a).unwrap();
    assert_eq!(bench.steps(b), (0..=80).collect::<Vec<_>>());
    let scope = CheckpointScope {
        inherited: true,
        ..CheckpointScope::default()
    };
    assert_eq!(bench.engine.checkpoints(b, scope).unwrap().len(), 1);
    assert!(bench.engine.summary(a).unwrap().deleted);
    let listed = bench.engine.runs(&Default::default()).unwrap();
    assert_eq!(listed.total, 1);
    bench.engine.undelete_run(a).unwrap();
    assert_eq!(bench.engine.runs(&Default::default()).unwrap().total, 2);
}

#[test]
fn a_key_and_a_fork_fork_once_and_resume_later() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[40, 60]);
    let with_key = |step| RunSpec {
        key: Some("child".to_owned()),
        resume: ResumePolicy::Allow,
        ..fork_of(a, step)
    };
    let first = bench.start(with_key(40));
    train(&first, 41..=50, &[45]);
    first.finish(None, None, None).unwrap();
    let again = bench.start(with_key(40));
    assert_eq!(again.run(), first.run());
    assert_eq!(again.attempt().0, 2);
    assert_eq!(again.resumed_from().unwrap().key.step, Step(45));
    again.finish(None, None, None).unwrap();
    let refused = bench.engine.start_run(with_key(60));
    assert_error(refused, ErrorKind::Conflict, &["@40", "@60", "child"]);
    // A selector that moves on does not make it another fork.
    let moving = RunSpec {
        fork: reference(&format!(
            "{}@latest",
            bench.engine.summary(a).unwrap().display_id
        )),
        ..with_key(40)
    };
    assert_eq!(bench.start(moving).run(), first.run());
}
