//! A store that stops answering: what a process is that was killed, as far as its store can tell.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use runtree_store::ObjectPath as Path;
use runtree_store::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Passes on so many changes of the store, and none after that. Reads end with the changes.
#[derive(Debug)]
pub struct StopsAfter {
    inner: Arc<dyn ObjectStore>,
    left: Arc<AtomicI64>,
}

impl StopsAfter {
    /// Stops after `changes` objects were put or deleted.
    pub fn new(inner: Arc<dyn ObjectStore>, changes: i64) -> Arc<Self> {
        Arc::new(Self {
            inner,
            left: Arc::new(AtomicI64::new(changes)),
        })
    }

    fn change(&self) -> Result<()> {
        change(&self.left)
    }

    fn look(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) < 0 {
            return Err(stopped());
        }
        Ok(())
    }
}

fn change(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::Relaxed) <= 0 {
        return Err(stopped());
    }
    Ok(())
}

fn stopped() -> Error {
    Error::Generic {
        store: "a faulty store",
        source: "it does not answer any more".into(),
    }
}

impl fmt::Display for StopsAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for StopsAfter {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.change()?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.change()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.look()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let left = Arc::clone(&self.left);
        let locations = locations.map(move |location| {
            change(&left)?;
            location
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.look()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.change()?;
        self.inner.copy_opts(from, to, options).await
    }
}
