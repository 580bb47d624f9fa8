//! Forks, resumes, rewinds: what a run inherits.

use std::time::Instant;

use runtree_core::event::Event;
use runtree_core::filter::{Filter, Relation};
use runtree_core::lineage::{AttemptSource as _, Timeline, resolve_owner};
use runtree_core::manifest::{BasePoint, Outcome};
use runtree_core::{AttemptNumber, Step};
use runtree_index::{Index, RunQuery};

use crate::builder::{
    Journal, NOW, attempt, attempt_id, base, commit, fold, key, own_points, part, run, run_id, show,
};

crate::indexes! {
    the_example_of_the_first_seed_resolves_its_owners,
    a_fork_shows_the_values_of_its_base,
    a_later_point_of_the_parent_at_or_below_the_fork_step_is_inherited,
    a_lowered_start_hides_what_the_base_logged_from_there_on,
    a_start_lowered_to_the_base_step_takes_that_step_from_the_base,
    a_rewind_changes_the_run_and_no_child,
    a_fork_before_its_parent_is_folded_gets_its_values_later,
    checkpoints_of_the_base_are_counted_up_to_the_fork_step,
    the_last_good_checkpoint_may_be_the_parents,
    families_stand_parents_first,
    what_a_reader_remembers_ends_with_the_next_fold,
}

fn points(from: i64, to: i64, value: f64) -> Vec<(&'static str, i64, f64)> {
    (from..=to).map(|step| ("loss", step, value)).collect()
}

fn logged(n: u64, number: u32, writer: u64, from: i64, to: i64) -> Journal {
    Journal::opened(n, number, writer, 0).points(&points(from, to, n as f64))
}

fn the_example_of_the_first_seed_resolves_its_owners(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, run(2, Some(base(1, 1, 50))));
    fold(index, run(3, Some(base(2, 1, 150))));
    let snapshot = index.snapshot().unwrap();
    let owner = |step| {
        let owner = resolve_owner(&snapshot, attempt_id(3, 1), Step(step)).unwrap();
        owner.run
    };
    assert_eq!(owner(75), run_id(2));
    assert_eq!(owner(30), run_id(1));
    assert_eq!(owner(50), run_id(1));
    assert_eq!(owner(150), run_id(2));
    assert_eq!(owner(151), run_id(3));
}

fn a_fork_shows_the_values_of_its_base(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, [logged(1, 1, 1, 0, 9000).whole()]);
    fold(index, run(2, Some(base(1, 1, 50))));
    let child = show(index, 2);
    assert_eq!(child.last_step, Some(Step(50)));
    assert_eq!(
        (
            child.metrics["loss"].last.step,
            child.metrics["loss"].last.value
        ),
        (Step(50), 1.0)
    );
    fold(index, [logged(2, 1, 2, 51, 60).whole()]);
    let child = show(index, 2);
    assert_eq!(
        (
            child.metrics["loss"].last.step,
            child.metrics["loss"].last.value
        ),
        (Step(60), 2.0)
    );
    assert_eq!(show(index, 1).last_step, Some(Step(9000)));
}

fn a_later_point_of_the_parent_at_or_below_the_fork_step_is_inherited(index: &dyn Index) {
    fold(index, run(1, None));
    let parent = logged(1, 1, 1, 0, 48).points(&points(49, 55, 1.5));
    fold(index, [parent.range(0, 2)]);
    fold(index, run(2, Some(base(1, 1, 50))));
    fold(index, run(3, Some(base(2, 1, 50))));
    assert_eq!(show(index, 3).last_step, Some(Step(48)));
    fold(index, [parent.range(2, 3)]);
    for n in [2, 3] {
        let late = show(index, n).metrics["loss"];
        assert_eq!((late.last.step, late.last.value), (Step(50), 1.5));
    }
}

fn a_lowered_start_hides_what_the_base_logged_from_there_on(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, [logged(1, 1, 1, 0, 100).whole()]);
    fold(index, [attempt(1, 2, Some(base(1, 1, 100)))]);
    let lower = Journal::opened(1, 2, 2, 0).event(Event::StartLowered { first: Step(40) });
    fold(index, [lower.whole()]);
    assert_eq!(show(index, 1).last_step, Some(Step(39)));
    let again = Journal::opened(1, 2, 3, 0).event(Event::StartLowered { first: Step(60) });
    fold(index, [again.whole()]);
    assert_eq!(show(index, 1).last_step, Some(Step(39)), "the lowest wins");
    let snapshot = index.snapshot().unwrap();
    let facts = snapshot.attempt(attempt_id(1, 2)).unwrap().unwrap();
    assert_eq!(facts.lowered_start, Some(Step(40)));
}

fn what_a_reader_remembers_ends_with_the_next_fold(index: &dyn Index) {
    fold(index, run(1, None));
    let parent = logged(1, 1, 1, 0, 10).points(&points(11, 20, 1.0));
    fold(index, [parent.range(0, 2)]);
    fold(index, run(2, Some(base(1, 1, 15))));
    let look = || {
        let snapshot = index.snapshot().unwrap();
        let facts = snapshot.attempt(attempt_id(2, 1)).unwrap().unwrap();
        let seen = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
        (facts.lowered_start, seen.len())
    };
    for _ in 0..3 {
        assert_eq!(look(), (None, 11));
    }
    fold(index, [parent.range(2, 3)]);
    assert_eq!(look(), (None, 21));
    let lower = Journal::opened(2, 1, 2, 0).event(Event::StartLowered { first: Step(9) });
    fold(index, [lower.whole()]);
    assert_eq!(look(), (Some(Step(9)), 21));
    // A snapshot that began before a fold goes on seeing what it saw.
    let before = index.snapshot().unwrap();
    let more = parent.points(&points(21, 30, 1.0));
    fold(index, [more.range(3, 4)]);
    let seen = own_points(before.as_ref(), attempt_id(1, 1), "loss");
    assert_eq!(seen.len(), 21);
    assert_eq!(look(), (Some(Step(9)), 31));
}

fn a_start_lowered_to_the_base_step_takes_that_step_from_the_base(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, [logged(1, 1, 1, 0, 10).whole()]);
    fold(index, [attempt(1, 2, Some(base(1, 1, 7)))]);
    let lowered = Journal::opened(1, 2, 2, 1).event(Event::StartLowered { first: Step(7) });
    fold(index, [lowered.points(&[("acc", 8, 2.0)]).whole()]);
    let shown = show(index, 1);
    assert_eq!(shown.metrics["loss"].last.step, Step(6));
    assert_eq!(shown.metrics["acc"].last.step, Step(8));
}

fn a_rewind_changes_the_run_and_no_child(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, [logged(1, 1, 1, 0, 100).whole()]);
    fold(index, run(2, Some(base(1, 1, 80))));
    assert_eq!(show(index, 2).last_step, Some(Step(80)));
    fold(index, [attempt(1, 2, Some(base(1, 1, 30)))]);
    assert_eq!(show(index, 1).last_step, Some(Step(30)));
    assert_eq!(show(index, 1).attempt, AttemptNumber(2));
    assert_eq!(show(index, 2).last_step, Some(Step(80)));
}

fn a_fork_before_its_parent_is_folded_gets_its_values_later(index: &dyn Index) {
    fold(index, run(3, Some(base(2, 1, 70))));
    assert_eq!(show(index, 3).last_step, None);
    assert_eq!(show(index, 3).root, run_id(2), "as far as it is known");
    fold(index, [logged(1, 1, 1, 0, 100).whole()]);
    fold(index, run(2, Some(base(1, 1, 90))));
    assert_eq!(show(index, 3).root, run_id(1));
    assert_eq!(show(index, 3).last_step, Some(Step(70)));
    fold(index, run(1, None));
    assert_eq!(show(index, 3).last_step, Some(Step(70)));
}

fn committed(index: &dyn Index, n: u64, step: i64) {
    let key = key(1, step, 0);
    let part = runtree_index::FoldItem::Part(Box::new(part(n, key, 0, 1)));
    fold(index, [part, commit(n, key, Outcome::Committed)]);
}

fn checkpoints_of_the_base_are_counted_up_to_the_fork_step(index: &dyn Index) {
    fold(index, run(1, None));
    for step in [10, 20, 30, 40] {
        committed(index, 1, step);
    }
    fold(index, run(2, Some(base(1, 1, 30))));
    committed(index, 2, 35);
    assert_eq!(show(index, 1).checkpoints, 4);
    assert_eq!(show(index, 2).checkpoints, 4);
    fold(index, run(3, Some(base(2, 1, 25))));
    assert_eq!(show(index, 3).checkpoints, 2);
    committed(index, 1, 25);
    assert_eq!(show(index, 3).checkpoints, 3);
}

fn the_last_good_checkpoint_may_be_the_parents(index: &dyn Index) {
    fold(index, run(1, None));
    committed(index, 1, 10);
    committed(index, 1, 20);
    fold(index, run(2, Some(base(1, 1, 20))));
    let journal = Journal::opened(2, 1, 1, 0).points(&[("loss", 21, 1.0), ("loss", 22, f64::NAN)]);
    fold(index, [journal.whole()]);
    let nonfinite = show(index, 2).first_nonfinite.unwrap();
    assert_eq!(
        (nonfinite.step, nonfinite.last_good),
        (Step(22), Some(Step(20)))
    );
}

fn families_stand_parents_first(index: &dyn Index) {
    // A child whose clock was behind: born "before" its parent.
    fold(index, run(5, None));
    fold(index, run(2, Some(base(5, 1, 1))));
    fold(index, run(3, Some(base(2, 1, 1))));
    fold(index, run(7, Some(base(5, 1, 1))));
    fold(index, run(9, None));
    let snapshot = index.snapshot().unwrap();
    let ids = |numbers: &[u64]| numbers.iter().map(|&n| run_id(n)).collect::<Vec<_>>();
    assert_eq!(snapshot.family(run_id(5)).unwrap(), ids(&[5, 2, 3, 7]));
    assert_eq!(snapshot.children(run_id(5)).unwrap(), ids(&[2, 7]));
    let mut query = RunQuery::new(NOW);
    query.filter = Filter::Relative(Relation::Root, run_id(5));
    assert_eq!(snapshot.runs(&query).unwrap().total, 4);
    query.filter = Filter::Relative(Relation::Forks, run_id(5));
    assert_eq!(snapshot.runs(&query).unwrap().total, 2);
}

/// A chain of forks, each at the end of what the one before logged.
fn chain(index: &dyn Index, length: u64) {
    let mut items = Vec::new();
    for n in 1..=length {
        let on: Option<BasePoint> = (n > 1).then(|| base(n - 1, 1, (n as i64 - 1) * 10));
        items.extend(run(n, on));
        items.push(logged(n, 1, n, (n as i64 - 1) * 10 + 1, n as i64 * 10).whole());
    }
    // Children before their parents: the order that is hardest.
    items.reverse();
    for batch in items.chunks(500) {
        index.apply(batch).unwrap();
    }
}

#[test]
fn a_chain_of_ten_thousand_forks_is_walked_and_shown() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    chain(index, 10_000);
    let started = Instant::now();
    let last = show(index, 10_000);
    println!("settled 10,000 runs in {:?}", started.elapsed());
    assert_eq!(last.root, run_id(1));
    assert_eq!(last.last_step, Some(Step(100_000)));
    for length in [1000, 10_000] {
        let snapshot = index.snapshot().unwrap();
        let started = Instant::now();
        let timeline = Timeline::of(&snapshot, attempt_id(length, 1)).unwrap();
        println!("walked {length} in {:?}", started.elapsed());
        assert_eq!(timeline.segments().len(), length as usize);
    }
    let started = Instant::now();
    fold(index, [attempt(10_000, 2, Some(base(10_000, 1, 99_995)))]);
    assert_eq!(show(index, 10_000).last_step, Some(Step(99_995)));
    println!(
        "one launch at the end of the chain: {:?}",
        started.elapsed()
    );
}
