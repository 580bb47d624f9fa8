//! Differences in a store, and the removal of what they make redundant: whatever is removed, every chunk still comes back.

use bytes::Bytes;
use proptest::prelude::*;
use runtree_core::ErrorKind;
use runtree_core::manifest::{ChunkRecord, RoundRecord};
use runtree_store::chunk::encoded::MAX_DEPTH;
use runtree_store::{ObjectEncoding, Redundant, Store, checksum, layout};

use crate::support::{BLOCK, NOW, in_memory, noise, on_disk, tamper};

fn put(store: &Store, data: &[u8]) -> ChunkRecord {
    let save = store.begin_save().unwrap();
    save.put_chunk(Bytes::copy_from_slice(data), checksum(data))
        .unwrap()
        .record
}

fn raw_object(record: &ChunkRecord) -> Redundant {
    Redundant {
        chunk: record.clone(),
        object: record.object.parse().unwrap(),
    }
}

/// States of a tensor, each a few bytes away from the one before.
fn states(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut state: Vec<u8> = noise(1, bytes).iter().map(|byte| byte % 11).collect();
    (0..count)
        .map(|step| {
            for at in (step..bytes).step_by(997) {
                state[at] = state[at].wrapping_add(1);
            }
            state.clone()
        })
        .collect()
}

/// Puts states, encodes number i against i with its lowest set bit cleared, and removes the raw objects.
fn chain(store: &Store, count: usize, bytes: usize) -> Vec<(Vec<u8>, ChunkRecord)> {
    let states = states(count, bytes);
    let records: Vec<ChunkRecord> = states.iter().map(|state| put(store, state)).collect();
    for (number, record) in records.iter().enumerate() {
        let base = (number > 0).then(|| &records[number & (number - 1)]);
        let encoded = store
            .encode_chunk(record, Some(1), base, &store.list_rounds().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(
            matches!(encoded.name.encoding, ObjectEncoding::Delta(_)),
            number > 0
        );
    }
    let candidates: Vec<Redundant> = records.iter().map(raw_object).collect();
    let removed = store.remove_redundant(&candidates, NOW).unwrap();
    assert_eq!(removed.objects as usize, count);
    states.into_iter().zip(records).collect()
}

#[test]
fn a_chain_of_differences_comes_back_whole_and_in_slices() {
    let bytes = 2 * BLOCK + 333;
    for store in [&on_disk().store, &in_memory()] {
        for (number, (state, record)) in chain(store, 16, bytes).iter().enumerate() {
            let rounds = store.list_rounds().unwrap();
            assert_eq!(
                store.depth_of(record.hash, &rounds).unwrap(),
                Some(number.count_ones() as u8)
            );
            assert_eq!(&store.read_chunk(record).unwrap(), state);
            for (start, end) in [
                (0, 1),
                (BLOCK - 3, BLOCK + 3),
                (17, bytes),
                (BLOCK, 2 * BLOCK),
            ] {
                let mut slice = vec![0; end - start];
                store
                    .read_chunk_into(record, start as u64, &mut slice)
                    .unwrap();
                assert!(slice == state[start..end], "{number}: {start}..{end}");
            }
            assert_eq!(store.verify_chunk(record).unwrap().healthy.len(), 1);
        }
    }
}

#[test]
fn a_damaged_base_is_named_and_another_object_of_it_serves() {
    let store = in_memory();
    let chain = chain(&store, 4, 3000);
    let (state, record) = &chain[3];
    let base = store.list_objects(chain[2].1.hash).unwrap()[0];
    tamper(&store, &layout::chunk_object(&base), |bytes| {
        bytes[9] ^= 4;
    });
    let error = store.read_chunk(record).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.chain();
    assert!(
        text.contains(&base.to_string()) && text.contains(&record.hash.to_string()),
        "{text}"
    );
    // The base's bytes once more, by whoever has them: everything above is healed.
    put(&store, &chain[2].0);
    assert_eq!(&store.read_chunk(record).unwrap(), state);
}

#[test]
fn a_difference_is_no_hit_and_saves_put_the_bytes_again() {
    let store = on_disk();
    let chain = chain(&store, 2, 5000);
    let (state, record) = &chain[1];
    let again = put(&store, state);
    assert_ne!(again.object, record.object);
    let objects = store.list_objects(record.hash).unwrap();
    assert_eq!(objects.len(), 2);
    assert_eq!(
        objects[0].to_string(),
        again.object,
        "raw ones are read first"
    );
}

#[test]
fn a_chunk_that_is_raw_alone_is_no_base() {
    let store = in_memory();
    let states = states(2, 5000);
    let (base, chunk) = (put(&store, &states[0]), put(&store, &states[1]));
    let encoded = store
        .encode_chunk(&chunk, None, Some(&base), &store.list_rounds().unwrap())
        .unwrap();
    assert_eq!(encoded.unwrap().name.encoding, ObjectEncoding::Planes);
}

#[test]
fn a_base_that_can_not_be_read_is_not_used() {
    let store = in_memory();
    let states = states(2, 5000);
    let (base, chunk) = (put(&store, &states[0]), put(&store, &states[1]));
    let object = store
        .encode_chunk(&base, None, None, &store.list_rounds().unwrap())
        .unwrap()
        .unwrap()
        .name;
    store.remove_redundant(&[raw_object(&base)], NOW).unwrap();
    tamper(&store, &layout::chunk_object(&object), |bytes| {
        bytes[9] ^= 4;
    });
    let encoded = store
        .encode_chunk(&chunk, None, Some(&base), &store.list_rounds().unwrap())
        .unwrap();
    assert_eq!(encoded.unwrap().name.encoding, ObjectEncoding::Planes);
}

#[test]
fn a_chain_that_is_too_deep_is_not_made_deeper() {
    let store = in_memory();
    let states = states(MAX_DEPTH as usize + 3, 3000);
    let records: Vec<ChunkRecord> = states.iter().map(|state| put(&store, state)).collect();
    let mut depths = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let base = number.checked_sub(1).map(|before| &records[before]);
        store
            .encode_chunk(record, None, base, &store.list_rounds().unwrap())
            .unwrap()
            .unwrap();
        let rounds = store.list_rounds().unwrap();
        depths.push(store.depth_of(record.hash, &rounds).unwrap().unwrap());
    }
    assert_eq!(depths, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]);
    let candidates: Vec<Redundant> = records.iter().map(raw_object).collect();
    store.remove_redundant(&candidates, NOW).unwrap();
    for (state, record) in states.iter().zip(&records) {
        assert_eq!(&store.read_chunk(record).unwrap(), state);
    }
}

#[test]
fn the_last_healthy_object_stays() {
    let store = in_memory();
    let states = states(2, 5000);
    let records: Vec<ChunkRecord> = states.iter().map(|state| put(&store, state)).collect();
    // Raw alone; and raw beside a damaged encoding.
    let damaged = store
        .encode_chunk(&records[1], None, None, &store.list_rounds().unwrap())
        .unwrap()
        .unwrap();
    tamper(&store, &layout::chunk_object(&damaged.name), |bytes| {
        bytes[9] ^= 1;
    });
    let candidates: Vec<Redundant> = records.iter().map(raw_object).collect();
    assert_eq!(store.remove_redundant(&candidates, NOW).unwrap().objects, 0);
    // Beside one that another collector wants.
    let wanted = store
        .encode_chunk(&records[0], None, None, &store.list_rounds().unwrap())
        .unwrap()
        .unwrap();
    let round = RoundRecord {
        objects: vec![wanted.name.to_string()],
        created: NOW,
    };
    let _ = store.create_record(&layout::round(7), &round).unwrap();
    assert_eq!(store.remove_redundant(&candidates, NOW).unwrap().objects, 0);
    for (state, record) in states.iter().zip(&records) {
        assert_eq!(&store.read_chunk(record).unwrap(), state);
    }
    // An encoded object is never a candidate.
    let error = store.remove_redundant(
        &[Redundant {
            chunk: records[0].clone(),
            object: wanted.name,
        }],
        NOW,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn two_chunks_that_are_each_others_base_keep_a_raw_object() {
    let store = in_memory();
    let states = states(2, 5000);
    let records: Vec<ChunkRecord> = states.iter().map(|state| put(&store, state)).collect();
    // Two runs that saved the same two states in opposite order; what each saw as base was encoded by itself and taken away since.
    for (own, base) in [(0, 1), (1, 0)] {
        let alone = store
            .encode_chunk(&records[base], None, None, &store.list_rounds().unwrap())
            .unwrap()
            .unwrap();
        let encoded = store.encode_chunk(
            &records[own],
            None,
            Some(&records[base]),
            &store.list_rounds().unwrap(),
        );
        assert!(matches!(
            encoded.unwrap().unwrap().name.encoding,
            ObjectEncoding::Delta(_)
        ));
        store.delete(&layout::chunk_object(&alone.name)).unwrap();
    }
    let candidates: Vec<Redundant> = records.iter().map(raw_object).collect();
    assert_eq!(store.remove_redundant(&candidates, NOW).unwrap().objects, 0);
    assert_eq!(
        store
            .remove_redundant(&candidates[..1], NOW)
            .unwrap()
            .objects,
        1
    );
    assert_eq!(
        store
            .remove_redundant(&candidates[1..], NOW)
            .unwrap()
            .objects,
        0
    );
    for (state, record) in states.iter().zip(&records) {
        assert_eq!(&store.read_chunk(record).unwrap(), state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_flipped_bit_anywhere_in_a_chain_never_gives_other_bytes(number in 0..8_usize, target in 0..8_usize, at in 0.0..1.0_f64, bit in 0..8) {
        let store = in_memory();
        let chain = chain(&store, 8, 3000);
        let object = store.list_objects(chain[target].1.hash).unwrap()[0];
        let path = layout::chunk_object(&object);
        tamper(&store, &path, |bytes| {
            let at = (bytes.len() as f64 * at) as usize;
            bytes[at] ^= 1_u8 << bit;
        });
        match store.read_chunk(&chain[number].1) {
            Ok(read) => prop_assert_eq!(&read, &chain[number].0),
            Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)),
        }
    }
}
