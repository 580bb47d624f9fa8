//! Against a model that keeps every value.

#![expect(clippy::float_cmp, reason = "equal values are equal to the bit here")]

use proptest::prelude::*;

use super::*;

const NUMBERS: [&str; 21] = [
    "bool",
    "u8",
    "i8",
    "u16",
    "i16",
    "u32",
    "i32",
    "u64",
    "i64",
    "f16",
    "bf16",
    "f32",
    "f64",
    "c32",
    "c64",
    "c128",
    "f8_e4m3fn",
    "f8_e5m2",
    "f8_e4m3fnuz",
    "f8_e5m2fnuz",
    "f8_e8m0fnu",
];

/// The model's values: one at a time, by the plain decoder.
fn values_of(dtype: &Dtype, bytes: &[u8]) -> Vec<f64> {
    use super::super::numbers::decode_of;
    let (decode, width) = decode_of(dtype).unwrap();
    let item = dtype.item_bytes() as usize;
    let elements = bytes.chunks_exact(item);
    elements
        .map(|element| match element.split_at(width) {
            (re, im) if !im.is_empty() => decode(re).hypot(decode(im)),
            (byte, _) if *dtype == Dtype::Bool => f64::from(u8::from(byte[0] != 0)),
            (one, _) => decode(one),
        })
        .collect()
}

/// Bytes of one real number of a dtype.
fn width_of(dtype: &Dtype) -> usize {
    super::super::numbers::decode_of(dtype).unwrap().1
}

/// Sums without rounding errors to speak of (Neumaier's).
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0);
    for x in values {
        let next = sum + x;
        lost += if sum.abs() >= x.abs() {
            (sum - next) + x
        } else {
            (x - next) + sum
        };
        sum = next;
    }
    sum + lost
}

fn close(found: f64, expected: f64, scale: f64) -> bool {
    (found - expected).abs() <= 1e-12 * scale || found == expected
}

fn check(dtype: &Dtype, bytes: &[u8], found: &Moments) -> Result<(), TestCaseError> {
    let all = values_of(dtype, bytes);
    let finite: Vec<f64> = all.iter().copied().filter(|x| x.is_finite()).collect();
    let count = |wanted: fn(f64) -> bool| all.iter().filter(|x| wanted(**x)).count() as u64;
    prop_assert_eq!(found.elements, all.len() as u64);
    prop_assert_eq!(found.nan, count(f64::is_nan));
    prop_assert_eq!(found.positive_infinity, count(|x| x == f64::INFINITY));
    prop_assert_eq!(found.negative_infinity, count(|x| x == f64::NEG_INFINITY));
    let Some(report) = found.finite(dtype) else {
        prop_assert!(finite.is_empty());
        return Ok(());
    };
    let integers: Option<Vec<i128>> = match dtype {
        Dtype::I64 => Some(
            bytes
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()).into())
                .collect(),
        ),
        Dtype::U64 => Some(
            bytes
                .chunks_exact(8)
                .map(|b| u64::from_le_bytes(b.try_into().unwrap()).into())
                .collect(),
        ),
        _ => None,
    };
    if let Some(integers) = integers {
        prop_assert_eq!(
            report.min.to_string(),
            integers.iter().min().unwrap().to_string()
        );
        prop_assert_eq!(
            report.max.to_string(),
            integers.iter().max().unwrap().to_string()
        );
    } else {
        // A magnitude is rounded, and there is more than one way to it.
        let tolerance = if dtype.item_bytes() as usize == width_of(dtype) {
            0.0
        } else {
            1.0
        };
        for (found, expected) in [
            (report.min.as_f64(), finite.iter().copied().reduce(f64::min)),
            (report.max.as_f64(), finite.iter().copied().reduce(f64::max)),
        ] {
            let (found, expected) = (found.unwrap(), expected.unwrap());
            prop_assert!(
                close(found, expected, tolerance * expected.abs()),
                "{found} not {expected}"
            );
        }
        prop_assert_eq!(report.min.is_f64(), !is_integer(dtype));
    }
    // Scaled, so that the model's sums stay in range, too.
    let largest = finite.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    if largest == 0.0 {
        prop_assert_eq!(
            (report.mean.0, report.std.0, report.norm.0),
            (0.0, 0.0, 0.0)
        );
        return Ok(());
    }
    let n = finite.len() as f64;
    let mean = exact_sum(finite.iter().map(|x| x / largest)) / n;
    let std = (exact_sum(finite.iter().map(|x| (x / largest - mean).powi(2))) / n).sqrt();
    let norm = exact_sum(finite.iter().map(|x| (x / largest).powi(2))).sqrt();
    prop_assert!(
        close(report.mean.0 / largest, mean, 1.0),
        "mean {} not {}",
        report.mean.0,
        mean * largest
    );
    // Squares of what is beyond 1e150 are beyond f64, and below 1e-150 they vanish: documented.
    if (1e-140..1e140).contains(&largest) {
        prop_assert!(
            close(report.std.0 / largest, std, 1.0),
            "std {} not {}",
            report.std.0,
            std * largest
        );
        prop_assert!(
            close(report.norm.0 / largest, norm, norm),
            "norm {} not {}",
            report.norm.0,
            norm * largest
        );
    } else if largest > 1e160 {
        prop_assert!(report.norm.0 > 1e140 && report.std.0 >= 0.0, "{report:?}");
    }
    Ok(())
}

/// Bits of any kind; with some of them set, floats that are likely to be special or alike.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..40_000);
    let special = proptest::collection::vec(
        prop_oneof![
            Just(0_u8),
            Just(0xff),
            Just(0x7f),
            Just(0x7c),
            Just(0x80),
            Just(0xf0),
            Just(0x3f)
        ],
        0..20_000,
    );
    let alike = (proptest::collection::vec(any::<u8>(), 16), 0_usize..2500)
        .prop_map(|(one, n)| one.repeat(n));
    prop_oneof![noise, special, alike]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn statistics_are_those_of_the_model_wherever_the_bytes_are_cut(
        bytes in contents(),
        cuts in proptest::collection::vec(0.0_f64..1.0, 0..5),
    ) {
        for text in NUMBERS {
            let dtype: Dtype = text.parse().unwrap();
            let item = dtype.item_bytes() as usize;
            let bytes = &bytes[..bytes.len() / item * item];
            let mut places: Vec<usize> = cuts.iter().map(|cut| (bytes.len() as f64 * cut) as usize / item * item).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut found = Moments::default();
            for pair in places.windows(2) {
                let mut piece = Moments::default();
                piece.add(&dtype, &bytes[pair[0]..pair[1]]);
                found.merge(&piece);
            }
            check(&dtype, bytes, &found)?;
        }
    }
}

fn of_f64(values: &[f64]) -> (Moments, Option<FiniteStatistics>) {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut found = Moments::default();
    found.add(&Dtype::F64, &bytes);
    let report = found.finite(&Dtype::F64);
    (found, report)
}

#[test]
fn a_small_spread_around_a_large_mean_is_not_lost() {
    let values: Vec<f64> = (0..1_000_000).map(|i| 1e9 + f64::from(i % 2)).collect();
    let report = of_f64(&values).1.unwrap();
    assert!((report.mean.0 - (1e9 + 0.5)).abs() < 1e-6, "{report:?}");
    assert!((report.std.0 - 0.5).abs() < 1e-9, "{report:?}");
}

#[test]
fn one_value_repeated_has_exactly_that_mean_and_no_spread() {
    let report = of_f64(&vec![0.1; 12_345]).1.unwrap();
    assert_eq!((report.mean.0, report.std.0), (0.1, 0.0));
}

#[test]
fn values_at_the_end_of_the_range_have_a_mean() {
    let report = of_f64(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX].repeat(1000))
        .1
        .unwrap();
    assert!(report.mean.0.abs() < f64::MAX / 1e10, "{report:?}");
    assert!(
        report.std.0.is_infinite() && report.norm.0.is_infinite(),
        "{report:?}"
    );
    let report = of_f64(&vec![f64::MAX; 5000]).1.unwrap();
    assert!(
        report.mean.0 >= f64::MAX && report.mean.0.is_finite(),
        "{report:?}"
    );
}

#[test]
fn nothing_finite_and_nothing_numeric_have_counts_alone() {
    let (found, report) = of_f64(&[
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NEG_INFINITY,
    ]);
    assert_eq!(
        (
            found.elements,
            found.nan,
            found.positive_infinity,
            found.negative_infinity
        ),
        (4, 1, 1, 2)
    );
    assert!(report.is_none() && of_f64(&[]).1.is_none());
    let mut text = Moments::default();
    let dtype: Dtype = "numpy:|S3".parse().unwrap();
    text.add(&dtype, b"abcdef");
    assert_eq!((text.elements, text.finite(&dtype)), (2, None));
}
