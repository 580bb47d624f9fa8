//! Elements of a tensor as JSON values; a dtype that has no number of its own here is shown as its bytes.

use runtree_core::float::JsonFloat;
use runtree_core::state::Dtype;
use serde_json::{Value, json};

/// The elements in `bytes`, which hold whole ones.
pub(super) fn decode(dtype: &Dtype, bytes: &[u8]) -> Vec<Value> {
    let item = dtype.item_bytes().max(1) as usize;
    bytes
        .chunks_exact(item)
        .map(|element| value(dtype, element))
        .collect()
}

fn value(dtype: &Dtype, bytes: &[u8]) -> Value {
    match dtype {
        Dtype::Bool => json!(bytes[0] != 0),
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => json!(unsigned(bytes)),
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => json!(signed(bytes)),
        Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => float(real(dtype, bytes)),
        Dtype::C32 => complex(&Dtype::F16, bytes),
        Dtype::C64 => complex(&Dtype::F32, bytes),
        Dtype::C128 => complex(&Dtype::F64, bytes),
        // Most significant byte first, as numbers are written.
        _ => json!(format!(
            "0x{:0width$x}",
            unsigned(bytes),
            width = 2 * bytes.len()
        )),
    }
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    (unsigned(bytes) << unused) as i64 >> unused
}

fn complex(part: &Dtype, bytes: &[u8]) -> Value {
    let (re, im) = bytes.split_at(bytes.len() / 2);
    json!([float(real(part, re)), float(real(part, im))])
}

fn float(value: f64) -> Value {
    serde_json::to_value(JsonFloat(value)).unwrap_or(Value::Null)
}

fn real(dtype: &Dtype, bytes: &[u8]) -> f64 {
    let bits = unsigned(bytes);
    match dtype {
        Dtype::F64 => f64::from_bits(bits),
        // The shortest decimal that is this single, not the digits its double has.
        Dtype::F32 => shortest(f32::from_bits(bits as u32)),
        Dtype::BF16 => shortest(f32::from_bits((bits as u32) << 16)),
        _ => half(bits as u16),
    }
}

fn shortest(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * (-24_f64).exp2(),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind_come_out_as_numbers() {
        assert_eq!(
            decode(&Dtype::I16, &[0xff, 0xff, 2, 0]),
            [json!(-1), json!(2)]
        );
        assert_eq!(
            decode(&Dtype::U64, &u64::MAX.to_le_bytes()),
            [json!(u64::MAX)]
        );
        assert_eq!(
            decode(&Dtype::I64, &i64::MIN.to_le_bytes()),
            [json!(i64::MIN)]
        );
        assert_eq!(decode(&Dtype::Bool, &[0, 1]), [json!(false), json!(true)]);
        assert_eq!(decode(&Dtype::F32, &0.1_f32.to_le_bytes()), [json!(0.1)]);
        assert_eq!(decode(&Dtype::BF16, &[0x80, 0x3f]), [json!(1.0)]);
        assert_eq!(decode(&Dtype::F64, &f64::NAN.to_le_bytes()), [json!("NaN")]);
        assert_eq!(
            decode(&Dtype::C64, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]),
            [json!([1.0, 2.0])]
        );
        assert_eq!(decode(&Dtype::F8E5M2, &[0x3c]), [json!("0x3c")]);
    }

    #[test]
    fn halves_are_right_at_every_exponent() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, (-24_f64).exp2()),
            (0x0400, (-14_f64).exp2()),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), f64::to_bits(value), "{bits:04x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
