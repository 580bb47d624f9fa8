//! Identities: distinct types for distinct things, each parseable from what it prints.
//!
//! *Stable* ids (a run, a writer) follow a thing through its changes; *content* ids live in [`crate::hash`]. Nothing here makes
//! randomness or reads a clock: the engine passes both in.
//!
//! ```compile_fail
//! use runtree_core::{RunId, WriterId};
//! fn writes(_: WriterId) {}
//! writes(RunId::from_parts(0, 0));
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// Crockford's base 32, lowercase: no i, l, o, u.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What a trainer counts. Signed, because some count from −1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Step(pub i64);

impl Step {
    /// Below every step a trainer logs.
    pub const MIN: Self = Self(i64::MIN);
    /// Above every step a trainer logs.
    pub const MAX: Self = Self(i64::MAX);

    /// The step after this one, for what counts steps by itself: saturated, it would write over the last one there is.
    ///
    /// # Errors
    /// `Invalid` if this is [`Step::MAX`].
    pub fn following(self) -> Result<Self> {
        match self.0.checked_add(1) {
            Some(step) => Ok(Self(step)),
            None => Err(Error::invalid(format!(
                "step {self} is the last there is, so none can follow by itself"
            ))
            .with_hint("pass step= with every log, or rewind to a step that was meant")),
        }
    }

    /// The step after this one; saturates.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The step before this one; saturates.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a launch of a run, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct AttemptNumber(pub u32);

impl AttemptNumber {
    /// A run's first launch.
    pub const FIRST: Self = Self(1);

    /// The launch after this one; saturates, so that a record somebody made up can not overflow it.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn write_base32(f: &mut fmt::Formatter<'_>, value: u128, digits: u32) -> fmt::Result {
    (0..digits).rev().try_for_each(|digit| {
        let symbol = BASE32[(value >> (5 * digit)) as usize & 31];
        fmt::Write::write_char(f, symbol as char)
    })
}

fn parse_base32(text: &str, digits: u32, bits: u32) -> Option<u128> {
    if text.len() != digits as usize {
        return None;
    }
    let mut value: u128 = 0;
    for (position, symbol) in text.bytes().enumerate() {
        let digit = BASE32.iter().position(|&known| known == symbol)? as u128;
        if position == 0 && digits * 5 > bits && digit >> (5 - (digits * 5 - bits)) != 0 {
            return None;
        }
        value = value << 5 | digit;
    }
    Some(value)
}

macro_rules! base32_id {
    ($(#[$doc:meta])* $name:ident, $repr:ty, $digits:literal, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($repr);

        impl $name {
            /// The id as a number.
            pub const fn to_bits(self) -> $repr {
                self.0
            }

            /// An id from a number, whatever it is.
            pub const fn from_bits(bits: $repr) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_base32(f, u128::from(self.0), $digits)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                text.strip_prefix($prefix)
                    .and_then(|rest| parse_base32(rest, $digits, <$repr>::BITS))
                    .map(|bits| Self(bits as $repr))
                    .ok_or_else(|| {
                        Error::invalid(format!(
                            concat!("{:?} is not a ", $what, " (", $prefix, "{} base-32 characters)"), text, $digits
                        ))
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

base32_id! {
    /// A run, for ever and everywhere: 48 bits of milliseconds, 80 random bits (a ULID, in lowercase). Sorts by time of birth.
    RunId, u128, 26, "", "run id"
}
base32_id! {
    /// A store, for ever: made when the store is created, kept by copies of it.
    StoreId, u128, 26, "", "store id"
}
base32_id! {
    /// One process that writes to one run: never reused, so its journal has one author.
    WriterId, u64, 13, "", "writer id"
}
base32_id! {
    /// One put of one chunk object: never reused, so that a deleted name can not come back.
    PutId, u64, 13, "", "put id"
}
base32_id! {
    /// A checkpoint: follows (run, save key), so it is known before the commit and the same everywhere.
    CheckpointId, u64, 13, "ck_", "checkpoint id"
}

impl RunId {
    /// Fewest characters of an id that a user may abbreviate it to.
    pub const MIN_PREFIX: usize = 6;

    /// Makes an id from milliseconds since the epoch and randomness (the low 80 bits of it).
    pub const fn from_parts(unix_millis: u64, random: u128) -> Self {
        Self((unix_millis as u128) << 80 | (random & ((1 << 80) - 1)))
    }
}

impl CheckpointId {
    /// The id of what `run` saved under `key`.
    pub fn of(run: RunId, key: SaveKey) -> Self {
        let digest = blake3::hash(format!("{run}/{key}").as_bytes());
        let mut bits = [0; 8];
        bits.copy_from_slice(&digest.as_bytes()[..8]);
        Self(u64::from_be_bytes(bits))
    }
}

/// What one save of one run is called in the store: `<attempt>-<step>-<k>`; a negative step is written `n5`.
///
/// `k` counts the saves of this step in this attempt, from 0. Ordered by attempt, step, k.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaveKey {
    /// The launch that saved.
    pub attempt: AttemptNumber,
    /// The step that was saved.
    pub step: Step,
    /// The how-manieth save of this step in this attempt, from 0.
    pub k: u32,
}

impl fmt::Display for SaveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.step.0 < 0 { "n" } else { "" };
        write!(
            f,
            "{}-{sign}{}-{}",
            self.attempt,
            self.step.0.unsigned_abs(),
            self.k
        )
    }
}

impl fmt::Debug for SaveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for SaveKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let mut fields = text.split('-');
            let attempt = fields.next()?.parse().ok().filter(|&n: &u32| n > 0)?;
            let step = fields.next()?;
            let step = match step.strip_prefix('n') {
                Some(digits) => 0_i64.checked_sub_unsigned(digits.parse().ok()?)?,
                None => step.parse().ok()?,
            };
            let k = fields.next()?.parse().ok()?;
            let key = Self {
                attempt: AttemptNumber(attempt),
                step: Step(step),
                k,
            };
            // One spelling per key: `+1`, `01` and `n0` are somebody else's files.
            (fields.next().is_none() && key.to_string() == text).then_some(key)
        };
        parse().ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a save key (<attempt>-<step>-<k>)"))
        })
    }
}

macro_rules! string_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

string_serde!(SaveKey);
string_serde!(DisplayId);
string_serde!(ProjectName);
string_serde!(ComponentName);

/// What people call a run: `MMP-42`. Taken once, where the run is born; never renumbered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DisplayId {
    /// One to eight uppercase letters and digits, starting with a letter.
    prefix: String,
    number: u64,
}

impl DisplayId {
    /// Longest prefix.
    pub const MAX_PREFIX: usize = 8;

    /// Makes a display id.
    ///
    /// # Errors
    /// `Invalid` if the prefix is not one to eight characters of `A-Z0-9` starting with a letter, or the number is 0.
    pub fn new(prefix: &str, number: u64) -> Result<Self, Error> {
        Self::check_prefix(prefix)?;
        if number == 0 {
            return Err(Error::invalid("run numbers start at 1"));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            number,
        })
    }

    /// Says whether `prefix` may stand before a number.
    ///
    /// # Errors
    /// `Invalid` with the rule.
    pub fn check_prefix(prefix: &str) -> Result<(), Error> {
        let fits = (1..=Self::MAX_PREFIX).contains(&prefix.len())
            && prefix
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && prefix.as_bytes()[0].is_ascii_uppercase();
        if fits {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{prefix:?} is not a run prefix (1 to 8 of A-Z and 0-9, a letter first)"
        )))
    }

    /// The prefix a project gets when nobody sets one: the initials of its words, or the first three letters of its only word.
    pub fn default_prefix(project: &str) -> String {
        let words: Vec<&str> = project
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let letters: String = match words.as_slice() {
            [word] => word.chars().take(3).collect(),
            words => words
                .iter()
                .filter_map(|word| word.chars().next())
                .take(4)
                .collect(),
        };
        let letters = letters.to_ascii_uppercase();
        if letters.starts_with(|c: char| c.is_ascii_uppercase()) {
            letters
        } else {
            format!("R{letters}")
        }
    }

    /// The letters.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The number in the project, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for DisplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.prefix, self.number)
    }
}

impl fmt::Debug for DisplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for DisplayId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid(format!("{text:?} is not a display id (like MMP-42)"));
        let (prefix, number) = text.split_once('-').ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let id = Self::new(prefix, number).map_err(|_| invalid())?;
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(invalid())
        }
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Longest name, in bytes.
            pub const MAX: usize = $max;

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if text.is_empty() || text.len() > Self::MAX {
                    return Err(Error::invalid(format!(concat!("a ", $what, " has 1 to {} bytes, {:?} has {}"), Self::MAX, text, text.len())));
                }
                if let Some(odd) = text.chars().find(|&c| !Self::allows(c)) {
                    return Err(Error::invalid(format!(concat!("a ", $what, " can not contain {:?}: {:?}"), odd, text)));
                }
                Ok(Self(text.to_owned()))
            }
        }
    };
}

name_type! {
    /// A project's name: anything printable but `/`, `#` and `@`, which separate the parts of a REF.
    ProjectName, "project name", 128
}
name_type! {
    /// Which program of a launch wrote a part: `trainer`, `orchestrator`.
    ComponentName, "component name", 64
}

impl ProjectName {
    fn allows(c: char) -> bool {
        !c.is_control() && !matches!(c, '/' | '#' | '@')
    }
}

impl ComponentName {
    fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_'
    }

    /// The component of a run that names none.
    pub fn trainer() -> Self {
        Self("trainer".to_owned())
    }
}

#[cfg(test)]
mod tests;
