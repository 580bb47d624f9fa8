//! Checkpoints: one of them, its bytes; pins, trash, differences.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use runtree_core::reference::Reference;
use runtree_core::{Result as CoreResult, wire};
use runtree_engine::{Engine, Purpose};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::bodies::PinRequest;
use crate::download;
use crate::error::ApiError;
use crate::extract::{OptionalBody, Path, Query};
use crate::state::AppState;

/// A checkpoint.
#[utoipa::path(get, path = "/checkpoints/{id}", operation_id = "get_checkpoint", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, body = wire::CheckpointInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn checkpoint(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<wire::CheckpointInfo>, ApiError> {
    let info = state
        .call_checkpoint(id, Purpose::Read, |engine, name| {
            engine.checkpoint_detail(name)
        })
        .await?;
    Ok(Json(info))
}

/// Its bytes as a tar: directories as they were saved, state trees as safetensors and JSON. Verified before the first byte.
#[utoipa::path(get, path = "/checkpoints/{id}/download", operation_id = "download_checkpoint", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, content_type = "application/x-tar", body = Vec<u8>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn download(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (directory, info) = state
        .call_checkpoint(id, Purpose::Read, |engine, name| {
            Ok((engine.materialize(name)?, engine.checkpoint_info(name)?))
        })
        .await?;
    // Letters, digits and dashes only, whatever runs and projects are called: this becomes a header and a directory.
    let root: String = format!("{}-{}", info.run.display_id, info.step)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{root}.tar\""),
        ),
    ];
    Ok((headers, download::tar(directory, root)).into_response())
}

/// Keeps a checkpoint whatever retention says.
#[utoipa::path(post, path = "/checkpoints/{id}/pin", operation_id = "pin_checkpoint", tag = "checkpoints", request_body = Option<PinRequest>,
    params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, body = wire::CheckpointInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn pin(
    State(state): State<AppState>,
    Path(id): Path<String>,
    OptionalBody(request): OptionalBody<PinRequest>,
) -> Result<Json<wire::CheckpointInfo>, ApiError> {
    let reason = request.and_then(|request| request.reason);
    let info = state
        .call_checkpoint(id, Purpose::Write, move |engine, name| {
            engine.pin(name, reason.as_deref().unwrap_or("pinned in the UI"))?;
            engine.checkpoint_info(name)
        })
        .await?;
    Ok(Json(info))
}

/// Takes the pin back.
#[utoipa::path(post, path = "/checkpoints/{id}/unpin", operation_id = "unpin_checkpoint", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, body = wire::CheckpointInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn unpin(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<wire::CheckpointInfo>, ApiError> {
    let info = state
        .call_checkpoint(id, Purpose::Write, |engine, name| {
            engine.unpin(name)?;
            engine.checkpoint_info(name)
        })
        .await?;
    Ok(Json(info))
}

/// Puts a checkpoint into the trash.
#[utoipa::path(delete, path = "/checkpoints/{id}", operation_id = "delete_checkpoint", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, body = wire::CheckpointInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<wire::CheckpointInfo>, ApiError> {
    let info = state
        .call_checkpoint(id, Purpose::Write, |engine, name| {
            engine.delete_checkpoint(name, "deleted in the UI")?;
            engine.checkpoint_info(name)
        })
        .await?;
    Ok(Json(info))
}

/// Takes a checkpoint out of the trash.
#[utoipa::path(post, path = "/checkpoints/{id}/restore", operation_id = "restore_checkpoint", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id")),
    responses((status = 200, body = wire::CheckpointInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn restore(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<wire::CheckpointInfo>, ApiError> {
    let info = state
        .call_checkpoint(id, Purpose::Write, |engine, name| {
            engine.undelete_checkpoint(name)?;
            engine.checkpoint_info(name)
        })
        .await?;
    Ok(Json(info))
}

/// Two REFs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffParams {
    /// Left side.
    a: String,
    /// Right side.
    b: String,
}

impl DiffParams {
    fn report(&self, engine: &Engine) -> CoreResult<wire::DiffReport> {
        let a: Reference = self.a.parse()?;
        let b: Reference = self.b.parse()?;
        if a.selector.is_none() && b.selector.is_none() {
            let a = engine.resolve(&a, None, Purpose::Read)?;
            let b = engine.resolve(&b, None, Purpose::Read)?;
            return engine.diff_runs(a.run, b.run);
        }
        engine.diff_checkpoints(
            engine.resolve_checkpoint(&a, None, Purpose::Read)?,
            engine.resolve_checkpoint(&b, None, Purpose::Read)?,
        )
    }
}

/// What differs between two runs, or, where a REF has a selector, between two checkpoints.
#[utoipa::path(get, path = "/diff", operation_id = "get_diff", tag = "checkpoints", params(DiffParams),
    responses((status = 200, body = wire::DiffReport), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn diff(
    State(state): State<AppState>,
    Query(params): Query<DiffParams>,
) -> Result<Json<wire::DiffReport>, ApiError> {
    Ok(Json(state.call(move |engine| params.report(engine)).await?))
}
