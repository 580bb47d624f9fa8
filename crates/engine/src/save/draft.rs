//! From a request to a draft: entries with their places in chunks, and where each chunk's bytes come from.

use std::borrow::Cow;
use std::path::Path;

use runtree_core::foreign::Payload;
use runtree_core::manifest::{Entry, EntryContent, Extent};
use runtree_core::state::{StateNode, TensorRecord};
use runtree_core::{Error, Result};

use super::copy::Source;
use super::ingest::{self, Found, FoundKind};
use super::plan::{ChunkPlan, OWN_CHUNK_BYTES};
use super::request::{EntrySource, TensorData, TensorSource};

/// What is read while staging: it owns the lists of files and the byte strings, so that sources can borrow from it.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    items: Vec<Input<'a>>,
}

#[derive(Debug)]
enum Input<'a> {
    State {
        path: String,
        tree: StateNode,
        tensors: Vec<TensorSource<'a>>,
        blobs: Vec<Cow<'a, [u8]>>,
    },
    Directory(Vec<Found>),
}

/// A state's tree and its tensors, whose places are not known yet.
#[derive(Debug)]
pub(crate) struct Described {
    tree: StateNode,
    tensors: Vec<TensorRecord>,
}

/// Entries and chunks of a part, before anything has been hashed.
#[derive(Debug)]
pub(crate) struct Draft<'i> {
    /// As they will stand in the manifest.
    pub(crate) entries: Vec<Entry>,
    /// Bytes of each chunk.
    pub(crate) chunk_bytes: Vec<u64>,
    /// Raw bytes in all.
    pub(crate) bytes: u64,
    /// What goes where.
    pub(crate) copies: Vec<(Extent, Source<'i>)>,
}

impl<'a> Inputs<'a> {
    /// Takes the entries, and lists directories.
    ///
    /// # Errors
    /// What [`ingest::walk`] refuses.
    pub(crate) fn take(entries: Vec<EntrySource<'a>>) -> Result<Self> {
        let items = entries
            .into_iter()
            .map(|entry| {
                Ok(match entry {
                    EntrySource::State {
                        path,
                        tree,
                        tensors,
                        blobs,
                    } => Input::State {
                        path,
                        tree,
                        tensors,
                        blobs,
                    },
                    EntrySource::Directory(root) => {
                        let mut found = ingest::walk(&root)?;
                        ingest::look_inside(&mut found)?;
                        Input::Directory(found)
                    }
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { items })
    }

    /// Moves the trees and what describes the tensors out, for [`Inputs::draft`].
    pub(crate) fn take_trees(&mut self) -> Vec<Described> {
        self.items
            .iter_mut()
            .filter_map(|item| match item {
                Input::State { tree, tensors, .. } => Some(Described {
                    tree: std::mem::replace(tree, StateNode::None),
                    tensors: tensors.iter_mut().map(take_record).collect(),
                }),
                Input::Directory(_) => None,
            })
            .collect()
    }

    /// Places everything. `trees` are what [`Inputs::take_trees`] gave.
    ///
    /// # Errors
    /// `Invalid` if a tree's leaves do not fit its tensors and byte strings.
    pub(crate) fn draft(&self, trees: Vec<Described>) -> Result<Draft<'_>> {
        let mut trees = trees.into_iter();
        let mut placing = Placing::default();
        let mut entries = Vec::new();
        for item in &self.items {
            match item {
                Input::State {
                    path,
                    tensors,
                    blobs,
                    ..
                } => {
                    let described = trees.next().expect("BUG: one tree per state");
                    let (tree, mut records) = (described.tree, described.tensors);
                    for (record, tensor) in records.iter_mut().zip(tensors) {
                        record.extents = placing.tensor(&tensor.data);
                    }
                    let blobs: Vec<Vec<Extent>> =
                        blobs.iter().map(|blob| placing.memory(blob)).collect();
                    // What a reader would call corrupt is a wrong call here.
                    tree.check(&records, blobs.len())
                        .map_err(|error| Error::invalid(error.message().to_owned()))?;
                    entries.push(Entry {
                        path: path.clone(),
                        content: EntryContent::State {
                            tree,
                            tensors: records,
                            blobs,
                        },
                    });
                }
                Input::Directory(found) => {
                    entries.extend(found.iter().map(|item| placing.found(item)));
                }
            }
        }
        Ok(Draft {
            entries,
            bytes: placing.plan.sizes().iter().sum(),
            chunk_bytes: placing.plan.sizes().to_vec(),
            copies: placing.copies,
        })
    }

    /// Makes sure that saved files did not change meanwhile.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.items.iter().try_for_each(|item| match item {
            Input::Directory(found) => ingest::check_unchanged(found),
            Input::State { .. } => Ok(()),
        })
    }
}

fn take_record(tensor: &mut TensorSource<'_>) -> TensorRecord {
    TensorRecord {
        name: std::mem::take(&mut tensor.name),
        dtype: tensor.dtype.clone(),
        shape: std::mem::take(&mut tensor.shape),
        global_shape: tensor.global_shape.take(),
        global_offset: tensor.global_offset.take(),
        extents: Vec::new(),
    }
}

#[derive(Default)]
struct Placing<'i> {
    plan: ChunkPlan,
    copies: Vec<(Extent, Source<'i>)>,
}

impl<'i> Placing<'i> {
    fn tensor(&mut self, data: &'i TensorData<'_>) -> Vec<Extent> {
        let TensorData::Guarded(memory) = data else {
            return self.memory(data.as_slice());
        };
        let extents = self.plan.place(memory.len() as u64);
        let mut offset = 0;
        for extent in &extents {
            self.copies
                .push((*extent, Source::Guarded { memory, offset }));
            offset += extent.bytes as usize;
        }
        extents
    }

    fn memory(&mut self, bytes: &'i [u8]) -> Vec<Extent> {
        let extents = self.plan.place(bytes.len() as u64);
        let mut rest = bytes;
        for extent in &extents {
            let (first, last) = rest.split_at(extent.bytes as usize);
            self.copies.push((*extent, Source::Memory(first)));
            rest = last;
        }
        extents
    }

    /// A file, cut before and behind every tensor that is large enough for chunks of its own; what is between them is placed as if it were one.
    fn file(&mut self, path: &'i Path, bytes: u64, payloads: &[Payload]) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut at = 0;
        let mut place = |end: u64| {
            for extent in self.plan.place(end - at) {
                self.copies
                    .push((extent, Source::File { path, offset: at }));
                at += extent.bytes;
                extents.push(extent);
            }
        };
        for payload in payloads {
            if payload.bytes >= OWN_CHUNK_BYTES {
                place(payload.offset);
                place(payload.end());
            }
        }
        place(bytes);
        extents
    }

    fn found(&mut self, item: &'i Found) -> Entry {
        let content = match &item.kind {
            FoundKind::File {
                bytes,
                mode,
                payloads,
                ..
            } => {
                let extents = self.file(&item.source, *bytes, payloads);
                EntryContent::File {
                    tensors: tensors_of(payloads, &extents),
                    extents,
                    bytes: *bytes,
                    mode: *mode,
                }
            }
            FoundKind::Directory { mode } => EntryContent::Directory { mode: *mode },
            FoundKind::Symlink { target } => EntryContent::Symlink {
                target: target.clone(),
            },
        };
        Entry {
            path: item.path.clone(),
            content,
        }
    }
}

/// What a file says of the tensors in it, with their parts of its extents.
fn tensors_of(payloads: &[Payload], extents: &[Extent]) -> Vec<TensorRecord> {
    // Payloads are in order and do not overlap: one walk along the extents.
    let mut rest = extents;
    let mut start = 0;
    payloads
        .iter()
        .filter_map(|payload| {
            while let [first, behind @ ..] = rest
                && start + first.bytes <= payload.offset
            {
                start += first.bytes;
                rest = behind;
            }
            let tensor = payload.tensor.as_ref()?;
            Some(TensorRecord {
                name: tensor.name.clone(),
                dtype: tensor.dtype.clone(),
                shape: tensor.shape.clone(),
                global_shape: None,
                global_offset: None,
                extents: part_of(rest, payload.offset - start, payload.bytes),
            })
        })
        .collect()
}

/// The extents of `bytes` bytes from byte `offset` of the first on.
fn part_of(extents: &[Extent], mut offset: u64, mut bytes: u64) -> Vec<Extent> {
    let mut part = Vec::new();
    for extent in extents {
        if bytes == 0 {
            break;
        }
        let count = bytes.min(extent.bytes - offset);
        part.push(Extent {
            chunk: extent.chunk,
            offset: extent.offset + offset,
            bytes: count,
        });
        offset = 0;
        bytes -= count;
    }
    part
}
