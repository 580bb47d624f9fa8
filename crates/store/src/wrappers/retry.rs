//! Trying again what may be tried again.
//!
//! Reads, listings, deletions and overwrites are idempotent; of a read that breaks off the rest is asked for. A create that must not replace is not: the first try may have won although its answer was
//! lost, and a second one would then say "exists". It goes through once, and whoever creates reads back and compares
//! ([`Store::create_bytes`](crate::Store::create_bytes)). Uploads in parts, copies and renames go through once as well.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Waits before the next try. Passed in, so that nothing here reads a clock: a runtime's timer, or nothing at all in tests.
pub type Pause = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// How often, and how long between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub tries: u32,
    /// Wait before the second try; doubles from there.
    pub first_pause: Duration,
    /// Longest wait.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// A store that tries again.
#[derive(Clone)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
    pause: Pause,
    /// Creates that failed since the last one that did not: the longer the server is busy, the longer it is left alone.
    failed_creates: Arc<AtomicU32>,
}

impl Retry {
    /// Tries again what `inner` fails to do.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy, pause: Pause) -> Arc<Self> {
        Arc::new(Self {
            inner,
            policy,
            pause,
            failed_creates: Arc::default(),
        })
    }

    /// The one retry loop.
    async fn again<T, F: Future<Output = Result<T>>>(
        &self,
        operation: impl Fn() -> F,
    ) -> Result<T> {
        let mut pause = self.policy.first_pause;
        for _ in 1..self.policy.tries {
            match operation().await {
                Err(error) if is_transient(&error) => {}
                result => return result,
            }
            (self.pause)(pause).await;
            pause = (pause * 2).min(self.policy.longest_pause);
        }
        operation().await
    }
}

/// Only errors of no particular kind can pass: the others are answers.
pub(super) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
        && !crate::error::is_denied(error)
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Retry {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            let result = self.inner.put_opts(location, payload, options).await;
            // Whoever creates reads back and may try again, and has no clock: the server is given its time here.
            if result.as_ref().is_err_and(is_transient) {
                let failed = self.failed_creates.fetch_add(1, Ordering::Relaxed);
                let pause = self.policy.first_pause * 2_u32.pow(failed.min(10));
                (self.pause)(pause.min(self.policy.longest_pause)).await;
            } else {
                self.failed_creates.store(0, Ordering::Relaxed);
            }
            return result;
        }
        self.again(|| {
            self.inner
                .put_opts(location, payload.clone(), options.clone())
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self
            .again(|| self.inner.get_opts(location, options.clone()))
            .await?;
        Ok(match result.payload {
            GetResultPayload::Stream(body) if !options.head => {
                let body = Body {
                    store: self.clone(),
                    location: location.clone(),
                    options: GetOptions {
                        if_match: result.meta.e_tag.clone(),
                        version: options.version,
                        ..GetOptions::default()
                    },
                    stream: body,
                    left: result.range.clone(),
                    tries: self.policy.tries,
                    pause: self.policy.first_pause,
                };
                let payload = GetResultPayload::Stream(body.into_stream());
                GetResult { payload, ..result }
            }
            payload => GetResult { payload, ..result },
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.again(|| self.inner.get_ranges(location, ranges)).await
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
                    match this.again(|| this.inner.delete(&location)).await {
                        // An earlier try deleted it, and its answer was lost.
                        Ok(()) | Err(Error::NotFound { .. }) => Ok(location),
                        Err(error) => Err(error),
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        collected(async move {
            this.again(|| this.inner.list(prefix.as_ref()).try_collect())
                .await
        })
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        collected(async move {
            this.again(|| {
                this.inner
                    .list_with_offset(prefix.as_ref(), &offset)
                    .try_collect()
            })
            .await
        })
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.again(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// The bytes of an object, on their way. Where they break off they are asked for again from there, of the same object.
struct Body {
    store: Retry,
    location: Path,
    options: GetOptions,
    stream: BoxStream<'static, Result<Bytes>>,
    /// What has not come yet.
    left: Range<u64>,
    tries: u32,
    pause: Duration,
}

impl Body {
    fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold(self, |mut body| async move {
            let piece = body.next().await?;
            Ok(piece.map(|piece| (piece, body)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let error = match self.stream.next().await {
                Some(Ok(piece)) => {
                    self.left.start += piece.len() as u64;
                    return Ok(Some(piece));
                }
                // All of it came, however it ended.
                None | Some(Err(_)) if self.left.is_empty() => return Ok(None),
                None => Error::Generic {
                    store: "retry",
                    source: format!(
                        "{} ended {} bytes early",
                        self.location,
                        self.left.end - self.left.start
                    )
                    .into(),
                },
                Some(Err(error)) => error,
            };
            if self.tries <= 1 || !is_transient(&error) {
                return Err(error);
            }
            self.tries -= 1;
            (self.store.pause)(self.pause).await;
            self.pause = (self.pause * 2).min(self.store.policy.longest_pause);
            let options = GetOptions {
                range: Some(GetRange::Bounded(self.left.clone())),
                ..self.options.clone()
            };
            match self.store.inner.get_opts(&self.location, options).await {
                Ok(result) => self.stream = result.into_stream(),
                Err(error) if is_transient(&error) => {
                    self.stream = stream::once(async { Err(error) }).boxed();
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A listing that is tried again starts from the beginning, so nothing of it is handed on before all of it is there.
fn collected(
    listing: impl Future<Output = Result<Vec<ObjectMeta>>> + Send + 'static,
) -> BoxStream<'static, Result<ObjectMeta>> {
    stream::once(listing)
        .map(|listed| match listed {
            Ok(objects) => stream::iter(objects.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        })
        .flatten()
        .boxed()
}
