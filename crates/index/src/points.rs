//! Points by columns, and what a stretch of them holds.

/// Points by columns: `steps`, `times` (microseconds, UTC) and `values` are equally long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// Steps.
    pub steps: Vec<i64>,
    /// Timestamps.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
}

/// What a stretch of points holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Points.
    pub n: u64,
}
