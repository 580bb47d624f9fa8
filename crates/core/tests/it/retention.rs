//! Retention, case by case: what the systems before it lost.

use runtree_core::manifest::CheckpointName;
use runtree_core::retention::{
    Candidate, KeepBest, KeepReason, MissingMetric, Plan, Policy, Protection, Reason, Whole,
    needs_direction, plan,
};
use runtree_core::{AttemptNumber, ErrorKind, RunId, SaveKey, Step, Timestamp};

const NOW: Timestamp = Timestamp(10_000_000);

fn at(step: i64) -> Candidate {
    Candidate {
        name: CheckpointName {
            run: RunId::from_parts(1, 1),
            key: SaveKey {
                attempt: AttemptNumber(1),
                step: Step(step),
                k: 0,
            },
        },
        created: Timestamp(0),
        effective: true,
        whole: Whole::Yes,
        tags: Vec::new(),
        protections: Vec::new(),
        values: Vec::new(),
    }
}

fn valued(step: i64, value: impl Into<Option<f64>>) -> Candidate {
    Candidate {
        values: vec![value.into()],
        ..at(step)
    }
}

fn steps(plan: &Plan) -> Vec<i64> {
    let kept = plan.decisions.iter().filter(|decision| decision.keep);
    kept.map(|decision| decision.name.key.step.0).collect()
}

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

#[test]
fn last_and_interval_are_a_union() {
    let policy = Policy {
        keep_interval: Some(4),
        ..last(2)
    };
    let all: Vec<_> = (1..=10).map(at).collect();
    assert_eq!(steps(&plan(&policy, &all, NOW).unwrap()), [4, 8, 9, 10]);
}

#[test]
fn an_interval_alone_never_takes_the_newest() {
    let policy = Policy {
        keep_interval: Some(4),
        ..Policy::default()
    };
    for newest in 1..=6 {
        let all: Vec<_> = (1..=newest).map(at).collect();
        let kept = steps(&plan(&policy, &all, NOW).unwrap());
        assert_eq!(kept.last(), Some(&newest));
    }
}

#[test]
fn step_zero_and_negative_steps_are_multiples() {
    let policy = Policy {
        keep_interval: Some(4),
        ..Policy::default()
    };
    let all: Vec<_> = (-5..=1).map(at).collect();
    assert_eq!(steps(&plan(&policy, &all, NOW).unwrap()), [-4, 0, 1]);
}

#[test]
fn a_step_that_was_saved_twice_takes_one_place() {
    let mut again = at(2);
    again.name.key.k = 1;
    let all = [at(1), at(2), again.clone(), at(3)];
    let decided = plan(&last(2), &all, NOW).unwrap();
    assert_eq!(steps(&decided), [2, 3]);
    assert_eq!(decided.decisions[1].reasons, [Reason::SavedAgain]);
    assert_eq!(decided.decisions[2].name, again.name);
}

#[test]
fn what_is_damaged_takes_nobodys_place_and_stays() {
    let mut torn = at(7);
    torn.whole = Whole::Damaged("a part is missing".to_owned());
    let decided = plan(&last(1), &[at(5), torn], NOW).unwrap();
    assert_eq!(steps(&decided), [5, 7]);
    assert_eq!(decided.newest().unwrap().key.step, Step(5));
}

#[test]
fn an_abandoned_tail_counts_for_nothing_and_goes() {
    // Resumed at 8; 9 and 10 of the launch before are still there.
    let mut tail = [at(9), at(10)];
    for candidate in &mut tail {
        candidate.effective = false;
    }
    let mut nine = at(9);
    nine.name.key.attempt = AttemptNumber(2);
    let all = [vec![at(4), at(8), nine], tail.to_vec()].concat();
    let decided = plan(&last(2), &all, NOW).unwrap();
    assert_eq!(steps(&decided), [8, 9]);
    assert_eq!(decided.newest().unwrap().key.attempt, AttemptNumber(2));
    let reason = Reason::Abandoned(AttemptNumber(1));
    assert_eq!(decided.decisions.last().unwrap().reasons, [reason]);
}

#[test]
fn ties_go_to_the_later_step() {
    let all: Vec<_> = (1..=200)
        .map(|step| valued(step, 1.0))
        .chain([valued(201, 0.5)])
        .collect();
    for _ in 0..3 {
        assert_eq!(
            steps(&plan(&best("val/reward"), &all, NOW).unwrap()),
            [200, 201]
        );
    }
}

#[test]
fn zero_and_minus_zero_are_a_tie() {
    let all = [valued(1, 0.0), valued(2, -0.0), valued(3, -1.0)];
    assert_eq!(
        steps(&plan(&best("val/reward"), &all, NOW).unwrap()),
        [2, 3]
    );
    let all = [valued(1, -0.0), valued(2, 0.0), valued(3, 1.0)];
    assert_eq!(
        steps(&plan(&best("val/loss:min"), &all, NOW).unwrap()),
        [2, 3]
    );
}

#[test]
fn a_metric_that_nobody_has_deletes_nothing() {
    let all = [
        valued(1, None),
        valued(2, f64::INFINITY),
        valued(3, f64::NAN),
    ];
    let MissingMetric(rule) = plan(&best("val/reward"), &all, NOW).unwrap_err();
    assert_eq!(rule.metric, "val/reward");
    assert_eq!(
        plan(&best("val/reward"), &[], NOW).unwrap(),
        Plan::default()
    );
}

#[test]
fn one_infinite_value_is_no_best_and_stops_nothing() {
    let all = [valued(1, 0.9), valued(2, f64::INFINITY), valued(3, 0.5)];
    assert_eq!(
        steps(&plan(&best("val/reward"), &all, NOW).unwrap()),
        [1, 3]
    );
}

#[test]
fn the_runner_up_is_kept_where_the_best_is_not_on_disk() {
    // Step 1 had 0.9 and was deleted by hand: it is no candidate.
    let all = [valued(2, 0.7), valued(3, 0.2), valued(4, 0.1)];
    assert_eq!(
        steps(&plan(&best("val/reward"), &all, NOW).unwrap()),
        [2, 4]
    );
}

#[test]
fn a_loss_is_ranked_from_below_and_has_to_say_so() {
    let all = [valued(1, 0.9), valued(2, 0.1), valued(3, 0.5)];
    assert_eq!(
        steps(&plan(&best("val/loss:min"), &all, NOW).unwrap()),
        [2, 3]
    );
    let error = "val/loss".parse::<KeepBest>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("val/loss:min or val/loss:max")
    );
    for name in [
        "train/loss",
        "word_error",
        "ppl",
        "val/mse",
        "kl",
        "token-kl/mean",
    ] {
        assert!(needs_direction(name), "{name}");
    }
    for name in ["val/reward", "accuracy", "klondike", "museum", "score"] {
        assert!(!needs_direction(name), "{name}");
    }
}

#[test]
fn what_has_no_value_stays_unless_one_says_otherwise() {
    let all = [
        valued(1, 0.9),
        valued(2, None),
        valued(3, 0.5),
        valued(4, None),
    ];
    let strict = best("val/reward");
    assert_eq!(steps(&plan(&strict, &all, NOW).unwrap()), [1, 4]);
    let policy = Policy {
        keep_without_metric: true,
        ..strict
    };
    assert_eq!(steps(&plan(&policy, &all, NOW).unwrap()), [1, 2, 4]);
}

#[test]
fn recent_and_top_with_what_is_in_use() {
    // Disk 0..=12, current 12, leased 3, evaluated 5, recent 2, top 1, a tie between 4 and 6.
    let mut all: Vec<_> = (0..=12)
        .map(|step| valued(step, if step == 4 || step == 6 { 1.0 } else { 0.0 }))
        .collect();
    all[3].protections = vec![Protection::Leased {
        reason: "inference".to_owned(),
    }];
    all[5].protections = vec![Protection::Leased {
        reason: "eval".to_owned(),
    }];
    let policy = Policy {
        keep_last: Some(3),
        ..best("val/reward")
    };
    assert_eq!(
        steps(&plan(&policy, &all, NOW).unwrap()),
        [3, 5, 6, 10, 11, 12]
    );
}

#[test]
fn pins_tags_forks_bases_and_youth_hold() {
    let mut all: Vec<_> = (1..=8).map(at).collect();
    let run = RunId::from_parts(2, 2);
    all[0].protections = vec![Protection::Pinned {
        reason: String::new(),
    }];
    all[1].tags = vec!["paper".to_owned()];
    all[2].protections = vec![Protection::ForkedBy(run)];
    all[3].protections = vec![Protection::BaseOf(run)];
    all[4].created = Timestamp(NOW.0 - 999_999);
    all[5].created = Timestamp(NOW.0 - 1_000_000);
    let policy = Policy {
        keep_newer_than_micros: Some(1_000_000),
        ..last(1)
    };
    let decided = plan(&policy, &all, NOW).unwrap();
    assert_eq!(steps(&decided), [1, 2, 3, 4, 5, 8]);
    let words: Vec<String> = decided
        .decisions
        .iter()
        .map(|d| d.reasons[0].to_string())
        .collect();
    assert_eq!(
        words,
        [
            "pinned".to_owned(),
            "tagged paper".to_owned(),
            format!("run {run} was forked here"),
            format!("run {run} started from it"),
            "younger than 1 s".to_owned(),
            "no rule keeps it".to_owned(),
            "no rule keeps it".to_owned(),
            "newest".to_owned(),
        ]
    );
}

#[test]
fn reasons_say_which_place_and_which_value() {
    let all = [valued(1, 0.25), valued(2, 0.5), valued(3, 0.125)];
    let decided = plan(&best("val/loss:min:2"), &all, NOW).unwrap();
    let KeepReason::Best { rank, value, .. } = (match &decided.decisions[0].reasons[0] {
        Reason::Keep(reason) => reason.clone(),
        other => panic!("{other}"),
    }) else {
        panic!("not among the best")
    };
    assert_eq!((rank, value), (2, 0.25));
    assert_eq!(
        decided.decisions[0].reasons[0].to_string(),
        "number 2 by least val/loss 0.25"
    );
    assert_eq!(
        decided.decisions[2].reasons[1].to_string(),
        "least val/loss 0.125"
    );
}

#[test]
fn a_policy_says_something_and_is_spelled_one_way() {
    let error = Policy::default().check().unwrap_err();
    assert!(error.message().contains("no rule"), "{error}");
    for policy in [
        last(0),
        Policy {
            keep_interval: Some(0),
            ..Policy::default()
        },
        best("reward:max:0"),
    ] {
        assert_eq!(policy.check().unwrap_err().kind(), ErrorKind::Invalid);
    }
    for (text, spelled) in [
        ("val/reward", "val/reward:max"),
        ("val/loss:min:3", "val/loss:min:3"),
        ("a:b:max:2", "a:b:max:2"),
        ("reward:2", "reward:max:2"),
    ] {
        assert_eq!(text.parse::<KeepBest>().unwrap().to_string(), spelled);
    }
    let policy = Policy {
        keep_interval: Some(1000),
        keep_last: Some(2),
        ..best("val/loss:min:3")
    };
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(
        json,
        r#"{"keep_last":2,"keep_interval":1000,"keep_best":[{"metric":"val/loss","mode":"min","count":3}],"keep_without_metric":false}"#
    );
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    assert!(serde_json::from_str::<Policy>(r#"{"keep_lst":2}"#).is_err());
}
