//! Points as texts: CSV and lines of JSON.

use std::io::Write;
use std::ops::Range;

use runtree_core::float::JsonFloat;
use runtree_core::{Error, Result, Timestamp};
use runtree_metrics::Points;
use runtree_metrics::export::Provenance;

use super::Sink;

/// Text that waits to be written.
const BUFFER_BYTES: usize = 1 << 18;

/// Comma-separated values, as RFC 4180 has them.
pub(super) struct CsvExport<'a> {
    out: &'a mut (dyn Write + Send),
    buffer: Vec<u8>,
}

/// One JSON object a line.
pub(super) struct JsonExport<'a> {
    out: &'a mut (dyn Write + Send),
    buffer: Vec<u8>,
}

impl<'a> CsvExport<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self {
            out,
            buffer: b"run,metric,step,value,timestamp,logged_by,attempt\n".to_vec(),
        }
    }
}

impl<'a> JsonExport<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self {
            out,
            buffer: Vec::new(),
        }
    }
}

impl Sink for CsvExport<'_> {
    fn push(&mut self, whose: Provenance<'_>, points: &Points, range: Range<usize>) -> Result<()> {
        let metric = quoted(whose.metric);
        for index in range {
            let time = Time(Timestamp(points.timestamps()[index]));
            let line = format!(
                "{},{metric},{},{},{time},{},{}\n",
                whose.run,
                points.steps()[index],
                Float(points.values()[index]),
                whose.logged_by,
                whose.attempt
            );
            self.buffer.extend(line.as_bytes());
        }
        flush(self.out, &mut self.buffer, BUFFER_BYTES)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        flush(self.out, &mut self.buffer, 0)
    }
}

impl Sink for JsonExport<'_> {
    fn push(&mut self, whose: Provenance<'_>, points: &Points, range: Range<usize>) -> Result<()> {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            run: &'a str,
            metric: &'a str,
            step: i64,
            value: JsonFloat,
            timestamp: String,
            logged_by: &'a str,
            attempt: u32,
        }
        for index in range {
            let line = Line {
                run: whose.run,
                metric: whose.metric,
                step: points.steps()[index],
                value: JsonFloat(points.values()[index]),
                timestamp: Time(Timestamp(points.timestamps()[index])).to_string(),
                logged_by: whose.logged_by,
                attempt: whose.attempt.0,
            };
            serde_json::to_writer(&mut self.buffer, &line).map_err(|error| {
                Error::internal("a point can not be written as JSON").with_source(error)
            })?;
            self.buffer.push(b'\n');
        }
        flush(self.out, &mut self.buffer, BUFFER_BYTES)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        flush(self.out, &mut self.buffer, 0)
    }
}

/// Writes what waits if it is more than `above`.
fn flush(out: &mut dyn Write, buffer: &mut Vec<u8>, above: usize) -> Result<()> {
    if buffer.len() <= above {
        return Ok(());
    }
    out.write_all(buffer).map_err(|error| {
        Error::unavailable("exported metrics can not be written").with_source(error)
    })?;
    buffer.clear();
    Ok(())
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// A float in the shortest digits that read back the same, spelled as everywhere in runtree's JSON.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_finite() => write!(f, "{value:?}"),
            value if value.is_nan() => f.write_str("NaN"),
            value if value > 0.0 => f.write_str("Infinity"),
            _ => f.write_str("-Infinity"),
        }
    }
}

/// A time as `2026-11-29T06:13:32.000001Z`.
struct Time(Timestamp);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.0.rem_euclid(86_400_000_000);
        let (year, month, day) = date(self.0.0.div_euclid(86_400_000_000));
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        // ISO 8601 wants a sign where a year has not four digits.
        let sign = if year > 9999 { "+" } else { "" };
        write!(
            f,
            "{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

/// The date of a day since 1970-01-01 (proleptic Gregorian), as Howard Hinnant's `civil_from_days` has it: years begin in March, so leap days are last.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_795_932_812_345_678, "2026-11-29T06:13:32.345678Z"),
            (253_402_300_800_000_000, "+10000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Time(Timestamp(micros)).to_string(), text);
        }
        // The ends of what there is do not overflow.
        assert!(Time(Timestamp(i64::MIN)).to_string().starts_with('-'));
        assert!(Time(Timestamp(i64::MAX)).to_string().starts_with("+29"));
    }

    #[test]
    fn floats_read_back_the_same() {
        for value in [
            0.1,
            -0.0,
            5e-324,
            f64::MAX,
            1e16,
            3e-4,
            1.0,
            f64::NAN,
            f64::NEG_INFINITY,
        ] {
            let text = Float(value).to_string();
            let back: f64 = text.parse().unwrap();
            assert!(
                back.to_bits() == value.to_bits() || value.is_nan(),
                "{text}"
            );
        }
    }
}
