//! The tensors of a checkpoint: what they are, how they are stored, what is in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result as CoreResult, wire};
use runtree_engine::{Engine, Purpose};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

/// Most tensors of one question.
const MAX_TENSORS: usize = 256;
/// Most bytes that one answer reads, but for a single tensor that is larger: a second of work or so.
const MAX_BYTES: u64 = 256 << 20;
/// Bytes between two looks whether somebody still waits.
const STEP_BYTES: u64 = 32 << 20;

/// Its tensors, and how each is kept in this store.
#[utoipa::path(get, path = "/checkpoints/{id}/tensors", operation_id = "list_tensors", tag = "checkpoints", params(("id" = String, Path, description = "Checkpoint id, or a REF")),
    responses((status = 200, body = Vec<wire::TensorInfo>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn tensors(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<wire::TensorInfo>>, ApiError> {
    let tensors = state
        .call_checkpoint(id, Purpose::Read, |engine, name| {
            engine.tensors_with_encodings(name)
        })
        .await?;
    Ok(Json(tensors))
}

/// Which tensors.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatisticsParams {
    /// Places in the list of the checkpoint's tensors, from 0, between commas; at most 256.
    tensors: String,
}

impl StatisticsParams {
    fn places(&self) -> CoreResult<Vec<u64>> {
        let places = self.tensors.split(',').map(|place| {
            let known = place.parse::<u64>();
            known.map_err(|_| Error::invalid(format!("{place:?} is not a place in a list")))
        });
        let places: Vec<u64> = places.collect::<CoreResult<_>>()?;
        if places.len() > MAX_TENSORS {
            return Err(Error::invalid(format!(
                "{} tensors are asked for, at most {MAX_TENSORS} are answered at a time",
                places.len()
            )));
        }
        Ok(places)
    }
}

/// What is in some of its tensors. The first are answered that have at most 256 MiB together, one in any case: ask again for those that are missing.
/// Work for a client that went away is given up.
#[utoipa::path(get, path = "/checkpoints/{id}/statistics", operation_id = "get_statistics", tag = "checkpoints",
    params(("id" = String, Path, description = "Checkpoint id, or a REF"), StatisticsParams),
    responses((status = 200, body = Vec<wire::TensorStatistics>), (status = "default", body = wire::ErrorBody)))]
pub(crate) async fn statistics(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(params): Query<StatisticsParams>,
) -> Result<Json<Vec<wire::TensorStatistics>>, ApiError> {
    let places = params.places()?;
    // One at a time: each uses all processors and as much memory as that takes.
    let turn = Arc::clone(&state.reading).lock_owned().await;
    let wait = Wait::default();
    let waited_for = Arc::clone(&wait.0);
    let stopping = state.stopping.clone();
    let statistics = state
        .call_checkpoint(id, Purpose::Read, move |engine, name| {
            let _turn = turn;
            take(engine, name, &places, || {
                waited_for.load(Ordering::Relaxed) || *stopping.borrow()
            })
        })
        .await?;
    Ok(Json(statistics))
}

/// Says that nobody waits any more, when it is dropped with the request.
#[derive(Default)]
struct Wait(Arc<AtomicBool>);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn take(
    engine: &Engine,
    name: CheckpointName,
    places: &[u64],
    is_given_up: impl Fn() -> bool,
) -> CoreResult<Vec<wire::TensorStatistics>> {
    let mut scan = engine.statistics(engine.load_plan(name)?, Some(places), MAX_BYTES)?;
    let mut found = Vec::with_capacity(places.len());
    while !scan.is_done() {
        if is_given_up() {
            return Err(Error::unavailable("nobody waits for these statistics"));
        }
        found.append(&mut scan.step(STEP_BYTES)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_short_list_of_places() {
        let places = |text: &str| {
            StatisticsParams {
                tensors: text.to_owned(),
            }
            .places()
        };
        assert_eq!(places("3,0,17").unwrap(), [3, 0, 17]);
        for text in ["", "a", "1,", "-1", "1.5", &vec!["1"; 257].join(",")] {
            assert!(places(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_request_that_is_dropped_tells_the_work_so() {
        let wait = Wait::default();
        let flag = Arc::clone(&wait.0);
        assert!(!flag.load(Ordering::Relaxed));
        drop(wait);
        assert!(flag.load(Ordering::Relaxed));
    }
}
