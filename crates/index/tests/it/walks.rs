//! Pages in the order of a value: where many runs match they are walked along an index, which must be the order of sorting all of them.

use std::cmp::Ordering;

use runtree_core::filter::{Filter, Summary};
use runtree_core::{RunId, Timestamp};
use runtree_index::{FoldItem, Index, Order, RunQuery, RunSort};
use serde_json::{Value, json};

use crate::builder::{Journal, NOW, attempt, born, fold, record, run_id};

crate::indexes! {
    a_walk_along_a_metric_is_the_order_of_sorting_all_runs,
    a_walk_along_a_config_key_is_the_order_of_sorting_all_runs,
}

/// More than are sorted, so that they are walked.
const RUNS: u64 = 2600;

/// Ties, values that are not finite, runs without a value.
fn loss(n: u64) -> Option<f64> {
    match n % 10 {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(f64::INFINITY),
        3 => Some(f64::NEG_INFINITY),
        _ => Some((n * 7919 % 13) as f64 - 6.0),
    }
}

/// Numbers and texts, ties of both, runs without the key.
fn rate(n: u64) -> Option<Value> {
    match n % 7 {
        0 => None,
        1 => Some(json!(["fast", "slow", "Slow"][n as usize / 7 % 3])),
        _ => Some(json!((n * 31 % 17) as f64 / 10.0)),
    }
}

fn many(index: &dyn Index) {
    let mut items: Vec<FoldItem> = Vec::new();
    for n in 1..=RUNS {
        let mut birth = record(n, None);
        // Several are born at once.
        birth.created = Timestamp(birth.created.0 - birth.created.0 % 3);
        birth.config = rate(n).map_or(json!({}), |rate| json!({ "rate": rate }));
        birth.tags = if n % 5 == 0 {
            Vec::new()
        } else {
            vec!["most".to_owned()]
        };
        items.push(born(birth));
        items.push(attempt(n, 1, None));
        if let Some(loss) = loss(n) {
            items.push(
                Journal::opened(n, 1, n, 5)
                    .points(&[("loss", 1, loss)])
                    .whole(),
            );
        }
    }
    fold(index, items);
}

/// Every page of a query, one after another.
fn pages(index: &dyn Index, mut query: RunQuery) -> Vec<RunId> {
    let mut found = Vec::new();
    query.limit = 600;
    loop {
        let page = index.snapshot().unwrap().runs(&query).unwrap();
        found.extend(page.runs.iter().map(|run| run.record.run));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return found,
        }
    }
}

/// All runs that match, those without a value last, the newest of equals first.
fn sorted<K>(
    matching: impl Fn(u64) -> bool,
    key: impl Fn(u64) -> Option<K>,
    order: Order,
    compare: impl Fn(&K, &K) -> Ordering,
) -> Vec<RunId> {
    let mut runs: Vec<u64> = (1..=RUNS).filter(|&n| matching(n)).collect();
    let created = |n: u64| {
        let at = record(n, None).created.0;
        (at - at % 3, run_id(n))
    };
    runs.sort_by(|&a, &b| {
        let by_key = match (key(a), key(b)) {
            (Some(a), Some(b)) => match order {
                Order::Ascending => compare(&a, &b),
                Order::Descending => compare(&b, &a),
            },
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        by_key.then_with(|| created(b).cmp(&created(a)))
    });
    runs.into_iter().map(run_id).collect()
}

/// Asks in both directions, of all runs and of most of them.
fn check<K>(
    index: &dyn Index,
    sort: &RunSort,
    key: impl Fn(u64) -> Option<K> + Copy,
    compare: impl Fn(&K, &K) -> Ordering + Copy,
) {
    for order in [Order::Ascending, Order::Descending] {
        for (text, matching) in [
            ("", (|_| true) as fn(u64) -> bool),
            ("tag = most", |n| n % 5 != 0),
        ] {
            let mut query = RunQuery::new(NOW);
            (query.sort, query.order) = (sort.clone(), order);
            let filter: Filter = text.parse().unwrap();
            query.filter = filter.resolve(&mut |_: String| Ok(run_id(1))).unwrap();
            let expected = sorted(matching, key, order, compare);
            assert!(expected.len() > 2000, "walked, not sorted");
            assert_eq!(pages(index, query), expected, "{sort:?} {order:?} {text}");
        }
    }
}

fn a_walk_along_a_metric_is_the_order_of_sorting_all_runs(index: &dyn Index) {
    many(index);
    let key = |n| loss(n).filter(|loss| !loss.is_nan());
    let sort = RunSort::Metric("loss".to_owned(), Summary::Last);
    check(index, &sort, key, f64::total_cmp);
    let key = |n| loss(n).filter(|loss| loss.is_finite());
    for summary in [Summary::Min, Summary::Max] {
        let sort = RunSort::Metric("loss".to_owned(), summary);
        check(index, &sort, key, f64::total_cmp);
    }
    check(
        index,
        &RunSort::Metric("nobody".to_owned(), Summary::Last),
        |_| None::<f64>,
        |_, _| Ordering::Equal,
    );
}

fn a_walk_along_a_config_key_is_the_order_of_sorting_all_runs(index: &dyn Index) {
    many(index);
    // Numbers come before texts in both directions: a text has no number, and what has none comes last.
    let parts = |value: &Value| (value.as_f64(), value.as_str().map(str::to_owned));
    let sort = RunSort::Config("rate".to_owned());
    for order in [Order::Ascending, Order::Descending] {
        let mut query = RunQuery::new(NOW);
        (query.sort, query.order) = (sort.clone(), order);
        let compare = |a: &Value, b: &Value| match (parts(a), parts(b)) {
            ((Some(a), _), (Some(b), _)) => a.total_cmp(&b),
            ((Some(_), _), _) => {
                if order == Order::Ascending {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (_, (Some(_), _)) => {
                if order == Order::Ascending {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            ((_, a), (_, b)) => a.cmp(&b),
        };
        assert_eq!(
            pages(index, query),
            sorted(|_| true, rate, order, compare),
            "{order:?}"
        );
    }
}
