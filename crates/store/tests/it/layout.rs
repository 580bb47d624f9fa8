//! No name escapes, none collides, and only what layout makes is parsed.

use proptest::prelude::*;
use runtree_core::{AttemptNumber, ChunkHash, PutId};
use runtree_store::layout::{self, ObjectEncoding, ObjectName, PinName};

const HOSTILE: &[&str] = &[
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "a/b",
    "a\\b",
    ".hidden",
    ".tmp-x",
    "nul\0byte",
    "new\nline",
    "~tilde",
    "%",
    "%41",
    "%2E",
    "a.ok",
    "CON",
    "naïve",
    "日本語",
    "💥",
    "a b",
    "-rf",
    "*",
    "run#1@2",
];

#[test]
fn hostile_names_become_one_plain_path_part_and_come_back() {
    let mut seen = std::collections::HashSet::new();
    for name in HOSTILE {
        let escaped = layout::escape(name);
        assert!(
            escaped
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-%".contains(&b)),
            "{name:?} became {escaped:?}"
        );
        assert!(!escaped.is_empty());
        assert_eq!(layout::unescape(&escaped).as_deref(), Some(*name));
        assert!(seen.insert(escaped), "{name:?} collides");
    }
}

#[test]
fn hostile_names_stay_below_their_directory() {
    let project = "my-project".parse().unwrap();
    for name in HOSTILE {
        let key = layout::run_key(&project, name);
        assert_eq!(key.parts_count(), 4, "{key}");
        assert!(
            key.as_ref().starts_with("projects/my-project/keys/"),
            "{key}"
        );
        let pin = layout::pin(&PinName::of(name));
        assert_eq!(pin.parts_count(), 2, "{pin}");
    }
}

#[test]
fn long_names_become_hashes_that_differ() {
    let (one, other) = ("x".repeat(201), "x".repeat(202));
    let (one, other) = (layout::escape(&one), layout::escape(&other));
    assert!(one.starts_with('~') && one.len() == 65);
    assert_ne!(one, other);
    assert!(layout::is_escaped(&one));
    assert_eq!(layout::unescape(&one), None);
    assert_eq!(layout::escape(&"x".repeat(200)), "x".repeat(200));
}

#[test]
fn somebody_elses_files_are_not_parsed() {
    for junk in [
        "trainer",
        "trainer-",
        "-0",
        "trainer-00",
        "trainer-+1",
        "trainer-0.ok.ok",
        "tr.ainer-0",
    ] {
        assert_eq!(layout::parse_part(junk), None, "{junk}");
    }
    for junk in [
        "",
        "1-2-3",
        "1-2-3.",
        "1-2-3.01",
        "1-02-3.1",
        "0-1-0.0",
        "1-2-3.1.bak",
    ] {
        assert_eq!(layout::parse_tombstone(junk), None, "{junk}");
    }
    for junk in ["", "1", "0.0", "01.0", "1.00", "1.-1", "1.0.0", "1.x"] {
        assert_eq!(layout::parse_seat(junk), None, "{junk}");
    }
    for junk in ["", "01", "1.open", "1.closed.closed", "-1", "1 "] {
        assert_eq!(layout::parse_round(junk), None, "{junk}");
    }
    for junk in [
        "0.log",
        "00000000000000000000",
        "0000000000000000000x.log",
        "99999999999999999999.log",
    ] {
        assert_eq!(layout::parse_journal_piece(junk), None, "{junk}");
    }
    for junk in ["%2e", "%4", "%zz", "%41", "a.b", "~short", ""] {
        assert!(!layout::is_escaped(junk), "{junk}");
    }
}

#[test]
fn listed_names_print_back() {
    assert_eq!(
        layout::parse_part("or_chestrator2-17.ok"),
        Some(("or_chestrator2".parse().unwrap(), 17, true))
    );
    let tombstone = layout::parse_tombstone("2-n5-0.3").unwrap();
    assert_eq!(
        (tombstone.0.to_string().as_str(), tombstone.1),
        ("2-n5-0", 3)
    );
    assert!(layout::is_deleted(0) && !layout::is_deleted(1));
    assert_eq!(layout::parse_seat("2.13"), Some((AttemptNumber(2), 13)));
    assert_eq!(layout::parse_round("12.closed"), Some((12, true)));
}

proptest! {
    #[test]
    fn every_name_comes_back(name in ".{0,60}") {
        let escaped = layout::escape(&name);
        if escaped.starts_with('~') {
            prop_assert!(layout::is_escaped(&escaped));
        } else {
            prop_assert_eq!(layout::unescape(&escaped), Some(name));
        }
    }

    #[test]
    fn what_unescapes_was_escaped(listed in "[A-Za-z0-9%~._-]{0,20}") {
        if let Some(name) = layout::unescape(&listed) {
            prop_assert_eq!(layout::escape(&name), listed);
        }
    }

    #[test]
    fn object_names_print_back(hash: [u8; 32], put: u64, base: Option<[u8; 32]>, planes: bool) {
        let encoding = match base {
            Some(base) => ObjectEncoding::Delta(ChunkHash::from_bytes(base)),
            None if planes => ObjectEncoding::Planes,
            None => ObjectEncoding::Raw,
        };
        let name = ObjectName { hash: ChunkHash::from_bytes(hash), put: PutId::from_bits(put), encoding };
        prop_assert_eq!(name.to_string().parse::<ObjectName>().unwrap(), name);
    }

    #[test]
    fn object_names_have_one_spelling(text in "[0-9a-f]{60,66}\\.[0-9a-z]{12,14}(\\.z|\\.d~[0-9a-f]{63,65}|\\.x)?") {
        if let Ok(name) = text.parse::<ObjectName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }
}
