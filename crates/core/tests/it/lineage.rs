use std::collections::BTreeMap;

use runtree_core::lineage::{
    AttemptFacts, AttemptId, AttemptSource, Segment, Timeline, resolve_owner,
};
use runtree_core::manifest::BasePoint;
use runtree_core::{AttemptNumber, ErrorKind, Result, RunId, Step};

pub(crate) type Tree = BTreeMap<AttemptId, AttemptFacts>;

pub(crate) fn id(run: u128, attempt: u32) -> AttemptId {
    AttemptId {
        run: RunId::from_parts(1_795_000_000_000, run),
        attempt: AttemptNumber(attempt),
    }
}

pub(crate) fn facts(base: Option<(AttemptId, i64)>, lowered: Option<i64>) -> AttemptFacts {
    AttemptFacts {
        base: base.map(|(id, step)| BasePoint {
            run: id.run,
            attempt: id.attempt,
            step: Step(step),
        }),
        lowered_start: lowered.map(Step),
    }
}

fn tree(attempts: &[(AttemptId, Option<(AttemptId, i64)>)]) -> Tree {
    let with_facts = |(id, base): &(AttemptId, _)| (*id, facts(*base, None));
    attempts.iter().map(with_facts).collect()
}

fn segments(timeline: &Timeline) -> Vec<(AttemptId, i64, i64)> {
    let plain = |segment: &Segment| (segment.id, segment.first.0, segment.last.0);
    timeline.segments().iter().map(plain).collect()
}

#[test]
fn the_example_of_the_seed_resolves_as_it_says() {
    // A logs 0–100; B forks A at 50 and logs 51–200; C forks B at 150.
    let (a, b, c) = (id(1, 1), id(2, 1), id(3, 1));
    let tree = tree(&[(a, None), (b, Some((a, 50))), (c, Some((b, 150)))]);
    for (step, owner) in [
        (75, b),
        (30, a),
        (50, a),
        (150, b),
        (151, c),
        (51, b),
        (0, a),
    ] {
        assert_eq!(
            resolve_owner(&tree, c, Step(step)).unwrap(),
            owner,
            "{step}"
        );
    }
    assert_eq!(
        segments(&Timeline::of(&tree, c).unwrap()),
        [(a, i64::MIN, 50), (b, 50, 150), (c, 150, i64::MAX)]
    );
}

#[test]
fn the_example_of_the_module_has_its_ghost_tails() {
    let (one, two, three) = (id(1, 1), id(1, 2), id(1, 3));
    let tree = tree(&[
        (one, None),
        (two, Some((one, 50))),
        (three, Some((two, 70))),
    ]);
    let timeline = Timeline::of(&tree, three).unwrap();
    assert!(timeline.holds(one, Step(50)) && !timeline.holds(one, Step(51)));
    assert!(timeline.holds(two, Step(70)) && !timeline.holds(two, Step(71)));
    assert!(timeline.holds(three, Step(71)) && !timeline.holds(three, Step(69)));
    assert_eq!(timeline.leaf().unwrap().id, three);
}

#[test]
fn a_fork_below_its_bases_own_start_skips_that_base() {
    let (a, b, c) = (id(1, 1), id(2, 1), id(3, 1));
    let tree = tree(&[(a, None), (b, Some((a, 50))), (c, Some((b, 30)))]);
    assert_eq!(
        segments(&Timeline::of(&tree, c).unwrap()),
        [(a, i64::MIN, 30), (c, 30, i64::MAX)]
    );
}

#[test]
fn a_fork_at_the_step_where_its_base_was_forked_keeps_the_bases_own_point_there() {
    let (a, b, c) = (id(1, 1), id(2, 1), id(3, 1));
    let tree = tree(&[(a, None), (b, Some((a, 50))), (c, Some((b, 50)))]);
    let timeline = Timeline::of(&tree, c).unwrap();
    assert_eq!(
        segments(&timeline),
        [(a, i64::MIN, 50), (b, 50, 50), (c, 50, i64::MAX)]
    );
    assert_eq!(timeline.owner_at(Step(50)), Some(a));
    assert!([a, b, c].iter().all(|id| timeline.holds(*id, Step(50))));
}

#[test]
fn a_lowered_start_cuts_off_what_was_inherited_from_there_on() {
    let (a, b, c) = (id(1, 1), id(1, 2), id(2, 1));
    let mut tree = Tree::new();
    tree.insert(a, facts(None, None));
    tree.insert(b, facts(Some((a, 50)), Some(40)));
    tree.insert(c, facts(Some((b, 45)), None));
    assert_eq!(
        segments(&Timeline::of(&tree, c).unwrap()),
        [(a, i64::MIN, 39), (b, 40, 45), (c, 45, i64::MAX)]
    );
    assert_eq!(resolve_owner(&tree, c, Step(40)).unwrap(), b);
    assert_eq!(resolve_owner(&tree, c, Step(39)).unwrap(), a);
    // At the base step itself: the base's point there does not count any more.
    tree.insert(b, facts(Some((a, 50)), Some(50)));
    let timeline = Timeline::of(&tree, b).unwrap();
    assert_eq!(segments(&timeline), [(a, i64::MIN, 49), (b, 50, i64::MAX)]);
    // Nothing lowers upwards.
    tree.insert(b, facts(Some((a, 50)), Some(60)));
    let timeline = Timeline::of(&tree, b).unwrap();
    assert_eq!(segments(&timeline), [(a, i64::MIN, 50), (b, 50, i64::MAX)]);
    // To the very bottom: nothing is inherited, not even the lowest step there is.
    tree.insert(b, facts(Some((a, 50)), Some(i64::MIN)));
    let timeline = Timeline::of(&tree, b).unwrap();
    assert_eq!(segments(&timeline), [(b, i64::MIN, i64::MAX)]);
}

#[test]
fn a_timeline_up_to_a_step_ends_there() {
    let (a, b) = (id(1, 1), id(2, 1));
    let tree = tree(&[(a, None), (b, Some((a, 50)))]);
    let up_to = |last| segments(&Timeline::up_to(&tree, b, Step(last)).unwrap());
    assert_eq!(up_to(70), [(a, i64::MIN, 50), (b, 50, 70)]);
    assert_eq!(up_to(50), [(a, i64::MIN, 50), (b, 50, 50)]);
    assert_eq!(up_to(49), [(a, i64::MIN, 49)]);
}

#[test]
fn what_is_not_in_the_store_is_not_found_and_named() {
    let tree = tree(&[(id(2, 1), Some((id(1, 1), 5)))]);
    let error = Timeline::of(&tree, id(2, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    insta::assert_snapshot!(error, @"attempt 1 of run 01m7q5cqg00000000000000001 is not in this store");
}

#[test]
fn attempts_based_on_each_other_are_corrupt() {
    for circle in [
        tree(&[(id(1, 1), Some((id(1, 1), 5)))]),
        tree(&[
            (id(1, 1), Some((id(2, 1), 5))),
            (id(2, 1), Some((id(3, 1), 9))),
            (id(3, 1), Some((id(2, 1), 3))),
        ]),
    ] {
        let error = Timeline::of(&circle, id(1, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error
                .message()
                .ends_with("are based on each other in a circle")
        );
        assert!(resolve_owner(&circle, id(1, 1), Step(4)).is_err());
    }
}

#[test]
fn an_error_of_the_source_comes_through() {
    struct Broken;
    impl AttemptSource for Broken {
        fn attempt(&self, _: AttemptId) -> Result<Option<AttemptFacts>> {
            Err(runtree_core::Error::unavailable("the disk does not answer"))
        }
    }
    let error = Timeline::of(&Broken, id(1, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// Run `n` forks run `n - 1` at step `10 n`.
fn chain(length: u128) -> Tree {
    (0..=length)
        .map(|run| {
            let base = (run > 0).then(|| (id(run - 1, 1), 10 * run as i64));
            (id(run, 1), facts(base, None))
        })
        .collect()
}

#[test]
fn chains_of_a_thousand_and_of_ten_thousand_forks_are_walked() {
    for length in [1_000, 10_000] {
        let tree = chain(length);
        let leaf = id(length, 1);
        let timeline = Timeline::of(&tree, leaf).unwrap();
        assert_eq!(timeline.segments().len() as u128, length + 1);
        for run in (0..length).step_by(97) {
            let step = 10 * run as i64;
            assert_eq!(timeline.owner_at(Step(step + 5)), Some(id(run, 1)));
            assert_eq!(timeline.owner_at(Step(step + 10)), Some(id(run, 1)));
        }
        assert_eq!(resolve_owner(&tree, leaf, Step(i64::MAX)).unwrap(), leaf);
        assert_eq!(resolve_owner(&tree, leaf, Step(-7)).unwrap(), id(0, 1));
    }
}

#[test]
fn a_chain_of_ten_thousand_forks_at_one_step_is_walked() {
    let tree: Tree = (0..=10_000)
        .map(|run| {
            (
                id(run, 1),
                facts((run > 0).then(|| (id(run - 1, 1), 500)), None),
            )
        })
        .collect();
    let timeline = Timeline::of(&tree, id(10_000, 1)).unwrap();
    assert_eq!(timeline.owner_at(Step(500)), Some(id(0, 1)));
    assert_eq!(timeline.owner_at(Step(501)), Some(id(10_000, 1)));
    assert_eq!(timeline.segments().len(), 10_001);
}
