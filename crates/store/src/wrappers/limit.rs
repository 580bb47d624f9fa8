//! How many requests a server is sent at once: more as long as it answers, fewer when it does not.
//!
//! Additive increase, multiplicative decrease, as TCP's congestion avoidance (Chiu and Jain 1989; Jacobson 1988): after as many answers as there may be requests, one more may
//! be; a failure that may pass (500, 503 SlowDown, 429, no connection) cuts them by a third. Of those that were under way when they were cut none cuts them again: they are of the
//! same moment.
//!
//! A request of which the body is still coming is over: how many bodies come at once is their readers' to say.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use tokio::sync::Semaphore;

use super::retry::is_transient;

/// Requests at once, at first.
const FIRST: usize = 16;
const LEAST: usize = 1;
const MOST: usize = 64;

/// A store that is sent no more requests at once than it bears.
#[derive(Clone)]
pub struct Limit {
    inner: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Requests at once.
    limit: usize,
    /// Permits that are out, and not to come back.
    excess: usize,
    /// Answers since the limit changed.
    answers: usize,
    /// How often it was cut.
    cuts: u64,
}

impl Limit {
    /// Sends `inner` as much as it bears.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            permits: Arc::new(Semaphore::new(FIRST)),
            state: Arc::new(Mutex::new(State {
                limit: FIRST,
                excess: 0,
                answers: 0,
                cuts: 0,
            })),
        })
    }

    /// Requests that may be under way now.
    pub fn limit(&self) -> usize {
        self.state().limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn limited<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        // The semaphore is never closed.
        let permit = self.permits.acquire().await.ok();
        let cuts = self.state().cuts;
        let answer = request.await;
        let failed = answer.as_ref().is_err_and(is_transient);
        let mut state = self.state();
        if !failed {
            state.answers += 1;
            if state.answers >= state.limit && state.limit < MOST {
                state.answers = 0;
                state.limit += 1;
                if state.excess > 0 {
                    state.excess -= 1;
                } else {
                    self.permits.add_permits(1);
                }
            }
        } else if state.cuts == cuts {
            let limit = (state.limit * 2 / 3).max(LEAST);
            state.excess += state.limit - limit;
            state.limit = limit;
            state.answers = 0;
            state.cuts += 1;
            let idle = self.permits.forget_permits(state.excess);
            state.excess -= idle;
        }
        if state.excess > 0 {
            state.excess -= 1;
            if let Some(permit) = permit {
                permit.forget();
            }
        }
        answer
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("inner", &self.inner)
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Limit {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.limited(self.inner.put_opts(location, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.limited(self.inner.put_multipart_opts(location, options))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.limited(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.limited(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.limited(this.inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.limited(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.limited(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.limited(self.inner.rename_opts(from, to, options))
            .await
    }
}
