//! Numbers, sizes and times as people read them.

use chrono::{DateTime, Utc};
use runtree_core::Timestamp;
use runtree_core::event::RunStatus;

use crate::look::Style;

/// `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 1023.95 would round to 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A metric's value in at most five significant digits.
pub(crate) fn value(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e6).contains(&magnitude) {
        let decimals = (4 - magnitude.log10().floor() as i32).clamp(0, 7) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.3e}")
    }
}

/// `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 run`, `2 runs`.
pub(crate) fn plural(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", count(number))
}

/// `2026-03-01 12:00:05Z`.
pub(crate) fn time(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_micros(at.0).map_or_else(
        || format!("{} µs", at.0),
        |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// How long ago, in one unit: `12s`, `5m`, `3h`, `9d`.
pub(crate) fn age(now: Timestamp, at: Timestamp) -> String {
    duration(now.micros_since(at).max(0))
}

/// A duration of microseconds, in one unit.
pub(crate) fn duration(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// How a status looks.
pub(crate) fn status_style(status: RunStatus) -> Style {
    match status {
        RunStatus::Running | RunStatus::Completed => Style::Good,
        RunStatus::Failed | RunStatus::Lost => Style::Bad,
        RunStatus::Stopped => Style::Warn,
        RunStatus::Created => Style::Dim,
    }
}

/// A JSON value on one line, strings without quotes.
pub(crate) fn json(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_never_1024_of_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }

    #[test]
    fn values_keep_five_digits_and_say_what_is_not_finite() {
        assert_eq!(value(0.123_456_789), "0.12346");
        assert_eq!(value(12.0), "12");
        assert_eq!(value(123_456.7), "123457");
        assert_eq!(value(1e-6), "1.000e-6");
        assert_eq!(value(-2.5), "-2.5");
        assert_eq!(value(f64::NAN), "NaN");
        assert_eq!(value(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn counts_are_grouped_and_ages_have_one_unit() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "run"), "1 run");
        assert_eq!(age(Timestamp(90_000_000), Timestamp(0)), "90s");
        assert_eq!(age(Timestamp(0), Timestamp(5)), "0s");
        assert_eq!(duration(3 * 86_400_000_000), "3d");
        assert_eq!(time(Timestamp(0)), "1970-01-01 00:00:00Z");
    }
}
