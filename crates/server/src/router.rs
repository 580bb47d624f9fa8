//! Every route, once. The same list makes the router and the OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::time::Instant;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bodies::ChangeEvent;
use crate::error::method_not_allowed;
use crate::guard::{Access, guard};
use crate::options::Answered;
use crate::routes::runs::Order;
use crate::routes::{
    checkpoints, media, metrics, outlines, runs, series, settings, store, tensors,
};
use crate::state::AppState;
use crate::ui;

/// Where the API lives.
const BASE: &str = "/api/v1";

/// Most bytes of a request: a chart of thousands of series is far below.
const MAX_BODY_BYTES: usize = 4 << 20;

/// Answers smaller than this are not worth compressing.
const MIN_COMPRESSED_BYTES: u16 = 1024;
/// The curves of a comparison are megabytes of digits: the usual level takes five times as long as all else that answers them, and saves an eighth.
const QUALITY: CompressionLevel = CompressionLevel::Fastest;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "runtree",
        description = "Runs, checkpoints and charts of one store. Times are microseconds since the epoch, UTC; floats that are not finite are the strings NaN, Infinity, -Infinity."
    ),
    servers((url = "/api/v1")),
    components(schemas(ChangeEvent, Order))
)]
struct Document;

fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(store::health))
        .routes(routes!(store::store))
        .routes(routes!(store::projects))
        .routes(routes!(store::events))
        .routes(routes!(runs::runs))
        .routes(routes!(runs::run, runs::patch, runs::delete))
        .routes(routes!(runs::restore))
        .routes(routes!(runs::lineage))
        .routes(routes!(runs::checkpoints))
        .routes(routes!(runs::console))
        .routes(routes!(metrics::metrics))
        .routes(routes!(runs::file))
        .routes(routes!(media::media))
        .routes(routes!(media::entries))
        .routes(routes!(media::content))
        .routes(routes!(runs::fork))
        .routes(routes!(settings::set_head, settings::clear_head))
        .routes(routes!(settings::views))
        .routes(routes!(settings::save_view, settings::delete_view))
        .routes(routes!(settings::sweep))
        .routes(routes!(series::series))
        .routes(routes!(outlines::keys))
        .routes(routes!(outlines::outlines))
        .routes(routes!(checkpoints::diff))
        .routes(routes!(checkpoints::checkpoint, checkpoints::delete))
        .routes(routes!(tensors::tensors))
        .routes(routes!(tensors::statistics))
        .routes(routes!(checkpoints::download))
        .routes(routes!(checkpoints::pin))
        .routes(routes!(checkpoints::unpin))
        .routes(routes!(checkpoints::restore))
}

/// The OpenAPI 3.1 document, as `GET /api/v1/openapi.json` gives it and `web/openapi.json` keeps it.
pub fn openapi_json() -> String {
    let mut document = api().into_openapi();
    describe_answers(&mut document);
    let mut text = document
        .to_pretty_json()
        .expect("BUG: the document is made of strings");
    text.push('\n');
    text
}

/// The standard demands a description of every answer; most say no more than this.
fn describe_answers(document: &mut utoipa::openapi::OpenApi) {
    let paths = document.paths.paths.values_mut();
    let operations = paths.flat_map(|item| {
        [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ]
    });
    for operation in operations.flatten() {
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && response.description.is_empty()
            {
                let text = match status.as_str() {
                    "default" => "Why it was not done, and what to do next",
                    _ => "What was asked for",
                };
                text.clone_into(&mut response.description);
            }
        }
    }
}

/// The whole server: API, UI, guard.
pub(crate) fn router(state: AppState, access: Access, log: Option<fn(&Answered<'_>)>) -> Router {
    let (api, _) = api().split_for_parts();
    let document = || async { ([(header::CONTENT_TYPE, "application/json")], openapi_json()) };
    let api = api
        .route("/openapi.json", get(document))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::map_response(never_cached))
        .with_state(state);
    let worth_compressing = SizeAbove::new(MIN_COMPRESSED_BYTES)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new("application/x-tar"))
        .and(NotForContentType::const_new("application/octet-stream"))
        .and(NotForContentType::const_new("font/"))
        .and(NotForContentType::IMAGES);
    let router = Router::new()
        .nest(BASE, api)
        .fallback(ui::serve)
        .layer(
            CompressionLayer::new()
                .quality(QUALITY)
                .compress_when(worth_compressing),
        )
        .layer(middleware::from_fn_with_state(Arc::new(access), guard));
    // Outermost: what the guard refuses is what one looks for in a log.
    match log {
        None => router,
        Some(log) => router.layer(middleware::from_fn_with_state(log, logged)),
    }
}

async fn logged(State(log): State<fn(&Answered<'_>)>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    log(&Answered {
        method: method.as_str(),
        path: &path,
        status: response.status().as_u16(),
        duration: began.elapsed(),
    });
    response
}

/// Answers of the API are of the moment.
async fn never_cached(mut response: Response) -> Response {
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
