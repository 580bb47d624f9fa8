//! Charts: what to draw, and the buckets that are drawn.

use serde::{Deserialize, Serialize};

use crate::float::JsonFloat;
use crate::id::AttemptNumber;

wire! {
    /// What to draw.
    pub struct SeriesRequest {
        /// The series.
        pub series: Vec<SeriesSelector>,
        /// The x axis.
        pub x: XAxis,
        /// Another metric of each run as the x axis, instead of `x`; null: `x` counts. `from` and `to` are null then.
        pub x_metric: Option<MetricAxis>,
        /// Left edge in units of the axis (steps, or microseconds); null: the beginning.
        pub from: Option<i64>,
        /// Right edge, inclusive; null: the end.
        pub to: Option<i64>,
        /// Pixel columns: the answer has at most this many buckets per series (the nearest sub-block edges decide).
        pub pixels: u32,
        /// Whether ancestors' points are drawn.
        pub inherited: bool,
    }

    /// Another metric as the x axis: a point stands at the latest finite value of that metric at or before its step.
    pub struct MetricAxis {
        /// The metric.
        pub metric: String,
        /// How its values become places.
        pub mode: AxisMode,
        /// Left edge; null: the smallest place.
        pub from: Option<JsonFloat>,
        /// Right edge, inclusive; null: the largest place.
        pub to: Option<JsonFloat>,
    }

    /// One series.
    pub struct SeriesSelector {
        /// RunId or display id.
        pub run: String,
        /// Metric name.
        pub metric: String,
        /// A launch whose own points alone are wanted (a ghost tail); null: the effective history.
        pub attempt: Option<AttemptNumber>,
        /// Left edge of this series, if not the request's: where what is known of it ends.
        pub from: Option<i64>,
    }

    /// Answers, in the order asked.
    pub struct SeriesResponse {
        /// One per selector.
        pub series: Vec<SeriesBuckets>,
    }

    /// A series as buckets, by columns. Every bucket is exact for the interval it declares: no point is sampled away.
    pub struct SeriesBuckets {
        /// RunId.
        pub run: String,
        /// Metric.
        pub metric: String,
        /// Launch, if one was asked for.
        pub attempt: Option<AttemptNumber>,
        /// Points the buckets stand for.
        pub points: u64,
        /// Distinct points that the run's own launches logged of the metric, in the asked range or not. Who keeps buckets and asks for what
        /// came since knows by this that nothing came behind them.
        pub logged: u64,
        /// x of the first point of each bucket; over another metric, its step.
        pub x_first: Vec<i64>,
        /// x of the last point of each bucket; over another metric, its step.
        pub x_last: Vec<i64>,
        /// Over another metric alone: the smallest place of each bucket's points. Buckets ascend by it.
        pub place_first: Option<Vec<JsonFloat>>,
        /// Over another metric alone: the largest place.
        pub place_last: Option<Vec<JsonFloat>>,
        /// Over another metric alone: points that have no place, for that metric had no finite value yet.
        pub unplaced: Option<u64>,
        /// Finite minimum; NaN if the bucket has no finite point.
        pub min: Vec<JsonFloat>,
        /// Finite maximum.
        pub max: Vec<JsonFloat>,
        /// Mean of finite points.
        pub mean: Vec<JsonFloat>,
        /// First value, finite or not.
        pub first: Vec<JsonFloat>,
        /// Last value, finite or not.
        pub last: Vec<JsonFloat>,
        /// Points.
        pub count: Vec<u64>,
        /// Of them not finite.
        pub nonfinite: Vec<u64>,
        /// Which segment each bucket belongs to (index into `segments`).
        pub segment: Vec<u32>,
        /// The run and launch of each segment, root first.
        pub segments: Vec<SeriesSegment>,
    }

    /// A stretch of a drawn series.
    pub struct SeriesSegment {
        /// RunId.
        pub run: String,
        /// Launch.
        pub attempt: AttemptNumber,
        /// Whether it is another run's.
        pub inherited: bool,
        /// x where the stretch begins in this series, in units of the axis; over another metric, the step of its first point
        /// that has a place.
        pub x_start: i64,
        /// Over another metric alone: that point's place.
        pub place_start: Option<JsonFloat>,
    }
}

/// The x axis of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum XAxis {
    /// Steps.
    Step,
    /// Microseconds of training: the gap between a base and what continues it is taken out.
    Relative,
    /// Microseconds since the epoch.
    Wall,
}

/// How the values of a metric become places on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AxisMode {
    /// As they are: a loss, a learning rate, a counter that is part of the checkpoint.
    Value,
    /// A counter that launches start at zero: one that falls where a fork or a resume begins goes on from where it was.
    Continued,
    /// Amounts, each of one step: what they add up to since the root began, forks and resumes included.
    Sum,
}
