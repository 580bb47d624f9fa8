//! Uploads in parts: parts are written to one temporary file in the order they were handed over, which is published at the end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::error::fail;
use super::publish::{Replace, TempFile};
use super::{LocalStore, blocking, parent_of};

/// An upload under way.
#[derive(Debug)]
pub(super) struct Upload {
    store: LocalStore,
    location: Path,
    temp: Arc<Mutex<Option<TempFile>>>,
    file: Arc<File>,
    end: u64,
    parts_begun: u64,
    parts_done: Arc<AtomicU64>,
}

impl std::fmt::Debug for TempFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TempFile").field(&self.path()).finish()
    }
}

impl Upload {
    pub(super) fn begin(store: &LocalStore, location: &Path) -> Result<Self> {
        let target = store.file_path(location)?;
        let temp = TempFile::create_in(&store.staging(location, &target))?;
        let file = temp
            .file()
            .try_clone()
            .map_err(|error| fail("open", &target, error))?;
        Ok(Self {
            store: store.clone(),
            location: location.clone(),
            temp: Arc::new(Mutex::new(Some(temp))),
            file: Arc::new(file),
            end: 0,
            parts_begun: 0,
            parts_done: Arc::default(),
        })
    }

    fn take(&self) -> Result<TempFile> {
        self.temp
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
            .ok_or_else(|| Error::Generic {
                store: "local",
                source: format!("the upload of {} has already ended", self.location).into(),
            })
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.end;
        self.end += data.content_length() as u64;
        self.parts_begun += 1;
        let (file, done, location) = (
            Arc::clone(&self.file),
            Arc::clone(&self.parts_done),
            self.location.clone(),
        );
        Box::pin(blocking(move || {
            for piece in &data {
                file.write_all_at(piece, offset).map_err(|error| {
                    fail("write", std::path::Path::new(location.as_ref()), error)
                })?;
                offset += piece.len() as u64;
            }
            done.fetch_add(1, Ordering::Release);
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temp = self.take()?;
        // A part that failed or was never awaited would leave a hole of zeros.
        if self.parts_done.load(Ordering::Acquire) != self.parts_begun {
            return Err(Error::Generic {
                store: "local",
                source: format!("not every part of {} was written", self.location).into(),
            });
        }
        let (store, location) = (self.store.clone(), self.location.clone());
        blocking(move || {
            let target = store.file_path(&location)?;
            let result = temp.publish(&target, &location, Replace::Yes, || {
                store.touch(&location);
            })?;
            store.inner.directories.sync(parent_of(&target))?;
            Ok(result)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.take().map(drop)
    }
}
