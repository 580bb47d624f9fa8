use super::*;

#[test]
fn a_run_id_sorts_by_time_and_prints_26_characters() {
    let early = RunId::from_parts(1_795_000_000_000, u128::MAX);
    let late = RunId::from_parts(1_795_000_000_001, 0);
    assert!(early < late && early.to_string() < late.to_string());
    assert_eq!(early.to_string().len(), 26);
    assert_eq!(early.to_string().parse::<RunId>().unwrap(), early);
}

#[test]
fn a_run_id_above_128_bits_is_refused() {
    assert!("8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<RunId>().is_err());
    assert_eq!(
        "7zzzzzzzzzzzzzzzzzzzzzzzzz"
            .parse::<RunId>()
            .unwrap()
            .to_bits(),
        u128::MAX
    );
    assert_eq!(
        "fzzzzzzzzzzzz".parse::<PutId>().unwrap().to_bits(),
        u64::MAX
    );
    assert!("gzzzzzzzzzzzz".parse::<PutId>().is_err());
}

#[test]
fn a_save_key_has_one_spelling() {
    for (attempt, step, k, text) in [
        (1, 500, 0, "1-500-0"),
        (3, -5, 2, "3-n5-2"),
        (1, i64::MIN, 0, "1-n9223372036854775808-0"),
    ] {
        let key = SaveKey {
            attempt: AttemptNumber(attempt),
            step: Step(step),
            k,
        };
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse::<SaveKey>().unwrap(), key);
    }
    for odd in [
        "", "1-5", "1-05-0", "+1-5-0", "0-5-0", "1-n0-0", "1-5-0-0", "1-5-x",
    ] {
        assert!(odd.parse::<SaveKey>().is_err(), "{odd}");
    }
}

#[test]
fn display_ids_parse_what_they_print() {
    let id: DisplayId = "MMP-42".parse().unwrap();
    assert_eq!((id.prefix(), id.number()), ("MMP", 42));
    for odd in [
        "MMP",
        "mmp-42",
        "MMP-042",
        "MMP-0",
        "-4",
        "TOOLONGPREFIX-4",
        "4A-1",
    ] {
        assert!(odd.parse::<DisplayId>().is_err(), "{odd}");
    }
}

#[test]
fn a_project_gets_its_initials() {
    assert_eq!(DisplayId::default_prefix("my-project"), "MP");
    assert_eq!(DisplayId::default_prefix("my math project"), "MMP");
    assert_eq!(DisplayId::default_prefix("digits"), "DIG");
    assert_eq!(DisplayId::default_prefix("7b-math"), "R7M");
    assert_eq!(DisplayId::default_prefix("数学"), "R");
}

#[test]
fn names_refuse_what_separates_references() {
    for odd in ["", "a/b", "a#b", "a@b", "a\nb"] {
        assert!(odd.parse::<ProjectName>().is_err(), "{odd:?}");
    }
    assert!("数学 v2.1".parse::<ProjectName>().is_ok());
    assert!("trainer-0".parse::<ComponentName>().is_err());
}
