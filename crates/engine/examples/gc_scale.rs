//! What a collection costs in a store of a million chunks: its time, and the most memory that it has.
//!
//! `cargo run --release --example gc_scale -- [chunks] [garbage in percent] [directory] [kills]`
//!
//! Makes a store of tiny chunks (files written straight into their places, so that making it is quick), of which a known share belongs to checkpoints that were deleted. Then it
//! collects in a process of its own. With kills, it is killed so many times at random moments before; after each, everything that is needed must be there.

#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtree_core::manifest::{
    CheckpointName, ChunkRecord, CommitRecord, CommittedPart, Entry, EntryContent, Extent,
    JournalPosition, Outcome, PartManifest, Record as _, TombstoneRecord,
};
use runtree_core::{
    AttemptNumber, ComponentName, PartHash, PutId, Result, RunId, SaveKey, Step, Timestamp,
    WriterId,
};
use runtree_engine::gc::{Collector, Memory};
use runtree_engine::{GcOptions, TrashBound};
use runtree_store::{Mode, ObjectEncoding, ObjectName, Store, Tombstone, checksum, layout};

/// Checkpoints that the chunks belong to.
const CHECKPOINTS: u64 = 400;
/// Bytes of memory that a collection of a million chunks may take.
const MOST_MEMORY: u64 = 512 << 20;
/// Bytes of a chunk.
const BYTES: u64 = 16;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--collect") {
        return collect(Path::new(&args[2]));
    }
    let number = |at: usize, default: u64| {
        args.get(at)
            .map_or(default, |arg| arg.parse().expect("a number"))
    };
    let (chunks, garbage, kills) = (number(1, 1_000_000), number(2, 40), number(4, 0));
    let dir = args
        .get(3)
        .map_or_else(|| PathBuf::from("/dev/shm/runtree-gc-scale"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);
    let began = Instant::now();
    let mut expected = generate(&dir, chunks, garbage)?;
    println!(
        "made {chunks} chunk objects, {} of them needed, in {:.1} s",
        expected.needed,
        began.elapsed().as_secs_f64()
    );
    let mut state = 1_u64;
    let store = Store::open(&dir, Mode::ReadWrite)?;
    for kill in 1..=kills {
        // There is always something to collect.
        if expected.live.len() > 1
            && let Some((name, numbers)) = expected.live.pop()
        {
            expected.needed -= numbers.end - numbers.start;
            delete(&store, name)?;
        }
        let mut child = child(&dir, Stdio::null())?;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(kill);
        // About what a collection takes, so that most kills find it at work.
        let moment = Duration::from_micros((state >> 33) % (chunks * 30 + 1_000));
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(moment);
        let _ = child.kill();
        let _ = child.wait();
        let missing = missing(&dir, &expected);
        assert_eq!(
            missing, 0,
            "kill {kill} after {moment:?} lost {missing} chunks"
        );
    }
    if kills > 0 {
        println!(
            "killed {kills} times: nothing that is needed is missing, {} objects are left",
            count(&dir)
        );
    }
    let status = child(&dir, Stdio::inherit())?.wait();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the collection failed"
    );
    assert_eq!(missing(&dir, &expected), 0);
    assert_eq!(
        count(&dir),
        expected.needed,
        "exactly what is needed is left"
    );
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}

fn child(dir: &Path, output: Stdio) -> Result<std::process::Child> {
    let this = std::env::current_exe().expect("this example");
    let spawned = Command::new(this)
        .arg("--collect")
        .arg(dir)
        .stdout(output)
        .spawn();
    spawned.map_err(|error| runtree_core::Error::internal("no child").with_source(error))
}

/// The child: one collection, and what it took.
fn collect(dir: &Path) -> Result<()> {
    let store = Store::open(dir, Mode::ReadWrite)?;
    let options = GcOptions {
        grace: Duration::ZERO,
        trash: TrashBound { checkpoints: 0 },
        ..GcOptions::default()
    };
    let began = Instant::now();
    let memory = Memory::default();
    let report =
        Collector::new(&store, &memory, Timestamp(0)).collect_all(&options, &mut |_| {})?;
    println!(
        "removed {} objects of {} in {:.1} s, {} rounds; {} MiB of memory at most",
        report.removed_objects,
        report.removed_objects + report.kept_objects,
        began.elapsed().as_secs_f64(),
        report.rounds,
        peak_memory() >> 10
    );
    assert!(peak_memory() < MOST_MEMORY >> 10, "it is to be bounded");
    Ok(())
}

/// KiB that this process had at most.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// What must be left.
struct Expected {
    needed: u64,
    /// Checkpoints that are not deleted: which numbers their chunks have.
    live: Vec<(CheckpointName, std::ops::Range<u64>)>,
}

fn generate(dir: &Path, chunks: u64, garbage: u64) -> Result<Expected> {
    let store = Store::create(dir, Timestamp(0))?;
    for shard in 0..=u8::MAX {
        let path = dir.join(layout::chunk_shard_of(shard).as_ref());
        std::fs::create_dir_all(path).expect("a directory");
    }
    let run = RunId::from_parts(1, 1);
    let mut expected = Expected {
        needed: 0,
        live: Vec::new(),
    };
    let mut dead = 0;
    let each = (chunks / CHECKPOINTS).max(1);
    for (step, first) in (0..chunks).step_by(each as usize).enumerate() {
        let numbers = first..chunks.min(first + each);
        let name = CheckpointName {
            run,
            key: SaveKey {
                attempt: AttemptNumber::FIRST,
                step: Step(step as i64),
                k: 0,
            },
        };
        commit(&store, dir, name, numbers.clone())?;
        let count = numbers.end - numbers.start;
        if (dead + count) * 100 <= chunks * garbage {
            dead += count;
            delete(&store, name)?;
        } else {
            expected.needed += count;
            expected.live.push((name, numbers));
        }
    }
    Ok(expected)
}

fn delete(store: &Store, checkpoint: CheckpointName) -> Result<()> {
    let record = TombstoneRecord {
        checkpoint,
        reason: "garbage".to_owned(),
        created: Timestamp(0),
    };
    store.write_tombstone(Tombstone::Deleted, &record).map(drop)
}

fn content(number: u64) -> [u8; BYTES as usize] {
    let mut bytes = [0; BYTES as usize];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn object(number: u64) -> ObjectName {
    ObjectName {
        hash: checksum(&content(number)).hash,
        put: PutId::from_bits(number),
        encoding: ObjectEncoding::Raw,
    }
}

fn commit(
    store: &Store,
    dir: &Path,
    name: CheckpointName,
    numbers: std::ops::Range<u64>,
) -> Result<()> {
    let mut chunks = Vec::new();
    for number in numbers {
        let name = object(number);
        std::fs::write(
            dir.join(layout::chunk_object(&name).as_ref()),
            content(number),
        )
        .expect("a chunk");
        let sum = checksum(&content(number));
        chunks.push(ChunkRecord {
            hash: sum.hash,
            bytes: BYTES,
            crc64: sum.crc64,
            object: name.to_string(),
        });
    }
    let bytes = BYTES * chunks.len() as u64;
    let extents = (0..chunks.len() as u32).map(|chunk| Extent {
        chunk,
        offset: 0,
        bytes: BYTES,
    });
    let component = ComponentName::trainer();
    let manifest = PartManifest {
        run: name.run,
        key: name.key,
        component: component.clone(),
        rank: 0,
        parts: BTreeMap::from([(component.clone(), 1)]),
        sharded: false,
        name: None,
        created: Timestamp(0),
        metrics: BTreeMap::new(),
        journal: JournalPosition {
            writer: WriterId::from_bits(1),
            ordinal: 0,
            hash: 0,
        },
        bytes,
        entries: vec![Entry {
            path: "weights".to_owned(),
            content: EntryContent::File {
                extents: extents.collect(),
                bytes,
                mode: 0o644,
                tensors: Vec::new(),
            },
        }],
        chunks,
    };
    let part = manifest.to_bytes();
    let record = CommitRecord {
        run: name.run,
        key: name.key,
        outcome: Outcome::Committed,
        parts: vec![CommittedPart {
            component: component.clone(),
            rank: 0,
            hash: PartHash::of(&part),
        }],
    };
    let path = layout::part(name.run, name.key, &component, 0);
    store
        .create_bytes(&path, part.into())?
        .or_conflict(|| path.to_string())?;
    let path = layout::commit(name.run, name.key);
    store
        .create_record(&path, &record)?
        .or_conflict(|| path.to_string())
}

/// Chunks of checkpoints that are not deleted, whose objects are gone.
fn missing(dir: &Path, expected: &Expected) -> u64 {
    let numbers = expected
        .live
        .iter()
        .flat_map(|(_, numbers)| numbers.clone());
    let gone = numbers.filter(|number| {
        let path = layout::chunk_object(&object(*number));
        !dir.join(path.as_ref()).exists()
    });
    gone.count() as u64
}

fn count(dir: &Path) -> u64 {
    let shards = std::fs::read_dir(dir.join("chunks")).expect("chunks");
    let of = |shard: std::fs::DirEntry| std::fs::read_dir(shard.path()).expect("a shard").count();
    shards.map(|shard| of(shard.expect("a shard")) as u64).sum()
}
