//! What people keep in a project: saved views, heads of experiments; and what was tried from one checkpoint.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runtree_core::reference::Reference;
use runtree_core::wire;
use runtree_engine::Purpose;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::bodies::ViewRequest;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::state::AppState;

/// Saved views of a project, by name.
#[utoipa::path(get, path = "/projects/{project}/views", operation_id = "list_views", tag = "views", params(("project" = String, Path, description = "Project")),
    responses((status = 200, body = Vec<wire::SavedView>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn views(
    State(state): State<AppState>,
    Path(project): Path<String>,
) -> Result<Json<Vec<wire::SavedView>>, ApiError> {
    Ok(Json(
        state.call(move |engine| engine.views(&project)).await?,
    ))
}

/// Saves a view, over the one of that name. A `/` in the name is written `%2F`.
#[utoipa::path(put, path = "/projects/{project}/views/{name}", operation_id = "save_view", tag = "views", request_body = ViewRequest,
    params(("project" = String, Path, description = "Project"), ("name" = String, Path, description = "The view's name")),
    responses((status = 200, body = Vec<wire::SavedView>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn save_view(
    State(state): State<AppState>,
    Path((project, name)): Path<(String, String)>,
    Body(view): Body<ViewRequest>,
) -> Result<Json<Vec<wire::SavedView>>, ApiError> {
    let views = state
        .call(move |engine| {
            engine.save_view(&project, &name, &view.query)?;
            engine.views(&project)
        })
        .await?;
    Ok(Json(views))
}

/// Takes a saved view away.
#[utoipa::path(delete, path = "/projects/{project}/views/{name}", operation_id = "delete_view", tag = "views",
    params(("project" = String, Path, description = "Project"), ("name" = String, Path, description = "The view's name")),
    responses((status = 200, body = Vec<wire::SavedView>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn delete_view(
    State(state): State<AppState>,
    Path((project, name)): Path<(String, String)>,
) -> Result<Json<Vec<wire::SavedView>>, ApiError> {
    let views = state
        .call(move |engine| {
            engine.delete_view(&project, &name)?;
            engine.views(&project)
        })
        .await?;
    Ok(Json(views))
}

/// Makes a run the head of its experiment.
#[utoipa::path(put, path = "/runs/{run}/head", operation_id = "set_head", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 204), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn set_head(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<StatusCode, ApiError> {
    state
        .call_run(run, Purpose::Write, |engine, run| engine.set_head(run))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leaves the experiment of a run without a head that somebody set.
#[utoipa::path(delete, path = "/runs/{run}/head", operation_id = "clear_head", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 204), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn clear_head(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<StatusCode, ApiError> {
    state
        .call_run(run, Purpose::Write, |engine, run| engine.clear_head(run))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Of which checkpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SweepParams {
    /// REF of the checkpoint; a bare run means its newest.
    #[serde(rename = "ref")]
    #[param(rename = "ref")]
    reference: String,
}

/// What was tried from one checkpoint: the runs that were forked from it, side by side.
#[utoipa::path(get, path = "/sweep", operation_id = "get_sweep", tag = "runs", params(SweepParams),
    responses((status = 200, body = wire::SweepTable), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn sweep(
    State(state): State<AppState>,
    Query(params): Query<SweepParams>,
) -> Result<Json<wire::SweepTable>, ApiError> {
    let table = state
        .call(move |engine| {
            let reference: Reference = params.reference.parse()?;
            engine.sweep(&reference, None)
        })
        .await?;
    Ok(Json(table))
}
