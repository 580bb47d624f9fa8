//! Stores and records for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::executor::block_on;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use runtree_core::manifest::{
    BLOCK_BYTES, Entry, EntryContent, Extent, JournalPosition, PartManifest, Record as _,
    StoreRecord,
};
use runtree_core::{AttemptNumber, RunId, SaveKey, Step, StoreId, Timestamp, WriterId};
use runtree_store::remote::{self, RemoteAddress, Settings};
use runtree_store::{Mode, ObjectPath, SaveSession, Store, checksum};
use tempfile::TempDir;

pub(crate) const BLOCK: usize = BLOCK_BYTES as usize;
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

/// A store on disk that goes away with the test.
pub(crate) struct OnDisk {
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

impl std::ops::Deref for OnDisk {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(crate) fn on_disk() -> OnDisk {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(directory.path(), NOW).unwrap();
    OnDisk { store, directory }
}

/// A store without a disk: in memory or, beside `scripts/with-s3`, in a real bucket.
pub(crate) fn in_memory() -> Store {
    match bucket() {
        Some((address, settings)) => {
            // The probe of a new store takes this server seconds: all but the tests of creation take a store as made.
            let objects = remote::connect(&address, &settings).unwrap();
            let record = StoreRecord {
                id: StoreId::from_bits(u128::from(std::process::id())),
                created: NOW,
                required_to_read: Vec::new(),
                required_to_write: Vec::new(),
                conditional_create: true,
            };
            put(&objects, "runtree.json", &record.to_bytes());
            Store::open_over(objects, Mode::ReadWrite).unwrap()
        }
        None => Store::create_over(Arc::new(InMemory::new()), NOW).unwrap(),
    }
}

/// A fresh place in the bucket that `scripts/with-s3` names, if this runs beside it; and how to get there.
#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts the server says where it is"
)]
pub(crate) fn bucket() -> Option<(RemoteAddress, Settings)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let bucket = std::env::var("RUNTREE_TEST_BUCKET").ok()?;
    let place = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = format!("{bucket}/{}-{place}", std::process::id());
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
    Some((address.parse().unwrap(), settings.collect()))
}

/// A server that takes conditions on writes and ignores them, if one was started.
#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts the server says where it is"
)]
pub(crate) fn careless_endpoint() -> Option<String> {
    std::env::var("RUNTREE_TEST_CARELESS_ENDPOINT").ok()
}

pub(crate) fn run(number: u64) -> RunId {
    RunId::from_parts(1_700_000_000_000, u128::from(number))
}

pub(crate) fn key(step: i64) -> SaveKey {
    SaveKey {
        attempt: AttemptNumber::FIRST,
        step: Step(step),
        k: 0,
    }
}

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A manifest of one file per chunk.
pub(crate) fn manifest(
    save: &SaveSession,
    (component, rank): (&str, u32),
    parts: &[(&str, u32)],
    chunks: &[Vec<u8>],
) -> PartManifest {
    let mut records = Vec::new();
    let mut entries = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let put = save
            .put_chunk(Bytes::from(chunk.clone()), checksum(chunk))
            .unwrap();
        records.push(put.record);
        entries.push(Entry {
            path: format!("file-{index}"),
            content: EntryContent::File {
                extents: vec![Extent {
                    chunk: index as u32,
                    offset: 0,
                    bytes: chunk.len() as u64,
                }],
                bytes: chunk.len() as u64,
                mode: 0o644,
                tensors: Vec::new(),
            },
        });
    }
    PartManifest {
        run: run(1),
        key: key(500),
        component: component.parse().unwrap(),
        rank,
        parts: parts
            .iter()
            .map(|(name, ranks)| (name.parse().unwrap(), *ranks))
            .collect(),
        sharded: false,
        name: None,
        created: NOW,
        metrics: BTreeMap::new(),
        journal: JournalPosition {
            writer: WriterId::from_bits(7),
            ordinal: 0,
            hash: 0,
        },
        bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunks: records,
        entries,
    }
}

/// Replaces an object behind the store's back.
pub(crate) fn tamper(store: &Store, path: &ObjectPath, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = store.read_bytes(path).unwrap().to_vec();
    change(&mut bytes);
    block_on(store.objects().put(path, bytes.into())).unwrap();
}

pub(crate) fn put(objects: &Arc<dyn ObjectStore>, path: &str, bytes: &[u8]) {
    let path = ObjectPath::parse(path).unwrap();
    block_on(objects.put(&path, bytes.to_vec().into())).unwrap();
}
