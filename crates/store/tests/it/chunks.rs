//! Chunks: every byte comes back, every damaged one is noticed, and another healthy object serves.

use bytes::Bytes;
use proptest::prelude::*;
use runtree_core::manifest::{ChunkRecord, RoundRecord};
use runtree_core::{ChunkHash, ErrorKind, PutId};
use runtree_store::wrappers::Meter;
use runtree_store::{Mode, ObjectEncoding, ObjectName, Store, checksum, layout};

use crate::support::{BLOCK, NOW, in_memory, noise, on_disk, tamper};

fn put(store: &Store, data: &[u8]) -> ChunkRecord {
    let save = store.begin_save().unwrap();
    save.put_chunk(Bytes::copy_from_slice(data), checksum(data))
        .unwrap()
        .record
}

fn object_path(record: &ChunkRecord) -> runtree_store::ObjectPath {
    layout::chunk_object(&record.object.parse().unwrap())
}

/// Sizes at every edge of a block.
const SIZES: [usize; 8] = [
    1,
    2,
    1000,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    2 * BLOCK,
    3 * BLOCK + 77,
];

#[test]
fn chunks_come_back_whole_and_in_slices() {
    for store in [&on_disk().store, &in_memory()] {
        for (seed, size) in SIZES.into_iter().enumerate() {
            let data = noise(seed as u64, size);
            let record = put(store, &data);
            assert_eq!(record.crc64.0.len(), size.div_ceil(BLOCK));
            assert_eq!(record.hash, ChunkHash::of(&data));
            assert_eq!(store.read_chunk(&record).unwrap(), data);
            let edges = [0, 1, size / 2, BLOCK - 1, BLOCK, BLOCK + 1, size - 1, size];
            for start in edges {
                for end in edges {
                    if start <= end && end <= size {
                        let mut slice = vec![0; end - start];
                        store
                            .read_chunk_into(&record, start as u64, &mut slice)
                            .unwrap();
                        assert!(slice == data[start..end], "{size}: {start}..{end}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_raw_object_is_the_bytes_and_its_name_is_their_hash() {
    let store = on_disk();
    let data = noise(1, 12345);
    let record = put(&store, &data);
    let hash = blake3::hash(&data).to_hex();
    let file = store
        .directory
        .path()
        .join(format!("chunks/{}/{}", &hash[..2], record.object));
    assert!(record.object.starts_with(hash.as_str()));
    assert_eq!(std::fs::read(file).unwrap(), data);
}

#[test]
fn the_checksum_is_crc_64_nvme() {
    // The check value of the catalogue of CRCs.
    assert_eq!(checksum(b"123456789").crc64.0, [0xae8b_1486_0a79_9888]);
}

#[test]
fn the_same_bytes_are_stored_once() {
    let store = on_disk();
    let data = Bytes::from(noise(1, 5000));
    let save = store.begin_save().unwrap();
    let first = save.put_chunk(data.clone(), checksum(&data)).unwrap();
    let again = save.put_chunk(data.clone(), checksum(&data)).unwrap();
    assert_eq!((first.written, again.written), (5000, 0));
    assert_eq!(first.record, again.record);
    // By what this process remembers, and by what a new one lists.
    for store in [
        store.store.clone(),
        Store::open(store.directory.path(), Mode::ReadWrite).unwrap(),
    ] {
        let save = store.begin_save().unwrap();
        let hit = save.put_chunk(data.clone(), checksum(&data)).unwrap();
        assert_eq!((hit.written, &hit.record), (0, &first.record));
        assert_eq!(
            save.reference(&first.record).unwrap().as_ref(),
            Some(&first.record)
        );
    }
    assert_eq!(store.list_objects(first.record.hash).unwrap().len(), 1);
    assert_eq!(
        store.stored_bytes([&first.record, &first.record]).unwrap(),
        5000
    );
}

#[test]
fn threads_with_the_same_bytes_write_them_once() {
    let store = on_disk();
    let save = store.begin_save().unwrap();
    let data = Bytes::from(vec![0; 300_000]);
    let written: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    save.put_chunk(data.clone(), checksum(&data))
                        .unwrap()
                        .written
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(written, 300_000);
    assert_eq!(store.list_objects(ChunkHash::of(&data)).unwrap().len(), 1);
}

#[test]
fn a_remembered_object_that_is_gone_is_put_again() {
    let store = on_disk();
    let data = noise(1, 5000);
    let first = put(&store, &data);
    store.delete(&object_path(&first)).unwrap();
    let second = put(&store, &data);
    assert_ne!(first.object, second.object, "a put id never returns");
    assert_eq!(
        store.read_chunk(&first).unwrap(),
        data,
        "any object of the hash serves"
    );
    assert_eq!(
        store.begin_save().unwrap().reference(&first).unwrap(),
        Some(second)
    );
}

#[test]
fn an_object_that_was_cut_short_is_no_hit() {
    let store = on_disk();
    let data = noise(1, 5000);
    let first = put(&store, &data);
    tamper(&store, &object_path(&first), |bytes| bytes.truncate(4999));
    let second = put(&store, &data);
    assert_ne!(first.object, second.object);
}

#[test]
fn what_an_open_round_condemns_does_not_exist_for_a_writer() {
    let store = on_disk();
    let data = noise(1, 5000);
    let condemned = put(&store, &data);
    let round = RoundRecord {
        objects: vec![condemned.object.clone()],
        created: NOW,
    };
    store
        .create_record(&layout::round(1), &round)
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    let fresh = put(&store, &data);
    assert_ne!(fresh.object, condemned.object);
    let save = store.begin_save().unwrap();
    assert_eq!(
        save.reference(&condemned).unwrap().unwrap().object,
        fresh.object
    );
}

#[test]
fn sizes_outside_the_limits_are_refused() {
    let store = in_memory();
    let save = store.begin_save().unwrap();
    let empty = save.put_chunk(Bytes::new(), checksum(b"")).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Invalid);
    let large = Bytes::from(vec![0; 64 * BLOCK + 1]);
    let large = save.put_chunk(large.clone(), checksum(b"")).unwrap_err();
    assert_eq!(large.kind(), ErrorKind::Invalid);
    let record = put(&store, b"abc");
    let outside = store.read_chunk_into(&record, 2, &mut [0; 2]).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::Invalid);
    let outside = store
        .read_chunk_into(&record, u64::MAX, &mut [0; 2])
        .unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::Invalid);
    let lying = ChunkRecord {
        bytes: 1 << 60,
        ..record
    };
    assert_eq!(
        store.read_chunk(&lying).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_missing_chunk_is_not_found() {
    let store = on_disk();
    let record = put(&store, b"abc");
    store.delete(&object_path(&record)).unwrap();
    let error = store.read_chunk(&record).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains(&record.hash.to_string()));
}

#[test]
fn a_hint_is_never_followed_anywhere_else() {
    let store = on_disk();
    let (good, other) = (put(&store, b"good"), put(&store, b"evil"));
    for hint in [
        "../../runtree.json",
        "",
        "x",
        &other.object,
        &format!("{}.z", good.hash),
    ] {
        let record = ChunkRecord {
            object: hint.to_owned(),
            ..good.clone()
        };
        assert_eq!(store.read_chunk(&record).unwrap(), b"good", "{hint}");
    }
}

#[test]
fn damage_names_chunk_and_block_and_is_healed_by_another_object() {
    for store in [&on_disk().store, &in_memory()] {
        let data = noise(1, 3 * BLOCK);
        let record = put(store, &data);
        tamper(store, &object_path(&record), |bytes| bytes[BLOCK + 5] ^= 1);
        let error = store.read_chunk(&record).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.message().contains(&record.hash.to_string()),
            "{error}"
        );
        assert!(error.message().contains("block 1"), "{error}");
        // The block that is whole is still served.
        let mut first = vec![0; BLOCK];
        store.read_chunk_into(&record, 0, &mut first).unwrap();
        assert_eq!(first, data[..BLOCK]);
        let verdict = store.verify_chunk(&record).unwrap();
        assert_eq!((verdict.healthy.len(), verdict.damaged.len()), (0, 1));

        let healthy = ObjectName {
            hash: record.hash,
            put: PutId::from_bits(u64::MAX),
            encoding: ObjectEncoding::Raw,
        };
        crate::support::put(
            store.objects(),
            layout::chunk_object(&healthy).as_ref(),
            &data,
        );
        assert_eq!(store.read_chunk(&record).unwrap(), data);
        let verdict = store.verify_chunk(&record).unwrap();
        assert_eq!(verdict.healthy, [healthy]);
    }
}

#[test]
fn objects_of_the_wrong_length_are_damaged() {
    for store in [&on_disk().store, &in_memory()] {
        let data = noise(1, BLOCK + 10);
        for change in [
            (|bytes: &mut Vec<u8>| bytes.clear()) as fn(&mut Vec<u8>),
            |bytes| bytes.truncate(3),
            |bytes| bytes.truncate(BLOCK + 9),
            |bytes| bytes.push(0),
        ] {
            let record = put(store, &data);
            tamper(store, &object_path(&record), change);
            for (offset, len) in [(0, BLOCK + 10), (BLOCK as u64, 10), (5, 1)] {
                let error = store
                    .read_chunk_into(&record, offset, &mut vec![0; len])
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
            store.delete(&object_path(&record)).unwrap();
        }
    }
}

#[test]
fn encoded_objects_serve_whole_chunks_and_slices() {
    for store in [&on_disk().store, &in_memory()] {
        let data: Vec<u8> = noise(1, 2 * BLOCK + 100)
            .iter()
            .map(|byte| byte % 5)
            .collect();
        let raw = put(store, &data);
        let put = store
            .encode_chunk(&raw, Some(4), None, &store.list_rounds().unwrap())
            .unwrap()
            .unwrap();
        let (name, bytes) = (put.name, put.bytes);
        assert!(bytes < data.len() as u64 / 2);
        store.delete(&object_path(&raw)).unwrap();
        assert_eq!(store.read_chunk(&raw).unwrap(), data);
        let mut slice = vec![0; 300];
        store
            .read_chunk_into(&raw, BLOCK as u64 - 100, &mut slice)
            .unwrap();
        assert_eq!(slice, data[BLOCK - 100..BLOCK + 200]);
        assert_eq!(store.verify_chunk(&raw).unwrap().healthy, [name]);
        assert_eq!(store.stored_bytes([&raw]).unwrap(), bytes);
        // It is a dedup hit, too.
        let save = store.begin_save().unwrap();
        let hit = save
            .put_chunk(data.clone().into(), checksum(&data))
            .unwrap();
        assert_eq!((hit.written, hit.record.object), (0, name.to_string()));
    }
}

#[test]
fn a_slice_reads_only_its_blocks() {
    let store = on_disk();
    let record = put(&store, &noise(1, 8 * BLOCK));
    let mut meter = None;
    let metered = Store::open_wrapped(store.directory.path(), Mode::ReadOnly, |objects| {
        let counting = Meter::new(objects);
        meter = Some(counting.clone());
        counting
    })
    .unwrap();
    let before = meter.as_ref().unwrap().counts();
    metered
        .read_chunk_into(&record, 3 * BLOCK as u64 + 5, &mut [0; 100])
        .unwrap();
    let after = meter.unwrap().counts();
    assert_eq!(
        after.chunk_bytes_read - before.chunk_bytes_read,
        BLOCK as u64
    );
    assert_eq!(
        (after.chunk_gets, after.lists),
        (before.chunk_gets + 1, before.lists)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_flipped_bit_of_a_raw_object_is_noticed(size in 1..(2 * BLOCK + 50), at in 0.0..1.0_f64, bit in 0..8) {
        let store = in_memory();
        let data = noise(9, size);
        let record = put(&store, &data);
        let at = ((size as f64) * at) as usize;
        tamper(&store, &object_path(&record), |bytes| bytes[at] ^= 1_u8 << bit);
        let error = store.read_chunk(&record).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_flipped_bit_of_an_encoded_object_never_gives_other_bytes(at in 0.0..1.0_f64, bit in 0..8, len in 500..(BLOCK + 500)) {
        let store = in_memory();
        let data: Vec<u8> = noise(3, len).iter().map(|byte| byte % 7).collect();
        let record = put(&store, &data);
        let put = store.encode_chunk(&record, Some(2), None, &store.list_rounds().unwrap()).unwrap().unwrap();
        let (name, bytes) = (put.name, put.bytes);
        store.delete(&object_path(&record)).unwrap();
        let at = ((bytes as f64) * at) as usize;
        tamper(&store, &layout::chunk_object(&name), |object| object[at] ^= 1_u8 << bit);
        match store.read_chunk(&record) {
            // Bits that no reader looks at: the magic at the start, padding inside zstd.
            Ok(read) => prop_assert_eq!(read, data),
            Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)),
        }
    }
}
