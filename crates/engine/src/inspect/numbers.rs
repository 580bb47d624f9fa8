//! Elements as numbers: what `diff` needs to say by how much a tensor changed.
//!
//! Values go through `f64`: exact for everything up to 32 bits and for `f64`; 64-bit integers beyond 2^53 are rounded, which a relative norm
//! does not notice (whether elements *differ* is decided on their bytes).

use runtree_core::state::Dtype;

/// Sums over two tensors of one dtype and shape, fed in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// Σ (b − a)².
    error_squares: f64,
    /// Σ a².
    left_squares: f64,
    /// Elements whose bytes differ.
    pub(crate) changed: u64,
}

impl Difference {
    /// Adds two equally long pieces of whole elements.
    pub(crate) fn add(&mut self, dtype: &Dtype, a: &[u8], b: &[u8]) {
        let item = dtype.item_bytes().max(1) as usize;
        let parts = decode_of(dtype);
        for (a, b) in a.chunks_exact(item).zip(b.chunks_exact(item)) {
            let differs = a != b;
            self.changed += u64::from(differs);
            if let Some((decode, width)) = parts {
                for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
                    let before = decode(a);
                    // Not fused: where a processor can't be relied on to do that, it is a call for each element.
                    self.left_squares += before * before;
                    if differs {
                        let step = decode(b) - before;
                        self.error_squares += step * step;
                    }
                }
            }
        }
    }

    /// ‖b − a‖₂ / ‖a‖₂: infinite if `a` is zero and `b` is not, 0 if nothing differs.
    pub(crate) fn relative_norm(&self) -> f64 {
        if self.error_squares == 0.0 {
            return 0.0;
        }
        (self.error_squares / self.left_squares).sqrt()
    }
}

/// Whether elements of a dtype are numbers that a norm can be taken of.
pub(crate) fn is_numeric(dtype: &Dtype) -> bool {
    decode_of(dtype).is_some()
}

/// Reads one real number.
pub(super) type Decode = fn(&[u8]) -> f64;

/// How one real number of a dtype is read, and how many bytes it has; a complex element holds two.
pub(super) fn decode_of(dtype: &Dtype) -> Option<(Decode, usize)> {
    macro_rules! exact {
        ($type:ty) => {
            Some((
                (|bytes: &[u8]| {
                    f64::from(<$type>::from_le_bytes(
                        bytes.try_into().expect("BUG: cut to the width"),
                    ))
                }) as Decode,
                size_of::<$type>(),
            ))
        };
    }
    macro_rules! rounded {
        ($type:ty) => {
            Some((
                (|bytes: &[u8]| {
                    <$type>::from_le_bytes(bytes.try_into().expect("BUG: cut to the width")) as f64
                }) as Decode,
                size_of::<$type>(),
            ))
        };
    }
    match dtype {
        Dtype::Bool | Dtype::U8 => exact!(u8),
        Dtype::I8 => exact!(i8),
        Dtype::U16 => exact!(u16),
        Dtype::I16 => exact!(i16),
        Dtype::U32 => exact!(u32),
        Dtype::I32 => exact!(i32),
        Dtype::U64 => rounded!(u64),
        Dtype::I64 => rounded!(i64),
        Dtype::F32 | Dtype::C64 => exact!(f32),
        Dtype::F64 | Dtype::C128 => exact!(f64),
        Dtype::F16 | Dtype::C32 => Some((
            |bytes| {
                small_float(
                    u32::from(u16::from_le_bytes([bytes[0], bytes[1]])),
                    &Format::F16,
                )
            },
            2,
        )),
        Dtype::BF16 => Some((
            |bytes| {
                f64::from(f32::from_bits(
                    u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16,
                ))
            },
            2,
        )),
        Dtype::F8E4M3FN => Some((|bytes| small_float(u32::from(bytes[0]), &Format::E4M3FN), 1)),
        Dtype::F8E5M2 => Some((|bytes| small_float(u32::from(bytes[0]), &Format::E5M2), 1)),
        Dtype::F8E4M3FNUZ => Some((
            |bytes| small_float(u32::from(bytes[0]), &Format::E4M3FNUZ),
            1,
        )),
        Dtype::F8E5M2FNUZ => Some((
            |bytes| small_float(u32::from(bytes[0]), &Format::E5M2FNUZ),
            1,
        )),
        Dtype::F8E8M0FNU => Some((
            |bytes| {
                if bytes[0] == 0xff {
                    f64::NAN
                } else {
                    f64::exp2(f64::from(bytes[0]) - 127.0)
                }
            },
            1,
        )),
        _ => None,
    }
}

/// A floating-point format of at most 16 bits.
struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

/// What the odd bit patterns mean.
enum Special {
    /// All ones in the exponent: infinity or NaN.
    Ieee,
    /// All ones in exponent and mantissa: NaN; no infinities.
    Finite,
    /// Negative zero is NaN; nothing else is special.
    UnsignedZero,
}

impl Format {
    const F16: Self = Self {
        exponent_bits: 5,
        mantissa_bits: 10,
        bias: 15,
        special: Special::Ieee,
    };
    const E5M2: Self = Self {
        exponent_bits: 5,
        mantissa_bits: 2,
        bias: 15,
        special: Special::Ieee,
    };
    const E4M3FN: Self = Self {
        exponent_bits: 4,
        mantissa_bits: 3,
        bias: 7,
        special: Special::Finite,
    };
    const E4M3FNUZ: Self = Self {
        exponent_bits: 4,
        mantissa_bits: 3,
        bias: 8,
        special: Special::UnsignedZero,
    };
    const E5M2FNUZ: Self = Self {
        exponent_bits: 5,
        mantissa_bits: 2,
        bias: 16,
        special: Special::UnsignedZero,
    };
}

fn small_float(bits: u32, format: &Format) -> f64 {
    let mantissa = bits & ((1 << format.mantissa_bits) - 1);
    let top = (1 << format.exponent_bits) - 1;
    let exponent = (bits >> format.mantissa_bits) & top;
    let negative = bits >> (format.mantissa_bits + format.exponent_bits) & 1 == 1;
    let sign = if negative { -1.0 } else { 1.0 };
    match format.special {
        Special::Ieee if exponent == top && mantissa == 0 => return sign * f64::INFINITY,
        Special::Ieee if exponent == top => return f64::NAN,
        Special::Finite if exponent == top && mantissa == (1 << format.mantissa_bits) - 1 => {
            return f64::NAN;
        }
        Special::UnsignedZero if negative && exponent == 0 && mantissa == 0 => return f64::NAN,
        _ => {}
    }
    let scale = f64::from(1_u32 << format.mantissa_bits);
    let (significand, exponent) = if exponent == 0 {
        (f64::from(mantissa) / scale, 1)
    } else {
        (1.0 + f64::from(mantissa) / scale, exponent.cast_signed())
    };
    sign * significand * f64::exp2(f64::from(exponent - format.bias))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the published values are exact")]
mod tests {
    use super::*;

    fn value(dtype: &Dtype, bytes: &[u8]) -> f64 {
        (decode_of(dtype).unwrap().0)(bytes)
    }

    #[test]
    fn small_floats_have_their_published_values() {
        // Largest, smallest positive and special values of the OCP and IEEE documents.
        assert_eq!(value(&Dtype::F16, &0x7bff_u16.to_le_bytes()), 65504.0);
        assert_eq!(
            value(&Dtype::F16, &0x0001_u16.to_le_bytes()),
            2.0_f64.powi(-24)
        );
        assert_eq!(
            value(&Dtype::F16, &0xfc00_u16.to_le_bytes()),
            f64::NEG_INFINITY
        );
        assert_eq!(value(&Dtype::BF16, &0x3f80_u16.to_le_bytes()), 1.0);
        assert_eq!(value(&Dtype::F8E4M3FN, &[0x7e]), 448.0);
        assert_eq!(value(&Dtype::F8E4M3FN, &[0x01]), 2.0_f64.powi(-9));
        assert!(value(&Dtype::F8E4M3FN, &[0xff]).is_nan());
        assert_eq!(value(&Dtype::F8E5M2, &[0x7b]), 57344.0);
        assert_eq!(value(&Dtype::F8E5M2, &[0x7c]), f64::INFINITY);
        assert_eq!(value(&Dtype::F8E4M3FNUZ, &[0x7f]), 240.0);
        assert!(value(&Dtype::F8E4M3FNUZ, &[0x80]).is_nan());
        assert_eq!(value(&Dtype::F8E5M2FNUZ, &[0x7f]), 57344.0);
        assert_eq!(value(&Dtype::F8E8M0FNU, &[127]), 1.0);
    }

    #[test]
    fn the_norm_and_the_count_are_what_they_say() {
        let bytes = |values: &[f32]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let mut sum = Difference::default();
        sum.add(&Dtype::F32, &bytes(&[3.0, 4.0]), &bytes(&[3.0, 4.5]));
        assert_eq!(sum.changed, 1);
        assert!((sum.relative_norm() - 0.1).abs() < 1e-12);

        let mut zero = Difference::default();
        zero.add(&Dtype::I64, &0_i64.to_le_bytes(), &5_i64.to_le_bytes());
        assert_eq!(zero.relative_norm(), f64::INFINITY);

        let mut text = Difference::default();
        text.add(&"numpy:|S2".parse().unwrap(), b"abcd", b"abce");
        assert_eq!(
            (text.changed, is_numeric(&"numpy:|S2".parse().unwrap())),
            (1, false)
        );
    }
}
