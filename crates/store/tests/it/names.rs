//! Numbers, keys, prefixes; listings of what is in a store; stamps.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use proptest::prelude::*;
use runtree_core::manifest::{
    AttemptKind, AttemptRecord, CheckpointName, PinRecord, RoundRecord, RunRecord, TombstoneRecord,
};
use runtree_core::{AttemptNumber, ErrorKind, ProjectName, WriterId};
use runtree_store::wrappers::Meter;
use runtree_store::{
    Created, FrameKind, JournalWriter, ObjectPath, RunTrace, Store, Tombstone, Touches, layout,
};

use crate::support::{NOW, in_memory, key, on_disk, run};

fn project(name: &str) -> ProjectName {
    name.parse().unwrap()
}

fn run_record(store: &Store, number: u64, in_project: &str) -> RunRecord {
    let project = project(in_project);
    RunRecord {
        run: run(number),
        display_id: store.take_number(&project, run(number)).unwrap(),
        project,
        key: None,
        name: format!("run {number}"),
        experiment: "x".to_owned(),
        created: NOW,
        fork: None,
        base: None,
        config: serde_json::json!({}),
        inherited_config: Vec::new(),
        tags: Vec::new(),
        notes: None,
    }
}

fn attempt(number: u32) -> AttemptRecord {
    AttemptRecord {
        run: run(1),
        attempt: AttemptNumber(number),
        base: None,
        checkpoint: None,
        kind: AttemptKind::Start,
        launch_key: "k".to_owned(),
        created: NOW,
        launch: BTreeMap::new(),
    }
}

#[test]
fn numbers_are_taken_once_by_any_number_of_runs() {
    let store = on_disk();
    let project = project("My Model Project");
    let mut taken: Vec<u64> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..40)
            .map(|n| {
                let (store, project) = (&store, &project);
                scope.spawn(move || {
                    let id = store.take_number(project, run(n)).unwrap();
                    assert_eq!(id.prefix(), "MMP");
                    assert_eq!(
                        store.find_number(project, id.number()).unwrap(),
                        Some(run(n))
                    );
                    id.number()
                })
            })
            .collect();
        takers
            .into_iter()
            .map(|taker| taker.join().unwrap())
            .collect()
    });
    taken.sort_unstable();
    assert_eq!(taken, (1..=40).collect::<Vec<_>>());
}

#[test]
fn the_next_number_is_found_without_listing_those_that_are_taken() {
    let meter = Meter::new(Arc::new(InMemory::new()));
    let store = Store::create_over(meter.clone(), NOW).unwrap();
    let project = project("demo");
    for n in 1..=600 {
        assert_eq!(store.take_number(&project, run(n)).unwrap().number(), n);
        if n == 1 {
            // Pulled from a store where more had been born.
            let far = layout::number(&project, 1 << 40);
            crate::support::put(store.objects(), far.as_ref(), b"elsewhere");
        }
    }
    let before = meter.counts();
    store.take_number(&project, run(601)).unwrap();
    let after = meter.counts();
    assert_eq!(after.lists, before.lists);
    let asked = after.heads + after.gets - before.heads - before.gets;
    assert!(asked <= 2 * 10 + 3, "{asked} questions");
}

#[test]
fn a_prefix_is_set_once() {
    let store = in_memory();
    let project = project("demo");
    assert_eq!(store.set_prefix(&project, "ABC").unwrap(), "ABC");
    assert_eq!(store.set_prefix(&project, "XYZ").unwrap(), "ABC");
    assert_eq!(
        store.take_number(&project, run(1)).unwrap().to_string(),
        "ABC-1"
    );
    assert_eq!(
        store.set_prefix(&project, "lower").unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn projects_with_the_same_initials_number_their_runs_apart() {
    let store = on_disk();
    let take = |name: &str, n| {
        let id = store.take_number(&project(name), run(n)).unwrap();
        id.to_string()
    };
    assert_eq!(take("vision pretrain", 1), "VP-1");
    assert_eq!(take("vision posttrain", 2), "VP2-1");
    assert_eq!(take("video poses", 3), "VP3-1");
    assert_eq!(take("vision posttrain", 4), "VP2-2");
    // What somebody chose is what they get.
    store.set_prefix(&project("other"), "VP").unwrap();
    assert_eq!(take("other", 5), "VP-1");
}

#[test]
fn a_key_has_one_run() {
    let store = on_disk();
    let demo = project("demo");
    for hostile in ["exp/1", "../..", "", &"x".repeat(5000)] {
        assert_eq!(store.find_key(&demo, hostile).unwrap(), None);
        assert_eq!(store.claim_key(&demo, hostile, run(1)).unwrap(), run(1));
        assert_eq!(store.claim_key(&demo, hostile, run(2)).unwrap(), run(1));
        assert_eq!(store.claim_key(&demo, hostile, run(1)).unwrap(), run(1));
        assert_eq!(store.find_key(&demo, hostile).unwrap(), Some(run(1)));
    }
    assert_eq!(store.find_key(&project("other"), "exp/1").unwrap(), None);
    assert!(
        store
            .directory
            .path()
            .join("projects/demo/keys")
            .read_dir()
            .unwrap()
            .count()
            == 4
    );
}

#[test]
fn a_damaged_number_is_corrupt() {
    let store = in_memory();
    crate::support::put(store.objects(), "projects/demo/numbers/1", b"nobody");
    assert_eq!(
        store.find_number(&project("demo"), 1).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn listings_ignore_junk_and_sort() {
    for store in [&on_disk().store, &in_memory()] {
        for number in [3, 1, 2] {
            let record = run_record(store, number, "demo");
            assert_eq!(store.create_run(&record).unwrap(), Created::Created);
            assert_eq!(store.create_run(&record).unwrap(), Created::ExistsEqual);
            assert_eq!(store.read_run(run(number)).unwrap(), record);
        }
        for number in [10, 2, 1] {
            assert_eq!(
                store.create_attempt(&attempt(number)).unwrap(),
                Created::Created
            );
        }
        let junk = [
            "runs/.DS_Store/x",
            "runs/notes.txt",
            "runs/UPPER/run",
            &format!("runs/{}/attempts/01", run(1)),
            &format!("runs/{}/attempts/3.bak", run(1)),
            &format!("runs/{}/commits/latest", run(1)),
            "pins/a b",
            "gc/x",
        ];
        for junk in junk {
            crate::support::put(store.objects(), junk, b"junk");
        }
        assert_eq!(store.list_runs().unwrap(), [run(1), run(2), run(3)]);
        let attempts = [1, 2, 10].map(AttemptNumber);
        assert_eq!(store.list_attempts(run(1)).unwrap(), attempts);
        assert_eq!(
            store.read_attempt(run(1), AttemptNumber(10)).unwrap(),
            attempt(10)
        );
        assert!(store.list_commits(run(1)).unwrap().is_empty());
        assert!(store.list_pins().unwrap().is_empty());
        assert!(store.list_rounds().unwrap().numbers.is_empty());
        assert_eq!(store.list_projects().unwrap(), [project("demo")]);
        assert_eq!(
            store.read_run(run(9)).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}

#[test]
fn a_record_under_another_runs_name_is_corrupt() {
    let store = in_memory();
    let record = run_record(&store, 1, "demo");
    let path = layout::run(run(2));
    assert_eq!(
        store.create_record(&path, &record).unwrap(),
        Created::Created
    );
    assert_eq!(
        store.read_run(run(2)).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn projects_with_names_too_long_for_a_path_are_listed() {
    let store = on_disk();
    let long = "ü".repeat(60);
    let record = run_record(&store, 1, &long);
    store
        .create_run(&record)
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    store.take_number(&project("short"), run(2)).unwrap();
    assert_eq!(
        store.list_projects().unwrap(),
        [project("short"), project(&long)]
    );
}

#[test]
fn tombstones_alternate_and_the_highest_decides() {
    let store = on_disk();
    let record = TombstoneRecord {
        checkpoint: CheckpointName {
            run: run(1),
            key: key(5),
        },
        reason: "by hand".to_owned(),
        created: NOW,
    };
    assert!(!store.write_tombstone(Tombstone::Restored, &record).unwrap());
    for round in 0..3 {
        assert!(store.write_tombstone(Tombstone::Deleted, &record).unwrap());
        assert!(!store.write_tombstone(Tombstone::Deleted, &record).unwrap());
        assert_eq!(
            store.list_tombstones(run(1)).unwrap(),
            [(key(5), 2 * round)]
        );
        assert!(store.write_tombstone(Tombstone::Restored, &record).unwrap());
        assert_eq!(
            store.list_tombstones(run(1)).unwrap(),
            [(key(5), 2 * round + 1)]
        );
    }
}

#[test]
fn pins_come_and_go() {
    let store = on_disk();
    let pin = PinRecord {
        checkpoint: CheckpointName {
            run: run(1),
            key: key(5),
        },
        reason: "paper".to_owned(),
        created: NOW,
        ttl_seconds: Some(60),
    };
    store.write_pin("paper/figure 3", &pin).unwrap();
    store.write_pin("paper/figure 3", &pin).unwrap();
    let pins = store.list_pins().unwrap();
    assert_eq!(pins.len(), 1);
    assert_eq!(pins[0].name().as_deref(), Some("paper/figure 3"));
    assert_eq!(store.read_pin(&pins[0]).unwrap(), pin);
    store.delete_pin("paper/figure 3").unwrap();
    store.delete_pin("paper/figure 3").unwrap();
    assert!(store.list_pins().unwrap().is_empty());
}

#[test]
fn a_stamp_changes_with_everything_a_fold_reads() {
    stamp_changes(&on_disk());
    stamp_changes(&in_memory());
}

#[test]
fn a_run_of_a_bucket_is_recognised_by_one_listing() {
    let meter = Meter::new(Arc::new(InMemory::new()));
    let store = Store::create_over(meter.clone(), NOW).unwrap();
    stamp_changes(&store);
    let runs = [run(1), run(2)];
    let before = meter.counts();
    let stamps = store.run_stamps(&runs).unwrap();
    let after = meter.counts();
    assert_eq!(after.lists - before.lists, 2);
    assert_eq!((after.gets, after.heads), (before.gets, before.heads));
    for run in runs {
        assert_eq!(stamps[&run], store.run_stamp(run).unwrap());
    }
    assert_eq!(on_disk().run_stamps(&runs).unwrap(), [].into());
}

#[test]
fn a_piece_of_a_journal_that_is_gone_is_noticed() {
    let store = in_memory();
    let writer = WriterId::from_bits(1);
    let mut journal = JournalWriter::create(&store, run(1), writer).unwrap();
    for _ in 0..3 {
        journal.append(FrameKind::Points, b"points").unwrap();
        journal.sync().unwrap();
    }
    let before = store.run_stamp(run(1)).unwrap().to_text();
    journal.append(FrameKind::Points, b"points").unwrap();
    journal.sync().unwrap();
    let grown = store.run_stamp(run(1)).unwrap();
    assert!(grown.rewritten_since(&before).is_empty());
    for piece in [0, 1] {
        store
            .delete(&layout::journal_piece(run(1), writer, piece))
            .unwrap();
    }
    let hurt = store.run_stamp(run(1)).unwrap();
    assert_eq!(hurt.rewritten_since(&before), [writer]);
}

fn stamp_changes(store: &Store) {
    let mut stamps = vec![store.run_stamp(run(1)).unwrap()];
    let mut changed = |what: &str| {
        let stamp = store.run_stamp(run(1)).unwrap();
        assert_eq!(
            stamp,
            store.run_stamp(run(1)).unwrap(),
            "{what}: not stable"
        );
        assert!(!stamps.contains(&stamp), "{what} went unnoticed");
        assert!(stamps.iter().all(|old| old.to_text() != stamp.to_text()));
        stamps.push(stamp);
    };
    let record = run_record(store, 1, "demo");
    store
        .create_run(&record)
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    changed("birth");
    store
        .create_attempt(&attempt(1))
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    changed("an attempt");
    let mut journal = JournalWriter::create(store, run(1), WriterId::from_bits(1)).unwrap();
    if store.root().is_some() {
        changed("a journal");
    }
    journal.append(FrameKind::Points, b"points").unwrap();
    journal.sync().unwrap();
    changed("a frame");
    crate::support::put(
        store.objects(),
        layout::part(run(1), key(5), &"trainer".parse().unwrap(), 0).as_ref(),
        b"{}",
    );
    changed("a part");
    crate::support::put(
        store.objects(),
        layout::part_confirmation(run(1), key(5), &"trainer".parse().unwrap(), 0).as_ref(),
        b"{}",
    );
    changed("a confirmation");
    store.abandon(run(1), key(5)).unwrap();
    changed("a commit");
    let tombstone = TombstoneRecord {
        checkpoint: CheckpointName {
            run: run(1),
            key: key(5),
        },
        reason: String::new(),
        created: NOW,
    };
    store
        .write_tombstone(Tombstone::Deleted, &tombstone)
        .unwrap();
    changed("a tombstone");
}

/// What a fold reads of a run, changed in one way.
/// What is done to a run's folder, and its name.
type Touch = (&'static str, fn(&Store, u64));

fn touches() -> Vec<Touch> {
    fn put(store: &Store, path: &ObjectPath) {
        crate::support::put(store.objects(), path.as_ref(), b"{}");
    }
    fn part(number: u64, step: i64) -> ObjectPath {
        layout::part(run(number), key(step), &"trainer".parse().unwrap(), 0)
    }
    fn journal(store: &Store, number: u64) -> std::path::PathBuf {
        let piece = layout::journal_piece(run(number), WriterId::from_bits(1), 0);
        store.root().unwrap().join(piece.as_ref())
    }
    vec![
        ("a birth", |store, number| {
            put(store, &layout::run(run(number)));
        }),
        ("an attempt", |store, number| {
            put(store, &layout::attempt(run(number), AttemptNumber(9)));
        }),
        ("a commit", |store, number| {
            put(store, &layout::commit(run(number), key(5)));
        }),
        ("a part of a new save", |store, number| {
            put(store, &part(number, 6));
        }),
        ("another part of a pending save", |store, number| {
            put(
                store,
                &layout::part_confirmation(run(number), key(5), &"trainer".parse().unwrap(), 0),
            );
        }),
        ("a tombstone", |store, number| {
            put(store, &layout::tombstone(run(number), key(5), 0));
        }),
        ("a frame", |store, number| {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(journal(store, number))
                .unwrap();
            file.write_all(b"x").unwrap();
        }),
        ("a journal cut short", |store, number| {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(journal(store, number))
                .unwrap();
            file.set_len(3).unwrap();
        }),
        ("another piece of a journal", |store, number| {
            let piece = layout::journal_piece(run(number), WriterId::from_bits(1), 7);
            std::fs::write(store.root().unwrap().join(piece.as_ref()), b"x").unwrap();
        }),
        ("another journal", |store, number| {
            JournalWriter::create(store, run(number), WriterId::from_bits(2)).unwrap();
        }),
        ("a commit gone", |store, number| {
            let path = layout::commit(run(number), key(4));
            std::fs::remove_file(store.root().unwrap().join(path.as_ref())).unwrap();
        }),
        ("another folder in its place", |store, number| {
            let runs = store.root().unwrap().join("runs");
            let folder = runs.join(run(number).to_string());
            std::fs::rename(&folder, runs.join("aside")).unwrap();
            std::fs::create_dir(folder).unwrap();
        }),
    ]
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "waits for a file system's clock, which nobody signals"
)]
fn what_is_published_touches_the_file_of_its_run() {
    let store = on_disk();
    let Some(fresh) = store.touches() else {
        return; // the file system of the machine keeps no such times
    };
    let touches = touches();
    let count = touches.len() as u64;
    for number in 0..=count {
        let mut journal =
            JournalWriter::create(&store, run(number), WriterId::from_bits(1)).unwrap();
        journal.append(FrameKind::Points, b"points").unwrap();
        journal.sync().unwrap();
        let commit = layout::commit(run(number), key(4));
        crate::support::put(store.objects(), commit.as_ref(), b"{}");
        let young = store.touches().unwrap();
        assert!(!fresh.holds(&young, run(number)), "it was made");
        assert!(
            !young.holds(&young, run(number)),
            "a change in the same instant would go unnoticed"
        );
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let before = store.touches().unwrap();
    for (number, (what, touch)) in (0..).zip(&touches) {
        assert!(
            before.holds(&store.touches().unwrap(), run(number)),
            "{what}"
        );
        touch(&store, number);
        let holds = before.holds(&store.touches().unwrap(), run(number));
        // What is appended, and what other hands do, is found otherwise.
        let is_published = ![
            "a frame",
            "a journal cut short",
            "another piece of a journal",
            "a commit gone",
            "another folder in its place",
        ]
        .contains(what);
        assert_eq!(holds, !is_published, "{what}");
    }
    let now = store.touches().unwrap();
    assert!(before.holds(&now, run(count)), "nobody touched it");
    assert!(before.holds(&now, run(999)), "it was never there");
    let mut forgetful = before.clone();
    forgetful.forget(run(count));
    assert!(!forgetful.holds(&now, run(count)));
    for known in [&before, &now, &forgetful] {
        assert_eq!(Touches::parse(&known.to_bytes()).as_ref(), Some(known));
    }
    let bytes = before.to_bytes();
    assert_eq!(Touches::parse(&bytes[1..]), None);
    assert_eq!(Touches::parse(&[bytes, vec![0]].concat()), None);
}

fn is_unchanged(store: &Store, number: u64, trace: &RunTrace) -> bool {
    let (asked, other) = (run(number), run(1 << 40));
    let changed = store.changed_runs(&[asked, other], |run| (run == asked).then_some(trace));
    assert!(changed.contains(&other), "nothing is known of it");
    !changed.contains(&asked)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "waits for a file system's clock, which nobody signals"
)]
fn a_trace_holds_until_anything_a_fold_reads_is_touched() {
    let store = on_disk();
    let touches = touches();
    let count = touches.len() as u64;
    // One more, which nobody touches.
    for number in 0..=count {
        let mut journal =
            JournalWriter::create(&store, run(number), WriterId::from_bits(1)).unwrap();
        journal.append(FrameKind::Points, b"points").unwrap();
        journal.sync().unwrap();
        let part = layout::part(run(number), key(5), &"trainer".parse().unwrap(), 0);
        crate::support::put(store.objects(), part.as_ref(), b"{}");
        let commit = layout::commit(run(number), key(4));
        crate::support::put(store.objects(), commit.as_ref(), b"{}");
        let (_, trace) = store.run_stamp_and_trace(run(number)).unwrap();
        assert_eq!(
            trace, None,
            "a change in the same instant would go unnoticed"
        );
    }
    let mut traces = Vec::new();
    for number in 0..=count {
        // The file system of the machine may keep no such times: then there is nothing to hold.
        let mut patience = 100;
        let trace = loop {
            let (stamp, trace) = store.run_stamp_and_trace(run(number)).unwrap();
            assert_eq!(stamp, store.run_stamp(run(number)).unwrap());
            patience -= 1;
            if trace.is_some() || patience == 0 {
                break trace;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        let Some(trace) = trace else { return };
        assert_eq!(RunTrace::parse(&trace.to_bytes()).as_ref(), Some(&trace));
        traces.push(trace);
    }
    for (number, (what, touch)) in (0..).zip(&touches) {
        assert!(store.is_untouched(run(number), &traces[number as usize]));
        touch(&store, number);
        let trace = &traces[number as usize];
        let holds = store.is_untouched(run(number), trace);
        assert!(!holds, "{what} went unnoticed");
        // What did not come through the store is for a close look alone.
        let by_other_hands = ["another piece of a journal", "a commit gone"].contains(what);
        assert_eq!(
            is_unchanged(&store, number, trace),
            by_other_hands,
            "{what}"
        );
        let mut closed = trace.clone();
        closed.close(&[WriterId::from_bits(1)].into());
        assert!(trace.is_open() && !closed.is_open());
        assert_eq!(
            RunTrace::parse(&closed.to_bytes()).as_ref(),
            Some(&closed),
            "{what}"
        );
        let in_the_journal = ["a frame", "a journal cut short"].contains(what);
        assert_eq!(
            is_unchanged(&store, number, &closed),
            by_other_hands || in_the_journal,
            "{what}"
        );
    }
    assert!(is_unchanged(&store, count, &traces[count as usize]));
    assert!(store.is_untouched(run(count), &traces[count as usize]));
    assert!(!store.is_untouched(run(count), &traces[0]));
    let bytes = traces[0].to_bytes();
    for end in 0..bytes.len() {
        assert_ne!(RunTrace::parse(&bytes[..end]).as_ref(), Some(&traces[0]));
    }
    assert_eq!(RunTrace::parse(&[bytes, b" x".to_vec()].concat()), None);
    assert_eq!(RunTrace::parse(&[255; 100]), None);
}

#[test]
fn rounds_say_what_open_ones_condemn() {
    let store = in_memory();
    let name = |n: u64| runtree_store::ObjectName {
        hash: runtree_core::ChunkHash::of(&n.to_le_bytes()),
        put: runtree_core::PutId::from_bits(n),
        encoding: runtree_store::ObjectEncoding::Raw,
    };
    for n in [1, 2] {
        let record = RoundRecord {
            objects: vec![name(n).to_string()],
            created: NOW,
        };
        store
            .create_record(&layout::round(n), &record)
            .unwrap()
            .or_conflict(String::new)
            .unwrap();
    }
    let both = store.list_rounds().unwrap();
    assert!(both.condemns(&name(1)) && both.condemns(&name(2)) && !both.condemns(&name(3)));
    store
        .create_bytes(&layout::round_closed(1), "".into())
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    let rounds = store.list_rounds().unwrap();
    assert!(!rounds.condemns(&name(1)) && rounds.condemns(&name(2)));
    assert!(both.has_all_of(&rounds), "a closed round is still there");
    crate::support::put(store.objects(), "gc/3", b"garbage");
    assert_eq!(store.list_rounds().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_seat_is_taken_once_whoever_comes_at_the_same_time() {
    let store = on_disk();
    let attempt = AttemptNumber::FIRST;
    let take = |rank, writer| {
        store
            .take_seat(run(1), attempt, rank, WriterId::from_bits(writer))
            .unwrap()
    };
    let won: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (1..=16)
            .map(|writer| scope.spawn(move || take(0, writer)))
            .collect();
        tries
            .into_iter()
            .map(|it| usize::from(it.join().unwrap()))
            .sum()
    });
    assert_eq!(won, 1);
    let winner = store.find_seat(run(1), attempt, 0).unwrap().unwrap();
    assert!(
        take(0, winner.to_bits()),
        "an answer that was lost is asked for again"
    );
    assert!(take(1, winner.to_bits()), "another rank's is free");
    assert_eq!(
        store.list_seats(run(1)).unwrap(),
        [(attempt, 0), (attempt, 1)]
    );
    assert_eq!(store.list_attempts(run(1)).unwrap(), []);
}

#[test]
fn a_journal_that_was_touched_without_growing_shows_in_the_stamp() {
    let store = on_disk();
    let writer = WriterId::from_bits(7);
    let mut journal = JournalWriter::create(&store, run(1), writer).unwrap();
    let grow = |journal: &mut JournalWriter| {
        journal.append(FrameKind::Points, b"points").unwrap();
        journal.sync().unwrap();
        store.run_stamp(run(1)).unwrap()
    };
    let before = grow(&mut journal);
    let grown = grow(&mut journal);
    assert_ne!(grown, before);
    assert_eq!(grown.rewritten_since(&before.to_text()), [], "it grew");
    assert_eq!(grown.rewritten_since(&grown.to_text()), []);
    assert_eq!(grown.rewritten_since("an index of another build"), []);
    let path = layout::journal_piece(run(1), writer, 0);
    let path = store.directory.path().join(path.as_ref());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let touched = store.run_stamp(run(1)).unwrap();
    assert_eq!(touched.rewritten_since(&grown.to_text()), [writer]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_listed_name_breaks_a_listing(name in "[ -~]{1,30}", below in 0..6_usize) {
        let store = in_memory();
        let run = run(1);
        let directory = [
            "runs".to_owned(), format!("runs/{run}/attempts"), format!("runs/{run}/commits"),
            format!("runs/{run}/tombstones"), format!("runs/{run}/journal"), "gc".to_owned(),
        ][below].clone();
        let path = ObjectPath::from(format!("{directory}/{}", name.replace('/', "_")));
        crate::support::put(store.objects(), path.as_ref(), b"{}");
        store.list_runs().unwrap();
        store.list_attempts(run).unwrap();
        store.list_seats(run).unwrap();
        store.list_commits(run).unwrap();
        store.list_tombstones(run).unwrap();
        store.list_journals(run).unwrap();
        let _ = store.list_rounds();
    }
}
