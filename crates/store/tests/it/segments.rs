//! Segments under their names, and journals whose beginning they stand for.

use std::fs;

use runtree_core::manifest::JournalPosition;
use runtree_core::{ErrorKind, RunId, WriterId};
use runtree_store::journal::FileHeader;
use runtree_store::{Cursor, FrameKind, JournalReader, JournalWriter, SegmentName, Store};

use crate::support::{OnDisk, in_memory, noise, on_disk, run};

const WRITER: WriterId = WriterId::from_bits(42);

fn create(store: &Store, frames: std::ops::Range<u64>, bytes: &[u8]) -> SegmentName {
    store
        .create_segment(run(1), WRITER, frames, bytes.to_vec().into())
        .unwrap()
}

#[test]
fn a_name_says_what_it_covers_and_has_one_spelling() {
    let name = SegmentName::of(WRITER, 3, 40, b"bytes");
    let text = name.to_string();
    assert_eq!(text.parse::<SegmentName>().unwrap(), name);
    assert!(name.covers(3) && name.covers(39) && !name.covers(40) && !name.covers(2));
    assert!(name.names(b"bytes") && !name.names(b"byteS"));
    for other in [
        text.replace(".parquet", ""),
        text.to_uppercase(),
        text.replace("-00000000000000000003-", "-3-"),
        text.replace("00000000000000000040", "00000000000000000003"),
        format!("{text}.parquet"),
        format!("0{text}"),
        text.replacen('-', "-+", 1),
    ] {
        assert!(other.parse::<SegmentName>().is_err(), "{other}");
    }
    // Names sort as what they say does.
    let mut names = [
        SegmentName::of(WRITER, 10, 11, b"a"),
        SegmentName::of(WRITER, 9, 200, b"b"),
        SegmentName::of(WRITER, 9, 30, b"c"),
        SegmentName::of(WriterId::from_bits(41), 1000, 1001, b"d"),
    ];
    names.sort();
    assert!(
        names
            .windows(2)
            .all(|pair| pair[0].to_string() < pair[1].to_string())
    );
}

#[test]
fn segments_are_listed_read_and_made_twice_without_harm() {
    let disk = on_disk();
    for store in [&in_memory(), &disk.store] {
        let a = create(store, 0..5, b"first");
        let b = create(store, 5..9, b"second");
        assert_eq!(create(store, 0..5, b"first"), a);
        assert_eq!(store.list_segments(run(1)).unwrap(), [a, b]);
        assert_eq!(&store.read_segment(run(1), &b).unwrap()[..], b"second");
        assert!(store.list_segments(run(2)).unwrap().is_empty());
    }
}

#[test]
fn a_damaged_segment_is_found_and_put_right_by_who_has_its_bytes() {
    let store = on_disk();
    let name = create(&store, 0..5, b"first");
    let path = store
        .directory
        .path()
        .join(format!("runs/{}/metrics/{name}", run(1)));
    fs::write(&path, b"firsT").unwrap();
    let error = store.read_segment(run(1), &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&name.to_string()));
    assert_eq!(create(&store, 0..5, b"first"), name);
    assert_eq!(&store.read_segment(run(1), &name).unwrap()[..], b"first");
    fs::remove_file(&path).unwrap();
    let error = store.read_segment(run(1), &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_stamp_changes_when_something_was_sealed() {
    let store = on_disk();
    let before = store.run_stamp(run(1)).unwrap();
    create(&store, 0..5, b"first");
    assert_ne!(store.run_stamp(run(1)).unwrap(), before);
}

/// Writes frames, and returns the position before each.
fn journal(store: &Store, frames: u64) -> Vec<JournalPosition> {
    let mut journal = JournalWriter::create(store, run(1), WRITER).unwrap();
    let mut positions = Vec::new();
    for frame in 0..frames {
        positions.push(journal.position());
        journal
            .append(FrameKind::Points, &noise(frame, 1000))
            .unwrap();
        journal.sync().unwrap();
    }
    positions.push(journal.position());
    positions
}

fn piece(store: &OnDisk, first: u64) -> std::path::PathBuf {
    store
        .directory
        .path()
        .join(format!("runs/{}/journal/{WRITER}/{first:020}.log", run(1)))
}

/// What gc leaves of a journal whose frames before `at` are covered.
fn cut(store: &OnDisk, at: JournalPosition) {
    let run: RunId = run(1);
    let mut reader = JournalReader::open(store, run, WRITER, Cursor::START).unwrap();
    while reader.cursor().ordinal < at.ordinal {
        reader.next_frame().unwrap().unwrap();
    }
    let bytes = fs::read(piece(store, 0)).unwrap();
    let header = FileHeader {
        run,
        writer: WRITER,
        first_ordinal: at.ordinal,
        hash: at.hash,
    };
    let rest = &bytes[reader.cursor().offset as usize..];
    let kept = [&header.to_bytes()[..], rest].concat();
    fs::write(piece(store, at.ordinal), kept).unwrap();
    fs::remove_file(piece(store, 0)).unwrap();
}

fn rest(reader: Option<JournalReader>) -> Vec<u64> {
    reader
        .into_iter()
        .flatten()
        .map(|frame| frame.unwrap().ordinal)
        .collect()
}

#[test]
fn a_journal_is_read_behind_what_was_sealed_whole_or_cut() {
    let store = on_disk();
    let positions = journal(&store, 9);
    let behind = |ordinal: usize| JournalReader::open_behind(&store, run(1), positions[ordinal]);
    for ordinal in 1..9 {
        assert_eq!(
            rest(behind(ordinal).unwrap()),
            (ordinal as u64..9).collect::<Vec<_>>()
        );
    }
    assert!(
        behind(9).unwrap().is_none(),
        "there is nothing behind its end"
    );
    let noted = {
        let mut reader = behind(6).unwrap().unwrap();
        reader.next_frame().unwrap();
        reader.cursor()
    };
    cut(&store, positions[4]);
    let listed = store.list_journals(run(1)).unwrap();
    assert_eq!((listed[0].first_ordinal, listed.len()), (4, 1));
    for ordinal in 4..9 {
        assert_eq!(
            rest(behind(ordinal).unwrap()),
            (ordinal as u64..9).collect::<Vec<_>>()
        );
    }
    let error = behind(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("frame 3 is missing"), "{error}");
    // A cursor that was noted before the cut goes on, wherever its frame is now.
    let reader = JournalReader::open(&store, run(1), WRITER, noted).unwrap();
    assert_eq!(rest(Some(reader)), [7, 8]);
    let start = JournalReader::open(&store, run(1), WRITER, Cursor::START).unwrap_err();
    assert!(start.message().contains("starts with frame 4"), "{start}");
    fs::remove_dir_all(piece(&store, 4).parent().unwrap()).unwrap();
    assert!(behind(5).unwrap().is_none());
}

#[test]
fn damage_before_what_is_asked_for_does_not_matter_and_behind_it_does() {
    let store = on_disk();
    let positions = journal(&store, 9);
    let flip = |at: usize| {
        let mut bytes = fs::read(piece(&store, 0)).unwrap();
        bytes[at] ^= 1;
        fs::write(piece(&store, 0), bytes).unwrap();
    };
    let frame = |ordinal: usize| 64 + ordinal * (29 + 1000);
    let behind = |ordinal: usize| JournalReader::open_behind(&store, run(1), positions[ordinal]);
    flip(frame(2) + 100);
    assert_eq!(rest(behind(4).unwrap()), [4, 5, 6, 7, 8]);
    flip(frame(5) + 100);
    let error = behind(5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // Another journal than the one that was sealed.
    let other = JournalPosition {
        hash: positions[4].hash ^ 1,
        ..positions[4]
    };
    let error = JournalReader::open_behind(&store, run(1), other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // Shorter than what was sealed, as after a power cut: what was sealed is all there is.
    let bytes = fs::read(piece(&store, 0)).unwrap();
    fs::write(piece(&store, 0), &bytes[..frame(1) + 500]).unwrap();
    assert!(behind(4).unwrap().is_none());
}
