use proptest::prelude::*;
use runtree_core::float::JsonFloat;

proptest! {
    #[test]
    fn a_float_comes_back_from_json_bit_for_bit_or_as_the_one_nan(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let text = serde_json::to_string(&JsonFloat(value)).unwrap();
        let back: JsonFloat = serde_json::from_str(&text).unwrap();
        prop_assert!(back.0.to_bits() == bits || (back.0.is_nan() && value.is_nan()), "{}", text);
    }
}

#[test]
fn what_json_has_no_number_for_is_text() {
    let text = |value| serde_json::to_string(&JsonFloat(value)).unwrap();
    assert_eq!(text(f64::NAN), r#""NaN""#);
    assert_eq!(text(f64::INFINITY), r#""Infinity""#);
    assert_eq!(text(f64::NEG_INFINITY), r#""-Infinity""#);
    assert_eq!(text(-0.0), "-0.0");
    assert_eq!(text(0.1), "0.1");
}

#[test]
fn whole_numbers_are_read_and_other_text_is_not() {
    let read = |text| serde_json::from_str::<JsonFloat>(text).map(|value| value.0.to_bits());
    assert_eq!(read("3").unwrap(), 3.0_f64.to_bits());
    assert_eq!(read("-3").unwrap(), (-3.0_f64).to_bits());
    assert_eq!(
        read("18446744073709551615").unwrap(),
        18_446_744_073_709_551_615.0_f64.to_bits()
    );
    for odd in [r#""nan""#, r#""inf""#, r#""1.5""#, "null", "[]", "1e999"] {
        assert!(read(odd).is_err(), "{odd}");
    }
}
