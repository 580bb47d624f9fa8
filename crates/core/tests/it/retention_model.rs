//! Retention against an oracle that decides about one checkpoint at a time by counting what beats it, over random runs.

use proptest::prelude::*;
use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Direction;
use runtree_core::retention::{
    Candidate, KeepBest, KeepReason, Plan, Policy, Protection, Reason, Whole, plan,
};
use runtree_core::{AttemptNumber, RunId, SaveKey, Step, Timestamp};

const NOW: Timestamp = Timestamp(1_000_000);

fn run() -> RunId {
    RunId::from_parts(7, 7)
}

fn values() -> impl Strategy<Value = Option<f64>> {
    // Few values, so that there are ties; and what is no number.
    prop_oneof![
        2 => Just(None),
        6 => (0..4_i32).prop_map(|v| Some(f64::from(v) / 2.0)),
        1 => Just(Some(-0.0)),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)].prop_map(Some),
    ]
}

fn protection() -> impl Strategy<Value = Vec<Protection>> {
    prop_oneof![
        12 => Just(Vec::new()),
        1 => Just(vec![Protection::Pinned { reason: "mine".to_owned() }]),
        1 => Just(vec![Protection::Leased { reason: "eval".to_owned() }]),
        1 => Just(vec![Protection::ForkedBy(run()), Protection::BaseOf(run())]),
    ]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (
        (-6..24_i64, 1..4_u32, 0..3_u32),
        0..2_000_000_i64,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        protection(),
        prop::collection::vec(values(), 2),
    )
        .prop_map(
            |((step, attempt, k), created, effective, whole, tagged, protections, values)| {
                Candidate {
                    name: CheckpointName {
                        run: run(),
                        key: SaveKey {
                            attempt: AttemptNumber(attempt),
                            step: Step(step),
                            k,
                        },
                    },
                    created: Timestamp(created),
                    effective,
                    whole: if whole {
                        Whole::Yes
                    } else {
                        Whole::Damaged("cut short".to_owned())
                    },
                    tags: if tagged {
                        vec!["paper".to_owned()]
                    } else {
                        Vec::new()
                    },
                    protections,
                    values,
                }
            },
        )
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(candidate(), 0..14).prop_map(|mut all| {
        all.sort_by_key(|candidate| candidate.name);
        all.dedup_by_key(|candidate| candidate.name);
        all
    })
}

fn best(metric: &str) -> impl Strategy<Value = KeepBest> {
    let metric = metric.to_owned();
    (any::<bool>(), 1..4_u32).prop_map(move |(min, count)| KeepBest {
        metric: metric.clone(),
        mode: if min { Direction::Min } else { Direction::Max },
        count,
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    (
        prop::option::of(1..5_u32),
        prop::option::of(1..8_u64),
        prop_oneof![Just(0_usize), Just(1), Just(2)],
        (best("a"), best("b")),
        prop::option::of(0..1_500_000_u64),
        any::<bool>(),
    )
        .prop_map(
            |(keep_last, keep_interval, rules, (a, b), newer, keep_without_metric)| Policy {
                keep_last,
                keep_interval,
                keep_best: vec![a, b].into_iter().take(rules).collect(),
                keep_newer_than_micros: newer,
                keep_without_metric,
            },
        )
}

/// Whether `a` comes after `b`.
fn is_later(a: &Candidate, b: &Candidate) -> bool {
    let (a, b) = (a.name.key, b.name.key);
    (a.step, a.attempt, a.k) > (b.step, b.attempt, b.k)
}

/// A checkpoint that rules count.
fn counts(this: &Candidate, all: &[Candidate]) -> bool {
    let good = |c: &Candidate| c.effective && c.whole == Whole::Yes;
    good(this)
        && !all.iter().any(|other| {
            good(other) && other.name.key.step == this.name.key.step && is_later(other, this)
        })
}

fn is_tie(a: f64, b: f64) -> bool {
    (a - b).abs() == 0.0
}

fn finite(candidate: &Candidate, rule: usize) -> Option<f64> {
    candidate.values[rule].filter(|value| value.is_finite())
}

/// The oracle: `None` if nothing may be said because a metric ranks nobody.
fn stays(policy: &Policy, this: &Candidate, all: &[Candidate]) -> Option<bool> {
    let history: Vec<&Candidate> = all.iter().filter(|c| counts(c, all)).collect();
    for rule in 0..policy.keep_best.len() {
        if !history.is_empty() && history.iter().all(|c| finite(c, rule).is_none()) {
            return None;
        }
    }
    let held = !this.protections.is_empty() || !this.tags.is_empty() || this.whole != Whole::Yes;
    let young = policy
        .keep_newer_than_micros
        .is_some_and(|age| NOW.0 - this.created.0 < i64::try_from(age).unwrap());
    if held || young {
        return Some(true);
    }
    if !counts(this, all) {
        return Some(false);
    }
    let later = history.iter().filter(|other| is_later(other, this)).count();
    let is_last = later < policy.keep_last.unwrap_or(1).max(1) as usize;
    let at_interval = policy
        .keep_interval
        .is_some_and(|k| this.name.key.step.0.rem_euclid(i64::try_from(k).unwrap()) == 0);
    let mut kept = is_last || at_interval;
    for (index, rule) in policy.keep_best.iter().enumerate() {
        kept |= match finite(this, index) {
            None => policy.keep_without_metric,
            Some(value) => {
                let beats = |other: &&&Candidate| {
                    finite(other, index).is_some_and(|theirs| {
                        let better = match rule.mode {
                            Direction::Min => theirs < value,
                            Direction::Max => theirs > value,
                        };
                        better || (is_tie(theirs, value) && is_later(other, this))
                    })
                };
                history.iter().filter(beats).count() < rule.count as usize
            }
        };
    }
    Some(kept)
}

fn kept(plan: &Plan) -> Vec<CheckpointName> {
    let kept = plan.decisions.iter().filter(|decision| decision.keep);
    kept.map(|decision| decision.name).collect()
}

proptest! {
    // Small cases: a hundred thousand of them take some seconds.
    #![proptest_config(ProptestConfig { cases: 100_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_is_the_oracles(all in candidates(), policy in policies()) {
        let decided = plan(&policy, &all, NOW);
        let expected: Option<Vec<CheckpointName>> = all
            .iter()
            .filter_map(|this| match stays(&policy, this, &all) {
                None => Some(None),
                Some(true) => Some(Some(this.name)),
                Some(false) => None,
            })
            .collect();
        let Ok(decided) = decided else {
            prop_assert_eq!(expected, None, "nothing was missing");
            return Ok(());
        };
        let mut expected = expected.expect("a metric was missing");
        expected.sort_by_key(|name| (name.key.step, name.key.attempt, name.key.k));
        prop_assert_eq!(kept(&decided), expected);
        prop_assert_eq!(decided.decisions.len(), all.len());
        for decision in &decided.decisions {
            prop_assert!(!decision.reasons.is_empty());
            let keeps = decision.reasons.iter().all(|reason| matches!(reason, Reason::Keep(_)));
            prop_assert_eq!(keeps, decision.keep);
        }
        // The newest that can be loaded is always there.
        let newest = all.iter().filter(|c| counts(c, &all)).max_by_key(|c| (c.name.key.step, c.name.key.attempt, c.name.key.k));
        prop_assert_eq!(decided.newest(), newest.map(|c| c.name));
        if let Some(newest) = newest {
            let decision = decided.decisions.iter().find(|decision| decision.name == newest.name).unwrap();
            prop_assert!(decision.reasons.contains(&Reason::Keep(KeepReason::Newest)));
        }
        // The order they come in means nothing.
        let mut backwards = all.clone();
        backwards.reverse();
        prop_assert_eq!(&plan(&policy, &backwards, NOW).unwrap(), &decided);
        // Asking again about what stayed changes nothing, unless a copy that was held has outlived the one that was saved after it, and counts now.
        let left: Vec<Candidate> = all.iter().filter(|c| kept(&decided).contains(&c.name)).cloned().collect();
        if left.iter().all(|c| counts(c, &left) == counts(c, &all)) {
            prop_assert_eq!(kept(&plan(&policy, &left, NOW).unwrap()), kept(&decided));
        }
    }
}
