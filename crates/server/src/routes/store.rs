//! The store as a whole: what it is, its projects, what changes in it.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use futures::Stream;
use runtree_core::wire;

use crate::bodies::{ChangeEvent, Health};
use crate::error::ApiError;
use crate::state::AppState;
use crate::updates;

/// Whether the server answers. Needs no token.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "store", responses((status = 200, body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The store that is served.
#[utoipa::path(get, path = "/store", operation_id = "get_store", tag = "store",
    responses((status = 200, body = wire::StoreInfo), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn store(
    State(state): State<AppState>,
) -> Result<Json<wire::StoreInfo>, ApiError> {
    let info = state.call(|engine| Ok(engine.store_info())).await?;
    Ok(Json(info))
}

/// Its projects, by name.
#[utoipa::path(get, path = "/projects", operation_id = "list_projects", tag = "store",
    responses((status = 200, body = Vec<wire::ProjectInfo>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn projects(
    State(state): State<AppState>,
) -> Result<Json<Vec<wire::ProjectInfo>>, ApiError> {
    Ok(Json(state.call(|engine| engine.projects()).await?))
}

/// Server-sent events: `change` with the runs of which something is new.
#[utoipa::path(get, path = "/events", operation_id = "get_events", tag = "store",
    responses((status = 200, description = "events named `change`", content_type = "text/event-stream", body = ChangeEvent)))]
pub(crate) async fn events(
    State(state): State<AppState>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    updates::follow(state)
}
