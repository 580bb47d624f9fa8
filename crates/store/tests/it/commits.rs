//! Parts, confirmations, commits: one decision, whoever makes it, whoever races.

use std::sync::Barrier;

use bytes::Bytes;
use runtree_core::ErrorKind;
use runtree_core::manifest::{Outcome, RoundRecord};
use runtree_store::{CommitProgress, ConfirmedPart, Mode, PublishedPart, Store, checksum, layout};

use crate::support::{NOW, in_memory, key, manifest, noise, on_disk, run, tamper};

const ONE: &[(&str, u32)] = &[("trainer", 1)];

fn publish(
    store: &Store,
    who: (&str, u32),
    parts: &[(&str, u32)],
    seed: u64,
) -> runtree_core::Result<PublishedPart> {
    let save = store.begin_save().unwrap();
    let chunks = [noise(seed, 3000), noise(seed + 1000, 2000)];
    let manifest = manifest(&save, who, parts, &chunks);
    save.publish(manifest)
}

fn confirm(store: &Store, who: (&str, u32), parts: &[(&str, u32)], seed: u64) -> ConfirmedPart {
    publish(store, who, parts, seed)
        .unwrap()
        .confirm(|_| Ok(None))
        .unwrap()
}

#[test]
fn a_part_alone_is_a_checkpoint_once_committed() {
    let store = on_disk();
    let part = confirm(&store, ("trainer", 0), ONE, 1);
    assert_eq!(store.read_commit(run(1), key(500)).unwrap(), None);
    assert_eq!(store.list_pending(run(1)).unwrap(), [key(500)]);
    let decided = part.try_commit().unwrap();
    let parts = decided.committed().unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].hash, part.hash());
    assert_eq!(part.try_commit().unwrap(), decided);
    assert_eq!(store.list_commits(run(1)).unwrap(), [key(500)]);
    assert!(store.list_pending(run(1)).unwrap().is_empty());

    let reader = Store::open(store.directory.path(), Mode::ReadOnly).unwrap();
    let read = reader
        .read_committed_part(run(1), key(500), &parts[0])
        .unwrap();
    assert_eq!(&read, part.manifest());
    for (chunk, expected) in read.chunks.iter().zip([noise(1, 3000), noise(1001, 2000)]) {
        assert_eq!(reader.read_chunk(chunk).unwrap(), expected);
    }
}

#[test]
fn a_checkpoint_waits_for_all_its_parts() {
    let store = on_disk();
    let parts = &[("orchestrator", 1), ("trainer", 2)];
    let first = confirm(&store, ("trainer", 0), parts, 1);
    let CommitProgress::Waiting { present, missing } = first.try_commit().unwrap() else {
        panic!("committed with one of three parts");
    };
    assert_eq!(present, [("trainer".parse().unwrap(), 0)]);
    assert_eq!(
        missing,
        [
            ("orchestrator".parse().unwrap(), 0),
            ("trainer".parse().unwrap(), 1)
        ]
    );
    let second = confirm(&store, ("orchestrator", 0), parts, 2);
    assert!(second.try_commit().unwrap().committed().is_none());
    // Published is not enough.
    let third = publish(&store, ("trainer", 1), parts, 3).unwrap();
    assert!(first.try_commit().unwrap().committed().is_none());
    assert!(matches!(
        store.help_commit(run(1), key(500)).unwrap(),
        CommitProgress::Waiting { .. }
    ));
    let listed = store.list_parts(run(1), key(500)).unwrap();
    assert_eq!(
        listed.iter().map(|part| part.confirmed).collect::<Vec<_>>(),
        [true, true, false]
    );
    // Confirmed is, and any rank sees it.
    let third = third.confirm(|_| Ok(None)).unwrap();
    let decided = first.try_commit().unwrap();
    let names: Vec<_> = decided
        .committed()
        .unwrap()
        .iter()
        .map(|part| format!("{}-{}", part.component, part.rank))
        .collect();
    assert_eq!(names, ["orchestrator-0", "trainer-0", "trainer-1"]);
    assert_eq!(third.try_commit().unwrap(), decided);
    assert_eq!(store.help_commit(run(1), key(500)).unwrap(), decided);
}

#[test]
fn a_reader_that_may_write_finishes_what_a_dead_writer_confirmed() {
    let store = on_disk();
    let parts = &[("trainer", 2)];
    drop(confirm(&store, ("trainer", 0), parts, 1));
    drop(confirm(&store, ("trainer", 1), parts, 2));
    assert_eq!(store.read_commit(run(1), key(500)).unwrap(), None);
    let decided = store.help_commit(run(1), key(500)).unwrap();
    assert_eq!(decided.committed().unwrap().len(), 2);
    let nothing = store.help_commit(run(1), key(501)).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
}

#[test]
fn all_ranks_that_think_they_are_last_write_the_same_commit() {
    for round in 0..5 {
        let store = on_disk();
        let ranks = 8;
        let parts = [("trainer", ranks)];
        let barrier = Barrier::new(ranks as usize);
        let records: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..ranks)
                .map(|rank| {
                    let (store, barrier, parts) = (&store.store, &barrier, &parts);
                    scope.spawn(move || {
                        let part = confirm(store, ("trainer", rank), parts, u64::from(rank));
                        barrier.wait();
                        match part.try_commit().unwrap() {
                            CommitProgress::Decided(record) => record,
                            waiting @ CommitProgress::Waiting { .. } => panic!("{waiting:?}"),
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(
            records.iter().all(|record| record == &records[0]),
            "round {round}"
        );
        assert_eq!(records[0].outcome, Outcome::Committed);
        assert_eq!(records[0].parts.len(), 8);
    }
}

#[test]
fn committing_and_abandoning_race_to_one_outcome() {
    let (mut committed, mut abandoned) = (0, 0);
    for round in 0..20 {
        let store = on_disk();
        let part = confirm(&store, ("trainer", 0), ONE, round);
        let barrier = Barrier::new(2);
        let (one, other) = std::thread::scope(|scope| {
            let committer = scope.spawn(|| {
                barrier.wait();
                part.try_commit().unwrap()
            });
            barrier.wait();
            let abandoned = store.abandon(run(1), key(500)).unwrap();
            (committer.join().unwrap(), abandoned)
        });
        assert_eq!(one, CommitProgress::Decided(other.clone()));
        assert_eq!(
            store.read_commit(run(1), key(500)).unwrap(),
            Some(other.clone())
        );
        match other.outcome {
            Outcome::Committed => committed += 1,
            Outcome::Abandoned => abandoned += 1,
        }
    }
    assert_eq!(committed + abandoned, 20);
}

#[test]
fn an_abandoned_save_never_becomes_a_checkpoint() {
    let store = on_disk();
    let part = confirm(&store, ("trainer", 0), ONE, 1);
    assert_eq!(
        store.abandon(run(1), key(500)).unwrap().outcome,
        Outcome::Abandoned
    );
    assert_eq!(
        store.abandon(run(1), key(500)).unwrap().outcome,
        Outcome::Abandoned
    );
    let decided = part.try_commit().unwrap();
    assert!(
        matches!(&decided, CommitProgress::Decided(record) if record.outcome == Outcome::Abandoned)
    );
    assert!(decided.committed().is_none());
}

#[test]
fn the_same_part_again_is_success_and_another_is_a_conflict() {
    let store = on_disk();
    let first = publish(&store, ("trainer", 0), ONE, 1).unwrap();
    let again = publish(&store, ("trainer", 0), ONE, 1).unwrap();
    assert_eq!(
        first.manifest(),
        again.manifest(),
        "dedup names the same objects"
    );
    let other = publish(&store, ("trainer", 0), ONE, 2).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert!(other.hint().unwrap().contains("rank 0 only"));
    let part = first.confirm(|_| Ok(None)).unwrap();
    assert_eq!(
        part.try_commit().unwrap().committed().unwrap()[0].hash,
        part.hash()
    );
    drop(again);
}

#[test]
fn another_declared_part_set_is_a_conflict_that_names_both() {
    let store = on_disk();
    let two = confirm(&store, ("trainer", 0), &[("trainer", 2)], 1);
    for (who, parts) in [
        (("trainer", 1), &[("trainer", 4)]),
        (("trainer", 0), &[("trainer", 4)]),
    ] {
        let error = publish(&store, who, parts, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("{trainer: 2}"), "{error}");
        assert!(error.message().contains("{trainer: 4}"), "{error}");
    }
    assert!(two.try_commit().unwrap().committed().is_none());
}

#[test]
fn a_part_outside_its_own_declaration_is_refused() {
    let store = on_disk();
    for parts in [
        &[("trainer", 1)][..],
        &[("orchestrator", 1)],
        &[],
        &[("trainer", u32::MAX)],
    ] {
        let error = publish(&store, ("trainer", 3), parts, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{parts:?}");
    }
}

#[test]
fn a_part_may_reference_only_what_its_save_placed() {
    let store = on_disk();
    let save = store.begin_save().unwrap();
    let other = store.begin_save().unwrap();
    let manifest = manifest(&other, ("trainer", 0), ONE, &[noise(1, 100)]);
    let error = save.publish(manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn open_round(store: &Store, number: u64, objects: Vec<String>) {
    let round = RoundRecord {
        objects,
        created: NOW,
    };
    store
        .create_record(&layout::round(number), &round)
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
}

#[test]
fn a_chunk_that_a_collector_took_meanwhile_is_put_again() {
    let store = on_disk();
    let part = publish(&store, ("trainer", 0), ONE, 1).unwrap();
    let [taken, condemned] = &part.manifest().chunks[..] else {
        panic!("two chunks");
    };
    let (taken, condemned) = (taken.clone(), condemned.clone());
    open_round(
        &store,
        1,
        vec![taken.object.clone(), condemned.object.clone()],
    );
    store
        .delete(&layout::chunk_object(&taken.object.parse().unwrap()))
        .unwrap();
    let part = part
        .confirm(|chunk| Ok((chunk.hash == taken.hash).then(|| Bytes::from(noise(1, 3000)))))
        .unwrap();
    // One from the caller's memory, the other from the object that is still there.
    assert_eq!(part.refilled(), 2);
    store
        .delete(&layout::chunk_object(&condemned.object.parse().unwrap()))
        .unwrap();
    store
        .create_bytes(&layout::round_closed(1), Bytes::new())
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    assert!(part.try_commit().unwrap().committed().is_some());
    for chunk in &part.manifest().chunks {
        assert_eq!(checksum(&store.read_chunk(chunk).unwrap()).hash, chunk.hash);
    }
}

#[test]
fn a_round_that_was_there_before_changes_nothing_and_closed_ones_count_as_new() {
    let store = on_disk();
    open_round(&store, 1, Vec::new());
    let part = publish(&store, ("trainer", 0), ONE, 1).unwrap();
    let part = part.confirm(|_| panic!("nothing to put again")).unwrap();
    assert_eq!(part.refilled(), 0);

    // A round that began and ended in between, and deleted.
    let save = store.begin_save().unwrap();
    let mut next = manifest(&save, ("trainer", 0), ONE, &[noise(7, 800)]);
    next.key = key(501);
    let part = save.publish(next).unwrap();
    let object = part.manifest().chunks[0].object.clone();
    open_round(&store, 2, vec![object.clone()]);
    store
        .delete(&layout::chunk_object(&object.parse().unwrap()))
        .unwrap();
    store
        .create_bytes(&layout::round_closed(2), Bytes::new())
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    let part = part
        .confirm(|_| Ok(Some(Bytes::from(noise(7, 800)))))
        .unwrap();
    assert_eq!(part.refilled(), 1);
    assert_eq!(
        store.read_chunk(&part.manifest().chunks[0]).unwrap(),
        noise(7, 800)
    );
}

#[test]
fn a_chunk_that_is_gone_for_good_is_lost_data() {
    let store = on_disk();
    for refill in [None, Some(Bytes::from_static(b"other bytes"))] {
        let save = store.begin_save().unwrap();
        let mut lost = manifest(&save, ("trainer", 0), ONE, &[noise(9, 800)]);
        lost.key = key(i64::from(refill.is_some()));
        let part = save.publish(lost).unwrap();
        let object = part.manifest().chunks[0].object.clone();
        open_round(
            &store,
            u64::from(refill.is_some()) + 1,
            vec![object.clone()],
        );
        store
            .delete(&layout::chunk_object(&object.parse().unwrap()))
            .unwrap();
        let error = part.confirm(|_| Ok(refill.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LostData);
    }
    assert!(store.list_commits(run(1)).unwrap().is_empty());
}

#[test]
fn every_flipped_bit_of_a_committed_part_is_noticed() {
    let store = in_memory();
    let part = confirm(&store, ("trainer", 0), ONE, 1);
    let decided = part.try_commit().unwrap();
    let committed = &decided.committed().unwrap()[0];
    let path = layout::part(run(1), key(500), &"trainer".parse().unwrap(), 0);
    let bytes = store.read_bytes(&path).unwrap();
    for bit in (0..bytes.len() * 8).step_by(13) {
        tamper(&store, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let error = store
            .read_committed_part(run(1), key(500), committed)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.message().contains("parts/1-500-0/trainer-0"),
            "{error}"
        );
        tamper(&store, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
    store
        .read_committed_part(run(1), key(500), committed)
        .unwrap();
    store.delete(&path).unwrap();
    let error = store
        .read_committed_part(run(1), key(500), committed)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_flipped_bit_of_a_commit_never_gives_other_parts() {
    let store = in_memory();
    let part = confirm(&store, ("trainer", 0), ONE, 1);
    let CommitProgress::Decided(good) = part.try_commit().unwrap() else {
        panic!("one part");
    };
    let path = layout::commit(run(1), key(500));
    let len = store.read_bytes(&path).unwrap().len();
    for bit in 0..len * 8 {
        tamper(&store, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        match store.read_commit(run(1), key(500)) {
            Ok(Some(read)) if read == good => panic!("bit {bit} went unnoticed"),
            // A commit has no hash above it: what it says is checked against the parts.
            Ok(Some(read)) => {
                assert_eq!(read.outcome, Outcome::Committed, "bit {bit}");
                for part in &read.parts {
                    store
                        .read_committed_part(run(1), key(500), part)
                        .unwrap_err();
                }
            }
            Ok(None) => panic!("bit {bit}: the commit is there"),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
                "bit {bit}: {error}"
            ),
        }
        tamper(&store, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
}

#[test]
fn a_confirmation_of_other_bytes_is_corrupt() {
    let store = on_disk();
    let parts = &[("trainer", 2)];
    let one = confirm(&store, ("trainer", 0), parts, 1);
    drop(confirm(&store, ("trainer", 1), parts, 2));
    let path = layout::part(run(1), key(500), &"trainer".parse().unwrap(), 1);
    // Still a valid manifest, with other facts.
    tamper(&store, &path, |bytes| {
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        *bytes = text.replace("\"mode\":420", "\"mode\":511").into_bytes();
    });
    assert_eq!(one.try_commit().unwrap_err().kind(), ErrorKind::Corrupt);
}
