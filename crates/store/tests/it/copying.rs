//! Chunks on their way from one store to another: each byte once.

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use runtree_core::manifest::ChunkRecord;
use runtree_store::wrappers::Meter;
use runtree_store::{Copying, ObjectEncoding, Store, checksum, layout};

use crate::support::{BLOCK, NOW, noise, on_disk};

fn put(store: &Store, data: &[u8]) -> ChunkRecord {
    let save = store.begin_save().unwrap();
    save.put_chunk(Bytes::copy_from_slice(data), checksum(data))
        .unwrap()
        .record
}

/// Puts a chunk that is there encoded alone; returns the bytes of its object.
fn put_encoded(store: &Store, data: &[u8], base: Option<&ChunkRecord>) -> (ChunkRecord, u64) {
    let chunk = put(store, data);
    let rounds = store.list_rounds().unwrap();
    let encoded = store.encode_chunk(&chunk, Some(2), base, &rounds).unwrap();
    let raw = layout::chunk_object(&chunk.object.parse().unwrap());
    store.delete(&raw).unwrap();
    (chunk, encoded.unwrap().bytes)
}

#[test]
fn every_byte_of_a_chunk_is_read_once_however_it_is_kept() {
    let meter = Meter::new(Arc::new(InMemory::new()));
    let from = Store::create_over(meter.clone(), NOW).unwrap();
    let to = on_disk();
    let raw = put(&from, &noise(1, 3 * BLOCK + 5));
    let mut data: Vec<u8> = noise(2, 12 * BLOCK).iter().map(|byte| byte % 7).collect();
    let (planes, planes_bytes) = put_encoded(&from, &data, None);
    data[BLOCK] ^= 1;
    let (delta, delta_bytes) = put_encoded(&from, &data, Some(&planes));
    assert!(delta_bytes < planes_bytes / 100);

    let before = meter.counts();
    let copying = Copying::begin(&from, &to).unwrap();
    let sent = [&raw, &planes, &delta].map(|chunk| copying.send(chunk).unwrap());
    assert_eq!(sent, [raw.bytes, planes_bytes, delta_bytes]);
    let after = meter.counts();
    assert_eq!(
        after.chunk_bytes_read - before.chunk_bytes_read,
        sent.iter().sum::<u64>()
    );
    assert_eq!(after.chunk_gets - before.chunk_gets, 3);

    // As they were kept, and sound.
    for (chunk, is_delta) in [(&raw, false), (&planes, false), (&delta, true)] {
        let verdict = to.verify_chunk(chunk).unwrap();
        let [name] = verdict.healthy[..] else {
            panic!("{verdict:?}");
        };
        assert_eq!(matches!(name.encoding, ObjectEncoding::Delta(_)), is_delta);
    }
    assert_eq!(to.read_chunk(&delta).unwrap(), data);
    assert_eq!(copying.send(&delta).unwrap(), 0);
}

#[test]
fn what_is_damaged_on_its_way_is_not_put() {
    let objects = Arc::new(InMemory::new());
    let from = Store::create_over(Arc::clone(&objects) as Arc<_>, NOW).unwrap();
    let to = on_disk();
    let data: Vec<u8> = noise(4, BLOCK).iter().map(|byte| byte % 5).collect();
    let chunk = put(&from, &noise(3, 2 * BLOCK));
    let (encoded, _) = put_encoded(&from, &data, None);
    for chunk in [&chunk, &encoded] {
        let [name] = from.list_objects(chunk.hash).unwrap()[..] else {
            panic!("one object");
        };
        let path = layout::chunk_object(&name);
        let mut bytes = from.read_bytes(&path).unwrap().to_vec();
        bytes[1000] ^= 4;
        from.overwrite_bytes(&path, bytes.into()).unwrap();
        let copying = Copying::begin(&from, &to).unwrap();
        let error = copying.send(chunk).unwrap_err();
        assert_eq!(error.kind(), runtree_core::ErrorKind::Corrupt, "{error}");
        assert!(to.list_objects(chunk.hash).unwrap().is_empty());
    }
}
