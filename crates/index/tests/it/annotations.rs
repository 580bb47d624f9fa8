//! Fields that several writers set, statuses, consoles, files.

use std::collections::BTreeMap;

use runtree_core::event::{Event, Lamport, RunStatus};
use runtree_core::manifest::AttemptKind;
use runtree_core::{AttemptNumber, ErrorKind, Timestamp};
use runtree_index::{
    ConsoleFilter, ConsoleQuery, FoldItem, Index, JournalCursor, Liveness, MetricChoice,
};
use serde_json::json;

use crate::builder::{Journal, attempt, base, born, fold, record, run, run_id, show};

crate::indexes! {
    the_larger_lamport_count_wins_then_the_larger_writer,
    config_patches_merge_in_lamport_order,
    a_silent_run_is_lost_and_a_closed_one_completed,
    a_relaunch_runs_again_whatever_was_said_before,
    a_fork_nothing_was_logged_to_is_created,
    a_run_rewound_by_hand_waits_for_its_next_process,
    console_pages_end_where_they_say,
    the_newest_file_of_a_name_is_shown,
    lost_points_are_listed,
    stamps_are_remembered_with_their_batch,
    frames_that_do_not_fit_are_refused_whole,
    frames_folded_by_somebody_else_are_skipped,
}

fn named(n: u64, writer: u64, lamport: u64, name: &str) -> FoldItem {
    let event = Event::Name {
        lamport: Lamport(lamport),
        name: name.to_owned(),
    };
    Journal::tool(n, writer).event(event).whole()
}

fn the_larger_lamport_count_wins_then_the_larger_writer(index: &dyn Index) {
    fold(index, run(1, None));
    assert_eq!(show(index, 1).name, "run-1");
    fold(index, [named(1, 5, 2, "five")]);
    fold(index, [named(1, 4, 2, "four")]);
    assert_eq!(show(index, 1).name, "five");
    // A writer whose id has the highest bit set is the larger one.
    fold(index, [named(1, u64::MAX, 2, "max")]);
    assert_eq!(show(index, 1).name, "max");
    fold(index, [named(1, 1, 3, "one")]);
    assert_eq!(show(index, 1).name, "one");
    assert_eq!(show(index, 1).lamport, 3);
}

fn config_patches_merge_in_lamport_order(index: &dyn Index) {
    let mut birth = record(1, None);
    birth.config = json!({"a": {"b": 1, "c": 2}, "lr": 0.1});
    fold(index, [born(birth)]);
    let late = Journal::tool(1, 1).config(5, json!({"a": {"b": 5}, "new": [1, 2]}));
    let early =
        Journal::tool(1, 2).config(3, json!({"a": {"b": 3, "d": {"e": 4}}, "lr": {"x": 1}}));
    fold(index, [late.whole()]);
    fold(index, [early.whole()]);
    assert_eq!(
        show(index, 1).config,
        json!({"a": {"b": 5, "c": 2, "d": {"e": 4}}, "lr": {"x": 1}, "new": [1, 2]})
    );
}

fn status(index: &dyn Index, n: u64, now: i64) -> RunStatus {
    let liveness = Liveness {
        now: Timestamp(now),
        lost_after_micros: 100,
    };
    let snapshot = index.snapshot().unwrap();
    let row = snapshot.run(run_id(n), &MetricChoice::None, liveness);
    row.unwrap().unwrap().status
}

fn a_silent_run_is_lost_and_a_closed_one_completed(index: &dyn Index) {
    fold(index, run(1, None));
    let one = Journal::opened(1, 1, 1, 1000)
        .event(Event::Alive {
            at: Timestamp(1050),
        })
        .event(Event::Closed {
            at: Timestamp(1060),
        });
    let two = Journal::opened(1, 1, 2, 1000).event(Event::Closed {
        at: Timestamp(1070),
    });
    fold(index, [one.range(0, 2), two.whole()]);
    assert_eq!(status(index, 1, 1150), RunStatus::Running);
    assert_eq!(status(index, 1, 1151), RunStatus::Lost);
    fold(index, [one.range(2, 3)]);
    assert_eq!(status(index, 1, 9999), RunStatus::Completed);
    let failed = Journal::tool(1, 3).status(1, Some(1), RunStatus::Failed);
    fold(index, [failed.whole()]);
    assert_eq!(status(index, 1, 9999), RunStatus::Failed);
    assert_eq!(show(index, 1).status_reason.as_deref(), Some("because 1"));
}

fn a_relaunch_runs_again_whatever_was_said_before(index: &dyn Index) {
    fold(index, run(1, None));
    let ended = Journal::opened(1, 1, 1, 20).status(7, Some(1), RunStatus::Failed);
    fold(index, [ended.whole()]);
    assert_eq!(status(index, 1, 50), RunStatus::Failed);
    fold(index, [attempt(1, 2, Some(base(1, 1, 5)))]);
    assert_eq!(
        status(index, 1, 50),
        RunStatus::Running,
        "it is being launched"
    );
    fold(index, [Journal::opened(1, 2, 2, 40).whole()]);
    assert_eq!(status(index, 1, 50), RunStatus::Running);
    assert_eq!(status(index, 1, 500), RunStatus::Lost);
    // A tool's word after the launch counts.
    let stopped = Journal::tool(1, 3).status(8, None, RunStatus::Stopped);
    fold(index, [stopped.whole()]);
    assert_eq!(status(index, 1, 500), RunStatus::Stopped);
}

fn a_fork_nothing_was_logged_to_is_created(index: &dyn Index) {
    fold(index, run(1, None));
    fold(index, run(2, Some(base(1, 1, 5))));
    assert_eq!(status(index, 2, 1_000_000), RunStatus::Created);
    fold(index, [Journal::opened(2, 1, 1, 30).whole()]);
    assert_eq!(status(index, 2, 40), RunStatus::Running);
}

fn a_run_rewound_by_hand_waits_for_its_next_process(index: &dyn Index) {
    fold(index, run(1, None));
    let ended = Journal::opened(1, 1, 1, 20).event(Event::Closed { at: Timestamp(30) });
    fold(index, [ended.whole()]);
    let mut rewound = attempt(1, 2, Some(base(1, 1, 5)));
    if let FoldItem::Attempt(record) = &mut rewound {
        record.kind = AttemptKind::Rewind;
    }
    fold(index, [rewound]);
    assert_eq!(status(index, 1, 1_000_000), RunStatus::Created);
}

fn console_pages_end_where_they_say(index: &dyn Index) {
    fold(index, run(1, None));
    let printed = |at: i64, lines: &[&str]| Event::Console {
        stream: "stdout".to_owned(),
        at: Timestamp(at),
        lines: lines.iter().map(|&line| line.to_owned()).collect(),
    };
    let journal = Journal::opened(1, 1, 1, 0)
        .event(printed(10, &["a", "b", "c"]))
        .event(printed(11, &[]))
        .event(printed(12, &["d"]))
        .event(printed(13, &["e"]));
    fold(index, [journal.range(0, 4)]);
    let mut query = ConsoleQuery {
        run: run_id(1),
        cursor: None,
        limit: 2,
        filter: ConsoleFilter::default(),
    };
    let mut page = || {
        let slice = index.snapshot().unwrap().console(&query).unwrap();
        query.cursor = slice.next_cursor;
        slice
            .lines
            .into_iter()
            .map(|line| line.text)
            .collect::<String>()
    };
    assert_eq!(page(), "ab");
    assert_eq!(page(), "cd");
    assert_eq!(page(), "");
    fold(index, [journal.range(4, 5)]);
    assert_eq!(page(), "e");
    assert_eq!(page(), "");
    query.cursor = Some("1:2".to_owned());
    let error = index.snapshot().unwrap().console(&query).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn the_newest_file_of_a_name_is_shown(index: &dyn Index) {
    fold(index, run(1, None));
    let file = |at: i64, bytes| Event::File {
        name: "plot.png".to_owned(),
        bytes,
        chunks: Vec::new(),
        at: Timestamp(at),
    };
    let newer = Journal::opened(1, 1, 1, 0).event(file(20, 200));
    let older = Journal::opened(1, 1, 2, 0).event(file(10, 100));
    fold(index, [newer.whole()]);
    fold(index, [older.whole()]);
    let files = index.snapshot().unwrap().files(run_id(1)).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].bytes, files[0].at), (200, Timestamp(20)));
}

fn lost_points_are_listed(index: &dyn Index) {
    fold(index, run(1, None));
    let journal = Journal::opened(1, 1, 1, 0).event(Event::Lost {
        reason: "the queue was full".to_owned(),
        points: BTreeMap::from([("loss".to_owned(), 17)]),
        at: Timestamp(3),
    });
    fold(index, [journal.whole()]);
    let lost = index.snapshot().unwrap().lost(run_id(1)).unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].points["loss"], 17);
    assert_eq!(lost[0].attempt, Some(AttemptNumber(1)));
}

fn stamps_are_remembered_with_their_batch(index: &dyn Index) {
    let stamp = |value: &[u8]| FoldItem::Stamp {
        key: "runs/x".to_owned(),
        value: value.to_vec(),
    };
    assert_eq!(index.stamp("runs/x").unwrap(), None);
    fold(index, [stamp(b"one")]);
    assert_eq!(index.stamp("runs/x").unwrap().unwrap(), b"one");
    let misfit = Journal::opened(1, 1, 1, 0).event(Event::Alive { at: Timestamp(1) });
    let result = index.apply(&[stamp(b"two"), misfit.range(1, 2)]);
    assert!(result.is_err());
    assert_eq!(
        index.stamp("runs/x").unwrap().unwrap(),
        b"one",
        "all or nothing"
    );
    fold(index, [stamp(b"")]);
    assert_eq!(index.stamp("runs/x").unwrap(), None);
}

fn frames_that_do_not_fit_are_refused_whole(index: &dyn Index) {
    fold(index, run(1, None));
    let journal = Journal::opened(1, 1, 1, 0)
        .points(&[("loss", 1, 1.0)])
        .points(&[("loss", 2, 2.0)]);
    fold(index, [journal.range(0, 1)]);
    let error = index.apply(&[journal.range(2, 3)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        index.cursor(run_id(1), journal.writer).unwrap(),
        journal.cursor(1)
    );
    // The same ordinal with another hash is another journal.
    let FoldItem::Frames(mut foreign) = journal.range(1, 2) else {
        unreachable!()
    };
    foreign.before.hash ^= 1;
    let error = index.apply(&[FoldItem::Frames(foreign)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    fold(index, [journal.range(1, 3)]);
    assert_eq!(show(index, 1).metrics["loss"].last.value, 2.0);
}

fn frames_folded_by_somebody_else_are_skipped(index: &dyn Index) {
    fold(index, run(1, None));
    assert_eq!(
        index.cursor(run_id(1), Journal::tool(1, 1).writer).unwrap(),
        JournalCursor::default()
    );
    let journal = Journal::opened(1, 1, 1, 0)
        .points(&[("loss", 1, 1.0)])
        .points(&[("loss", 1, 2.0)])
        .points(&[("loss", 3, 3.0)]);
    fold(index, [journal.range(0, 3)]);
    // Would set step 1 back to 1.0 if it were folded again.
    fold(index, [journal.range(0, 2)]);
    fold(index, [journal.range(1, 4)]);
    assert_eq!(
        index.cursor(run_id(1), journal.writer).unwrap(),
        journal.cursor(4)
    );
    let snapshot = index.snapshot().unwrap();
    let points =
        crate::builder::own_points(snapshot.as_ref(), crate::builder::attempt_id(1, 1), "loss");
    assert_eq!(crate::builder::pairs(&points), [(1, 2.0), (3, 3.0)]);
}
