//! Lists of runs: filters, sorts, pages, lookups.

use std::time::Instant;

use runtree_core::event::{Event, Lamport};
use runtree_core::filter::{Filter, Summary};
use runtree_core::{ErrorKind, RunId, Timestamp};
use runtree_index::{Deleted, FoldItem, Index, MetricChoice, Order, RunLookup, RunQuery, RunSort};
use serde_json::json;

use crate::builder::{Journal, NOW, attempt, base, born, fold, record, run, run_id};

crate::indexes! {
    text_search_looks_at_names_ids_keys_notes_tags_and_config_values,
    filters_combine,
    times_are_compared,
    relatives_are_found_at_any_distance,
    sorts_put_runs_without_a_value_last_in_both_directions,
    pages_cover_everything_once,
    a_foreign_cursor_is_refused,
    deleted_runs_are_hidden_unless_asked_for,
    lookups_find_the_newest_first,
    projects_are_counted,
    only_the_metrics_asked_for_are_shown,
    keys_are_those_of_the_project_and_of_runs_that_are_not_deleted,
    keys_of_a_project_with_very_many_are_found_too,
    a_number_is_a_cursor,
}

fn numbers(index: &dyn Index, query: &RunQuery) -> Vec<u64> {
    let page = index.snapshot().unwrap().runs(query).unwrap();
    assert_eq!(page.total as usize, page.runs.len(), "one page");
    page.runs
        .iter()
        .map(|run| run.record.display_id.number())
        .collect()
}

fn asked(change: impl FnOnce(&mut RunQuery)) -> RunQuery {
    let mut query = RunQuery::new(NOW);
    query.order = Order::Ascending;
    change(&mut query);
    query
}

/// A filter that names runs by their number.
fn filter(text: &str) -> Filter<RunId> {
    let filter: Filter = text.parse().unwrap();
    let mut find = |number: String| Ok(run_id(number.parse().unwrap()));
    filter.resolve(&mut find).unwrap()
}

fn search(text: &str) -> Filter<RunId> {
    let words = text.split_whitespace();
    Filter::All(words.map(|word| Filter::Word(word.to_owned())).collect())
}

fn five(index: &dyn Index) {
    let mut items = Vec::new();
    for n in 1..=5 {
        let mut birth = record(n, (n == 5).then(|| base(1, 1, 100)));
        birth.config = json!({"lr": n as f64 / 10.0, "opt": {"name": if n % 2 == 0 { "AdamW" } else { "sgd" }}, "seed": 7});
        birth.tags = vec![format!("tag{}", n % 2)];
        birth.notes = (n == 2).then(|| "Élan vital".to_owned());
        birth.key = (n == 3).then(|| "my-Key".to_owned());
        if n == 4 {
            birth.project = "other".parse().unwrap();
            birth.config["opt"] = json!("none");
        }
        items.push(born(birth));
        items.push(attempt(n, 1, (n == 5).then(|| base(1, 1, 100))));
    }
    let loss = [f64::NAN, 2.0, 0.5];
    for n in 1..=3 {
        let journal =
            Journal::opened(n, 1, n, 5).points(&[("loss", n as i64 * 10, loss[n as usize - 1])]);
        items.push(journal.whole());
    }
    fold(index, items);
}

fn text_search_looks_at_names_ids_keys_notes_tags_and_config_values(index: &dyn Index) {
    five(index);
    let found = |text: &str| numbers(index, &asked(|query| query.filter = search(text)));
    assert_eq!(found("RUN-2"), [2]);
    assert_eq!(found("dem-3"), [3]);
    assert_eq!(found("my-key"), [3]);
    assert_eq!(found("élan"), [2]);
    assert_eq!(found("tag0"), [2, 4]);
    assert_eq!(found("adamw"), [2]);
    assert_eq!(found("sgd tag1"), [1, 3, 5]);
    assert_eq!(found("0.3"), [3]);
    assert_eq!(found("opt.name"), [0_u64; 0], "keys are not values");
    assert_eq!(found("  "), [1, 2, 3, 4, 5]);
    assert_eq!(found("%"), [0_u64; 0], "no wildcards");
}

fn filters_combine(index: &dyn Index) {
    five(index);
    let found = |text: &str| numbers(index, &asked(|query| query.filter = filter(text)));
    let cases: [(&str, &[u64]); 38] = [
        ("config.lr = 0.30", &[3]),
        ("config.lr < 0.3", &[1, 2]),
        ("config.lr >= 0.4 or id = dem-1", &[1, 4, 5]),
        ("config.opt.name = sgd", &[1, 3, 5]),
        ("config.opt.name ~ ADAM", &[2]),
        ("config.opt.name > b", &[1, 3, 5]),
        ("config.opt = none", &[4]),
        ("config.nothing = 1", &[]),
        ("config.nothing != 1", &[1, 2, 3, 4, 5]),
        ("not config.opt.name = sgd", &[2, 4]),
        ("config.opt.name !~ g", &[2, 4]),
        ("tag = tag1", &[1, 3, 5]),
        ("tag ~ TAG", &[1, 2, 3, 4, 5]),
        ("tag in (tag0, other)", &[2, 4]),
        ("project = other", &[4]),
        ("key = my-Key", &[3]),
        ("key ~ MY", &[3]),
        ("key != my-Key", &[1, 2, 4, 5]),
        ("name = run-2", &[2]),
        ("name ~ RUN", &[1, 2, 3, 4, 5]),
        ("status = running", &[1, 2, 3]),
        ("status in (created, failed)", &[4, 5]),
        ("status != running tag = tag1", &[5]),
        ("number <= 2", &[1, 2]),
        ("attempt = 1", &[1, 2, 3, 4, 5]),
        ("step > 10", &[2, 3]),
        ("step = 10", &[1, 5]),
        ("fork_step = 100", &[5]),
        ("not fork_step >= 0", &[1, 2, 3, 4]),
        ("checkpoints = 0", &[1, 2, 3, 4, 5]),
        ("notes ~ éLAN", &[2]),
        ("(sgd or AdamW) not dem-1", &[2, 3, 5]),
        ("loss < 2", &[3]),
        ("loss <= 2", &[2, 3]),
        ("last(loss) != 0.5", &[1, 2, 4, 5]),
        ("loss = nan", &[1, 5]),
        ("min(loss) > 0 max(loss) < 1", &[3]),
        ("deleted = true", &[]),
    ];
    for (text, expected) in cases {
        let expected: Vec<u64> = expected.to_vec();
        assert_eq!(found(text), expected, "{text}");
    }
    assert_eq!(
        numbers(
            index,
            &asked(|query| {
                query.runs = vec![run_id(4), run_id(1), run_id(99)];
                query.filter = filter("tag = tag1");
            })
        ),
        [1]
    );
    assert_eq!(
        numbers(
            index,
            &asked(|query| {
                query.filter =
                    filter("config.seed = 7 tag:tag1 status in (running, failed) sgd loss != 1");
                query.sort = RunSort::Metric("loss".to_owned(), Summary::Last);
            })
        ),
        [3, 1]
    );
}

fn times_are_compared(index: &dyn Index) {
    five(index);
    let births = |text: &str| numbers(index, &asked(|query| query.filter = filter(text)));
    let all = births("created > 1970-01-01");
    assert_eq!(all, births("not created > 2999-01-01"));
    assert_eq!(births("created <= 1969-12-31"), [0_u64; 0]);
    assert_eq!(
        births("active < -1w").len() + births("active >= -1w").len(),
        all.len()
    );
}

fn relatives_are_found_at_any_distance(index: &dyn Index) {
    for n in 1..=4 {
        fold(index, run(n, (n > 1).then(|| base(n - 1, 1, 1))));
    }
    fold(index, run(5, Some(base(2, 1, 1))));
    fold(index, run(6, None));
    let found = |text: &str| numbers(index, &asked(|query| query.filter = filter(text)));
    assert_eq!(found("descendants(2)"), [3, 4, 5]);
    assert_eq!(found("ancestors(4)"), [1, 2, 3]);
    assert_eq!(found("forks(2)"), [3, 5]);
    assert_eq!(found("root(5)"), [1, 2, 3, 4, 5]);
    assert_eq!(found("not root(5)"), [6]);
    assert_eq!(
        found("descendants(1) not descendants(2) not forks(1)"),
        [0_u64; 0]
    );
}

fn sorts_put_runs_without_a_value_last_in_both_directions(index: &dyn Index) {
    five(index);
    let sorted = |sort: RunSort, order| {
        numbers(
            index,
            &asked(|query| {
                query.sort = sort;
                query.order = order;
            }),
        )
    };
    // Without a value: NaN (1) and nothing (4, 5), newest first.
    assert_eq!(
        sorted(
            RunSort::Metric("loss".to_owned(), Summary::Last),
            Order::Ascending
        ),
        [3, 2, 5, 4, 1]
    );
    assert_eq!(
        sorted(
            RunSort::Metric("loss".to_owned(), Summary::Last),
            Order::Descending
        ),
        [2, 3, 5, 4, 1]
    );
    assert_eq!(
        sorted(RunSort::Config("lr".to_owned()), Order::Descending),
        [5, 4, 3, 2, 1]
    );
    assert_eq!(
        sorted(RunSort::Config("opt.name".to_owned()), Order::Ascending),
        [2, 5, 3, 1, 4]
    );
    // The fork inherits step 10 of run 1.
    assert_eq!(sorted(RunSort::LastStep, Order::Ascending), [5, 1, 2, 3, 4]);
    assert_eq!(
        sorted(RunSort::LastStep, Order::Descending),
        [3, 2, 5, 1, 4]
    );
    assert_eq!(sorted(RunSort::Created, Order::Descending), [5, 4, 3, 2, 1]);
    assert_eq!(sorted(RunSort::Name, Order::Ascending), [1, 2, 3, 4, 5]);
    assert_eq!(sorted(RunSort::Number, Order::Descending), [5, 4, 3, 2, 1]);
    assert_eq!(sorted(RunSort::Status, Order::Ascending), [5, 4, 3, 2, 1]);
    assert_eq!(
        sorted(RunSort::LastActivity, Order::Descending),
        [5, 4, 3, 2, 1]
    );
}

fn pages_cover_everything_once(index: &dyn Index) {
    five(index);
    let mut query = asked(|query| {
        query.limit = 2;
        query.sort = RunSort::Metric("loss".to_owned(), Summary::Last);
    });
    let mut seen = Vec::new();
    loop {
        let page = index.snapshot().unwrap().runs(&query).unwrap();
        assert_eq!(page.total, 5);
        seen.extend(page.runs.iter().map(|run| run.record.display_id.number()));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(seen, [3, 2, 5, 4, 1]);
}

fn a_foreign_cursor_is_refused(index: &dyn Index) {
    let query = asked(|query| query.cursor = Some("next please".to_owned()));
    let error = index.snapshot().unwrap().runs(&query).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn deleted_runs_are_hidden_unless_asked_for(index: &dyn Index) {
    five(index);
    let deleted = Journal::tool(2, 50).event(Event::Deleted {
        lamport: Lamport(9),
        deleted: true,
        at: Timestamp(1),
    });
    fold(index, [deleted.whole()]);
    let found = |deleted| numbers(index, &asked(|query| query.deleted = deleted));
    assert_eq!(found(Deleted::Hide), [1, 3, 4, 5]);
    assert_eq!(found(Deleted::Only), [2]);
    assert_eq!(found(Deleted::Include), [1, 2, 3, 4, 5]);
    let back = Journal::tool(2, 51).event(Event::Deleted {
        lamport: Lamport(10),
        deleted: false,
        at: Timestamp(1),
    });
    fold(index, [back.whole()]);
    assert_eq!(found(Deleted::Hide), [1, 2, 3, 4, 5]);
}

fn lookups_find_the_newest_first(index: &dyn Index) {
    five(index);
    let mut twin = record(9, None);
    "run-1".clone_into(&mut twin.name);
    fold(index, [born(twin)]);
    let snapshot = index.snapshot().unwrap();
    let found = |lookup| snapshot.find_runs(None, &lookup).unwrap();
    assert_eq!(
        found(RunLookup::Name("run-1".to_owned())),
        [run_id(9), run_id(1)]
    );
    assert_eq!(found(RunLookup::Key("my-Key".to_owned())), [run_id(3)]);
    assert_eq!(
        found(RunLookup::DisplayId("DEM-4".parse().unwrap())),
        [run_id(4)]
    );
    let text = run_id(3).to_string();
    assert_eq!(found(RunLookup::Prefix(text.clone())), [run_id(3)]);
    assert_eq!(
        found(RunLookup::Prefix(text[..10].to_uppercase())),
        [run_id(3)]
    );
    assert_eq!(found(RunLookup::Prefix(text[..6].to_owned())).len(), 6);
    for nonsense in ["", "run-1", "ü", "zzzzzz", &format!("{text}0")] {
        assert_eq!(
            found(RunLookup::Prefix(nonsense.to_owned())),
            [],
            "{nonsense}"
        );
    }
    let other = "other".parse().unwrap();
    let name = RunLookup::Name("run-4".to_owned());
    assert_eq!(
        snapshot.find_runs(Some(&other), &name).unwrap(),
        [run_id(4)]
    );
    let name = RunLookup::Name("run-1".to_owned());
    assert_eq!(snapshot.find_runs(Some(&other), &name).unwrap(), []);
}

fn projects_are_counted(index: &dyn Index) {
    five(index);
    let projects = index.snapshot().unwrap().projects(NOW).unwrap();
    let counts: Vec<_> = projects
        .iter()
        .map(|project| (project.name.as_str(), project.runs, project.running))
        .collect();
    assert_eq!(counts, [("demo", 4, 3), ("other", 1, 0)]);
    assert_eq!(projects[0].last_activity, Some(Timestamp(51)));
}

fn only_the_metrics_asked_for_are_shown(index: &dyn Index) {
    fold(index, run(1, None));
    let journal = Journal::opened(1, 1, 1, 0).points(&[("a", 1, 1.0), ("b", 1, 2.0)]);
    fold(index, [journal.whole()]);
    let shown = |choice| {
        let query = asked(|query| query.show_metrics = choice);
        let page = index.snapshot().unwrap().runs(&query).unwrap();
        page.runs[0].metrics.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(shown(MetricChoice::All), ["a", "b"]);
    assert_eq!(shown(MetricChoice::None), [""; 0]);
    assert_eq!(
        shown(MetricChoice::These(vec!["b".to_owned(), "c".to_owned()])),
        ["b"]
    );
}

fn keys_are_those_of_the_project_and_of_runs_that_are_not_deleted(index: &dyn Index) {
    five(index);
    let keys = |index: &dyn Index, project: &str| {
        let snapshot = index.snapshot().unwrap();
        snapshot.known_keys(&project.parse().unwrap()).unwrap()
    };
    let demo = keys(index, "demo");
    assert_eq!(demo.metrics, ["loss"]);
    assert_eq!(demo.config, ["lr", "opt.name", "seed"]);
    assert_eq!(demo.tags, ["tag0", "tag1"]);
    let other = keys(index, "other");
    assert_eq!(other.config, ["lr", "opt", "seed"]);
    assert_eq!(
        (other.metrics.len(), other.tags),
        (0, vec!["tag0".to_owned()])
    );
    assert_eq!(keys(index, "nothing"), runtree_index::KnownKeys::default());
    let bin = Journal::tool(4, 50).event(Event::Deleted {
        lamport: Lamport(9),
        deleted: true,
        at: Timestamp(1),
    });
    fold(index, [bin.whole()]);
    assert_eq!(keys(index, "other"), runtree_index::KnownKeys::default());
}

fn keys_of_a_project_with_very_many_are_found_too(index: &dyn Index) {
    five(index);
    let names: Vec<String> = (0..50_100).map(|n| format!("many/{n:05}")).collect();
    let mut wide = record(9, None);
    wide.config = names.iter().map(|name| (name.clone(), json!(1))).collect();
    wide.tags.clone_from(&names);
    fold(index, [born(wide), attempt(9, 1, None)]);
    let snapshot = index.snapshot().unwrap();
    let keys = snapshot.known_keys(&"demo".parse().unwrap()).unwrap();
    let with = |others: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = others.iter().map(|&name| name.to_owned()).collect();
        all.extend(names.iter().cloned());
        all.sort();
        all
    };
    assert_eq!(keys.metrics, ["loss"]);
    assert!(keys.config == with(&["lr", "opt.name", "seed"]));
    assert!(keys.tags == with(&["tag0", "tag1"]));
    let other = snapshot.known_keys(&"other".parse().unwrap()).unwrap();
    assert_eq!(other.config, ["lr", "opt", "seed"]);
}

fn a_number_is_a_cursor(index: &dyn Index) {
    five(index);
    let query = asked(|query| {
        query.cursor = Some("3".to_owned());
        query.limit = 1;
    });
    let page = index.snapshot().unwrap().runs(&query).unwrap();
    assert_eq!(page.runs[0].record.display_id.number(), 4);
    assert_eq!((page.total, page.next_cursor.as_deref()), (5, Some("4")));
}

#[test]
#[ignore = "folds 100,000 runs: a measurement"]
fn a_page_of_a_hundred_thousand_runs_takes_milliseconds() {
    let fixture = crate::sqlite();
    let index = fixture.index.as_ref();
    let started = Instant::now();
    for thousand in 0..100_u64 {
        let mut items: Vec<FoldItem> = Vec::new();
        for n in thousand * 1000 + 1..=thousand * 1000 + 1000 {
            let mut birth = record(n, None);
            birth.config = json!({"lr": n as f64 / 1e5, "model": {"width": n % 7, "name": format!("net-{}", n % 100)}, "seed": n});
            birth.tags = vec![format!("tag{}", n % 10)];
            items.push(born(birth));
            items.push(attempt(n, 1, None));
            let value = (n as f64 * 0.7).sin();
            let journal =
                Journal::opened(n, 1, n, 5).points(&[("loss", 100, value), ("acc", 100, -value)]);
            items.push(journal.whole());
        }
        index.apply(&items).unwrap();
    }
    println!("folded in {:?}", started.elapsed());
    let started = Instant::now();
    drop(index.snapshot().unwrap());
    println!("settled in {:?}", started.elapsed());
    let queries = [
        ("newest", asked(|query| query.order = Order::Descending)),
        (
            "project",
            asked(|query| query.project = Some("demo".parse().unwrap())),
        ),
        (
            "activity",
            asked(|query| query.sort = RunSort::LastActivity),
        ),
        ("last step", asked(|query| query.sort = RunSort::LastStep)),
        ("name", asked(|query| query.sort = RunSort::Name)),
        ("status", asked(|query| query.sort = RunSort::Status)),
        (
            "metric",
            asked(|query| query.sort = RunSort::Metric("loss".to_owned(), Summary::Last)),
        ),
        (
            "config",
            asked(|query| query.sort = RunSort::Config("lr".to_owned())),
        ),
        ("text", asked(|query| query.filter = search("net-42 tag2"))),
        (
            "text, one hit",
            asked(|query| query.filter = search("dem-77777")),
        ),
        (
            "status filter",
            asked(|query| query.filter = filter("status = running")),
        ),
        ("tag", asked(|query| query.filter = filter("tag = tag3"))),
        (
            "loss < 0",
            asked(|query| query.filter = filter("min(loss) < 0")),
        ),
        (
            "page 1000",
            asked(|query| query.cursor = Some("50000".to_owned())),
        ),
    ];
    for (name, query) in queries {
        let page = index.snapshot().unwrap().runs(&query).unwrap();
        // The best of some: other work on the machine only ever adds.
        let best = (0..7)
            .map(|_| {
                let started = Instant::now();
                index.snapshot().unwrap().runs(&query).unwrap();
                started.elapsed()
            })
            .min()
            .unwrap();
        println!("{name}: {best:?} ({} of {})", page.runs.len(), page.total);
    }
    let started = Instant::now();
    index.snapshot().unwrap().projects(NOW).unwrap();
    println!("projects: {:?}", started.elapsed());
}
