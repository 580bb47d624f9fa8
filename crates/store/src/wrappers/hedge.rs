//! Asking a second time where an answer takes unusually long: of a request that most servers answer at once, one in a hundred waits for a disk, a lost packet, a process that is
//! being restarted. A second one, sent when the first is late, is answered as fast as most are (Dean and Barroso, The Tail at Scale, 2013).
//!
//! Late is what 19 of 20 requests are not. That is learnt without a clock: each request that is answered before it is late makes the limit a little smaller, each that is not
//! makes it larger, in the proportion at which both balance when one in twenty is late. So there is never much more than a twentieth of requests on top.
//!
//! Only reads and listings, which may be asked as often as one likes, and only of small objects: a second answer of a chunk would cost more than it saves.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::Pause;
use super::retry::is_transient;

/// Late at first, while nothing is known of the server.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// Below this a second request would come of the scheduler's moods.
const LEAST_PATIENCE: Duration = Duration::from_millis(50);
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// What a late request makes of the limit, and one in time: `ln 1.5 / 20 = -ln 0.9789 * 19 / 20`.
const LATE: f64 = 1.5;
const IN_TIME: f64 = 0.9789;

/// A store of which late answers are asked for again.
#[derive(Clone)]
pub struct Hedge {
    inner: Arc<dyn ObjectStore>,
    pause: Pause,
    /// Microseconds.
    patience: Arc<AtomicU64>,
}

impl Hedge {
    /// Asks `inner` again where it is late.
    pub fn new(inner: Arc<dyn ObjectStore>, pause: Pause) -> Arc<Self> {
        Arc::new(Self {
            inner,
            pause,
            patience: Arc::new(AtomicU64::new(FIRST_PATIENCE.as_micros() as u64)),
        })
    }

    /// After how long a request is late now.
    pub fn patience(&self) -> Duration {
        Duration::from_micros(self.patience.load(Ordering::Relaxed))
    }

    fn learn(&self, factor: f64) {
        // Two at once may forget one of them: it is an estimate.
        let patience = self.patience().mul_f64(factor);
        let patience = patience.clamp(LEAST_PATIENCE, MOST_PATIENCE);
        self.patience
            .store(patience.as_micros() as u64, Ordering::Relaxed);
    }

    async fn hedged<T, F: Future<Output = Result<T>>>(&self, ask: impl Fn() -> F) -> Result<T> {
        let first = pin!(ask());
        let first = match select(first, (self.pause)(self.patience())).await {
            Either::Left((answer, _)) => {
                self.learn(IN_TIME);
                return answer;
            }
            Either::Right(((), first)) => first,
        };
        self.learn(LATE);
        let second = pin!(ask());
        match select(first, second).await {
            // What may pass is no answer as long as the other may still have one.
            Either::Left((Err(error), second)) if is_transient(&error) => second.await,
            Either::Right((Err(error), first)) if is_transient(&error) => first.await,
            Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
        }
    }
}

fn is_small(location: &Path) -> bool {
    !location.prefix_matches(&crate::layout::chunks())
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("inner", &self.inner)
            .field("patience", &self.patience())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Hedge {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if is_small(location) {
            self.hedged(|| self.inner.get_opts(location, options.clone()))
                .await
        } else {
            self.inner.get_opts(location, options).await
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if is_small(location) {
            self.hedged(|| self.inner.get_ranges(location, ranges))
                .await
        } else {
            self.inner.get_ranges(location, ranges).await
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
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
        self.hedged(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
