//! Media, alerts, and what a console's lines are asked for.

use runtree_core::console::ConsoleLevel;
use runtree_core::event::{Event, Lamport, RunStatus};
use runtree_core::media::{AlertLevel, MediaItem, MediaKind};
use runtree_core::{AttemptNumber, Step, Timestamp};
use runtree_index::{ConsoleFilter, ConsoleQuery, Index, MediaQuery, MetricChoice, StepSpan};

use crate::builder::{Journal, NOW, attempt_id, run, run_id};
use crate::indexes;

indexes! {
    media_are_found_by_launch_name_rank_and_step,
    the_last_word_at_a_step_counts_in_whatever_order_journals_are_folded,
    alerts_are_counted_and_the_newest_are_kept_in_order,
    console_lines_are_asked_for_by_level_text_launch_and_rank,
    pages_of_a_filtered_console_leave_nothing_out,
    what_was_found_out_later_is_added_to_a_process,
    the_failure_of_one_rank_outlives_the_goodbye_of_another,
    a_launch_that_began_again_is_not_failed,
}

fn text(value: &str) -> MediaItem {
    MediaItem {
        content_type: "text/plain".to_owned(),
        bytes: value.len() as u64,
        caption: None,
        file_name: None,
        size: None,
        inline: Some(value.to_owned()),
        chunks: Vec::new(),
    }
}

fn media(name: &str, rank: Option<u32>, step: i64, value: &str) -> Event {
    Event::Media {
        name: name.to_owned(),
        rank,
        step: Step(step),
        at: Timestamp(step),
        kind: MediaKind::Text,
        items: vec![text(value)],
    }
}

fn query(attempt: u32, name: &str, rank: Option<u32>) -> MediaQuery {
    MediaQuery {
        attempt: attempt_id(1, attempt),
        name: name.to_owned(),
        rank,
        span: StepSpan::ALL,
        newest_first: false,
        limit: 100,
    }
}

fn found(index: &dyn Index, query: &MediaQuery) -> Vec<(i64, String)> {
    let rows = index.snapshot().unwrap().media(query).unwrap();
    rows.into_iter()
        .map(|row| (row.step.0, row.items[0].inline.clone().unwrap()))
        .collect()
}

fn media_are_found_by_launch_name_rank_and_step(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let mut journal = Journal::opened(1, 1, 7, 10);
    for step in [5, 1, 3] {
        journal = journal.event(media("a", None, step, &format!("a{step}")));
    }
    journal = journal
        .event(media("b", Some(3), 2, "b2"))
        .event(media("a", Some(0), 9, "rank 0"));
    index.apply(&[journal.whole()]).unwrap();
    let at = |name: &str, rank| found(index, &query(1, name, rank));
    let texts = |list: &[(i64, &str)]| -> Vec<(i64, String)> {
        list.iter().map(|(s, t)| (*s, (*t).to_owned())).collect()
    };
    assert_eq!(at("a", None), texts(&[(1, "a1"), (3, "a3"), (5, "a5")]));
    assert_eq!(at("a", Some(0)), texts(&[(9, "rank 0")]));
    assert_eq!(at("b", None), texts(&[]));
    assert_eq!(at("c", None), texts(&[]));
    assert_eq!(found(index, &query(2, "a", None)), texts(&[]));
    let newest = MediaQuery {
        newest_first: true,
        limit: 1,
        span: StepSpan {
            first: Step::MIN,
            last: Step(4),
        },
        ..query(1, "a", None)
    };
    assert_eq!(found(index, &newest), texts(&[(3, "a3")]));
    let snapshot = index.snapshot().unwrap();
    let keys = snapshot
        .media_keys(attempt_id(1, 1), StepSpan::ALL)
        .unwrap();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            (
                key.name.as_str(),
                key.rank,
                key.entries,
                key.first.0,
                key.last.0,
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            ("a", None, 3, 1, 5),
            ("a", Some(0), 1, 9, 9),
            ("b", Some(3), 1, 2, 2)
        ]
    );
    let span = StepSpan {
        first: Step(2),
        last: Step(5),
    };
    let steps = |name| -> Vec<i64> {
        let steps = snapshot.media_steps(attempt_id(1, 1), span, name).unwrap();
        steps.into_iter().map(|step| step.0).collect()
    };
    assert_eq!(steps(None), [2, 3, 5]);
    assert_eq!(steps(Some(("a", None))), [3, 5]);
    assert_eq!(steps(Some(("b", Some(3)))), [2]);
    assert_eq!(steps(Some(("b", None))), [0_i64; 0]);
}

fn the_last_word_at_a_step_counts_in_whatever_order_journals_are_folded(index: &dyn Index) {
    // Two processes of one launch: the one that opened later wins; within a journal, the later frame.
    let early = Journal::opened(1, 1, 9, 10)
        .event(media("a", None, 1, "early"))
        .event(media("a", None, 2, "first"))
        .event(media("a", None, 2, "second"));
    let late = Journal::opened(1, 1, 4, 20).event(media("a", None, 1, "late"));
    for journals in [[&early, &late], [&late, &early]] {
        index.clear().unwrap();
        index.apply(&run(1, None)).unwrap();
        for journal in journals {
            index.apply(&[journal.whole()]).unwrap();
        }
        let expected = [(1, "late".to_owned()), (2, "second".to_owned())];
        assert_eq!(found(index, &query(1, "a", None)), expected);
    }
}

fn alerts_are_counted_and_the_newest_are_kept_in_order(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let mut journal = Journal::opened(1, 1, 7, 10);
    for (at, level) in [
        (11, AlertLevel::Info),
        (12, AlertLevel::Error),
        (13, AlertLevel::Warn),
    ] {
        journal = journal.event(Event::Alert {
            title: format!("t{at}"),
            text: String::new(),
            level,
            step: Some(Step(at)),
            at: Timestamp(at),
        });
    }
    index.apply(&[journal.whole()]).unwrap();
    let snapshot = index.snapshot().unwrap();
    let titles: Vec<_> = snapshot
        .alerts(run_id(1), 2)
        .unwrap()
        .into_iter()
        .map(|alert| (alert.title, alert.level, alert.attempt, alert.step))
        .collect();
    let first = Some(AttemptNumber(1));
    assert_eq!(
        titles,
        [
            ("t12".to_owned(), AlertLevel::Error, first, Some(Step(12))),
            ("t13".to_owned(), AlertLevel::Warn, first, Some(Step(13))),
        ]
    );
    let count = snapshot.alert_count(run_id(1)).unwrap();
    assert_eq!((count.alerts, count.worst), (3, Some(AlertLevel::Error)));
    assert_eq!(snapshot.alert_count(run_id(2)).unwrap().worst, None);
}

fn opened_as(rank: u32, attempt: u32, writer: u64, at: i64) -> Journal {
    Journal::tool(1, writer).event(Event::Opened {
        attempt: Some(AttemptNumber(attempt)),
        rank,
        world_size: 4,
        at: Timestamp(at),
        process: [("host".to_owned(), "here".to_owned())].into(),
    })
}

fn printed(at: i64, lines: &[&str]) -> Event {
    Event::Console {
        stream: "stdout".to_owned(),
        at: Timestamp(at),
        lines: lines.iter().map(|&line| line.to_owned()).collect(),
    }
}

fn console(index: &dyn Index, filter: &ConsoleFilter, limit: u32) -> Vec<String> {
    let mut cursor = None;
    let mut lines = Vec::new();
    loop {
        let page = index
            .snapshot()
            .unwrap()
            .console(&ConsoleQuery {
                run: run_id(1),
                cursor,
                limit,
                filter: filter.clone(),
            })
            .unwrap();
        assert!(page.lines.len() <= limit as usize);
        if page.lines.is_empty() {
            return lines;
        }
        lines.extend(page.lines.into_iter().map(|line| line.text));
        cursor = page.next_cursor;
    }
}

fn console_lines_are_asked_for_by_level_text_launch_and_rank(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let zero =
        opened_as(0, 1, 7, 10).event(printed(11, &["INFO: begun", "plain", "ERROR: Broken"]));
    let three = opened_as(3, 2, 8, 20).event(printed(21, &["WARNING: broken?", "more"]));
    index.apply(&[zero.whole(), three.whole()]).unwrap();
    let lines = |filter: ConsoleFilter| console(index, &filter, 100);
    let all = ConsoleFilter::default;
    assert_eq!(lines(all()).len(), 5);
    assert_eq!(
        lines(ConsoleFilter {
            level: Some(ConsoleLevel::Warning),
            ..all()
        }),
        ["ERROR: Broken", "WARNING: broken?"]
    );
    assert_eq!(
        lines(ConsoleFilter {
            search: Some("bRoKen".to_owned()),
            ..all()
        }),
        ["ERROR: Broken", "WARNING: broken?"]
    );
    assert_eq!(
        lines(ConsoleFilter {
            attempt: Some(AttemptNumber(1)),
            level: Some(ConsoleLevel::Info),
            ..all()
        }),
        ["INFO: begun", "ERROR: Broken"]
    );
    assert_eq!(
        lines(ConsoleFilter {
            rank: Some(3),
            ..all()
        }),
        ["WARNING: broken?", "more"]
    );
    assert_eq!(
        lines(ConsoleFilter {
            rank: Some(1),
            ..all()
        }),
        [""; 0]
    );
    let page = index
        .snapshot()
        .unwrap()
        .console(&ConsoleQuery {
            run: run_id(1),
            cursor: None,
            limit: 100,
            filter: all(),
        })
        .unwrap();
    let told: Vec<_> = page
        .lines
        .iter()
        .map(|line| (line.rank, line.level))
        .collect();
    assert_eq!(told[0], (0, Some(ConsoleLevel::Info)));
    assert_eq!(told[1], (0, None));
    assert_eq!(told[3], (3, Some(ConsoleLevel::Warning)));
}

fn pages_of_a_filtered_console_leave_nothing_out(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let mut journal = Journal::opened(1, 1, 7, 10);
    let mut errors = Vec::new();
    for frame in 0..20 {
        let lines: Vec<String> = (0..frame % 5)
            .map(|line| {
                let level = if (frame + line) % 3 == 0 {
                    "ERROR"
                } else {
                    "INFO"
                };
                format!("{level}: {frame} {line}")
            })
            .collect();
        errors.extend(
            lines
                .iter()
                .filter(|line| line.starts_with("ERROR"))
                .cloned(),
        );
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        journal = journal.event(printed(20 + frame, &lines));
    }
    index.apply(&[journal.whole()]).unwrap();
    let filter = ConsoleFilter {
        level: Some(ConsoleLevel::Error),
        ..ConsoleFilter::default()
    };
    for limit in 1..=errors.len() as u32 + 1 {
        assert_eq!(console(index, &filter, limit), errors, "{limit} a page");
    }
}

fn what_was_found_out_later_is_added_to_a_process(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let journal = opened_as(0, 1, 7, 10).event(Event::Environment {
        facts: [
            ("gpu".to_owned(), "H100".to_owned()),
            ("host".to_owned(), "there".to_owned()),
        ]
        .into(),
        at: Timestamp(15),
    });
    index.apply(&[journal.whole()]).unwrap();
    let writers = index.snapshot().unwrap().writers(run_id(1)).unwrap();
    assert_eq!(writers[0].process["gpu"], "H100");
    assert_eq!(writers[0].process["host"], "there");
    assert_eq!(writers[0].last_alive, Some(Timestamp(15)));
}

fn says(lamport: u64, status: RunStatus, reason: &str) -> Event {
    Event::Status {
        lamport: Lamport(lamport),
        attempt: Some(AttemptNumber(1)),
        status,
        reason: Some(reason.to_owned()),
        at: Timestamp(100 + lamport as i64),
    }
}

fn status(index: &dyn Index) -> (RunStatus, Option<String>) {
    let row = index
        .snapshot()
        .unwrap()
        .run(run_id(1), &MetricChoice::None, NOW);
    let row = row.unwrap().unwrap();
    (row.status, row.status_reason)
}

fn the_failure_of_one_rank_outlives_the_goodbye_of_another(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let zero = opened_as(0, 1, 7, 10)
        .event(says(1, RunStatus::Running, ""))
        .event(says(3, RunStatus::Completed, ""));
    let three = opened_as(3, 1, 8, 10).event(says(2, RunStatus::Failed, "rank 3: boom"));
    let four = opened_as(4, 1, 9, 10).event(says(4, RunStatus::Stopped, "SIGTERM"));
    let journals = [&zero, &three, &four];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        index.clear().unwrap();
        index.apply(&run(1, None)).unwrap();
        for at in order {
            index.apply(&[journals[at].whole()]).unwrap();
        }
        let expected = (RunStatus::Failed, Some("rank 3: boom".to_owned()));
        assert_eq!(status(index), expected);
    }
    // What somebody says from outside, later, is heard.
    let tool = Journal::tool(1, 11).event(Event::Status {
        lamport: Lamport(9),
        attempt: None,
        status: RunStatus::Stopped,
        reason: None,
        at: Timestamp(1000),
    });
    index.apply(&[tool.whole()]).unwrap();
    assert_eq!(status(index), (RunStatus::Stopped, None));
}

fn a_launch_that_began_again_is_not_failed(index: &dyn Index) {
    index.apply(&run(1, None)).unwrap();
    let first = opened_as(0, 1, 7, 10)
        .event(says(1, RunStatus::Running, ""))
        .event(says(2, RunStatus::Failed, "boom"));
    let again = opened_as(0, 1, 8, 20).event(says(3, RunStatus::Running, ""));
    index.apply(&[first.whole(), again.whole()]).unwrap();
    assert_eq!(status(index).0, RunStatus::Running);
    let rest = again.event(says(4, RunStatus::Completed, ""));
    index.apply(&[rest.whole()]).unwrap();
    assert_eq!(status(index).0, RunStatus::Completed);
}
