//! Runs of elements as `f64`, one loop per dtype that the compiler can vectorise. What each bit pattern means is [`super::numbers`]'s.

use std::sync::LazyLock;

use runtree_core::state::Dtype;

use super::numbers::decode_of;

/// Decodes whole elements into as many values.
pub(super) type DecodeRun = fn(&[u8], &mut [f64]);

/// How a run of elements becomes values; `None` if the dtype holds no numbers. A bool is 0 or 1, a complex number its magnitude.
pub(super) fn decode_run_of(dtype: &Dtype) -> Option<DecodeRun> {
    macro_rules! each {
        ($bytes:literal, $convert:expr) => {{
            let run: DecodeRun = |bytes, values| {
                let convert = $convert;
                for (element, value) in bytes.chunks_exact($bytes).zip(values) {
                    let element: [u8; $bytes] =
                        element.try_into().expect("BUG: cut to the element");
                    *value = convert(element);
                }
            };
            Some(run)
        }};
    }
    macro_rules! table {
        ($dtype:ident) => {{
            let run: DecodeRun = |bytes, values| {
                static TABLE: LazyLock<[f64; 256]> = LazyLock::new(|| table_of(&Dtype::$dtype));
                for (element, value) in bytes.iter().zip(values) {
                    *value = TABLE[usize::from(*element)];
                }
            };
            Some(run)
        }};
    }
    match dtype {
        Dtype::Bool => each!(1, |[byte]: [u8; 1]| f64::from(u8::from(byte != 0))),
        Dtype::U8 => each!(1, |[byte]: [u8; 1]| f64::from(byte)),
        Dtype::I8 => each!(1, |bytes| f64::from(i8::from_le_bytes(bytes))),
        Dtype::U16 => each!(2, |bytes| f64::from(u16::from_le_bytes(bytes))),
        Dtype::I16 => each!(2, |bytes| f64::from(i16::from_le_bytes(bytes))),
        Dtype::U32 => each!(4, |bytes| f64::from(u32::from_le_bytes(bytes))),
        Dtype::I32 => each!(4, |bytes| f64::from(i32::from_le_bytes(bytes))),
        Dtype::U64 => each!(8, |bytes| u64::from_le_bytes(bytes) as f64),
        Dtype::I64 => each!(8, |bytes| i64::from_le_bytes(bytes) as f64),
        Dtype::F32 => each!(4, |bytes| f64::from(f32::from_le_bytes(bytes))),
        Dtype::F64 => each!(8, f64::from_le_bytes),
        Dtype::F16 => each!(2, |bytes| f64::from(half(u16::from_le_bytes(bytes)))),
        Dtype::BF16 => each!(2, |bytes| {
            f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
        }),
        Dtype::C32 => each!(4, |[a, b, c, d]: [u8; 4]| {
            let part = |bytes| f64::from(half(u16::from_le_bytes(bytes)));
            magnitude(part([a, b]), part([c, d]))
        }),
        Dtype::C64 => each!(8, |bytes: [u8; 8]| {
            let bits = u64::from_le_bytes(bytes);
            let part = |bits: u64| f64::from(f32::from_bits(bits as u32));
            magnitude(part(bits), part(bits >> 32))
        }),
        Dtype::C128 => each!(16, |bytes: [u8; 16]| {
            let bits = u128::from_le_bytes(bytes);
            f64::from_bits(bits as u64).hypot(f64::from_bits((bits >> 64) as u64))
        }),
        Dtype::F8E4M3FN => table!(F8E4M3FN),
        Dtype::F8E5M2 => table!(F8E5M2),
        Dtype::F8E4M3FNUZ => table!(F8E4M3FNUZ),
        Dtype::F8E5M2FNUZ => table!(F8E5M2FNUZ),
        Dtype::F8E8M0FNU => table!(F8E8M0FNU),
        _ => None,
    }
}

/// The values of all bytes.
fn table_of(dtype: &Dtype) -> [f64; 256] {
    let decode = decode_of(dtype).map(|(decode, _)| decode);
    std::array::from_fn(|byte| decode.map_or(f64::NAN, |decode| decode(&[byte as u8])))
}

/// An IEEE half: its bits, moved into a single, are that single times 2^-112, subnormal ones included.
fn half(bits: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits((112 + 127) << 23);
    const SPECIAL: u32 = 0x7c00 << 13;
    let moved = u32::from(bits & 0x7fff) << 13;
    let value = if moved >= SPECIAL {
        f32::from_bits(moved | 0x7f80_0000)
    } else {
        f32::from_bits(moved) * TWO_TO_112
    };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Of parts whose squares are in the range of `f64`.
fn magnitude(re: f64, im: f64) -> f64 {
    let magnitude = (re * re + im * im).sqrt();
    // An infinite part makes it infinite, whatever the other one is.
    if magnitude.is_nan() {
        re.hypot(im)
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn runs_are_decoded_as_single_elements_are() {
        let all_16: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let all_8: Vec<u8> = (0..=u8::MAX).collect();
        // Bits of every kind, an odd pattern repeated.
        let wide: Vec<u8> = (0..16 * 4096_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for (text, bytes) in [
            ("u8", &all_8),
            ("i8", &all_8),
            ("f8_e4m3fn", &all_8),
            ("f8_e5m2", &all_8),
            ("f8_e4m3fnuz", &all_8),
            ("f8_e5m2fnuz", &all_8),
            ("f8_e8m0fnu", &all_8),
            ("u16", &all_16),
            ("i16", &all_16),
            ("f16", &all_16),
            ("bf16", &all_16),
            ("u32", &wide),
            ("i32", &wide),
            ("u64", &wide),
            ("i64", &wide),
            ("f32", &wide),
            ("f64", &wide),
        ] {
            let dtype: Dtype = text.parse().unwrap();
            let item = dtype.item_bytes() as usize;
            let mut values = vec![0.0; bytes.len() / item];
            decode_run_of(&dtype).unwrap()(bytes, &mut values);
            let (decode, _) = decode_of(&dtype).unwrap();
            for (element, value) in bytes.chunks_exact(item).zip(values) {
                assert!(
                    same(decode(element), value),
                    "{text} {element:02x?}: {value}"
                );
            }
        }
        assert!(decode_run_of(&"numpy:|S2".parse().unwrap()).is_none());
    }

    #[test]
    fn a_complex_number_is_its_magnitude_and_a_bool_one_or_zero() {
        let value = |text: &str, bytes: &[u8]| {
            let mut value = [0.0];
            decode_run_of(&text.parse().unwrap()).unwrap()(bytes, &mut value);
            value[0]
        };
        let c64 = |re: f32, im: f32| value("c64", &[re.to_le_bytes(), im.to_le_bytes()].concat());
        let c128 = |re: f64, im: f64| value("c128", &[re.to_le_bytes(), im.to_le_bytes()].concat());
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-15;
        assert!(near(c64(3.0, -4.0), 5.0));
        assert!(near(c64(f32::MAX, 0.0), f64::from(f32::MAX)));
        assert!(near(c128(3e200, 4e200), 5e200));
        assert!(same(c64(f32::NAN, f32::NEG_INFINITY), f64::INFINITY));
        assert!(c64(f32::NAN, 1.0).is_nan() && c128(1.0, f64::NAN).is_nan());
        // 1 + 2i in halves.
        assert!(near(
            value("c32", &[0x00, 0x3c, 0x00, 0x40]),
            5.0_f64.sqrt()
        ));
        assert!(same(value("bool", &[2]), 1.0) && same(value("bool", &[0]), 0.0));
    }
}
