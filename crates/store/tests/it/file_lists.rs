//! Chunks that a journal names: listed before they are named, and put again where a collector was at work.

use bytes::Bytes;
use runtree_core::WriterId;
use runtree_store::{FileList, ObjectName, checksum, layout};

use crate::support::{NOW, noise, on_disk, run};

#[test]
fn what_is_published_is_listed_sorted_and_once() {
    let store = on_disk();
    let mut list = FileList::new(run(1), WriterId::from_bits(7));
    for batch in 0..2 {
        let save = store.begin_save().unwrap();
        let mut hashes = Vec::new();
        for seed in [batch, batch, batch + 10, batch + 20] {
            let data = noise(seed, 100);
            let sum = checksum(&data);
            hashes.push(sum.hash);
            save.put_chunk(Bytes::from(data), sum).unwrap();
        }
        save.publish_files(&mut list, |_| Ok(None)).unwrap();
        hashes.sort_unstable();
        hashes.dedup();
        let read = store.read_file_list(run(1), WriterId::from_bits(7), batch);
        assert_eq!(read.unwrap(), hashes);
    }
    // Nothing to list is nothing written.
    let save = store.begin_save().unwrap();
    save.publish_files(&mut list, |_| Ok(None)).unwrap();
    let listed = store.list_file_lists(run(1)).unwrap();
    assert_eq!(
        listed,
        [(WriterId::from_bits(7), 0), (WriterId::from_bits(7), 1)]
    );
    let path = layout::file_list(run(1), WriterId::from_bits(7), 1);
    assert_eq!(
        path.as_ref(),
        format!("runs/{}/files/0000000000007-1", run(1))
    );
}

#[test]
fn what_a_collector_takes_meanwhile_is_put_again() {
    let store = on_disk();
    let data = noise(1, 100);
    let save = store.begin_save().unwrap();
    let put = save
        .put_chunk(Bytes::from(data.clone()), checksum(&data))
        .unwrap()
        .record;
    let object: ObjectName = put.object.parse().unwrap();
    let rounds = store.open_rounds([object], NOW).unwrap().unwrap();
    rounds.delete(&[object]).unwrap();
    rounds.close().unwrap();
    let mut list = FileList::new(run(1), WriterId::from_bits(7));
    save.publish_files(&mut list, |_| Ok(Some(Bytes::from(data.clone()))))
        .unwrap();
    let objects = store.list_objects(put.hash).unwrap();
    assert!(objects.len() == 1 && objects[0] != object);
    assert_eq!(store.read_chunk(&put).unwrap(), data);
}

#[test]
fn old_rounds_are_forgotten_and_the_highest_never() {
    let store = on_disk();
    let name = |seed| ObjectName {
        hash: checksum(&noise(seed, 10)).hash,
        put: runtree_core::PutId::from_bits(seed),
        encoding: runtree_store::ObjectEncoding::Raw,
    };
    for seed in 0..5 {
        let rounds = store.open_rounds([name(seed)], NOW).unwrap().unwrap();
        if seed == 1 {
            rounds.leave_open();
        } else {
            rounds.close().unwrap();
        }
    }
    store.forget_rounds(2).unwrap();
    let numbers = |store: &runtree_store::Store| {
        store
            .list_rounds()
            .unwrap()
            .numbers
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&store), [1, 2, 3, 4]);
    assert!(store.list_rounds().unwrap().condemns(&name(1)));
    // None of what it names is there: it says nothing.
    store.forget_dead_rounds(2).unwrap();
    store.forget_rounds(0).unwrap();
    assert_eq!(numbers(&store), [4]);
    let rounds = store.open_rounds([name(9)], NOW).unwrap().unwrap();
    assert_eq!(rounds.numbers(), [5]);
    rounds.close().unwrap();
}
