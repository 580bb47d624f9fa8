//! Runs: lists, one run, its family, checkpoints, console, files; naming, deleting, forking.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use runtree_core::reference::Reference;
use runtree_core::{AttemptNumber, Error, Result as CoreResult, RunId, wire};
use runtree_engine::{
    Annotation, CheckpointScope, ConsoleFilter, ForkChoice, ForkSpec, Purpose, RunQuery,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::bodies::RunPatch;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::routes::media::untrusted;
use crate::state::AppState;
use crate::ui;

/// Most runs of a page, and of console lines.
const MAX_RUNS: usize = 1000;
const MAX_LINES: usize = 10_000;

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunsParams {
    /// These alone, by RunId, separated by commas, at most 1000: what changed of a list that is shown already.
    ids: Option<String>,
    /// Of this project alone.
    project: Option<String>,
    /// Words that must all occur in display id, key, name, tags, notes or config.
    search: Option<String>,
    /// Words, and conditions: `status = failed config.lr < 1e-4 min(val/loss) < 0.5 descendants(MMP-42)` (docs/filters.md).
    filter: Option<String>,
    /// States, separated by commas.
    status: Option<String>,
    /// Tags that must all be there, separated by commas.
    tag: Option<String>,
    /// `created` (default), `last_activity`, `name`, `display_id`, `status`, `last_step`, `metric:NAME` or `config:KEY`.
    sort: Option<String>,
    /// `desc` (default) or `asc`.
    order: Option<Order>,
    /// `next_cursor` of the page before; or how many runs to leave out at the beginning, for a table that is scrolled far.
    cursor: Option<String>,
    /// Most runs of the page: 100, at most 1000.
    limit: Option<usize>,
    /// Metrics whose latest values are wanted, separated by commas; absent: all.
    metrics: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Asc,
    Desc,
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.into_iter()
        .flat_map(|text| text.split(','))
        .filter(|item| !item.is_empty())
}

impl RunsParams {
    fn query(self) -> CoreResult<RunQuery> {
        let runs: Vec<RunId> = list(self.ids.as_deref())
            .map(str::parse)
            .collect::<CoreResult<_>>()?;
        if runs.len() > MAX_RUNS {
            return Err(
                Error::invalid(format!("{} ids are more than {MAX_RUNS}", runs.len()))
                    .with_hint("ask in several requests"),
            );
        }
        Ok(RunQuery {
            runs,
            filter: self.filter.as_deref().unwrap_or_default().parse()?,
            project: self.project,
            search: self.search.filter(|search| !search.trim().is_empty()),
            statuses: list(self.status.as_deref())
                .map(str::parse)
                .collect::<CoreResult<_>>()?,
            tags: list(self.tag.as_deref()).map(str::to_owned).collect(),
            sort: self.sort.as_deref().unwrap_or("created").parse()?,
            descending: self.order != Some(Order::Asc),
            limit: self.limit.unwrap_or(100).clamp(1, MAX_RUNS),
            cursor: self.cursor,
            metrics: self
                .metrics
                .map(|metrics| list(Some(&metrics)).map(str::to_owned).collect()),
            ..RunQuery::default()
        })
    }
}

/// A page of runs, newest first unless sorted otherwise.
#[utoipa::path(get, path = "/runs", operation_id = "list_runs", tag = "runs", params(RunsParams),
    responses((status = 200, body = wire::RunPage), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn runs(
    State(state): State<AppState>,
    Query(params): Query<RunsParams>,
) -> Result<Json<wire::RunPage>, ApiError> {
    let page = state
        .call(move |engine| engine.runs(&params.query()?))
        .await?;
    Ok(Json(page))
}

/// A run, whole.
#[utoipa::path(get, path = "/runs/{run}", operation_id = "get_run", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 200, body = wire::RunDetail), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn run(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<Json<wire::RunDetail>, ApiError> {
    let detail = state
        .call_run(run, Purpose::Read, |engine, run| engine.run(run))
        .await?;
    Ok(Json(detail))
}

/// The family of a run: everything that shares its root.
#[utoipa::path(get, path = "/runs/{run}/lineage", operation_id = "get_lineage", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 200, body = wire::LineageTree), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn lineage(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<Json<wire::LineageTree>, ApiError> {
    let tree = state
        .call_run(run, Purpose::Read, |engine, run| engine.lineage(run))
        .await?;
    Ok(Json(tree))
}

/// Which checkpoints besides a run's own complete ones.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CheckpointsParams {
    /// Those of ancestors on the timeline; default true.
    inherited: Option<bool>,
    /// Those with parts missing, and abandoned ones; default false.
    pending: Option<bool>,
    /// Those in the trash; default false.
    deleted: Option<bool>,
}

/// Checkpoints of a run, ascending by step.
#[utoipa::path(get, path = "/runs/{run}/checkpoints", operation_id = "list_checkpoints", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), CheckpointsParams),
    responses((status = 200, body = Vec<wire::CheckpointInfo>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn checkpoints(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<CheckpointsParams>,
) -> Result<Json<Vec<wire::CheckpointInfo>>, ApiError> {
    let scope = CheckpointScope {
        inherited: params.inherited.unwrap_or(true),
        pending: params.pending.unwrap_or(false),
        deleted: params.deleted.unwrap_or(false),
    };
    let checkpoints = state
        .call_run(run, Purpose::Read, move |engine, run| {
            engine.checkpoints(run, scope)
        })
        .await?;
    Ok(Json(checkpoints))
}

/// Where to continue reading.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsoleParams {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most lines: 1000, at most 10,000.
    limit: Option<usize>,
    /// Only lines at least as loud as `debug`, `info`, `warning`, `error`; those that say no level are not.
    level: Option<String>,
    /// Only lines with this text, capitals or not.
    search: Option<String>,
    /// Only of this launch.
    attempt: Option<u32>,
    /// Only of this rank.
    rank: Option<u32>,
}

/// Lines of a run's console, oldest first.
#[utoipa::path(get, path = "/runs/{run}/console", operation_id = "get_console", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), ConsoleParams),
    responses((status = 200, body = wire::ConsolePage), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn console(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<ConsoleParams>,
) -> Result<Json<wire::ConsolePage>, ApiError> {
    let limit = params.limit.unwrap_or(1000).clamp(1, MAX_LINES);
    let page = state
        .call_run(run, Purpose::Read, move |engine, run| {
            let filter = ConsoleFilter {
                attempt: params.attempt.map(AttemptNumber),
                rank: params.rank,
                level: params.level.as_deref().map(str::parse).transpose()?,
                search: params.search.filter(|text| !text.is_empty()),
            };
            engine.console(run, params.cursor.as_deref(), limit, filter)
        })
        .await?;
    Ok(Json(page))
}

/// The bytes of a file that was attached to a run. A `/` in its name is written `%2F`.
#[utoipa::path(get, path = "/runs/{run}/files/{name}", operation_id = "get_file", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), ("name" = String, Path, description = "The file's name in the run")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn file(
    State(state): State<AppState>,
    Path((run, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let content_type = ui::content_type(&name);
    let bytes = state
        .call_run(run, Purpose::Read, move |engine, run| {
            engine.read_file(run, &name)
        })
        .await?;
    Ok(untrusted(content_type, bytes))
}

/// Renames, tags, annotates a run.
#[utoipa::path(patch, path = "/runs/{run}", operation_id = "patch_run", tag = "runs", request_body = RunPatch,
    params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 200, body = wire::RunSummary), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn patch(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Body(patch): Body<RunPatch>,
) -> Result<Json<wire::RunSummary>, ApiError> {
    let annotation = Annotation {
        name: patch.name,
        notes: patch.notes,
        add_tags: patch.add_tags,
        remove_tags: patch.remove_tags,
        config_patch: patch.config,
        status: None,
    };
    let summary = state
        .call_run(run, Purpose::Write, move |engine, run| {
            engine.annotate(run, annotation)?;
            engine.summary(run)
        })
        .await?;
    Ok(Json(summary))
}

/// Hides a run; its children keep what they show.
#[utoipa::path(delete, path = "/runs/{run}", operation_id = "delete_run", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 200, body = wire::RunSummary), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<Json<wire::RunSummary>, ApiError> {
    let summary = state
        .call_run(run, Purpose::Write, |engine, run| {
            engine.delete_run(run)?;
            engine.summary(run)
        })
        .await?;
    Ok(Json(summary))
}

/// Brings a deleted run back.
#[utoipa::path(post, path = "/runs/{run}/restore", operation_id = "restore_run", tag = "runs", params(("run" = String, Path, description = "RunId, display id, key or name")),
    responses((status = 200, body = wire::RunSummary), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn restore(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<Json<wire::RunSummary>, ApiError> {
    let summary = state
        .call_run(run, Purpose::Write, |engine, run| {
            engine.undelete_run(run)?;
            engine.summary(run)
        })
        .await?;
    Ok(Json(summary))
}

/// Forks a run at a checkpoint. No chunk is read or written; the fork waits, `created`, for its first launch.
#[utoipa::path(post, path = "/forks", operation_id = "create_fork", tag = "runs", request_body = wire::ForkRequest,
    responses((status = 201, body = wire::RunSummary), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn fork(
    State(state): State<AppState>,
    Body(request): Body<wire::ForkRequest>,
) -> Result<(StatusCode, Json<wire::RunSummary>), ApiError> {
    let summary = state
        .call(move |engine| {
            let reference: Reference = request.reference.parse()?;
            let run = engine.fork(ForkSpec {
                into: request.project,
                name: request.name,
                key: request.run_id,
                config: request.config,
                tags: request.tags,
                notes: request.notes,
                inherit_config: request.inherit_config.unwrap_or(true),
                inherit_tags: request.inherit_tags.unwrap_or(false),
                ..ForkSpec::new(ForkChoice::Reference(reference))
            })?;
            engine.summary(run)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(summary)))
}
