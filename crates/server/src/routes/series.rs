//! Charts.

use axum::Json;
use axum::extract::State;
use runtree_core::wire;

use crate::error::ApiError;
use crate::extract::Body;
use crate::state::AppState;

/// Buckets for charts: every bucket is exact for the interval it declares.
#[utoipa::path(post, path = "/series", operation_id = "query_series", tag = "series", request_body = wire::SeriesRequest,
    responses((status = 200, body = wire::SeriesResponse), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn series(
    State(state): State<AppState>,
    Body(request): Body<wire::SeriesRequest>,
) -> Result<Json<wire::SeriesResponse>, ApiError> {
    Ok(Json(
        state.call(move |engine| engine.series(&request)).await?,
    ))
}
