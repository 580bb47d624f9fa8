//! Metrics of a run, found by name.

use axum::Json;
use axum::extract::State;
use runtree_core::{Error, wire};
use runtree_engine::{MetricFilter, Purpose};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

/// Which metrics; all, if neither is given.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsParams {
    /// Those alone whose name this regular expression is found in: `^train/.*loss$`. Of ten thousand metrics a page wants a few.
    r#match: Option<String>,
    /// Those of these names, separated by commas: what a page asks of those in sight while the run goes on. In a name, `%2C` stands for a
    /// comma and `%25` for a percent sign.
    names: Option<String>,
}

impl MetricsParams {
    fn filter(self) -> Result<MetricFilter, Error> {
        let pattern = self.r#match.filter(|pattern| !pattern.is_empty());
        match (pattern, self.names) {
            (Some(_), Some(_)) => Err(Error::invalid(
                "metrics are asked for by `match` or by `names`, not by both",
            )),
            (Some(pattern), None) => Ok(MetricFilter::Matching(pattern)),
            (None, None) => Ok(MetricFilter::All),
            (None, Some(names)) => {
                let names = names.split(',').filter(|name| !name.is_empty());
                let names = names.map(|name| name.replace("%2C", ",").replace("%25", "%"));
                Ok(MetricFilter::Named(names.collect()))
            }
        }
    }
}

/// Metrics of a run's effective history, by name; those that it does not have are left out.
#[utoipa::path(get, path = "/runs/{run}/metrics", operation_id = "list_metrics", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), MetricsParams),
    responses((status = 200, body = Vec<wire::MetricInfo>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn metrics(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<MetricsParams>,
) -> Result<Json<Vec<wire::MetricInfo>>, ApiError> {
    let found = state
        .call_run(run, Purpose::Read, move |engine, run| {
            engine.metrics(run, &params.filter()?)
        })
        .await?;
    Ok(Json(found))
}
