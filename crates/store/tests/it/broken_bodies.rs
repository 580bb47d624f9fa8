//! Answers that break off: what is missing is asked for again, from where it broke.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, BoxStream, StreamExt as _};
use runtree_store::ObjectPath as Path;
use runtree_store::object_store::memory::InMemory;
use runtree_store::object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use runtree_store::wrappers::{Retry, RetryPolicy};

fn path(text: &str) -> Path {
    Path::from(text)
}

/// How a body ends that is not whole.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The connection breaks.
    Error,
    /// The server says that this was all.
    Early,
}

/// A store whose bodies break off half-way, so many times.
#[derive(Debug)]
struct Broken {
    inner: InMemory,
    left: AtomicU32,
    end: End,
    asked: AtomicU32,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a broken store")
    }
}

#[async_trait]
impl ObjectStore for Broken {
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
        self.asked.fetch_add(1, Ordering::Relaxed);
        let result = self.inner.get_opts(location, options).await?;
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_err() {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let attributes = result.attributes.clone();
        let extensions = result.extensions.clone();
        let bytes = result.bytes().await?;
        let mut pieces = vec![Ok(bytes.slice(..bytes.len() / 2))];
        if matches!(self.end, End::Error) {
            pieces.push(Err(Error::Generic {
                store: "broken",
                source: "the connection broke".into(),
            }));
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter(pieces).boxed()),
            meta,
            range,
            attributes,
            extensions,
        })
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

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn broken(times: u32, end: End) -> (Arc<Broken>, Arc<Retry>) {
    let broken = Arc::new(Broken {
        inner: InMemory::new(),
        left: AtomicU32::new(times),
        end,
        asked: AtomicU32::new(0),
    });
    let over = Arc::clone(&broken) as Arc<dyn ObjectStore>;
    let pause = Arc::new(|_| Box::pin(async {}) as _);
    (broken, Retry::new(over, RetryPolicy::default(), pause))
}

fn data() -> Bytes {
    (0..1000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn what_broke_off_is_gone_on_with_from_there() {
    for end in [End::Error, End::Early] {
        let (store, retry) = broken(4, end);
        block_on(store.put(&path("a"), data().into())).unwrap();
        let got = block_on(async { retry.get(&path("a")).await?.bytes().await }).unwrap();
        assert_eq!(got, data());
        assert_eq!(store.asked.load(Ordering::Relaxed), 5);
    }
}

#[test]
fn a_part_of_an_object_that_broke_off_is_that_part() {
    let (store, retry) = broken(2, End::Early);
    block_on(store.put(&path("a"), data().into())).unwrap();
    let options = GetOptions::new().with_range(Some(100..300));
    let got = block_on(async { retry.get_opts(&path("a"), options).await?.bytes().await });
    assert_eq!(got.unwrap(), data().slice(100..300));
}

#[test]
fn what_breaks_off_each_time_is_an_error_in_the_end() {
    for end in [End::Error, End::Early] {
        let (store, retry) = broken(1000, end);
        block_on(store.put(&path("a"), data().into())).unwrap();
        let got = block_on(async { retry.get(&path("a")).await?.bytes().await });
        assert!(got.is_err());
        assert_eq!(store.asked.load(Ordering::Relaxed), 5);
    }
}

#[test]
fn an_object_that_became_another_one_meanwhile_is_no_rest_of_it() {
    let (store, retry) = broken(1, End::Error);
    block_on(store.put(&path("a"), data().into())).unwrap();
    let got = block_on(retry.get(&path("a"))).unwrap();
    block_on(store.put(&path("a"), Bytes::from(vec![7; 4000]).into())).unwrap();
    assert!(matches!(
        block_on(got.bytes()),
        Err(Error::Precondition { .. })
    ));
}
