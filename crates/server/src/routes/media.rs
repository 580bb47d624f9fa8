//! What a run logged besides numbers: names, entries, bytes.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use runtree_core::{AttemptNumber, Step, wire};
use runtree_engine::{MediaSelection, Purpose};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

/// What may be shown by a browser where it stands. Nothing that can hold a script is among it: SVG, HTML, XML, PDF are saved, not shown.
const SHOWN: [&str; 6] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "text/plain",
    "application/json",
];

/// Whose media.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MediaParams {
    /// One launch's own alone, its ghost tail among them.
    attempt: Option<u32>,
    /// Those of ancestors on the timeline; default true.
    inherited: Option<bool>,
}

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EntriesParams {
    /// The name; absent, with `at`: of every name the newest entry at or before that step.
    name: Option<String>,
    /// The step of a slider.
    at: Option<i64>,
    /// First step, inclusive; `next_step` of the page before.
    from: Option<i64>,
    /// Last step, inclusive.
    to: Option<i64>,
    /// One launch's own alone, its ghost tail among them.
    attempt: Option<u32>,
    /// Those of ancestors on the timeline; default true.
    inherited: Option<bool>,
    /// Most entries: 100, at most 1000.
    limit: Option<usize>,
}

/// Which item.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentParams {
    /// The name.
    name: String,
    /// The step.
    step: i64,
    /// Its place in the list that was logged; default 0.
    #[serde(default)]
    item: usize,
    /// The launch that logged it; absent: the one whose entry the run's history has.
    attempt: Option<u32>,
}

/// Names that a run's history has media under, and the steps of all of them.
#[utoipa::path(get, path = "/runs/{run}/media", operation_id = "list_media", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), MediaParams),
    responses((status = 200, body = wire::MediaList), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn media(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<MediaParams>,
) -> Result<Json<wire::MediaList>, ApiError> {
    let selection = MediaSelection {
        attempt: params.attempt.map(AttemptNumber),
        inherited: params.inherited.unwrap_or(true),
        ..MediaSelection::default()
    };
    let list = state
        .call_run(run, Purpose::Read, move |engine, run| {
            engine.media(run, &selection)
        })
        .await?;
    Ok(Json(list))
}

/// Entries of one name by step, or of every name the newest at or before a step.
#[utoipa::path(get, path = "/runs/{run}/media/entries", operation_id = "get_media_entries", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), EntriesParams),
    responses((status = 200, body = wire::MediaPage), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn entries(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<EntriesParams>,
) -> Result<Json<wire::MediaPage>, ApiError> {
    let selection = MediaSelection {
        steps: (
            params.from.map_or(Step::MIN, Step),
            params.to.map_or(Step::MAX, Step),
        ),
        attempt: params.attempt.map(AttemptNumber),
        inherited: params.inherited.unwrap_or(true),
        limit: params.limit.unwrap_or(100),
    };
    let page = state
        .call_run(run, Purpose::Read, move |engine, run| {
            let at = params.at.map_or(Step::MAX, Step);
            match params.name {
                Some(name) => {
                    let selection = MediaSelection {
                        steps: (selection.steps.0, selection.steps.1.min(at)),
                        ..selection
                    };
                    engine.media_entries(run, &name, &selection)
                }
                None => Ok(wire::MediaPage {
                    entries: engine.media_at(run, at, &selection)?,
                    next_step: None,
                }),
            }
        })
        .await?;
    Ok(Json(page))
}

/// The bytes of one item.
#[utoipa::path(get, path = "/runs/{run}/media/content", operation_id = "get_media_content", tag = "runs",
    params(("run" = String, Path, description = "RunId, display id, key or name"), ContentParams),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn content(
    State(state): State<AppState>,
    Path(run): Path<String>,
    Query(params): Query<ContentParams>,
) -> Result<Response, ApiError> {
    let read = state
        .call_run(run, Purpose::Read, move |engine, run| {
            let attempt = params.attempt.map(AttemptNumber);
            engine.read_media(run, &params.name, Step(params.step), params.item, attempt)
        })
        .await?;
    Ok(untrusted(&read.content_type, read.bytes))
}

/// Bytes that somebody logged: never a page of this server, whatever they say they are. A browser shows what can hold no script, and saves the rest.
pub(crate) fn untrusted(content_type: &str, bytes: Vec<u8>) -> Response {
    let known = content_type.split(';').next().unwrap_or_default().trim();
    let shown = SHOWN.iter().find(|shown| **shown == known);
    let content_type = match shown {
        Some(&"text/plain") => "text/plain; charset=utf-8",
        Some(shown) => shown,
        None => "application/octet-stream",
    };
    let mut response = ([(header::CONTENT_TYPE, content_type)], bytes).into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(
        header::CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'",
    );
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if shown.is_none() {
        set(header::CONTENT_DISPOSITION, "attachment");
    }
    response
}
