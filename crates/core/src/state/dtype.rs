//! Element types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $bytes:literal;)*) => {
        /// Type of a tensor's elements; little endian.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Dtype {
            $($(#[$doc])* $variant,)*
            /// A numpy dtype that no other library has: text, dates (`<U5`, `|S3`, `<M8[us]`), by its array-protocol string.
            Numpy(NumpyDtype),
        }

        impl Dtype {
            /// Bytes of one element.
            pub fn item_bytes(&self) -> u64 {
                match self {
                    $(Self::$variant => $bytes,)*
                    Self::Numpy(dtype) => u64::from(dtype.item_bytes),
                }
            }

            fn simple(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Dtype {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Numpy(dtype) => write!(f, "numpy:{}", dtype.text),
                }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool = "bool", 1;
    /// Unsigned 8 bit.
    U8 = "u8", 1;
    /// Signed 8 bit.
    I8 = "i8", 1;
    /// Unsigned 16 bit.
    U16 = "u16", 2;
    /// Signed 16 bit.
    I16 = "i16", 2;
    /// Unsigned 32 bit.
    U32 = "u32", 4;
    /// Signed 32 bit.
    I32 = "i32", 4;
    /// Unsigned 64 bit.
    U64 = "u64", 8;
    /// Signed 64 bit.
    I64 = "i64", 8;
    /// IEEE half.
    F16 = "f16", 2;
    /// bfloat16.
    BF16 = "bf16", 2;
    /// IEEE single.
    F32 = "f32", 4;
    /// IEEE double.
    F64 = "f64", 8;
    /// Two halves.
    C32 = "c32", 4;
    /// Two singles.
    C64 = "c64", 8;
    /// Two doubles.
    C128 = "c128", 16;
    /// float8 e4m3fn.
    F8E4M3FN = "f8_e4m3fn", 1;
    /// float8 e5m2.
    F8E5M2 = "f8_e5m2", 1;
    /// float8 e4m3fnuz.
    F8E4M3FNUZ = "f8_e4m3fnuz", 1;
    /// float8 e5m2fnuz.
    F8E5M2FNUZ = "f8_e5m2fnuz", 1;
    /// float8 e8m0fnu.
    F8E8M0FNU = "f8_e8m0fnu", 1;
}

/// A dtype by numpy's array-protocol string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NumpyDtype {
    text: String,
    item_bytes: u32,
}

impl NumpyDtype {
    /// The array-protocol string: `<U5`, `|S3`, `<M8[us]`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(['<', '|'])?;
        let kind = rest.chars().next()?;
        let rest = &rest[kind.len_utf8()..];
        let (size, unit) = rest
            .split_once('[')
            .map_or((rest, None), |(size, unit)| (size, Some(unit)));
        let size: u32 = size.parse().ok().filter(|_| !size.starts_with('+'))?;
        let item_bytes = match (kind, unit) {
            ('U', None) => size.checked_mul(4)?,
            ('S' | 'V', None) => size,
            ('M' | 'm', None) if size == 8 => 8,
            ('M' | 'm', Some(unit)) if size == 8 && is_time_unit(unit) => 8,
            ('f' | 'c', None) if matches!(size, 16 | 32) => size,
            _ => return None,
        };
        Some(Self {
            text: text.to_owned(),
            item_bytes,
        })
    }
}

/// What stands between the brackets of a date's dtype, with the closing one: `us]`, `25s]`.
fn is_time_unit(unit: &str) -> bool {
    unit.strip_suffix(']').is_some_and(|unit| {
        (1..=7).contains(&unit.len()) && unit.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numpy = |text: &str| {
            text.strip_prefix("numpy:")
                .and_then(NumpyDtype::parse)
                .map(Self::Numpy)
        };
        Self::simple(text)
            .or_else(|| numpy(text))
            .ok_or_else(|| Error::invalid(format!("{text:?} is not a dtype runtree knows")))
    }
}

impl Serialize for Dtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
