//! Media follow the timeline like metrics, and never stop a training run.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::event::RunStatus;
use runtree_core::media::{AlertLevel, MAX_INLINE_BYTES, MediaKind};
use runtree_core::{AttemptNumber, ErrorKind, RunId, Step};
use runtree_engine::{
    Engine, LogRanks, MediaContent, MediaEntry, MediaSelection, MediaSource, Pixels, ResumePolicy,
    RunSpec, RunWriter, WarningKind,
};

use crate::support::*;

fn text(name: &str, value: &str) -> MediaEntry {
    bytes(name, MediaKind::Text, "text/plain", value.as_bytes())
}

fn bytes(name: &str, kind: MediaKind, content_type: &str, value: &[u8]) -> MediaEntry {
    MediaEntry {
        name: name.to_owned(),
        kind,
        items: vec![MediaSource {
            content: MediaContent::Bytes(Bytes::copy_from_slice(value)),
            content_type: content_type.to_owned(),
            caption: None,
            file_name: None,
            size: None,
        }],
    }
}

fn log_at(run: &RunWriter, step: i64, media: Vec<MediaEntry>) -> runtree_core::Result<Step> {
    run.log_media(Some(Step(step)), None, &[], media, true)
}

fn page(engine: &Engine, run: RunId, name: &str, selection: &MediaSelection) -> Vec<(i64, String)> {
    let page = engine.media_entries(run, name, selection).unwrap();
    page.entries
        .into_iter()
        .map(|entry| {
            let bytes = engine
                .read_media(run, name, entry.step, 0, selection.attempt)
                .unwrap();
            (entry.step.0, String::from_utf8(bytes.bytes).unwrap())
        })
        .collect()
}

fn effective(bench: &Bench, run: RunId, name: &str) -> Vec<(i64, String)> {
    page(&bench.engine, run, name, &MediaSelection::default())
}

fn said(list: &[(i64, &str)]) -> Vec<(i64, String)> {
    list.iter()
        .map(|(step, text)| (*step, (*text).to_owned()))
        .collect()
}

#[test]
fn short_text_is_inline_and_everything_else_is_chunks_and_all_comes_back() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let long = "x".repeat(MAX_INLINE_BYTES + 1);
    let binary = [0xff_u8, 0xfe, 0x00];
    log_at(
        &run,
        0,
        vec![
            text("short", "hi"),
            text("empty", ""),
            text("long", &long),
            bytes("file", MediaKind::File, "application/octet-stream", &binary),
        ],
    )
    .unwrap();
    run.finish(None, None, None).unwrap();
    let entry = |name: &str| {
        let page = bench
            .engine
            .media_entries(run.run(), name, &MediaSelection::default());
        page.unwrap().entries.remove(0)
    };
    assert_eq!(entry("short").items[0].inline.as_deref(), Some("hi"));
    assert_eq!(entry("empty").items[0].inline.as_deref(), Some(""));
    assert_eq!(entry("long").items[0].inline, None);
    assert!(entry("long").items[0].hash.is_some());
    let read = |name: &str| {
        bench
            .engine
            .read_media(run.run(), name, Step(0), 0, None)
            .unwrap()
    };
    assert_eq!(read("long").bytes, long.as_bytes());
    assert_eq!(read("file").bytes, binary);
    assert_eq!(read("empty").bytes, b"");
    let report = bench.engine.verify(None).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn a_picture_is_a_png_of_its_pixels() {
    for (channels, colour) in [(1_u8, 0_u8), (2, 4), (3, 2), (4, 6)] {
        let (width, height) = (7_u32, 5_u32);
        let count = (width * height) as usize * usize::from(channels);
        // Every filter has rows that it is best for: flat, ramps, copies of the row above, and noise.
        let data: Vec<u8> = (0..count)
            .map(|at| ((at * at * 31) >> (at % 5)) as u8)
            .collect();
        let png = Pixels::new(width, height, channels, Bytes::from(data.clone()))
            .unwrap()
            .to_png()
            .unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(
            &png[16..24],
            [width.to_be_bytes(), height.to_be_bytes()].concat()
        );
        assert_eq!(&png[24..29], [8, colour, 0, 0, 0]);
        assert_eq!(
            decoded(
                &png,
                width as usize * usize::from(channels),
                usize::from(channels)
            ),
            data
        );
    }
    for (width, height, channels, bytes) in [
        (0, 1, 3, 0),
        (1, 1, 5, 5),
        (2, 2, 3, 11),
        (1 << 17, 1, 1, 1 << 17),
    ] {
        let refused = Pixels::new(width, height, channels, Bytes::from(vec![0; bytes]));
        assert_error(refused, ErrorKind::Invalid, &["picture"]);
    }
}

/// Undoes what a PNG does to rows, written from its specification.
fn decoded(png: &[u8], stride: usize, pixel: usize) -> Vec<u8> {
    let mut at = 8;
    let mut packed = Vec::new();
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let mut crc = flate2::Crc::new();
        crc.update(&png[at + 4..at + 8 + length]);
        let told = u32::from_be_bytes(png[at + 8 + length..at + 12 + length].try_into().unwrap());
        assert_eq!(crc.sum(), told);
        if &png[at + 4..at + 8] == b"IDAT" {
            packed.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    let mut rows = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..])
        .read_to_end(&mut rows)
        .unwrap();
    let mut image: Vec<u8> = Vec::new();
    for row in rows.chunks_exact(stride + 1) {
        let start = image.len();
        for (x, &byte) in row[1..].iter().enumerate() {
            let left = if x < pixel {
                0
            } else {
                image[start + x - pixel]
            };
            let up = if start == 0 {
                0
            } else {
                image[start - stride + x]
            };
            let corner = if start == 0 || x < pixel {
                0
            } else {
                image[start - stride + x - pixel]
            };
            let guess = match row[0] {
                0 => 0,
                1 => left,
                2 => up,
                4 => {
                    let (a, b, c) = (i32::from(left), i32::from(up), i32::from(corner));
                    let p = a + b - c;
                    let (pa, pb, pc) = ((p - a).abs(), (p - b).abs(), (p - c).abs());
                    if pa <= pb && pa <= pc {
                        left
                    } else if pb <= pc {
                        up
                    } else {
                        corner
                    }
                }
                other => panic!("filter {other}"),
            };
            image.push(byte.wrapping_add(guess));
        }
    }
    image
}

#[test]
fn a_fork_shows_its_parents_media_up_to_the_fork_step() {
    let bench = Bench::new();
    let parent = bench.start(named("parent"));
    for step in 0..6 {
        log(&parent, step, 1.0).unwrap();
        log_at(&parent, step, vec![text("say", &format!("parent {step}"))]).unwrap();
    }
    parent.finish(None, None, None).unwrap();
    let child = bench.start(fork_of(parent.run(), 3));
    // Its own entry at the fork step wins; under another name the parent's stays.
    log_at(&child, 3, vec![text("other", "child 3")]).unwrap();
    log_at(&child, 4, vec![text("say", "child 4"), text("new", "n")]).unwrap();
    child.finish(None, None, None).unwrap();
    let expected = said(&[
        (0, "parent 0"),
        (1, "parent 1"),
        (2, "parent 2"),
        (3, "parent 3"),
        (4, "child 4"),
    ]);
    assert_eq!(effective(&bench, child.run(), "say"), expected);
    let own = MediaSelection {
        inherited: false,
        ..MediaSelection::default()
    };
    assert_eq!(
        page(&bench.engine, child.run(), "say", &own),
        said(&[(4, "child 4")])
    );
    let list = bench
        .engine
        .media(child.run(), &MediaSelection::default())
        .unwrap();
    let keys: Vec<_> = list
        .keys
        .iter()
        .map(|key| {
            (
                key.name.as_str(),
                key.entries,
                key.first.0,
                key.last.0,
                key.own,
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            ("new", 1, 4, 4, true),
            ("other", 1, 3, 3, true),
            ("say", 5, 0, 4, true)
        ]
    );
    assert_eq!(list.steps, [0, 1, 2, 3, 4].map(Step));
    // What a slider shows at a step, per name the newest at or before it, and whose it is.
    let at = |step| -> Vec<(String, i64, bool)> {
        let entries = bench
            .engine
            .media_at(child.run(), Step(step), &MediaSelection::default());
        let entries = entries.unwrap().into_iter();
        entries
            .map(|entry| (entry.name, entry.step.0, entry.inherited))
            .collect()
    };
    assert_eq!(at(2), [("say".to_owned(), 2, true)]);
    assert_eq!(
        at(3),
        [("other".to_owned(), 3, false), ("say".to_owned(), 3, true)]
    );
    assert_eq!(at(99).len(), 3);
    assert_eq!(at(-1), []);
    // The parent never sees the child's.
    assert_eq!(effective(&bench, parent.run(), "say").len(), 6);
}

#[test]
fn a_childs_own_entry_at_the_fork_step_wins_and_is_counted_once() {
    let bench = Bench::new();
    let parent = bench.start(named("parent"));
    for step in 0..3 {
        log_at(&parent, step, vec![text("say", "parent")]).unwrap();
    }
    log(&parent, 2, 1.0).unwrap();
    parent.finish(None, None, None).unwrap();
    let child = bench.start(fork_of(parent.run(), 2));
    log_at(&child, 2, vec![text("say", "child")]).unwrap();
    child.finish(None, None, None).unwrap();
    assert_eq!(
        effective(&bench, child.run(), "say"),
        said(&[(0, "parent"), (1, "parent"), (2, "child")])
    );
    let list = bench
        .engine
        .media(child.run(), &MediaSelection::default())
        .unwrap();
    assert_eq!(list.keys[0].entries, 3);
    let read = bench
        .engine
        .read_media(child.run(), "say", Step(2), 0, None)
        .unwrap();
    assert_eq!(read.bytes, b"child");
    let read = bench
        .engine
        .read_media(parent.run(), "say", Step(2), 0, None)
        .unwrap();
    assert_eq!(read.bytes, b"parent");
}

#[test]
fn what_a_rewound_launch_logged_is_a_ghost() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for step in 0..6 {
        log(&run, step, 1.0).unwrap();
        log_at(&run, step, vec![text("say", &format!("first {step}"))]).unwrap();
    }
    run.rewind(Step(2)).unwrap();
    log_at(&run, 3, vec![text("say", "second 3")]).unwrap();
    run.finish(None, None, None).unwrap();
    let expected = said(&[
        (0, "first 0"),
        (1, "first 1"),
        (2, "first 2"),
        (3, "second 3"),
    ]);
    assert_eq!(effective(&bench, run.run(), "say"), expected);
    let ghost = MediaSelection {
        attempt: Some(AttemptNumber(1)),
        steps: (Step(3), Step::MAX),
        ..MediaSelection::default()
    };
    let expected = said(&[(3, "first 3"), (4, "first 4"), (5, "first 5")]);
    assert_eq!(page(&bench.engine, run.run(), "say", &ghost), expected);
    let none = MediaSelection {
        attempt: Some(AttemptNumber(7)),
        ..MediaSelection::default()
    };
    assert_error(
        bench.engine.media(run.run(), &none),
        ErrorKind::NotFound,
        &["attempt 7"],
    );
}

#[test]
fn a_crash_and_resume_shows_what_the_new_launch_logged_again() {
    let bench = Bench::new();
    let run = bench.start(keyed("k", ResumePolicy::Allow));
    train(&run, 0..=2, &[2]);
    for step in 0..6 {
        log(&run, step, 1.0).unwrap();
        log_at(&run, step, vec![text("say", &format!("first {step}"))]).unwrap();
    }
    run.flush().unwrap();
    let id = run.run();
    drop(run);
    let engine = bench.other();
    let again = engine.start_run(keyed("k", ResumePolicy::Allow)).unwrap();
    assert_eq!(again.next_step(), Step(3));
    log_at(&again, 3, vec![text("say", "second 3")]).unwrap();
    again.finish(None, None, None).unwrap();
    let expected = said(&[
        (0, "first 0"),
        (1, "first 1"),
        (2, "first 2"),
        (3, "second 3"),
    ]);
    assert_eq!(effective(&bench, id, "say"), expected);
}

#[test]
fn the_last_call_at_a_step_counts_and_lists_are_replaced_whole() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let mut list = text("say", "a");
    list.items.push(list.items[0].clone());
    log_at(&run, 0, vec![list]).unwrap();
    log_at(&run, 0, vec![text("say", "b")]).unwrap();
    run.finish(None, None, None).unwrap();
    let page = bench
        .engine
        .media_entries(run.run(), "say", &MediaSelection::default())
        .unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].items.len(), 1);
    let missing = bench.engine.read_media(run.run(), "say", Step(0), 1, None);
    assert_error(missing, ErrorKind::NotFound, &["1 items"]);
}

#[test]
fn pages_leave_nothing_out_across_a_chain_of_forks() {
    let bench = Bench::new();
    let mut parent: Option<RunId> = None;
    let mut expected = Vec::new();
    for generation in 0..5_i64 {
        let run = match parent {
            None => bench.start(spec()),
            Some(parent) => bench.start(fork_of(parent, generation * 3 - 1)),
        };
        for step in generation * 3..generation * 3 + 5 {
            log(&run, step, 1.0).unwrap();
            log_at(&run, step, vec![text("say", &format!("{generation}"))]).unwrap();
            if step < generation * 3 + 3 || generation == 4 {
                expected.push((step, generation.to_string()));
            }
        }
        run.finish(None, None, None).unwrap();
        parent = Some(run.run());
    }
    let run = parent.unwrap();
    assert_eq!(effective(&bench, run, "say"), expected);
    for limit in 1..=expected.len() + 1 {
        let mut selection = MediaSelection {
            limit,
            ..MediaSelection::default()
        };
        let mut found = Vec::new();
        loop {
            let page = bench.engine.media_entries(run, "say", &selection).unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.into_iter().map(|entry| {
                let text = entry.items[0].inline.clone().unwrap();
                (entry.step.0, text)
            }));
            match page.next_step {
                Some(step) => selection.steps.0 = step,
                None => break,
            }
        }
        assert_eq!(found, expected, "{limit} a page");
    }
}

#[test]
fn media_take_the_step_of_the_values_beside_them() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let beside = |step: Option<i64>, value: f64, commit| {
        let step = step.map(Step);
        run.log_media(
            step,
            None,
            &[("loss", value)],
            vec![text("say", "x")],
            commit,
        )
        .unwrap()
        .0
    };
    assert_eq!(beside(None, 1.0, true), 0);
    assert_eq!(
        run.log_media(None, None, &[], vec![text("say", "x")], true)
            .unwrap(),
        Step(1)
    );
    run.log(None, None, &[("loss", 2.0)], true).unwrap();
    assert_eq!(run.last_step(), Some(Step(2)));
    // A row that waits for its commit has a step; media without one belong to it.
    run.log(Some(Step(50)), None, &[("loss", 3.0)], false)
        .unwrap();
    assert_eq!(
        run.log_media(None, None, &[], vec![text("say", "x")], false)
            .unwrap(),
        Step(50)
    );
    assert_eq!(beside(None, 4.0, true), 50);
    assert_eq!(
        run.log_media(None, None, &[], vec![text("say", "x")], false)
            .unwrap(),
        Step(51)
    );
    run.log(None, None, &[("loss", 5.0)], true).unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), [0, 2, 50, 51]);
    let steps = bench
        .engine
        .media(run.run(), &MediaSelection::default())
        .unwrap()
        .steps;
    assert_eq!(steps, [0, 1, 50, 51].map(Step));
}

#[test]
fn a_step_below_the_start_is_refused_once_then_counted_and_nothing_of_the_call_is_kept() {
    let bench = Bench::new();
    let parent = bench.trained("parent", 0..=9, &[]);
    let child = bench.start(fork_of(parent, 5));
    let refused = child.log_media(
        Some(Step(2)),
        None,
        &[("loss", 1.0)],
        vec![text("say", "x")],
        true,
    );
    assert_error(refused, ErrorKind::Invalid, &["step 2", "which is 5"]);
    log_at(&child, 3, vec![text("say", "x")]).unwrap();
    let report = child.finish(None, None, None).unwrap();
    assert_eq!(report.dropped_points["say"], 1);
    let none = bench
        .engine
        .media_entries(child.run(), "say", &MediaSelection::default());
    assert_error(none, ErrorKind::NotFound, &["no media"]);
}

#[test]
fn what_can_not_be_written_is_refused_in_the_call() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let mut empty = text("say", "x");
    empty.items.clear();
    for media in [
        vec![text("", "x")],
        vec![text(&"n".repeat(2000), "x")],
        vec![empty],
    ] {
        let refused = run.log_media(None, None, &[("loss", 1.0)], media, true);
        assert_error(refused, ErrorKind::Invalid, &[]);
    }
    assert_eq!(run.last_step(), None, "nothing of a refused call is logged");
}

#[test]
fn a_rank_that_does_not_log_keeps_no_media_and_all_ranks_keep_their_own() {
    let bench = Bench::new();
    let ranked = |rank, log_ranks| RunSpec {
        rank,
        world_size: 2,
        log_ranks,
        ..launched_as("l", keyed("k", ResumePolicy::Allow))
    };
    let zero = bench.start(ranked(0, LogRanks::All));
    let one = bench.other().start_run(ranked(1, LogRanks::All)).unwrap();
    for (rank, run) in [(0, &zero), (1, &one)] {
        log_at(run, 0, vec![text("say", &format!("rank {rank}"))]).unwrap();
    }
    one.finish(None, None, None).unwrap();
    zero.finish(None, None, None).unwrap();
    for rank in 0..2 {
        let name = format!("say[rank {rank}]");
        assert_eq!(
            effective(&bench, zero.run(), &name),
            said(&[(0, &format!("rank {rank}"))])
        );
    }
    let quiet = bench.other().start_run(RunSpec {
        rank: 1,
        world_size: 2,
        ..launched_as("m", keyed("q", ResumePolicy::Allow))
    });
    let quiet = quiet.unwrap();
    log_at(&quiet, 0, vec![text("say", "x")]).unwrap();
    assert!(
        quiet
            .take_warnings()
            .iter()
            .any(|warning| warning.kind == WarningKind::OffRank)
    );
    quiet.finish(None, None, None).unwrap();
    let list = bench
        .engine
        .media(quiet.run(), &MediaSelection::default())
        .unwrap();
    assert!(list.keys.is_empty());
}

/// Makes the store refuse chunks, as a full disk does.
fn refuse_chunks(bench: &Bench, refuse: bool) {
    let chunks = bench.store_dir().join("chunks");
    let aside = bench.dir.path().join("aside");
    let is_there = |path: &std::path::Path| path.try_exists().unwrap();
    if refuse {
        if is_there(&chunks) {
            std::fs::rename(&chunks, &aside).unwrap();
        }
        std::fs::write(&chunks, b"in the way").unwrap();
    } else {
        std::fs::remove_file(&chunks).unwrap();
        if is_there(&aside) {
            std::fs::rename(&aside, &chunks).unwrap();
        }
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_disk_that_refuses_neither_raises_nor_stalls_and_what_waits_is_stored_later() {
    let bench = Bench::on_disk();
    let run = bench.start(spec());
    log(&run, 0, 1.0).unwrap();
    run.flush().unwrap();
    refuse_chunks(&bench, true);
    let picture = vec![7_u8; 100_000];
    let began = Instant::now();
    for step in 1..4 {
        let entry = bytes("pic", MediaKind::Image, "image/png", &picture);
        run.log_media(Some(Step(step)), None, &[("loss", 1.0)], vec![entry], true)
            .unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    until("it is told", || {
        let warnings = run.health().warnings;
        warnings
            .iter()
            .any(|warning| warning.kind == WarningKind::Storage)
    });
    assert_error(run.flush(), ErrorKind::Unavailable, &["media"]);
    assert!(run.health().queued_bytes >= 300_000);
    refuse_chunks(&bench, false);
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), [0, 1, 2, 3]);
    let steps = bench
        .engine
        .media(run.run(), &MediaSelection::default())
        .unwrap()
        .steps;
    assert_eq!(steps, [1, 2, 3].map(Step));
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn what_can_not_be_stored_by_the_end_is_counted_as_lost() {
    let bench = Bench::on_disk();
    let run = bench.start(spec());
    refuse_chunks(&bench, true);
    log_at(
        &run,
        0,
        vec![bytes("pic", MediaKind::Image, "image/png", &[7; 9000])],
    )
    .unwrap();
    log(&run, 0, 1.0).unwrap();
    let report = run.finish(None, None, None).unwrap();
    assert_eq!(report.dropped_points["pic"], 1);
    refuse_chunks(&bench, false);
    let detail = bench.engine.run(run.run()).unwrap();
    assert_eq!(detail.lost[0].points["pic"], 1);
    assert_eq!(bench.steps(run.run()), [0]);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let bench = Bench::on_disk();
    let run = bench.start(spec());
    refuse_chunks(&bench, true);
    let large = vec![7_u8; 60 << 20];
    for step in 0..4 {
        log_at(
            &run,
            step,
            vec![bytes("pic", MediaKind::Image, "image/png", &large)],
        )
        .unwrap();
    }
    let health = run.health();
    assert!(health.queued_bytes <= 130 << 20, "{}", health.queued_bytes);
    assert_eq!(health.dropped_points["pic"], 2);
    refuse_chunks(&bench, false);
    run.finish(None, None, None).unwrap();
    let steps = bench
        .engine
        .media(run.run(), &MediaSelection::default())
        .unwrap()
        .steps;
    assert_eq!(steps, [0, 1].map(Step));
}

#[test]
fn a_flipped_bit_of_a_picture_is_told_and_verify_finds_it() {
    let bench = Bench::new();
    let run = bench.start(spec());
    log_at(
        &run,
        0,
        vec![bytes("pic", MediaKind::Image, "image/png", &[7; 9000])],
    )
    .unwrap();
    run.finish(None, None, None).unwrap();
    let chunk = only_chunk(&bench);
    bench.damage(chunk, |bytes| bytes[4000] ^= 1);
    let read = bench.engine.read_media(run.run(), "pic", Step(0), 0, None);
    assert_error(read, ErrorKind::Corrupt, &["\"pic\" at step 0"]);
    let report = bench.engine.verify(None).unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.contains("\"pic\" at step 0")),
        "{:?}",
        report.problems
    );
}

fn only_chunk(bench: &Bench) -> std::path::PathBuf {
    let [chunk] = bench.files("chunks").try_into().unwrap();
    chunk
}

#[test]
fn a_new_index_answers_the_same() {
    let bench = Bench::new();
    let parent = bench.start(named("parent"));
    for step in 0..4 {
        log(&parent, step, 1.0).unwrap();
        log_at(
            &parent,
            step,
            vec![text("say", &format!("p{step}")), text("x/y", "z")],
        )
        .unwrap();
    }
    parent.alert("t", "more", AlertLevel::Warn).unwrap();
    parent.finish(None, None, None).unwrap();
    let child = bench.start(fork_of(parent.run(), 2));
    log_at(&child, 3, vec![text("say", "c3")]).unwrap();
    child.finish(None, None, None).unwrap();
    let fresh = bench.elsewhere("another");
    for run in [parent.run(), child.run()] {
        let selection = MediaSelection::default();
        assert_eq!(
            bench.engine.media(run, &selection).unwrap(),
            fresh.media(run, &selection).unwrap()
        );
        assert_eq!(
            bench.engine.run(run).unwrap().alerts,
            fresh.run(run).unwrap().alerts
        );
        assert_eq!(
            effective(&bench, run, "say"),
            page(&fresh, run, "say", &selection)
        );
    }
}

#[test]
fn alerts_belong_to_their_run_and_are_counted_in_lists() {
    let bench = Bench::new();
    let run = bench.start(spec());
    assert_error(
        run.alert("  ", "", AlertLevel::Info),
        ErrorKind::Invalid,
        &["title"],
    );
    log(&run, 4, 1.0).unwrap();
    run.alert("loss spiked", "it was 9", AlertLevel::Warn)
        .unwrap();
    run.alert(&"ä".repeat(400), &"x".repeat(1 << 20), AlertLevel::Error)
        .unwrap();
    run.finish(None, None, None).unwrap();
    let detail = bench.engine.run(run.run()).unwrap();
    let first = &detail.alerts[0];
    assert_eq!(
        (first.title.as_str(), first.text.as_str()),
        ("loss spiked", "it was 9")
    );
    assert_eq!((first.level, first.step), (AlertLevel::Warn, Some(Step(4))));
    assert!(detail.alerts[1].title.len() < 300 && detail.alerts[1].title.ends_with('…'));
    assert!(detail.alerts[1].text.len() < 20_000);
    let summary = bench.engine.summary(run.run()).unwrap().alerts.unwrap();
    assert_eq!((summary.count, summary.worst), (2, AlertLevel::Error));
    let child = bench.forked(run.run(), 4, 6, &[]);
    let child = bench.engine.run(child).unwrap();
    assert!(child.alerts.is_empty() && child.summary.alerts.is_none());
}

#[test]
fn lines_printed_one_soon_after_another_are_one_frame_in_their_order() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for line in 0..10 {
        run.console("stdout", vec![format!("out {line}")]).unwrap();
    }
    run.console("stderr", vec!["ERROR: x".to_owned()]).unwrap();
    run.console("stdout", vec!["after".to_owned()]).unwrap();
    bench.clock.advance(1);
    run.console("stdout", vec!["later".to_owned()]).unwrap();
    run.finish(None, None, None).unwrap();
    let page = bench
        .engine
        .console(run.run(), None, 100, Default::default())
        .unwrap();
    let lines: Vec<_> = page.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(&lines[9..], ["out 9", "ERROR: x", "after", "later"]);
    let times: std::collections::BTreeSet<_> = page.lines.iter().map(|line| line.at).collect();
    assert_eq!(times.len(), 4);
}

#[test]
fn a_failing_rank_is_named_and_its_failure_stands() {
    let bench = Bench::new();
    let ranked = |rank| RunSpec {
        rank,
        world_size: 3,
        ..launched_as("l", keyed("k", ResumePolicy::Allow))
    };
    let runs: Vec<Arc<RunWriter>> = (0..3)
        .map(|rank| bench.other().start_run(ranked(rank)).unwrap())
        .collect();
    runs[2]
        .finish(
            Some(RunStatus::Failed),
            Some("ValueError: boom".to_owned()),
            None,
        )
        .unwrap();
    runs[1]
        .finish(Some(RunStatus::Stopped), Some("SIGTERM".to_owned()), None)
        .unwrap();
    runs[0].finish(None, None, None).unwrap();
    let summary = bench.engine.summary(runs[0].run()).unwrap();
    assert_eq!(summary.status, RunStatus::Failed);
    assert_eq!(
        summary.status_reason.as_deref(),
        Some("rank 2: ValueError: boom")
    );
    let detail = bench.engine.run(runs[0].run()).unwrap();
    let ranks: Vec<u32> = detail
        .processes
        .iter()
        .map(|process| process.rank)
        .collect();
    assert_eq!(ranks, [0, 1, 2]);
}
