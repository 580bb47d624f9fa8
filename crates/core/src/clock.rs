//! Time as a value that is passed in: nothing in runtree reads the clock of the machine but [`Clock`]'s one real implementation at the edges.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds from `earlier` to `self`; negative if `self` is earlier.
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// A moment as Python's `isoformat` writes it, with an offset or, without one, in UTC; none if it is not written so.
    pub fn from_iso(text: &str) -> Option<Self> {
        let text = text.replacen(' ', "T", 1);
        let moment = chrono::DateTime::parse_from_rfc3339(&text)
            .map(|moment| moment.timestamp_micros())
            .or_else(|_| {
                chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f")
                    .map(|moment| moment.and_utc().timestamp_micros())
            });
        moment.ok().map(Self)
    }

    /// Seconds since the epoch, as the trainers' floats have it.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// Microseconds of a length of time as people write it, `90s`, `15m`, `2h`, `7d`, `1w`; none if it is not written so.
pub fn parse_duration(text: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    let unit = match text.chars().last()? {
        's' => SECOND,
        'm' => 60 * SECOND,
        'h' => 3600 * SECOND,
        'd' => 24 * 3600 * SECOND,
        'w' => 7 * 24 * 3600 * SECOND,
        _ => return None,
    };
    let count: i64 = text[..text.len() - 1].parse().ok()?;
    (count >= 0).then(|| count.checked_mul(unit)).flatten()
}

/// A source of wall-clock time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;
}
