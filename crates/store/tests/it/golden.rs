//! Bytes that earlier builds wrote stay readable, and this build still writes what `docs/formats` shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use runtree_core::event::Event;
use runtree_core::hash::ChunkHash;
use runtree_core::manifest::{
    ChunkRecord, CommitRecord, CommittedPart, Entry, EntryContent, Extent, JournalPosition,
    Outcome, PartManifest, Record as _,
};
use runtree_core::state::{
    DictKind, Dtype, Framework, StateKey, StateNode, TensorLeaf, TensorRecord,
};
use runtree_core::{PartHash, PutId, RunId, WriterId};
use runtree_store::chunk::encoded::{self, Base, Scratch, Tail};
use runtree_store::{
    Cursor, FrameKind, JournalReader, JournalWriter, ObjectEncoding, ObjectName, checksum,
    parse_part_manifest,
};

use crate::support::{NOW, key, on_disk, run};

const WRITER: WriterId = WriterId::from_bits(42);

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn journal_file(run: RunId) -> Vec<u8> {
    let store = on_disk();
    let mut journal = JournalWriter::create(&store, run, WRITER).unwrap();
    journal.append_event(&Event::Alive { at: NOW }).unwrap();
    journal.append(FrameKind::Points, b"points").unwrap();
    journal.sync().unwrap();
    let name = format!("runs/{run}/journal/{WRITER}/{:020}.log", 0);
    fs::read(store.directory.path().join(name)).unwrap()
}

/// The 16 bytes of four floats, then 12 bytes of a text.
fn chunk() -> Vec<u8> {
    let floats = [0.0_f32, 0.5, -1.0, f32::NAN];
    let mut bytes: Vec<u8> = floats
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    bytes.extend_from_slice(b"hello, tree\n");
    bytes
}

fn part() -> PartManifest {
    let chunk = chunk();
    let sum = checksum(&chunk);
    let object = ObjectName {
        hash: sum.hash,
        put: PutId::from_bits(1),
        encoding: ObjectEncoding::Raw,
    };
    let tensor = TensorRecord {
        name: "model.weight".to_owned(),
        dtype: Dtype::F32,
        shape: vec![2, 2],
        global_shape: None,
        global_offset: None,
        extents: vec![Extent {
            chunk: 0,
            offset: 0,
            bytes: 16,
        }],
    };
    let leaf = StateNode::Tensor(TensorLeaf {
        tensor: 0,
        framework: Framework::Torch,
        view: None,
        parameter: true,
        requires_grad: true,
        device: None,
    });
    let plain = |k: Vec<StateKey>, v| StateNode::Dict {
        kind: DictKind::Plain,
        k,
        v,
    };
    let name = |text: &str| StateKey::Str(text.to_owned());
    let tree = plain(
        vec![name("model"), name("step"), name("lr")],
        vec![
            plain(vec![name("weight")], vec![leaf]),
            StateNode::Int {
                v: "500".to_owned(),
            },
            StateNode::Float {
                v: runtree_core::float::JsonFloat(f64::INFINITY),
            },
        ],
    );
    PartManifest {
        run: run(1),
        key: key(500),
        component: "trainer".parse().unwrap(),
        rank: 0,
        parts: BTreeMap::from([("trainer".parse().unwrap(), 1)]),
        sharded: false,
        name: Some("halfway".to_owned()),
        created: NOW,
        metrics: BTreeMap::from([("val/loss".to_owned(), 0.25)]),
        journal: JournalPosition {
            writer: WRITER,
            ordinal: 2,
            hash: 0x0123_4567_89ab_cdef,
        },
        bytes: chunk.len() as u64,
        chunks: vec![ChunkRecord {
            hash: sum.hash,
            bytes: chunk.len() as u64,
            crc64: sum.crc64,
            object: object.to_string(),
        }],
        entries: vec![
            Entry {
                path: "state".to_owned(),
                content: EntryContent::State {
                    tree,
                    tensors: vec![tensor],
                    blobs: Vec::new(),
                },
            },
            Entry {
                path: "notes/hello.txt".to_owned(),
                content: EntryContent::File {
                    extents: vec![Extent {
                        chunk: 0,
                        offset: 16,
                        bytes: 12,
                    }],
                    bytes: 12,
                    mode: 0o644,
                    tensors: Vec::new(),
                },
            },
        ],
    }
}

/// A part with a file that names a tensor: the bytes of the state's, found in it.
fn part_with_named_tensors() -> PartManifest {
    let mut part = part();
    let [
        Entry {
            content: EntryContent::State { tensors, .. },
            ..
        },
        Entry {
            path,
            content:
                EntryContent::File {
                    extents,
                    bytes,
                    tensors: named,
                    ..
                },
        },
    ] = part.entries.as_mut_slice()
    else {
        panic!("the golden part has a state and a file");
    };
    "model.safetensors".clone_into(path);
    extents.push(tensors[0].extents[0]);
    *bytes += 16;
    named.clone_from(tensors);
    "weight".clone_into(&mut named[0].name);
    part.bytes += 16;
    part
}

fn commit() -> CommitRecord {
    CommitRecord {
        run: run(1),
        key: key(500),
        outcome: Outcome::Committed,
        parts: vec![CommittedPart {
            component: "trainer".parse().unwrap(),
            rank: 0,
            hash: PartHash::of(&part().to_bytes()),
        }],
    }
}

/// 600 bf16-like items that compress.
fn plain_items() -> Vec<u8> {
    (0..600_u16).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

/// The base of the golden difference: the same items, some of them one larger.
fn changed_items() -> Vec<u8> {
    (0..600_u16)
        .flat_map(|n| (n / 7 + u16::from(n % 40 == 0)).to_le_bytes())
        .collect()
}

fn encode(raw: &[u8], base: Option<&[u8]>) -> Vec<u8> {
    let reader = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |_: u64, block: &mut [u8]| {
            block.copy_from_slice(&bytes);
            Ok(())
        }
    };
    let mut read_base = reader(base.unwrap_or_default());
    let base = base.map(|_| Base {
        read: &mut read_base,
        depth: 1,
    });
    encoded::encode(raw.len() as u64, Some(2), &mut reader(raw), base)
        .unwrap()
        .unwrap()
        .bytes
}

#[test]
#[ignore = "writes the golden files: only for a new version of a format"]
fn write_golden_files() {
    fs::write(golden("journal-v1.log"), journal_file(run(1))).unwrap();
    fs::write(golden("part-v1.json"), part().to_bytes()).unwrap();
    let named = part_with_named_tensors().to_bytes();
    fs::write(golden("part-tensors-v1.json"), named).unwrap();
    fs::write(golden("commit-v1.json"), commit().to_bytes()).unwrap();
    fs::write(golden("planes-v1.z"), encode(&plain_items(), None)).unwrap();
    let delta = encode(&plain_items(), Some(&changed_items()));
    fs::write(golden("delta-v1.d"), delta).unwrap();
}

#[test]
fn journals_of_version_1_are_written_and_read() {
    let bytes = fs::read(golden("journal-v1.log")).unwrap();
    assert_eq!(journal_file(run(1)), bytes);
    let store = on_disk();
    let name = format!("runs/{}/journal/{WRITER}/{:020}.log", run(1), 0);
    crate::support::put(store.objects(), &name, &bytes);
    let frames: Vec<_> = JournalReader::open(&store, run(1), WRITER, Cursor::START)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].event().unwrap(), Event::Alive { at: NOW });
    assert_eq!(frames[1].payload, b"points");
}

#[test]
fn parts_and_commits_of_version_1_are_written_and_read() {
    let bytes = fs::read(golden("part-v1.json")).unwrap();
    assert_eq!(
        String::from_utf8(part().to_bytes()).unwrap(),
        String::from_utf8(bytes.clone()).unwrap()
    );
    assert_eq!(parse_part_manifest(&bytes, "golden").unwrap(), part());
    let bytes = fs::read(golden("commit-v1.json")).unwrap();
    assert_eq!(commit().to_bytes(), bytes);
    assert_eq!(CommitRecord::load(&bytes, "golden").unwrap(), commit());
    assert_eq!(part().chunks[0].hash, ChunkHash::of(&chunk()));
}

#[test]
fn tensors_that_files_name_are_written_and_read_and_may_be_ignored() {
    let bytes = fs::read(golden("part-tensors-v1.json")).unwrap();
    let part = part_with_named_tensors();
    assert_eq!(
        String::from_utf8(part.to_bytes()).unwrap(),
        String::from_utf8(bytes.clone()).unwrap()
    );
    assert_eq!(parse_part_manifest(&bytes, "golden").unwrap(), part);
}

fn decode(object: &[u8], under: Vec<u8>) -> Vec<u8> {
    let tail = Tail::parse(object, object.len() as u64).unwrap();
    let (at, bytes) = tail.block(0);
    let mut raw = under;
    assert_eq!(raw.len() as u64, tail.raw_bytes);
    let stored = &object[at as usize..at as usize + bytes];
    tail.decode(0, stored, &mut raw, &mut Scratch::default())
        .unwrap();
    raw
}

#[test]
fn planes_of_version_1_are_read() {
    let object = fs::read(golden("planes-v1.z")).unwrap();
    assert_eq!(decode(&object, vec![0; 1200]), plain_items());
}

#[test]
fn differences_of_version_1_are_read() {
    let object = fs::read(golden("delta-v1.d")).unwrap();
    assert_eq!(decode(&object, changed_items()), plain_items());
}
