use proptest::prelude::*;
use runtree_core::foreign::{MIN_PAYLOAD_BYTES, payloads};
use runtree_core::state::Dtype;

use crate::foreign_files::{Blob, Expected, ZipEntry, append_safetensors, append_zip};

const LARGE: usize = MIN_PAYLOAD_BYTES as usize;

fn found(file: &[u8]) -> Vec<Expected> {
    payloads(file)
        .into_iter()
        .map(|payload| {
            let name = payload.tensor.map(|tensor| tensor.name);
            (payload.offset, payload.bytes, name)
        })
        .collect()
}

/// Whatever a file is, what is found lies in it, in order, apart.
fn check_sound(file: &[u8]) {
    let mut at = 0;
    for payload in payloads(file) {
        assert!(payload.offset >= at && payload.end() <= file.len() as u64);
        if let Some(tensor) = &payload.tensor {
            let elements: u64 = tensor.shape.iter().product();
            assert_eq!(elements * tensor.dtype.item_bytes(), payload.bytes);
        }
        at = payload.end();
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 7);
    file
}

#[test]
fn a_safetensors_file_shows_names_dtypes_and_shapes() {
    let file = safetensors(
        r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e":{"dtype":"F32","shape":[0,9],"data_offsets":[8,8]}}  "#,
        20,
    );
    let shown: Vec<_> = payloads(file.as_slice())
        .into_iter()
        .map(|payload| {
            let tensor = payload.tensor.unwrap();
            (tensor.name, tensor.dtype, tensor.shape, payload.bytes)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("a".to_owned(), Dtype::F32, vec![2], 8),
            ("e".to_owned(), Dtype::F32, vec![0, 9], 0),
            ("b".to_owned(), Dtype::BF16, vec![2, 3], 12),
        ]
    );
}

#[test]
fn a_tensor_of_a_dtype_that_is_not_ours_is_cut_without_a_name() {
    let file = safetensors(
        r#"{"f4":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}}"#,
        8,
    );
    assert_eq!(found(&file), [(file.len() as u64 - 8, 8, None)]);
}

#[test]
fn a_safetensors_header_that_lies_shows_nothing() {
    for (header, data) in [
        // A hole, an overlap, a tail, too little, bytes that dtype and shape do not give, a name twice, an unknown field, no object.
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#,
            5,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            6,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            5,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            3,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,4]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"F64","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
            8,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}} {}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}}"#,
            4,
        ),
        (r#"{"a":[]}"#, 4),
        ("[]", 4),
    ] {
        assert_eq!(found(&safetensors(header, data)), [], "{header}");
    }
    let mut too_long = u64::MAX.to_le_bytes().to_vec();
    too_long.extend(b"{}");
    assert_eq!(found(&too_long), []);
}

#[test]
fn compressed_entries_and_small_ones_are_not_cut_out() {
    let mut file = Vec::new();
    let entries = [
        ZipEntry {
            name: "a/data/0".to_owned(),
            content: Blob(vec![1; LARGE]),
            method: 8,
        },
        ZipEntry::stored("a/data/1", vec![2; LARGE - 1]),
        ZipEntry::stored("a/data/2", vec![3; LARGE]),
    ];
    let expected = append_zip(&mut file, &entries, MIN_PAYLOAD_BYTES);
    assert_eq!(expected.len(), 1);
    assert_eq!(found(&file), expected);
}

#[test]
fn what_precedes_a_chain_of_zips_stays_whole() {
    let mut file = vec![b'x'; 100];
    let mut expected = Vec::new();
    for name in ["archive/data/0", "archive/data/1"] {
        let entries = [ZipEntry::stored(name, vec![5; LARGE + 3])];
        expected.extend(append_zip(&mut file, &entries, MIN_PAYLOAD_BYTES));
    }
    assert_eq!(found(&file), expected);
    file.push(0);
    assert_eq!(found(&file), []);
}

#[test]
fn a_file_of_nothing_but_empty_zips_ends_soon() {
    let mut one = Vec::new();
    append_zip(&mut one, &[], 0);
    let file: Vec<u8> = one
        .iter()
        .copied()
        .cycle()
        .take(one.len() * 300_000)
        .collect();
    assert_eq!(found(&file), []);
    let ends = b"PK\x05\x06".repeat(1 << 20);
    assert_eq!(found(&[b"PK\x03\x04".as_slice(), &ends].concat()), []);
}

fn content() -> impl Strategy<Value = Blob> {
    let sizes = prop_oneof![0..300_usize, LARGE - 2..LARGE + 70];
    (sizes, any::<u8>()).prop_map(|(size, byte)| Blob(vec![byte; size]))
}

fn zip() -> impl Strategy<Value = Vec<ZipEntry>> {
    let entry = (
        "[a-z/0-9.]{1,20}",
        content(),
        prop_oneof![9 => Just(0_u16), 1 => Just(8_u16)],
    );
    let entry = entry.prop_map(|(name, content, method)| ZipEntry {
        name,
        content,
        method,
    });
    prop::collection::vec(entry, 0..5)
}

fn named() -> impl Strategy<Value = Vec<(String, Blob)>> {
    prop::collection::vec(content(), 0..4).prop_map(|contents| {
        let name = |(index, content)| (format!("layer.{index}"), content);
        contents.into_iter().enumerate().map(name).collect()
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
}

/// Damage anywhere, and more often near the end, where a zip says what it is.
fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>();
    prop_oneof![
        (place.clone(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        place.clone().prop_map(Damage::Cut),
        (place, any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_large_entry_of_every_zip_is_found(zips in prop::collection::vec(zip(), 1..5)) {
        let mut file = Vec::new();
        let mut expected = Vec::new();
        for zip in &zips {
            expected.extend(append_zip(&mut file, zip, MIN_PAYLOAD_BYTES));
        }
        prop_assert_eq!(found(&file), expected);
    }

    #[test]
    fn every_tensor_of_a_safetensors_file_is_found_also_behind_zips(
        zips in prop::collection::vec(zip(), 0..3), tensors in named(), large in content()
    ) {
        // Nobody writes an empty one in front of something.
        let zips: Vec<_> = zips.into_iter().filter(|zip| !zip.is_empty()).collect();
        let mut file = Vec::new();
        let mut expected = Vec::new();
        for zip in &zips {
            expected.extend(append_zip(&mut file, zip, MIN_PAYLOAD_BYTES));
        }
        let mut tensors = tensors;
        tensors.push(("last".to_owned(), large));
        expected.extend(append_safetensors(&mut file, &tensors));
        // Behind zips only large files are looked into.
        if zips.is_empty() || file.len() >= LARGE {
            prop_assert_eq!(found(&file), expected);
        }
    }

    #[test]
    fn damage_never_makes_what_is_found_unsound(
        zips in prop::collection::vec(zip(), 0..3), tensors in named(), near_end in any::<bool>(),
        damages in prop::collection::vec(damage(), 1..4)
    ) {
        let mut file = Vec::new();
        for zip in &zips {
            append_zip(&mut file, zip, MIN_PAYLOAD_BYTES);
        }
        if zips.len() != 2 {
            append_safetensors(&mut file, &tensors);
        }
        for damage in damages {
            let span = if near_end { file.len().min(400) } else { file.len() };
            if span == 0 {
                break;
            }
            let place = |index: prop::sample::Index| file.len() - 1 - index.index(span);
            match damage {
                Damage::Flip(at, bits) => {
                    let at = place(at);
                    file[at] ^= bits;
                }
                Damage::Cut(at) => {
                    let at = place(at);
                    file.truncate(at);
                }
                Damage::Insert(at, byte) => {
                    let at = place(at);
                    file.insert(at, byte);
                }
            }
        }
        check_sound(&file);
    }

    #[test]
    fn noise_shows_nothing_unsound(head in prop::collection::vec(any::<u8>(), 0..200), tail in prop::collection::vec(any::<u8>(), 0..200)) {
        check_sound(&[head, vec![0; LARGE], tail].concat());
    }
}
