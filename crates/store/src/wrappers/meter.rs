//! Counting what is asked of a store: a test proves with it that a fork reads and writes no chunk.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// What was asked of a store so far. Chunk counts are those under `chunks/` and are part of the totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects put.
    pub puts: u64,
    /// Objects, or ranges of them, read.
    pub gets: u64,
    /// Objects asked about.
    pub heads: u64,
    /// Listings.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Copies and renames.
    pub copies: u64,
    /// Bytes put.
    pub bytes_written: u64,
    /// Bytes of the ranges that were read.
    pub bytes_read: u64,
    /// Chunk objects put.
    pub chunk_puts: u64,
    /// Chunk objects, or ranges of them, read.
    pub chunk_gets: u64,
    /// Bytes of chunk objects put.
    pub chunk_bytes_written: u64,
    /// Bytes of chunk objects read.
    pub chunk_bytes_read: u64,
}

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    copies: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    chunk_puts: AtomicU64,
    chunk_gets: AtomicU64,
    chunk_bytes_written: AtomicU64,
    chunk_bytes_read: AtomicU64,
}

impl Counters {
    fn wrote(&self, location: &Path, bytes: u64) {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        if is_chunk(location) {
            self.chunk_bytes_written.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn read(&self, location: &Path, bytes: u64) {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        if is_chunk(location) {
            self.chunk_gets.fetch_add(1, Ordering::Relaxed);
            self.chunk_bytes_read.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn put(&self, location: &Path) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        if is_chunk(location) {
            self.chunk_puts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_chunk(location: &Path) -> bool {
    location.prefix_matches(&crate::layout::chunks())
}

/// A store that counts.
#[derive(Debug)]
pub struct Meter {
    inner: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
}

impl Meter {
    /// Counts what is asked of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            counters: Arc::default(),
        })
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Counts {
            puts: get(&counters.puts),
            gets: get(&counters.gets),
            heads: get(&counters.heads),
            lists: get(&counters.lists),
            deletes: get(&counters.deletes),
            copies: get(&counters.copies),
            bytes_written: get(&counters.bytes_written),
            bytes_read: get(&counters.bytes_read),
            chunk_puts: get(&counters.chunk_puts),
            chunk_gets: get(&counters.chunk_gets),
            chunk_bytes_written: get(&counters.chunk_bytes_written),
            chunk_bytes_read: get(&counters.chunk_bytes_read),
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Meter {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        self.counters.put(location);
        let result = self.inner.put_opts(location, payload, options).await?;
        self.counters.wrote(location, bytes);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.counters.put(location);
        Ok(Box::new(MeteredUpload {
            inner: self.inner.put_multipart_opts(location, options).await?,
            location: location.clone(),
            counters: Arc::clone(&self.counters),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            self.counters.heads.fetch_add(1, Ordering::Relaxed);
            return self.inner.get_opts(location, options).await;
        }
        let result = self.inner.get_opts(location, options).await?;
        self.counters
            .read(location, result.range.end - result.range.start);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let pieces = self.inner.get_ranges(location, ranges).await?;
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.counters.read(location, bytes);
        Ok(pieces)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let counters = Arc::clone(&self.counters);
        self.inner
            .delete_stream(locations)
            .inspect(move |_| {
                counters.deletes.fetch_add(1, Ordering::Relaxed);
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.counters.copies.fetch_add(1, Ordering::Relaxed);
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.counters.copies.fetch_add(1, Ordering::Relaxed);
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    counters: Arc<Counters>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length() as u64;
        let part = self.inner.put_part(data);
        let (location, counters) = (self.location.clone(), Arc::clone(&self.counters));
        Box::pin(async move {
            part.await?;
            counters.wrote(&location, bytes);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
