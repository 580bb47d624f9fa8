//! Journals: nothing acknowledged is lost or changed without notice, whatever is cut or flipped.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use proptest::prelude::*;
use runtree_core::event::Event;
use runtree_core::manifest::JournalPosition;
use runtree_core::{ErrorKind, WriterId};
use runtree_store::journal::{FRAME_HEADER_BYTES, HEADER_BYTES, parse_frame};
use runtree_store::wrappers::Meter;
use runtree_store::{Cursor, Frame, FrameKind, JournalReader, JournalWriter, Store, layout};

use crate::support::{NOW, OnDisk, in_memory, noise, on_disk, put, run};

const WRITER: WriterId = WriterId::from_bits(42);

fn write(store: &Store, payloads: &[Vec<u8>]) -> JournalPosition {
    let mut journal = JournalWriter::create(store, run(1), WRITER).unwrap();
    for payload in payloads {
        journal.append(FrameKind::Points, payload).unwrap();
    }
    journal.sync().unwrap()
}

fn read_from(store: &Store, from: Cursor) -> runtree_core::Result<(Vec<Frame>, Cursor)> {
    let mut reader = JournalReader::open(store, run(1), WRITER, from)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push(frame);
    }
    assert!(reader.next_frame()?.is_none(), "the end stays the end");
    Ok((frames, reader.cursor()))
}

fn payloads_of(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.payload.clone()).collect()
}

fn file(store: &OnDisk, first: u64) -> PathBuf {
    store
        .directory
        .path()
        .join(format!("runs/{}/journal/{WRITER}/{first:020}.log", run(1)))
}

fn some_payloads() -> Vec<Vec<u8>> {
    [0, 1, 100, 5000, 3, 2_000_000, 7]
        .into_iter()
        .enumerate()
        .map(|(seed, len)| noise(seed as u64, len))
        .collect()
}

/// In a bucket each sync is an object: whoever reads on must not read all of them again.
#[test]
fn reading_on_asks_for_what_is_new() {
    let meter = Meter::new(Arc::new(InMemory::new()));
    let store = Store::create_over(meter.clone(), NOW).unwrap();
    let mut journal = JournalWriter::create(&store, run(1), WRITER).unwrap();
    let mut log = |count: u8| {
        for payload in 0..count {
            journal.append(FrameKind::Points, &[payload]).unwrap();
        }
        journal.sync().unwrap();
    };
    for _ in 0..30 {
        log(2);
    }
    let (frames, cursor) = read_from(&store, Cursor::START).unwrap();
    assert_eq!(frames.len(), 60);
    log(2);
    let before = meter.counts();
    let (frames, end) = read_from(&store, cursor).unwrap();
    assert_eq!(payloads_of(&frames), [[0], [1]]);
    let after = meter.counts();
    assert!(after.gets - before.gets <= 3, "{after:?} {before:?}");
    // From the middle of a piece, too; and whoever has read something else is told so.
    let mut reader = JournalReader::open(&store, run(1), WRITER, cursor).unwrap();
    reader.next_frame().unwrap();
    let middle = reader.cursor();
    assert_eq!(payloads_of(&read_from(&store, middle).unwrap().0), [[1]]);
    assert_eq!(read_from(&store, end).unwrap(), (Vec::new(), end));
    for cursor in [cursor, middle, end] {
        let hash = cursor.hash ^ 1;
        let other = read_from(&store, Cursor { hash, ..cursor });
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Corrupt);
        let ordinal = cursor.ordinal + 5;
        let further = read_from(&store, Cursor { ordinal, ..cursor });
        assert_eq!(further.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn what_was_appended_comes_back() {
    let store = on_disk();
    let payloads = some_payloads();
    let position = write(&store, &payloads);
    assert_eq!(position.ordinal, payloads.len() as u64);
    let (frames, cursor) = read_from(&store, Cursor::START).unwrap();
    assert_eq!(payloads_of(&frames), payloads);
    assert!(
        frames
            .iter()
            .enumerate()
            .all(|(n, frame)| frame.ordinal == n as u64)
    );
    assert_eq!(
        (cursor.ordinal, cursor.hash),
        (position.ordinal, position.hash)
    );
    assert_eq!(cursor.offset, fs::metadata(file(&store, 0)).unwrap().len());
    store.check_journals(run(1), &[position]).unwrap();
    let listed = store.list_journals(run(1)).unwrap();
    assert_eq!((listed[0].writer, listed[0].bytes), (WRITER, cursor.offset));
}

#[test]
fn a_reader_goes_on_where_it_stopped() {
    let store = on_disk();
    let mut journal = JournalWriter::create(&store, run(1), WRITER).unwrap();
    let mut cursor = Cursor::START;
    let (frames, at) = read_from(&store, cursor).unwrap();
    assert!(frames.is_empty());
    cursor = at;
    for round in 0..5_u8 {
        journal.append(FrameKind::Event, &[round]).unwrap();
        journal.append(FrameKind::Points, &[round; 50]).unwrap();
        assert!(
            read_from(&store, cursor).unwrap().0.is_empty(),
            "nothing before sync"
        );
        journal.sync().unwrap();
        let (frames, at) = read_from(&store, cursor).unwrap();
        assert_eq!(payloads_of(&frames), [vec![round], vec![round; 50]]);
        assert_eq!(
            (frames[0].kind, frames[1].kind),
            (FrameKind::Event, FrameKind::Points)
        );
        cursor = at;
    }
    assert_eq!(journal.sync().unwrap(), journal.position(), "nothing to do");
}

#[test]
fn events_come_back() {
    let store = on_disk();
    let mut journal = JournalWriter::create(&store, run(1), WRITER).unwrap();
    let event = Event::Alive { at: NOW };
    journal.append_event(&event).unwrap();
    journal
        .append(FrameKind::Event, b"{\"event\":\"from the future\"}")
        .unwrap();
    journal.append(FrameKind::Points, b"").unwrap();
    journal.sync().unwrap();
    let (frames, _) = read_from(&store, Cursor::START).unwrap();
    assert_eq!(frames[0].event().unwrap(), event);
    assert_eq!(
        frames[1].event().unwrap(),
        Event::Unknown,
        "a newer writer says more"
    );
    assert_eq!(frames[2].event().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_writer_id_is_used_once() {
    let store = on_disk();
    write(&store, &[]);
    let error = JournalWriter::create(&store, run(1), WRITER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = JournalReader::open(&store, run(2), WRITER, Cursor::START).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Appends these points to a journal in a store without files, and syncs.
fn synced(store: &Store, batches: &[&[u8]]) -> runtree_core::Result<JournalWriter> {
    let mut journal = JournalWriter::create(store, run(1), WRITER)?;
    for batch in batches {
        journal.append(FrameKind::Points, batch)?;
    }
    journal.sync()?;
    Ok(journal)
}

#[test]
fn without_files_each_sync_is_an_object() {
    let store = in_memory();
    let mut journal = synced(&store, &[b"one", b"two"]).unwrap();
    assert_eq!(journal.position().ordinal, 2);
    assert_eq!(
        journal.sync().unwrap(),
        journal.position(),
        "nothing new, nothing written"
    );
    journal.append(FrameKind::Points, b"three").unwrap();
    journal.sync().unwrap();
    assert_eq!(store.list_pieces(run(1), WRITER).unwrap(), [0, 2]);
    let (frames, _) = read_from(&store, Cursor::START).unwrap();
    let payloads: Vec<_> = frames.iter().map(|frame| frame.payload.clone()).collect();
    assert_eq!(payloads, [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_sync_whose_answer_was_lost_goes_on_behind_its_own_frames() {
    // What the lost try had written: the first frames of what is pending by now.
    let lost = in_memory();
    synced(&lost, &[b"one"]).unwrap();
    let piece = layout::journal_piece(run(1), WRITER, 0);
    let store = in_memory();
    put(
        store.objects(),
        piece.as_ref(),
        &lost.read_bytes(&piece).unwrap(),
    );
    let journal = synced(&store, &[b"one", b"two"]).unwrap();
    assert_eq!(journal.position().ordinal, 2);
    assert_eq!(store.list_pieces(run(1), WRITER).unwrap(), [0, 1]);
    let (frames, _) = read_from(&store, Cursor::START).unwrap();
    assert_eq!(frames.len(), 2);
    // Somebody else's frames are no try of ours.
    let foreign = in_memory();
    put(
        foreign.objects(),
        piece.as_ref(),
        &lost.read_bytes(&piece).unwrap(),
    );
    let error = synced(&foreign, &[b"other", b"two"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

#[test]
fn a_piece_without_a_frame_ends_a_sync_with_an_error() {
    let lost = in_memory();
    synced(&lost, &[b"one"]).unwrap();
    let piece = layout::journal_piece(run(1), WRITER, 0);
    let header = lost.read_bytes(&piece).unwrap().slice(..HEADER_BYTES);
    let store = in_memory();
    put(store.objects(), piece.as_ref(), &header);
    let error = synced(&store, &[b"one"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[test]
fn a_journal_is_copied_frame_by_frame() {
    let here = on_disk();
    let mut journal = JournalWriter::create(&here, run(1), WRITER).unwrap();
    let there = in_memory();
    let mut written = 0;
    for round in 0..4_u8 {
        for frame in 0..3_u8 {
            journal.append(FrameKind::Points, &[round, frame]).unwrap();
        }
        journal.sync().unwrap();
        let pieces = here.list_pieces(run(1), WRITER).unwrap();
        let theirs = there.list_pieces(run(1), WRITER).unwrap();
        written += here
            .copy_journal(&there, run(1), WRITER, &pieces, &theirs)
            .unwrap();
        let (frames, _) = read_from(&there, Cursor::START).unwrap();
        assert_eq!(frames, read_from(&here, Cursor::START).unwrap().0);
    }
    assert!(written > 0);
    let pieces = here.list_pieces(run(1), WRITER).unwrap();
    let theirs = there.list_pieces(run(1), WRITER).unwrap();
    assert_eq!(
        here.copy_journal(&there, run(1), WRITER, &pieces, &theirs)
            .unwrap(),
        0
    );
    // Another story under the same name is a conflict, not a mixture.
    let other = in_memory();
    synced(&other, &[b"other"]).unwrap();
    let error = here
        .copy_journal(&other, run(1), WRITER, &pieces, &[0])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

#[test]
fn a_payload_beyond_the_limit_is_refused() {
    let store = on_disk();
    let mut journal = JournalWriter::create(&store, run(1), WRITER).unwrap();
    let error = journal
        .append(FrameKind::Points, &vec![0; (64 << 20) + 1])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(journal.pending_bytes(), 0);
}

#[test]
fn a_journal_shorter_than_or_different_from_a_record_is_corrupt() {
    let store = on_disk();
    let position = write(&store, &some_payloads());
    let longer = JournalPosition {
        ordinal: position.ordinal + 1,
        ..position
    };
    let different = JournalPosition {
        hash: position.hash ^ 1,
        ..position
    };
    let middle = JournalPosition {
        ordinal: 3,
        ..position
    };
    let elsewhere = JournalPosition {
        writer: WriterId::from_bits(1),
        ..position
    };
    for wrong in [longer, different, middle, elsewhere] {
        let error = store
            .check_journals(run(1), &[position, wrong])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let start = JournalPosition {
        ordinal: 0,
        hash: runtree_store::journal::start_hash(run(1), WRITER),
        ..position
    };
    store.check_journals(run(1), &[start, position]).unwrap();
    // The same, while reading.
    let mut reader = JournalReader::open(&store, run(1), WRITER, Cursor::START).unwrap();
    reader.expect(longer);
    let last = reader.by_ref().last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Corrupt);
    // A file that lost its last frame: torn for who knows nothing, corrupt for who has the record.
    let path = file(&store, 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(read_from(&store, Cursor::START).unwrap().0.len(), 6);
    let error = store.check_journals(run(1), &[position]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    fs::remove_file(&path).unwrap();
    let error = store.check_journals(run(1), &[position]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_cursor_behind_the_end_is_corrupt() {
    let store = on_disk();
    write(&store, &some_payloads());
    let (_, end) = read_from(&store, Cursor::START).unwrap();
    let path = file(&store, 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(
        read_from(&store, end).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(
        read_from(&store, end).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_tail_of_zeros_is_torn() {
    let store = on_disk();
    write(&store, &[vec![1; 10]]);
    let path = file(&store, 0);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() as u64;
    bytes.resize(bytes.len() + 5000, 0);
    fs::write(&path, &bytes).unwrap();
    let mut reader = JournalReader::open(&store, run(1), WRITER, Cursor::START).unwrap();
    assert!(reader.next_frame().unwrap().is_some());
    assert!(reader.next_frame().unwrap().is_none());
    assert_eq!((reader.cursor().offset, reader.torn_bytes()), (end, 5000));
    // A file that a power cut left with its length and without its content.
    fs::write(&path, vec![0; 5000]).unwrap();
    let (frames, cursor) = read_from(&store, Cursor::START).unwrap();
    assert_eq!((frames.len(), cursor), (0, Cursor::START));
}

#[test]
fn frames_of_another_journal_do_not_fit() {
    let store = on_disk();
    write(&store, &[vec![1], vec![2]]);
    let other = WriterId::from_bits(43);
    let mut journal = JournalWriter::create(&store, run(1), other).unwrap();
    journal.append(FrameKind::Points, &[3]).unwrap();
    journal.sync().unwrap();
    let directory = store
        .directory
        .path()
        .join(format!("runs/{}/journal", run(1)));
    let name = format!("{:020}.log", 0);
    fs::copy(
        directory.join(WRITER.to_string()).join(&name),
        directory.join(other.to_string()).join(&name),
    )
    .unwrap();
    let mut reader = JournalReader::open(&store, run(1), other, Cursor::START).unwrap();
    assert_eq!(reader.next_frame().unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Splits a journal after `first` frames, as a writer does after a failed sync: the second file starts there, the first may hold more.
fn split(store: &OnDisk, frames: usize, first: usize, overlap: usize) {
    use runtree_store::journal::FileHeader;
    let bytes = fs::read(file(store, 0)).unwrap();
    let mut ends = vec![HEADER_BYTES];
    let mut hashes = vec![runtree_store::journal::start_hash(run(1), WRITER)];
    for n in 0..frames {
        let at = *ends.last().unwrap();
        let runtree_store::journal::ParsedFrame::Whole {
            payload_bytes,
            hash,
            ..
        } = parse_frame(&bytes[at..], n as u64, hashes[n])
        else {
            panic!("frame {n}");
        };
        ends.push(at + FRAME_HEADER_BYTES + payload_bytes);
        hashes.push(hash);
    }
    let header = FileHeader {
        run: run(1),
        writer: WRITER,
        first_ordinal: first as u64,
        hash: hashes[first],
    };
    let mut second = header.to_bytes().to_vec();
    second.extend_from_slice(&bytes[ends[first]..]);
    fs::write(file(store, first as u64), second).unwrap();
    fs::write(
        file(store, 0),
        &bytes[..ends[(first + overlap).min(frames)]],
    )
    .unwrap();
}

#[test]
fn a_journal_in_several_files_reads_as_one() {
    for overlap in [0, 2, 9] {
        let store = on_disk();
        let payloads = some_payloads();
        let position = write(&store, &payloads);
        let (_, old_end) = read_from(&store, Cursor::START).unwrap();
        split(&store, payloads.len(), 3, overlap);
        let (frames, end) = read_from(&store, Cursor::START).unwrap();
        assert_eq!(payloads_of(&frames), payloads);
        store.check_journals(run(1), &[position]).unwrap();
        // Cursors from before and after the change go on.
        for cursor in [old_end, end] {
            assert!(read_from(&store, cursor).unwrap().0.is_empty());
        }
        let mut reader = JournalReader::open(&store, run(1), WRITER, Cursor::START).unwrap();
        for n in 0..payloads.len() {
            let (rest, _) = read_from(&store, reader.cursor()).unwrap();
            assert_eq!(payloads_of(&rest), payloads[n..]);
            reader.next_frame().unwrap().unwrap();
        }
        // Without the first file's end there is a hole.
        if overlap == 0 {
            let bytes = fs::read(file(&store, 0)).unwrap();
            fs::write(file(&store, 0), &bytes[..bytes.len() - 1]).unwrap();
            assert_eq!(
                read_from(&store, Cursor::START).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
    }
}

#[test]
fn a_second_file_that_was_only_begun_is_torn() {
    let store = on_disk();
    let payloads = some_payloads();
    write(&store, &payloads);
    split(&store, payloads.len(), 3, 9);
    for left in [0, 10, HEADER_BYTES - 1] {
        fs::write(file(&store, 3), noise(1, left)).unwrap();
        let (frames, _) = read_from(&store, Cursor::START).unwrap();
        assert_eq!(payloads_of(&frames), payloads);
    }
}

#[test]
fn a_million_points_a_second_are_cheap_to_append() {
    // 1,000 flushes of 1,000 points at 20 bytes: what a second of the fastest logging gives. Generous: a debug build on a busy machine.
    let store = on_disk();
    let mut journal = JournalWriter::create(&store, run(1), WRITER).unwrap();
    let batch = noise(1, 20_000);
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        journal.append(FrameKind::Points, &batch).unwrap();
    }
    journal.sync().unwrap();
    assert!(
        started.elapsed().as_secs_f64() < 5.0,
        "{:?}",
        started.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn cut_anywhere_gives_a_prefix_of_the_frames(lens in proptest::collection::vec(0..200_usize, 0..12), cut in 0.0..1.0_f64) {
        let store = on_disk();
        let payloads: Vec<Vec<u8>> = lens.iter().enumerate().map(|(seed, len)| noise(seed as u64, *len)).collect();
        write(&store, &payloads);
        let path = file(&store, 0);
        let bytes = fs::read(&path).unwrap();
        let keep = ((bytes.len() as f64) * cut) as usize;
        fs::write(&path, &bytes[..keep]).unwrap();
        let (frames, cursor) = read_from(&store, Cursor::START).unwrap();
        prop_assert!(cursor.offset <= keep as u64);
        prop_assert_eq!(&payloads_of(&frames)[..], &payloads[..frames.len()]);
        // Every frame that is there whole is read.
        let mut end = HEADER_BYTES;
        let whole = payloads.iter().take_while(|payload| { end += FRAME_HEADER_BYTES + payload.len(); end <= keep }).count();
        prop_assert_eq!(frames.len(), if keep < HEADER_BYTES { 0 } else { whole });
    }

    #[test]
    fn a_flipped_bit_is_damage_or_a_torn_tail_and_never_other_frames(
        lens in proptest::collection::vec(0..200_usize, 1..12), at in 0.0..1.0_f64, bit in 0..8,
    ) {
        let store = on_disk();
        let payloads: Vec<Vec<u8>> = lens.iter().enumerate().map(|(seed, len)| noise(seed as u64, *len)).collect();
        let position = write(&store, &payloads);
        let path = file(&store, 0);
        let mut bytes = fs::read(&path).unwrap();
        let at = ((bytes.len() as f64) * at) as usize;
        bytes[at] ^= 1_u8 << bit;
        fs::write(&path, &bytes).unwrap();
        let last_frame = bytes.len() - FRAME_HEADER_BYTES - lens.last().unwrap();
        match read_from(&store, Cursor::START) {
            // Only in the last frame can damage pass for a torn tail.
            Ok((frames, _)) => {
                prop_assert!(at >= last_frame || (at < HEADER_BYTES && payloads.is_empty()), "byte {} of {}", at, bytes.len());
                prop_assert_eq!(frames.len(), payloads.len() - 1);
                prop_assert_eq!(&payloads_of(&frames)[..], &payloads[..frames.len()]);
            }
            Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{}", error),
        }
        // Who has the record notices every one.
        prop_assert!(store.check_journals(run(1), &[position]).is_err());
    }

    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), ordinal: u64, hash: u64) {
        let _ = parse_frame(&bytes, ordinal, hash);
        let _ = runtree_store::journal::FileHeader::parse(&bytes);
        let store = on_disk();
        fs::create_dir_all(file(&store, 0).parent().unwrap()).unwrap();
        fs::write(file(&store, 0), &bytes).unwrap();
        let _ = read_from(&store, Cursor::START);
        let _ = read_from(&store, Cursor { offset: 64, ordinal, hash });
    }
}
