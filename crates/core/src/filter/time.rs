//! Moments as people write them.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use crate::clock::{Timestamp, parse_duration};

const SECOND: i64 = 1_000_000;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In UTC.
    At(Timestamp),
    /// So many microseconds before the question is asked.
    Ago(i64),
}

impl When {
    /// The moment, asked at `now`.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(micros) => Timestamp(now.0.saturating_sub(micros)),
        }
    }

    /// `2026-11-29`, `2026-11-29T10:30[:15][Z]`, `-7d` (`s`, `m`, `h`, `d`, `w`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(ago) = text.strip_prefix('-') {
            return parse_duration(ago).map(Self::Ago);
        }
        let text = text.strip_suffix('Z').unwrap_or(text);
        let day =
            NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN));
        let moment = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"]
            .iter()
            .map(|format| NaiveDateTime::parse_from_str(text, format))
            .fold(day, Result::or);
        Some(Self::At(Timestamp(
            moment.ok()?.and_utc().timestamp_micros(),
        )))
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::At(at) => match chrono::DateTime::from_timestamp_micros(at.0) {
                Some(moment) => write!(f, "{}", moment.format("%Y-%m-%dT%H:%M:%S%.6f")),
                None => write!(f, "-{}s", -(at.0 / SECOND)),
            },
            Self::Ago(micros) => write!(f, "-{}s", micros / SECOND),
        }
    }
}
