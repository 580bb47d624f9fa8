//! What handlers share: the engine, on threads that may block, and the news.

use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{CheckpointId, ErrorKind, Result, RunId};
use runtree_engine::{Engine, Purpose};
use tokio::sync::{Mutex, watch};

use crate::error::ApiError;

/// Shared by all handlers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AppState {
    engine: Arc<Engine>,
    /// The engine's change counter as the poller last saw it; who subscribes keeps the poller awake.
    pub(crate) changes: watch::Sender<u64>,
    /// Turns true when the server stops: streams end then.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Held by the one request that reads tensors for their statistics.
    pub(crate) reading: Arc<Mutex<()>>,
}

impl AppState {
    pub(crate) fn new(engine: Arc<Engine>, stopping: watch::Receiver<bool>) -> Self {
        let changes = watch::Sender::new(engine.change_counter());
        Self {
            engine,
            changes,
            stopping,
            reading: Arc::default(),
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Calls the engine on a thread that may block.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Engine>) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, ApiError> {
        let engine = Arc::clone(&self.engine);
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ApiError::http(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                ErrorKind::Internal,
                "the request met a bug in runtree and was given up",
            )),
        }
    }

    /// [`AppState::call`] about the run that `text` names.
    pub(crate) async fn call_run<T: Send + 'static>(
        &self,
        text: String,
        purpose: Purpose,
        work: impl FnOnce(&Arc<Engine>, RunId) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, ApiError> {
        self.call(move |engine| {
            let run = engine.resolve_run(&text, None, purpose)?;
            work(engine, run)
        })
        .await
    }

    /// [`AppState::call`] about the checkpoint that `text` names: its id, or a REF.
    pub(crate) async fn call_checkpoint<T: Send + 'static>(
        &self,
        text: String,
        purpose: Purpose,
        work: impl FnOnce(&Arc<Engine>, CheckpointName) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, ApiError> {
        self.call(move |engine| {
            let name = match text.parse::<CheckpointId>() {
                Ok(id) => engine.find_checkpoint(id)?,
                Err(_) => engine.resolve_checkpoint(&text.parse::<Reference>()?, None, purpose)?,
            };
            work(engine, name)
        })
        .await
    }
}
