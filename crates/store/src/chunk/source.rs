//! Bytes of objects, in order: from a file, or from a bucket's stream.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::{
    Error as ObjectError, GetOptions, GetRange, GetResultPayload, ObjectStore as _,
    Result as ObjectResult,
};
use runtree_core::{Error, ErrorKind, Result};

use super::encoded::{self, Tail};
use crate::error::from_object;
use crate::layout::{self, ObjectName};
use crate::store::Store;
use crate::wait::block_on;

/// Why an object did not serve.
pub(super) enum Failure {
    /// It is not there.
    Gone,
    /// It holds something else: which block, and what is wrong.
    Damaged(Option<u64>, String),
    /// It is a difference to a chunk that can not be read.
    NoBase(Error),
    /// The store did not answer, or the object needs a newer build.
    Other(Error),
}

/// Whether what the kernel has in memory may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Cached,
    FromStorage,
}

impl Store {
    /// Table and footer of an encoded object.
    pub(super) fn read_tail(
        &self,
        name: &ObjectName,
        freshness: Freshness,
    ) -> Result<Tail, Failure> {
        let range = GetRange::Suffix(encoded::MAX_TAIL_BYTES as u64);
        let (mut source, size) = self.open_object(name, range, freshness)?;
        let mut end = vec![0; (encoded::MAX_TAIL_BYTES as u64).min(size) as usize];
        source.fill(&mut end)?;
        Tail::parse(&end, size).map_err(|error| match error.kind() {
            ErrorKind::Unsupported => Failure::Other(error),
            _ => Failure::Damaged(None, error.message().to_owned()),
        })
    }

    /// Opens a range of an object; also says how large the object is.
    pub(super) fn open_object(
        &self,
        name: &ObjectName,
        range: GetRange,
        freshness: Freshness,
    ) -> Result<(Source, u64), Failure> {
        let path = layout::chunk_object(name);
        let options = GetOptions::new().with_range(Some(range.clone()));
        match block_on(self.objects().get_opts(&path, options)) {
            Ok(result) => {
                let size = result.meta.size;
                let source = match result.payload {
                    GetResultPayload::File(file, _) => {
                        if freshness == Freshness::FromStorage {
                            // Advice; where it is not taken the second look is at the same memory, and damage stays damage.
                            let _ =
                                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                        }
                        Source::File(file, result.range.start)
                    }
                    GetResultPayload::Stream(stream) => Source::Stream(stream, Bytes::new()),
                };
                Ok((source, size))
            }
            Err(ObjectError::NotFound { .. }) => Err(Failure::Gone),
            Err(error) => {
                // A range that starts behind the end is an error of no particular kind: look how long the object is.
                let wanted = match &range {
                    GetRange::Bounded(range) => range.end,
                    GetRange::Offset(_) | GetRange::Suffix(_) => 1,
                };
                match self.head(&path) {
                    Ok(Some(meta)) if meta.size < wanted => Err(Failure::Damaged(
                        None,
                        format!("it has {} bytes, {wanted} are needed", meta.size),
                    )),
                    Ok(None) => Err(Failure::Gone),
                    _ => Err(Failure::Other(from_object(error, &format!("read {path}")))),
                }
            }
        }
    }
}

/// Bytes of an object, in order.
pub(super) enum Source {
    File(File, u64),
    Stream(BoxStream<'static, ObjectResult<Bytes>>, Bytes),
}

impl Source {
    /// Nothing at all.
    pub(super) fn empty() -> Self {
        Self::Stream(futures::stream::empty().boxed(), Bytes::new())
    }

    /// Fills `buffer` with what comes next.
    pub(super) fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::File(file, at) => {
                // A disk that can not read is a damaged object: another one may serve.
                file.read_exact_at(buffer, *at)
                    .map_err(|error| Failure::Damaged(None, format!("can not read it: {error}")))?;
                *at += buffer.len() as u64;
                Ok(())
            }
            Self::Stream(stream, ready) => {
                while !buffer.is_empty() {
                    if ready.is_empty() {
                        *ready = match block_on(stream.next()) {
                            Some(Ok(bytes)) => bytes,
                            // It broke off, and was collected before the rest was asked for.
                            Some(Err(ObjectError::NotFound { .. })) => return Err(Failure::Gone),
                            Some(Err(error)) => {
                                return Err(Failure::Other(from_object(error, "read a chunk")));
                            }
                            None => {
                                return Err(Failure::Damaged(None, "it ends too early".to_owned()));
                            }
                        };
                        continue;
                    }
                    let count = ready.len().min(buffer.len());
                    let (now, later) = buffer.split_at_mut(count);
                    ready.copy_to_slice(now);
                    buffer = later;
                }
                Ok(())
            }
        }
    }
}
