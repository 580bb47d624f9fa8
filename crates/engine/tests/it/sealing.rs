//! Sealing changes where points are kept, and no answer: whoever seals, whenever, and whatever becomes of the journals.

use std::sync::Arc;

use runtree_core::{AttemptNumber, Clock, ErrorKind, RunId, Step, WriterId};
use runtree_engine::{Engine, HistoryQuery, OpenMode, ResumePolicy, SealReport};
use runtree_metrics::Segment;
use runtree_store::journal::{FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES};
use runtree_store::{Cursor, JournalReader, SegmentName, layout};

use crate::folding::{forest, portrait};
use crate::support::*;

/// A process that seals: when a run finishes, and when so many bytes are unsealed.
fn sealing(bench: &Bench, cache: &str, limit: u64) -> Arc<Engine> {
    let options = bench.options(cache).with_mode(OpenMode::ReadWrite);
    let mut options = options.with_sealer();
    assert_eq!(options.seal, Some(64 << 20));
    options.seal = Some(limit);
    options.clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    Engine::open(options).unwrap()
}

fn seal(engine: &Engine, runs: &[RunId]) -> SealReport {
    engine.seal(runs, &mut |_| {}).unwrap()
}

fn segments(bench: &Bench, run: RunId) -> Vec<SegmentName> {
    bench.engine.store().list_segments(run).unwrap()
}

fn segment_path(run: RunId, name: &SegmentName) -> String {
    layout::segment(run, name).to_string()
}

fn flip(bench: &Bench, path: &str, at: usize) {
    bench.damage(path, |bytes| bytes[at] ^= 1);
}

/// Removes what gc would of each journal: pieces all of whose frames are covered, and from the last piece what is covered before the rest.
pub(crate) fn collect(bench: &Bench, runs: &[RunId]) -> usize {
    let store = bench.engine.store();
    let mut collected = 0;
    for &run in runs {
        let names = store.list_segments(run).unwrap();
        for journal in store.list_journals(run).unwrap() {
            let mut reach = 0;
            while let Some(name) = names
                .iter()
                .filter(|name| name.writer == journal.writer && name.covers(reach))
                .max_by_key(|name| name.to)
            {
                reach = name.to;
            }
            if reach > 0 {
                cut(bench, run, journal.writer, reach);
                collected += 1;
            }
        }
    }
    collected
}

fn cut(bench: &Bench, run: RunId, writer: WriterId, at: u64) {
    let store = bench.engine.store();
    let piece_path = |first| layout::journal_piece(run, writer, first).to_string();
    let pieces = store.list_pieces(run, writer).unwrap();
    let mut reader = JournalReader::open(store, run, writer, Cursor::START).unwrap();
    while reader.cursor().ordinal < at {
        reader
            .next_frame()
            .unwrap()
            .expect("what is sealed was journaled");
    }
    let cursor = reader.cursor();
    if reader.next_frame().unwrap().is_none() {
        bench.remove_below(layout::journal(run, writer).as_ref());
        return;
    }
    // In a bucket there are many pieces, and a cut may lie between two of them.
    let holds = |first: &&u64| **first <= at;
    let piece = *pieces.iter().rfind(holds).unwrap();
    for before in pieces.iter().filter(|first| **first < piece) {
        bench.remove(piece_path(*before));
    }
    if piece == at {
        return;
    }
    let header = FileHeader {
        run,
        writer,
        first_ordinal: at,
        hash: cursor.hash,
    };
    let bytes = bench.read(piece_path(piece));
    let kept = [&header.to_bytes()[..], &bytes[cursor.offset as usize..]].concat();
    bench.write(piece_path(at), kept);
    bench.remove(piece_path(piece));
}

fn assert_sound(engine: &Engine) {
    let problems = engine.verify(None).unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn no_answer_changes_when_points_are_sealed_and_their_journals_collected() {
    let bench = Bench::new();
    let runs = forest(&bench);
    let before = portrait(&bench.engine, &runs);
    let report = seal(&bench.engine, &runs);
    assert_eq!((report.journals, report.segments), (4, 4));
    assert_eq!(
        seal(&bench.engine, &runs),
        SealReport::default(),
        "once is enough"
    );
    assert_eq!(portrait(&bench.engine, &runs), before);
    assert_eq!(portrait(&bench.elsewhere("sealed"), &runs), before);
    assert_sound(&bench.engine);
    assert_eq!(collect(&bench, &runs), 4);
    // The process that folded the journals, one that shares its index, one that never saw them, and a reindex.
    assert_eq!(portrait(&bench.engine, &runs), before);
    assert_eq!(portrait(&bench.other(), &runs), before);
    assert_eq!(portrait(&bench.elsewhere("collected"), &runs), before);
    bench.engine.reindex().unwrap();
    assert_eq!(portrait(&bench.engine, &runs), before);
    assert_sound(&bench.elsewhere("verify"));
}

#[test]
fn a_run_goes_on_and_is_forked_after_its_journals_were_collected() {
    let bench = Bench::new();
    let run = bench.start(keyed("r", ResumePolicy::Allow));
    train(&run, 0..=100, &[50, 100]);
    run.finish(None, None, None).unwrap();
    seal(&bench.engine, &[run.run()]);
    assert_eq!(collect(&bench, &[run.run()]), 1);
    for engine in [bench.elsewhere("a"), bench.other()] {
        let again = engine.start_run(keyed("r", ResumePolicy::Allow)).unwrap();
        assert_eq!(again.next_step(), Step(101));
        assert!(again.attempt() > AttemptNumber::FIRST);
        drop(again);
    }
    let again = bench.start(keyed("r", ResumePolicy::Allow));
    train(&again, 101..=110, &[110]);
    again.finish(None, None, None).unwrap();
    let child = bench.forked(run.run(), 60, 70, &[]);
    assert_eq!(bench.steps(run.run()), (0..=110).collect::<Vec<_>>());
    assert_eq!(bench.steps(child), (0..=70).collect::<Vec<_>>());
    assert_sound(&bench.engine);
}

#[test]
fn finishing_seals_and_what_a_crash_left_is_sealed_by_the_next_launch_or_by_hand() {
    let bench = Bench::new();
    let engine = sealing(&bench, "cache", u64::MAX);
    let run = engine.start_run(keyed("r", ResumePolicy::Allow)).unwrap();
    train(&run, 0..=10, &[]);
    run.flush().unwrap();
    // As a killed process: no goodbye.
    drop(run);
    let run = engine.start_run(keyed("r", ResumePolicy::Allow)).unwrap();
    train(&run, 11..=20, &[]);
    run.finish(None, None, None).unwrap();
    let id = run.run();
    let sealed = segments(&bench, id);
    assert_eq!(sealed.len(), 2, "the crashed launch and the finished one");
    assert_eq!(seal(&engine, &[id]), SealReport::default());
    for name in &sealed {
        let bytes = bench.read(segment_path(id, name));
        let head = Segment::open(bytes).unwrap().head().clone();
        assert_eq!((head.from, head.to), (name.from, name.to));
    }
    let run = engine.start_run(named("other")).unwrap();
    train(&run, 0..=10, &[]);
    drop(run.clone());
    run.flush().unwrap();
    assert!(segments(&bench, run.run()).is_empty(), "it lives");
    assert_eq!(seal(&engine, &[run.run()]).points, 11);
    // What it logs then is sealed in turn.
    train(&run, 11..=20, &[]);
    run.finish(None, None, None).unwrap();
    let sealed = segments(&bench, run.run());
    assert_eq!(sealed.len(), 2);
    assert_eq!((sealed[0].from, sealed[0].to), (0, sealed[1].from));
    assert_eq!(collect(&bench, &[id, run.run()]), 3);
    let fresh = bench.elsewhere("fresh");
    for id in [id, run.run()] {
        let history = fresh.history(id, "loss", HistoryQuery::default()).unwrap();
        assert_eq!(history.steps, (0..=20).collect::<Vec<_>>());
    }
}

#[test]
fn a_run_without_points_is_not_sealed() {
    let bench = Bench::new();
    let engine = sealing(&bench, "cache", u64::MAX);
    let run = engine.start_run(named("idle")).unwrap();
    run.console("stdout", vec!["hello".to_owned()]).unwrap();
    run.finish(None, None, None).unwrap();
    assert!(segments(&bench, run.run()).is_empty());
    assert_eq!(seal(&engine, &[run.run()]), SealReport::default());
}

#[test]
fn a_live_run_seals_when_much_is_unsealed() {
    let bench = Bench::new();
    let engine = sealing(&bench, "cache", 2048);
    let run = engine.start_run(named("long")).unwrap();
    let id = run.run();
    for step in 0..4000 {
        log(&run, step, (step as f64).sin()).unwrap();
        if step % 500 == 499 {
            run.flush().unwrap();
            engine.seal(&[], &mut |_| {}).unwrap();
        }
    }
    run.finish(None, None, None).unwrap();
    let sealed = segments(&bench, id);
    assert!(sealed.len() > 1, "{sealed:?}");
    // Segments of two sealers may overlap; together they cover everything.
    assert_eq!(seal(&engine, &[id]), SealReport::default());
    let before = portrait(&engine, &[id]);
    assert_eq!(collect(&bench, &[id]), 1);
    assert!(bench.engine.store().list_journals(id).unwrap().is_empty());
    assert_eq!(portrait(&bench.elsewhere("fresh"), &[id]), before);
    assert_sound(&bench.engine);
}

#[test]
fn a_journal_that_is_cut_in_its_middle_goes_on() {
    let bench = Bench::new();
    let run = bench.start(named("r"));
    let id = run.run();
    train(&run, 0..=100, &[40]);
    run.flush().unwrap();
    seal(&bench.engine, &[id]);
    train(&run, 101..=200, &[150]);
    run.finish(None, None, None).unwrap();
    let before = portrait(&bench.engine, &[id]);
    let watcher = bench.elsewhere("watcher");
    watcher.refresh().unwrap();
    assert_eq!(collect(&bench, &[id]), 1);
    assert_eq!(bench.engine.store().list_journals(id).unwrap().len(), 1);
    for engine in [&bench.engine, &watcher, &bench.elsewhere("fresh")] {
        assert_eq!(portrait(engine, &[id]), before);
        assert_sound(engine);
    }
    // What is behind the cut is sealed from there.
    seal(&bench.elsewhere("sealer"), &[id]);
    assert_eq!(segments(&bench, id).len(), 2);
    assert_eq!(portrait(&bench.elsewhere("again"), &[id]), before);
}

#[test]
fn a_damaged_segment_is_found_and_written_again_from_its_journal() {
    let bench = Bench::new();
    let run = bench.trained("r", 0..=300, &[100]);
    seal(&bench.engine, &[run]);
    let name = segments(&bench, run)[0];
    let path = segment_path(run, &name);
    let whole = bench.read(&path);
    let before = portrait(&bench.engine, &[run]);
    for at in [0, 5, whole.len() / 2, whole.len() - 20, whole.len() - 1] {
        flip(&bench, &path, at);
        let engine = bench.elsewhere(&format!("flipped {at}"));
        assert_eq!(portrait(&engine, &[run]), before, "the journal is there");
        let problems = engine.verify(None).unwrap().problems;
        assert!(
            problems.len() == 1 && problems[0].contains(&name.to_string()),
            "{problems:?}"
        );
        assert_eq!(seal(&engine, &[run]).segments, 1);
        assert_eq!(bench.read(&path), whole);
        assert_sound(&engine);
    }
    collect(&bench, &[run]);
    flip(&bench, &path, whole.len() / 2);
    let engine = bench.elsewhere("gone");
    let error = error_of(engine.history(run, "loss", HistoryQuery::default()));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&name.to_string()), "{error}");
    assert!(engine.seal(&[run], &mut |_| {}).is_err());
    // Of two segments that cover the same, the whole one serves.
    let other = SegmentName {
        hash: 0,
        ..SegmentName::of(name.writer, name.from, name.to, &whole)
    };
    bench.write(segment_path(run, &other), "damaged, and the smaller name");
    bench.write(&path, whole);
    assert_eq!(portrait(&bench.elsewhere("mended"), &[run]), before);
}

#[test]
fn a_damaged_journal_is_answered_for_by_what_was_sealed_of_it() {
    let bench = Bench::new();
    let run = bench.start(named("r"));
    let id = run.run();
    train(&run, 0..=300, &[100]);
    run.flush().unwrap();
    seal(&bench.engine, &[id]);
    train(&run, 301..=400, &[]);
    run.finish(None, None, None).unwrap();
    let before = portrait(&bench.engine, &[id]);
    let writer = segments(&bench, id)[0].writer;
    // One file; in a bucket an object of each sync.
    let pieces = bench.engine.store().list_pieces(id, writer).unwrap();
    let path = |first| layout::journal_piece(id, writer, first).to_string();
    let first = path(pieces[0]);
    let whole = bench.read(&first);
    flip(&bench, &first, whole.len() / 2);
    for engine in [bench.elsewhere("fresh"), bench.other()] {
        assert_eq!(portrait(&engine, &[id]), before);
        let problems = engine.verify(None).unwrap().problems;
        assert!(problems[0].contains("damaged at frame"), "{problems:?}");
    }
    // Behind what was sealed damage is damage.
    bench.write(&first, whole.as_slice());
    let sealed = segments(&bench, id)[0].to;
    match pieces.iter().find(|first| **first >= sealed) {
        Some(behind) => flip(&bench, &path(*behind), HEADER_BYTES + FRAME_HEADER_BYTES),
        None => flip(&bench, &first, whole.len() - 400),
    }
    let fresh = bench.elsewhere("behind");
    assert_error(
        fresh.history(id, "loss", HistoryQuery::default()),
        ErrorKind::Corrupt,
        &["damaged at frame"],
    );
    // A journal that lost a tail which was never durable, and was sealed before the power went.
    seal(&bench.elsewhere("sealer"), &[]);
    for later in &pieces[1..] {
        bench.remove(path(*later));
    }
    bench.write(&first, &whole[..whole.len() / 4]);
    let problem = bench.elsewhere("short");
    let history = problem
        .history(id, "loss", HistoryQuery::default())
        .unwrap();
    assert_eq!(history.steps, (0..=300).collect::<Vec<_>>());
}

#[test]
fn sealers_at_once_and_overlapping_segments_are_harmless() {
    let bench = Bench::new();
    let run = bench.start(named("r"));
    let id = run.run();
    let engines: Vec<_> = (0..3)
        .map(|n| bench.elsewhere(&format!("sealer {n}")))
        .collect();
    std::thread::scope(|scope| {
        for engine in &engines {
            scope.spawn(move || {
                for _ in 0..30 {
                    seal(engine, &[id]);
                }
            });
        }
        for step in 0..3000 {
            // Some steps again, so that segments that overlap disagree about what was last.
            log(&run, step % 1000, step as f64).unwrap();
            if step % 50 == 0 {
                run.flush().unwrap();
            }
        }
    });
    run.finish(None, None, None).unwrap();
    seal(&bench.engine, &[id]);
    let before = portrait(&bench.engine, &[id]);
    assert_eq!(
        bench.values(id),
        (2000..3000).map(f64::from).collect::<Vec<_>>()
    );
    let names = segments(&bench, id);
    let writer = names[0].writer;
    collect(&bench, &[id]);
    assert_eq!(portrait(&bench.elsewhere("fresh"), &[id]), before);
    assert!(names.iter().all(|name| name.writer == writer));
    assert_sound(&bench.engine);
}

#[test]
fn a_deleted_run_is_hidden_with_its_segments_and_comes_back() {
    let bench = Bench::new();
    let run = bench.trained("r", 0..=30, &[]);
    seal(&bench.engine, &[run]);
    collect(&bench, &[run]);
    let listed = |engine: &Engine| {
        let runs = engine.runs(&runtree_engine::RunQuery::default()).unwrap();
        runs.runs.len()
    };
    bench.engine.delete_run(run).unwrap();
    assert_eq!(
        (listed(&bench.engine), listed(&bench.elsewhere("a"))),
        (0, 0)
    );
    assert_eq!(segments(&bench, run).len(), 1);
    bench.engine.undelete_run(run).unwrap();
    assert_eq!(
        (listed(&bench.engine), listed(&bench.elsewhere("b"))),
        (1, 1)
    );
    assert_eq!(bench.steps(run), (0..=30).collect::<Vec<_>>());
}

#[test]
fn a_store_that_is_open_for_reading_is_not_sealed() {
    let bench = Bench::new();
    let run = bench.trained("r", 0..=30, &[]);
    let reader = bench.reader();
    assert_error(
        reader.seal(&[run], &mut |_| {}),
        ErrorKind::Denied,
        &["reading"],
    );
}
