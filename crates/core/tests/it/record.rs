use proptest::prelude::*;
use runtree_core::manifest::{
    AttemptKind, AttemptRecord, BasePoint, CommitRecord, JournalPosition, PartConfirmation,
    PinRecord, Record, RunRecord, StoreRecord,
};
use runtree_core::{AttemptNumber, ErrorKind, PartHash, RunId, Step, StoreId, Timestamp, WriterId};

fn attempt() -> AttemptRecord {
    AttemptRecord {
        run: RunId::from_parts(1_795_000_000_000, 7),
        attempt: AttemptNumber(2),
        base: Some(BasePoint {
            run: RunId::from_parts(1_795_000_000_000, 7),
            attempt: AttemptNumber(1),
            step: Step(-5),
        }),
        checkpoint: None,
        kind: AttemptKind::Resume,
        launch_key: "host \"a\"\n数".to_owned(),
        created: Timestamp(i64::MIN),
        launch: [("argv".to_owned(), "train.py --lr 1e-4".to_owned())].into(),
    }
}

/// An object with the last field that a writer adds.
fn checked(object: &str) -> Vec<u8> {
    let Some(body) = object.strip_suffix('}') else {
        return object.into();
    };
    let hash = blake3::hash(body.as_bytes()).to_hex();
    format!(r#"{body},"check":"{}"}}"#, &hash[..16]).into_bytes()
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_noticed() {
    let bytes = attempt().to_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = AttemptRecord::load(&damaged, "attempts/2").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}, bit {bit}");
            assert!(error.message().contains("attempts/2"), "{error}");
        }
        let error = AttemptRecord::load(&bytes[..at], "attempts/2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at} bytes");
    }
}

#[test]
fn a_record_has_one_spelling_that_starts_with_its_format_and_version() {
    let bytes = attempt().to_bytes();
    insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap(), @r#"{"format":"runtree.attempt","version":1,"run":"01m7q5cqg00000000000000007","attempt":2,"base":{"run":"01m7q5cqg00000000000000007","attempt":1,"step":-5},"checkpoint":null,"kind":"resume","launch_key":"host \"a\"\n数","created":-9223372036854775808,"launch":{"argv":"train.py --lr 1e-4"},"check":"26cf7ecb0fbad7ac"}"#);
    assert_eq!(AttemptRecord::load(&bytes, "x").unwrap(), attempt());
}

#[test]
fn another_format_a_newer_version_and_no_version_are_three_errors() {
    let load = |text: &str| {
        let error = StoreRecord::load(&checked(text), "runtree.json").unwrap_err();
        (
            error.kind(),
            error.message().to_owned(),
            error.hint().map(str::to_owned),
        )
    };
    let (kind, message, hint) = load(r#"{"format":"runtree.store","version":2,"shape":"new"}"#);
    assert_eq!(kind, ErrorKind::Unsupported);
    insta::assert_snapshot!(message, @"runtree.json has runtree.store version 2, this runtree reads up to 1");
    insta::assert_snapshot!(hint.unwrap(), @"upgrade runtree: pip install -U runtree");
    for (text, expected) in [
        (
            r#"{"format":"runtree.pin","version":1}"#,
            "runtree.json is a runtree.pin record, expected runtree.store",
        ),
        (
            r#"{"format":"runtree.store","version":0}"#,
            "runtree.json has runtree.store version 0, which never was",
        ),
        (
            r#"{"version":1}"#,
            "runtree.json is not a runtree.store record",
        ),
        (
            r#"{"format":"runtree.store","version":-1}"#,
            "runtree.json is not a runtree.store record",
        ),
        (
            r#"{"format":"runtree.store","version":1}"#,
            "runtree.json is not a runtree.store record",
        ),
        ("", "runtree.json is not a runtree.store record"),
        ("[]", "runtree.json is not a runtree.store record"),
    ] {
        let (kind, message, _) = load(text);
        assert_eq!(
            (kind, message.as_str()),
            (ErrorKind::Corrupt, expected),
            "{text}"
        );
    }
}

#[test]
fn the_cause_is_in_the_chain_and_not_in_the_message() {
    let bytes = checked(r#"{"format":"runtree.store","version":1}"#);
    let error = StoreRecord::load(&bytes, "x").unwrap_err();
    assert_eq!(error.to_string(), "x is not a runtree.store record");
    assert!(
        error
            .chain()
            .starts_with("x is not a runtree.store record: missing field `id`")
    );
}

#[test]
fn every_record_comes_back_from_its_bytes() {
    let store = StoreRecord {
        id: StoreId::from_bits(u128::MAX),
        created: Timestamp(1),
        required_to_read: vec!["planes".to_owned()],
        required_to_write: vec![],
        conditional_create: true,
    };
    assert_eq!(StoreRecord::load(&store.to_bytes(), "x").unwrap(), store);
    let confirmation = PartConfirmation {
        hash: PartHash::of(b"part"),
    };
    assert_eq!(
        PartConfirmation::load(&confirmation.to_bytes(), "x").unwrap(),
        confirmation
    );
    let bytes = attempt().to_bytes();
    assert!(RunRecord::load(&bytes, "x").is_err());
    assert!(CommitRecord::load(&bytes, "x").is_err());
}

#[test]
fn a_running_hash_has_one_spelling() {
    let position = |hash: &str| {
        let text = format!(r#"{{"writer":"0000000000001","ordinal":1,"hash":"{hash}"}}"#);
        serde_json::from_str::<JournalPosition>(&text)
    };
    let known = JournalPosition {
        writer: WriterId::from_bits(1),
        ordinal: 1,
        hash: 0xff,
    };
    assert_eq!(position("00000000000000ff").unwrap(), known);
    for odd in [
        "ff",
        "+0000000000000ff",
        "00000000000000FF",
        "000000000000000ff",
        "",
    ] {
        assert!(position(odd).is_err(), "{odd}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error_that_names_them(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let error = PinRecord::load(&bytes, "pins/a").unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        prop_assert!(error.message().starts_with("pins/a "));
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_a_record_that_can_be_written_again(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = attempt().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        match AttemptRecord::load(&bytes, "x") {
            // A flip in a digit or in the name of an optional field is another record: whoever reads it compares it with its path.
            Ok(record) => {
                prop_assert_eq!(AttemptRecord::load(&record.to_bytes(), "x").unwrap(), record);
            }
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported));
            }
        }
    }
}
