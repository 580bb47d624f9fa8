//! ART's `history.jsonl`: metrics, one JSON object a row, appended without care for a crash. The rules of `python/runtree/compat/art/history.py`.
//!
//! Each line is read by itself; what can not be read is counted. What is no number (texts, bools, null) is no point; NaN and infinities are, which Python writes as
//! words that no JSON has. Several rows of one step are one point of each metric: their mean, as ART ranks them.

use std::collections::BTreeMap;

use runtree_core::{Step, Timestamp};
use serde_json::Value;

use crate::python_json;

/// What describes a row and measures nothing.
const NOT_METRICS: [&str; 3] = ["step", "recorded_at", "training_step"];
/// What a file says.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Values by step and metric.
    pub(super) points: BTreeMap<Step, BTreeMap<String, f64>>,
    /// When the last row of a step was written.
    pub(super) times: BTreeMap<Step, Timestamp>,
    /// Lines that can not be read.
    pub(super) bad_lines: u64,
}

/// Bytes of a metric's name at most.
const MAX_NAME_BYTES: usize = 1024;

pub(super) fn parse(bytes: &[u8]) -> History {
    // What some editors put first.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut history = History::default();
    let mut sums: BTreeMap<Step, BTreeMap<String, (f64, u32)>> = BTreeMap::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Some((step, row)) = read(line) else {
            history.bad_lines += 1;
            continue;
        };
        let values = sums.entry(step).or_default();
        for (name, value) in &row {
            if NOT_METRICS.contains(&name.as_str()) {
                continue;
            }
            // No name of a metric; the rest of the row is one all the same.
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                continue;
            }
            if let Some(number) = python_json::number(value) {
                let (total, count) = values.entry(name.clone()).or_insert((0.0, 0));
                *total += number;
                *count += 1;
            }
        }
        let time = row.get("recorded_at").and_then(Value::as_str);
        if let Some(time) = time.and_then(Timestamp::from_iso) {
            history.times.insert(step, time);
        }
    }
    history.points = sums
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(step, values)| {
            let means = values.into_iter();
            let means = means.map(|(name, (total, count))| (name, total / f64::from(count)));
            (step, means.collect())
        })
        .collect();
    history
}

fn read(line: &[u8]) -> Option<(Step, serde_json::Map<String, Value>)> {
    let text = std::str::from_utf8(line).ok()?;
    let Some(Value::Object(row)) = python_json::parse(text) else {
        return None;
    };
    let step = row.get("step")?.as_i64()?;
    Some((Step(step), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_step_are_their_mean_and_what_can_not_be_read_is_counted() {
        let history = parse(
            br#"{"step": 1, "val/reward": 0.2, "recorded_at": "2026-01-02T03:04:05.5", "training_step": 1, "ok": true}
{"step": 1, "val/reward": 0.4, "note": "a \" NaN", "other": null}

{"step": 2, "bad": NaN, "low": -Infinity, "high": Infinity}
{"step": 3, "note": "no number"}
{"step": true, "x": 1}
[1]
{"step": 4, "val/re"#,
        );
        assert_eq!(history.bad_lines, 3);
        let steps: Vec<i64> = history.points.keys().map(|step| step.0).collect();
        assert_eq!(steps, [1, 2]);
        let first = &history.points[&Step(1)];
        assert_eq!(first.len(), 1);
        assert!((first["val/reward"] - 0.3).abs() < 1e-12);
        let second = &history.points[&Step(2)];
        assert!(second["bad"].is_nan());
        assert_eq!(
            (second["low"], second["high"]),
            (f64::NEG_INFINITY, f64::INFINITY)
        );
        assert_eq!(history.times[&Step(1)], Timestamp(1_767_323_045_500_000));
    }
}
