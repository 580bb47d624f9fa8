//! What is said after the fact.

use std::collections::BTreeMap;

use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::{AttemptNumber, ErrorKind, SaveKey, Step};
use runtree_engine::{Annotation, CheckpointScope};
use serde_json::json;

use crate::support::*;

fn first_checkpoint(bench: &Bench, run: runtree_core::RunId) -> CheckpointName {
    let infos = bench
        .engine
        .checkpoints(run, CheckpointScope::default())
        .unwrap();
    bench
        .engine
        .find_checkpoint(infos[0].id.parse().unwrap())
        .unwrap()
}

#[test]
fn a_run_is_renamed_tagged_noted_and_given_a_status() {
    let bench = Bench::new();
    let run = bench.trained("old", 0..=3, &[]);
    bench
        .engine
        .annotate(
            run,
            Annotation {
                name: Some("new".to_owned()),
                notes: Some("why".to_owned()),
                add_tags: vec!["good".to_owned(), "paper".to_owned()],
                config_patch: Some(json!({"note": {"by": "me"}})),
                status: Some((RunStatus::Failed, Some("wrong data".to_owned()))),
                ..Annotation::default()
            },
        )
        .unwrap();
    bench
        .engine
        .annotate(
            run,
            Annotation {
                remove_tags: vec!["good".to_owned()],
                ..Annotation::default()
            },
        )
        .unwrap();
    let detail = bench.engine.run(run).unwrap();
    assert_eq!(detail.summary.name, "new");
    assert_eq!(detail.notes.as_deref(), Some("why"));
    assert_eq!(detail.summary.tags, ["paper"]);
    assert_eq!(detail.summary.config, json!({"note": {"by": "me"}}));
    assert_eq!(detail.summary.status, RunStatus::Failed);
    assert_eq!(detail.summary.status_reason.as_deref(), Some("wrong data"));
    // The experiment is what the root was called at birth.
    assert_eq!(detail.summary.experiment, "old");
    let odd = Annotation {
        status: Some((RunStatus::Running, None)),
        ..Annotation::default()
    };
    assert_error(
        bench.engine.annotate(run, odd),
        ErrorKind::Invalid,
        &["running"],
    );
}

#[test]
fn a_checkpoint_is_given_metrics_and_tags_and_best_follows_them() {
    let bench = Bench::new();
    let run = bench.trained("r", 0..=20, &[5, 10]);
    let five = first_checkpoint(&bench, run);
    bench
        .engine
        .annotate_checkpoint(
            five,
            BTreeMap::from([("reward".to_owned(), 0.9), ("nan".to_owned(), f64::NAN)]),
            vec!["best".to_owned()],
            Vec::new(),
        )
        .unwrap();
    let info = bench.engine.checkpoint_info(five).unwrap();
    assert_eq!(info.metrics["reward"].0, 0.9);
    assert!(info.metrics["nan"].0.is_nan());
    assert_eq!(info.tags, ["best"]);
    let resolve = |text: &str| {
        bench
            .engine
            .resolve_checkpoint(&text.parse().unwrap(), None, runtree_engine::Purpose::Read)
    };
    assert_eq!(resolve("r@best:reward").unwrap(), five);
    assert_eq!(resolve("r@best:loss").unwrap().key.step, Step(10));
    assert_eq!(resolve("r@best:loss:max").unwrap(), five);
    assert_error(resolve("r@best:nan"), ErrorKind::NotFound, &["finite"]);
    let nobody = CheckpointName {
        run,
        key: SaveKey {
            attempt: AttemptNumber(1),
            step: Step(7),
            k: 0,
        },
    };
    let refused =
        bench
            .engine
            .annotate_checkpoint(nobody, BTreeMap::new(), vec!["x".to_owned()], Vec::new());
    assert_error(refused, ErrorKind::NotFound, &[]);
}

#[test]
fn a_pin_holds_a_checkpoint_until_it_is_taken_back() {
    let bench = Bench::new();
    let run = bench.trained("r", 0..=10, &[5, 10]);
    let five = first_checkpoint(&bench, run);
    bench.engine.pin(five, "for the paper").unwrap();
    bench.engine.pin(five, "again").unwrap();
    assert!(bench.engine.checkpoint_info(five).unwrap().pinned);
    assert!(
        bench
            .elsewhere("other")
            .checkpoint_info(five)
            .unwrap()
            .pinned
    );
    assert_error(
        bench.engine.delete_checkpoint(five, "x"),
        ErrorKind::Conflict,
        &["pinned", "unpin"],
    );
    bench.engine.unpin(five).unwrap();
    assert!(!bench.engine.checkpoint_info(five).unwrap().pinned);
    assert_error(bench.engine.unpin(five), ErrorKind::NotFound, &[]);
    bench.engine.delete_checkpoint(five, "x").unwrap();
    bench
        .engine
        .delete_checkpoint(five, "twice is once")
        .unwrap();
    let visible = |deleted| {
        let scope = CheckpointScope {
            deleted,
            ..CheckpointScope::default()
        };
        bench.engine.checkpoints(run, scope).unwrap().len()
    };
    assert_eq!((visible(false), visible(true)), (1, 2));
}

#[test]
fn a_pin_that_is_damaged_is_taken_back_like_any_other() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=10, &[10]);
    let scope = runtree_engine::CheckpointScope::default();
    let info = bench.engine.checkpoints(run, scope).unwrap();
    let id = info[0].id.parse().unwrap();
    let name = bench.engine.find_checkpoint(id).unwrap();
    bench.engine.pin(name, "a test").unwrap();
    let [pin] = &bench.files("pins")[..] else {
        panic!("one pin");
    };
    bench.damage(pin, |bytes| bytes.truncate(5));
    bench.engine.unpin(name).unwrap();
    assert!(bench.files("pins").is_empty());
}
