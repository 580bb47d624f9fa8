//! What differs between two runs, two checkpoints, or a run and its parent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunMetric;
use crate::float::JsonFloat;

wire! {
    /// What differs between two runs or two checkpoints.
    pub struct DiffReport {
        /// Left side, as a REF.
        pub a: String,
        /// Right side, as a REF.
        pub b: String,
        /// Config keys that differ.
        pub config: Vec<ConfigChange>,
        /// Tensors that differ; empty when runs are compared without checkpoints.
        pub tensors: Vec<TensorChange>,
        /// Tensors that are bit-equal.
        pub equal_tensors: u64,
        /// What the metrics of both sides effectively come to.
        pub metrics: BTreeMap<String, MetricPair>,
    }

    /// One config key that differs.
    pub struct ConfigChange {
        /// Dotted path.
        pub key: String,
        /// Before; null and `had_before == false` if it was not there.
        pub before: Value,
        /// After; null and `has_after == false` if it is gone.
        pub after: Value,
        /// Whether the key was there before.
        pub had_before: bool,
        /// Whether the key is there now.
        pub has_after: bool,
    }

    /// A metric on both sides.
    pub struct MetricPair {
        /// Left.
        pub a: Option<RunMetric>,
        /// Right.
        pub b: Option<RunMetric>,
    }

    /// A tensor that differs.
    pub struct TensorChange {
        /// Dotted name.
        pub name: String,
        /// What happened to it.
        pub change: TensorChangeKind,
        /// Element type and shape on the left, `f32[10,3]`.
        pub a: Option<String>,
        /// On the right.
        pub b: Option<String>,
        /// ‖b−a‖₂ / ‖a‖₂ in f64, for numbers of one dtype and shape; null elsewhere.
        pub relative_norm: Option<JsonFloat>,
        /// Elements that differ; null where not comparable.
        pub changed_elements: Option<u64>,
    }
}

/// What happened to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TensorChangeKind {
    /// Only on the right.
    Added,
    /// Only on the left.
    Removed,
    /// Same dtype and shape, other values.
    Changed,
    /// Other dtype or shape.
    Reshaped,
}
