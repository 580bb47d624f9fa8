use std::collections::BTreeMap;

use runtree_core::event::RunStatus;
use runtree_core::manifest::AttemptKind;
use runtree_core::wire::{
    AttemptInfo, BaseInfo, CheckpointInfo, CheckpointState, LineageRun, LineageTree, NonFinite,
    RunLabel, RunSummary, StepRange,
};
use runtree_core::{AttemptNumber, Step, Timestamp};

use super::*;

fn look(width: usize) -> Look {
    Look {
        color: false,
        unicode: true,
        width,
    }
}

fn label(number: u64, name: &str) -> RunLabel {
    RunLabel {
        id: format!("run{number:03}"),
        display_id: format!("DIG-{number}"),
        name: name.to_owned(),
    }
}

/// A run that logged `0..=last`, or from its fork step on, with a checkpoint every 100 steps.
fn run(number: u64, name: &str, fork: Option<(&RunSummary, i64)>, last: i64) -> LineageRun {
    let first = fork.map_or(0, |(_, step)| step + 1);
    let owner = fork.map(|(parent, _)| RunLabel {
        id: parent.id.clone(),
        display_id: parent.display_id.clone(),
        name: parent.name.clone(),
    });
    let own = label(number, name);
    let steps = (first <= last).then_some(StepRange {
        first: Step(first),
        last: Step(last),
    });
    let summary = RunSummary {
        id: own.id.clone(),
        display_id: own.display_id.clone(),
        number,
        key: None,
        name: name.to_owned(),
        project: "digits".to_owned(),
        experiment: "digits".to_owned(),
        root: "run001".to_owned(),
        status: RunStatus::Completed,
        status_reason: None,
        created: Timestamp(0),
        last_activity: Timestamp(0),
        attempt: AttemptNumber::FIRST,
        parent: owner.clone(),
        owner: owner.clone(),
        fork_step: fork.map(|(_, step)| Step(step)),
        base: None,
        children: 0,
        last_step: steps.as_ref().map(|steps| steps.last),
        metrics: BTreeMap::new(),
        config: serde_json::json!({}),
        tags: Vec::new(),
        checkpoints: 0,
        first_nonfinite: None,
        deleted: false,
        alerts: None,
    };
    let attempt = AttemptInfo {
        attempt: AttemptNumber::FIRST,
        kind: if fork.is_some() {
            AttemptKind::Fork
        } else {
            AttemptKind::Start
        },
        base: owner.zip(fork).map(|(run, (_, step))| BaseInfo {
            run,
            attempt: AttemptNumber::FIRST,
            step: Step(step),
        }),
        checkpoint_step: None,
        created: Timestamp(0),
        last_activity: Timestamp(0),
        steps,
        ghost_from: None,
        launch: BTreeMap::new(),
    };
    let checkpoints = (first..=last)
        .filter(|step| step % 100 == 0 && *step > 0)
        .map(|step| checkpoint(&own, 1, step))
        .collect();
    LineageRun {
        summary,
        attempts: vec![attempt],
        checkpoints,
        config_diff: Vec::new(),
    }
}

fn checkpoint(run: &RunLabel, attempt: u32, step: i64) -> CheckpointInfo {
    CheckpointInfo {
        id: format!("ck_{step}"),
        reference: format!("{}@{step}", run.display_id),
        run: run.clone(),
        attempt: AttemptNumber(attempt),
        step: Step(step),
        k: 0,
        name: None,
        created: Timestamp(0),
        state: CheckpointState::Complete,
        inherited: false,
        effective: true,
        superseded: false,
        bytes: 0,
        stored_bytes: None,
        tensors: 0,
        metrics: BTreeMap::new(),
        tags: Vec::new(),
        pinned: false,
        parts: Vec::new(),
        forks: Vec::new(),
    }
}

/// The demo's families in one: a run that was killed and resumed, forks of it, a fork that diverged, a fork of that one.
fn family() -> LineageTree {
    let mut root = run(1, "digits", None, 600);
    root.attempts[0].steps = Some(StepRange {
        first: Step(0),
        last: Step(347),
    });
    root.attempts[0].ghost_from = Some(Step(301));
    root.attempts.push(AttemptInfo {
        attempt: AttemptNumber(2),
        kind: AttemptKind::Resume,
        base: Some(BaseInfo {
            run: label(1, "digits"),
            attempt: AttemptNumber(1),
            step: Step(300),
        }),
        steps: Some(StepRange {
            first: Step(301),
            last: Step(600),
        }),
        ghost_from: None,
        ..root.attempts[0].clone()
    });
    for info in &mut root.checkpoints {
        info.attempt = AttemptNumber(if info.step > Step(300) { 2 } else { 1 });
    }
    root.checkpoints[1].pinned = true;
    root.checkpoints[0].state = CheckpointState::Deleted;
    let mut hotter = run(2, "hotter", Some((&root.summary, 200)), 430);
    hotter.summary.status = RunStatus::Failed;
    hotter.summary.first_nonfinite = Some(NonFinite {
        metric: "loss".to_owned(),
        step: Step(412),
        last_good: Some(Step(400)),
    });
    let mut recovered = run(3, "hotter-f1", Some((&hotter.summary, 400)), 550);
    recovered.summary.status = RunStatus::Running;
    let mut waiting = run(4, "digits-f2", Some((&root.summary, 300)), 0);
    waiting.summary.status = RunStatus::Created;
    LineageTree {
        head: None,
        head_is_set: false,
        root: "run001".to_owned(),
        experiment: "digits".to_owned(),
        runs: vec![root, hotter, recovered, waiting],
    }
}

fn drawn(tree: &LineageTree, look: Look, order: Order) -> String {
    render(tree, look, order).join("\n")
}

#[test]
fn a_family_is_drawn_with_forks_attempts_and_checkpoints() {
    insta::assert_snapshot!(drawn(&family(), look(110), Order::RootFirst));
}

#[test]
fn the_newest_run_can_stand_first() {
    insta::assert_snapshot!(drawn(&family(), look(110), Order::NewestFirst));
}

#[test]
fn ascii_says_the_same() {
    let ascii = Look {
        unicode: false,
        ..look(110)
    };
    let text = drawn(&family(), ascii, Order::RootFirst);
    insta::assert_snapshot!(text);
}

#[test]
fn a_narrow_terminal_gets_the_graph_without_the_axis() {
    insta::assert_snapshot!(drawn(&family(), look(40), Order::RootFirst));
}

#[test]
fn every_line_fits_whatever_the_width() {
    for width in 1..140 {
        for unicode in [true, false] {
            let look = Look {
                unicode,
                ..look(width)
            };
            for line in render(&family(), look, Order::RootFirst) {
                let legend = line.contains("checkpoint");
                assert!(
                    legend || columns(&line) <= width.max(12),
                    "{width}: {line:?}"
                );
            }
        }
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    let colored = Look {
        color: true,
        ..look(100)
    };
    let mut plain = String::new();
    let mut escape = false;
    for c in drawn(&family(), colored, Order::RootFirst).chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            c => plain.push(c),
        }
    }
    assert_eq!(plain, drawn(&family(), look(100), Order::RootFirst));
}

#[test]
fn a_chain_of_ten_thousand_forks_stays_narrow() {
    let mut runs = vec![run(1, "a", None, 10)];
    for number in 2..=10_000 {
        let parent = runs.last().unwrap().summary.clone();
        let step = i64::try_from(number).unwrap();
        runs.push(run(number, "a", Some((&parent, step)), step + 10));
    }
    let tree = LineageTree {
        head: None,
        head_is_set: false,
        root: "run001".to_owned(),
        experiment: "chain".to_owned(),
        runs,
    };
    let lines = render(&tree, look(100), Order::RootFirst);
    assert_eq!(lines.len(), 10_002);
    let deep = lines[9_000].trim_start();
    assert!(deep.starts_with("● DIG-9000"), "{deep}");
}

#[test]
fn siblings_of_siblings_keep_their_columns() {
    let root = run(1, "root", None, 100);
    let left = run(2, "left", Some((&root.summary, 20)), 80);
    let inner = run(3, "inner-1", Some((&left.summary, 40)), 90);
    let other = run(4, "inner-2", Some((&left.summary, 60)), 95);
    let right = run(5, "right", Some((&root.summary, 50)), 70);
    let tree = LineageTree {
        head: None,
        head_is_set: false,
        root: "run001".to_owned(),
        experiment: "siblings".to_owned(),
        runs: vec![root, left, inner, other, right],
    };
    insta::assert_snapshot!(drawn(&tree, look(90), Order::RootFirst));
}

#[test]
fn a_family_that_logged_nothing_has_no_axis() {
    let mut empty = run(1, "empty", None, -1);
    empty.summary.status = RunStatus::Running;
    let tree = LineageTree {
        head: None,
        head_is_set: false,
        root: "run001".to_owned(),
        experiment: "empty".to_owned(),
        runs: vec![empty],
    };
    insta::assert_snapshot!(drawn(&tree, look(80), Order::RootFirst));
}

#[test]
fn a_long_name_gives_way_to_where_the_run_comes_from() {
    let long = "root-f1".repeat(20);
    let root = run(1, "root", None, 100);
    let fork = run(2, &long, Some((&root.summary, 20)), 80);
    let tree = LineageTree {
        head: None,
        head_is_set: false,
        root: "run001".to_owned(),
        experiment: "long".to_owned(),
        runs: vec![root, fork],
    };
    for width in [60, 100, 200] {
        let lines = render(&tree, look(width), Order::RootFirst);
        assert!(lines[2].contains(" @20 of DIG-1 "), "{width}: {}", lines[2]);
        assert!(columns(&lines[2]) <= width, "{width}: {}", lines[2]);
    }
}
