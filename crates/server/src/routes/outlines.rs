//! What there is to ask for: keys of a project, what can be drawn of runs.

use axum::Json;
use axum::extract::State;
use runtree_core::{Error, RunId, wire};
use runtree_engine::Purpose;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

/// Most runs of a request: more curves than anybody can tell apart.
const MAX_RUNS: usize = 200;

/// Metrics, config keys and tags of the runs of a project: for completion and for choosing columns.
#[utoipa::path(get, path = "/projects/{project}/keys", operation_id = "get_project_keys", tag = "store", params(("project" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::ProjectKeys), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn keys(
    State(state): State<AppState>,
    Path(project): Path<String>,
) -> Result<Json<wire::ProjectKeys>, ApiError> {
    let keys = state
        .call(move |engine| engine.project_keys(&project))
        .await?;
    Ok(Json(keys))
}

/// Of which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutlinesParams {
    /// RunIds or display ids, separated by commas, at most 200.
    runs: String,
}

/// What can be drawn of some runs, in the order asked: names of metrics, abandoned tails.
#[utoipa::path(get, path = "/outlines", operation_id = "list_outlines", tag = "series", params(OutlinesParams),
    responses((status = 200, body = Vec<wire::RunOutline>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn outlines(
    State(state): State<AppState>,
    Query(params): Query<OutlinesParams>,
) -> Result<Json<Vec<wire::RunOutline>>, ApiError> {
    let outlines = state
        .call(move |engine| {
            let names: Vec<&str> = params
                .runs
                .split(',')
                .filter(|run| !run.is_empty())
                .collect();
            if names.len() > MAX_RUNS {
                return Err(Error::invalid(format!(
                    "{} runs are more than {MAX_RUNS}",
                    names.len()
                ))
                .with_hint("ask in several requests"));
            }
            let runs: Vec<RunId> = names
                .into_iter()
                .map(|run| engine.resolve_run(run, None, Purpose::Read))
                .collect::<Result<_, _>>()?;
            engine.outlines(&runs)
        })
        .await?;
    Ok(Json(outlines))
}
