//! Every file of a small store, hurt in every way: a flipped bit, cut off, gone. What users read is then what it was, or an error that
//! names the file; and `verify` finds it always.
//!
//! What can not be found, since nothing recorded that it was there: the end of a journal after the last position that a part recorded
//! (it can not be told from points that were never written), tombstones, pins, confirmations, seats and markers of tools that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::wire::CheckpointState;
use runtree_core::{Error, ErrorKind, Result, RunId, Step};
use runtree_engine::{
    CheckpointScope, Engine, HistoryQuery, LaunchKey, OpenMode, Purpose, ReadJob, ResumePolicy,
    RunSpec, SaveRequest,
};
use runtree_store::{Cursor, JournalReader};

use crate::support::*;

/// What a file is, as far as finding damage of it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Reading what it holds finds it.
    Read,
    /// Folding it finds it: an index that has it already does not need it again.
    Fold,
    /// A journal, recorded up to this byte.
    Journal(u64),
    /// Only `verify` looks at it; if it is gone, nothing says that it was there.
    Verify { notices_absence: bool },
}

struct Hurt {
    bench: Bench,
    runs: Vec<RunId>,
    checkpoints: Vec<CheckpointName>,
    whole: BTreeMap<String, String>,
}

/// A large tensor: two blocks.
fn weights(step: i64) -> Vec<u8> {
    let mut state = step as u64 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..(1 << 17) + 5).flat_map(|_| next()).collect()
}

fn save_large(run: &Arc<runtree_engine::RunWriter>, step: i64) -> CheckpointName {
    let bytes = weights(step);
    let request = SaveRequest {
        step: Some(Step(step)),
        ..SaveRequest::of(vec![entry(&bytes)])
    };
    let pending = run.save(request).unwrap();
    pending.wait(None).unwrap();
    pending.name()
}

/// Two ranks of one launch that save a shard each.
fn sharded(bench: &Bench) -> (RunId, CheckpointName) {
    let rank = |rank, run| RunSpec {
        rank,
        world_size: 2,
        run,
        launch_key: LaunchKey::Launcher("job".to_owned()),
        ..spec()
    };
    let first = bench.start(rank(0, None));
    let second = bench.start(rank(1, Some(first.run())));
    log(&first, 0, 0.5).unwrap();
    let pending: Vec<_> = [(&first, b"a"), (&second, b"b")]
        .into_iter()
        .enumerate()
        .map(|(rank, (run, bytes))| {
            run.save(SaveRequest {
                step: Some(Step(0)),
                sharded: true,
                rank: rank as u32,
                world_size: 2,
                ..SaveRequest::of(vec![entry(bytes)])
            })
            .unwrap()
        })
        .collect();
    for pending in &pending {
        pending.wait(None).unwrap();
    }
    first.finish(None, None, None).unwrap();
    second.finish(None, None, None).unwrap();
    (first.run(), pending[0].name())
}

fn store() -> Hurt {
    let bench = Bench::new();
    let a = bench.start(keyed("a", ResumePolicy::Allow));
    train(&a, 0..=10, &[5]);
    let mut checkpoints = vec![save_large(&a, 10)];
    let attached = bench.dir.path().join("notes.txt");
    std::fs::write(&attached, b"attached").unwrap();
    a.log_file(&attached, None).unwrap();
    a.finish(None, None, None).unwrap();
    let again = bench.start(keyed("a", ResumePolicy::Allow));
    train(&again, 11..=20, &[15]);
    again.finish(None, None, None).unwrap();
    let fork = bench.forked(a.run(), 10, 14, &[14]);
    let (ranks, both) = sharded(&bench);
    checkpoints.push(both);
    bench.engine.pin(checkpoints[0], "by hand").unwrap();
    bench.engine.delete_checkpoint(both, "by hand").unwrap();
    bench.engine.undelete_checkpoint(both).unwrap();
    let runs = vec![a.run(), fork, ranks];
    let scope = CheckpointScope::default();
    for run in &runs {
        for info in bench.engine.checkpoints(*run, scope).unwrap() {
            let key = format!("{}-{}-{}", info.attempt, info.step, info.k);
            let run = *run;
            let key = key.parse().unwrap();
            checkpoints.push(CheckpointName { run, key });
        }
    }
    checkpoints.sort_unstable();
    checkpoints.dedup();
    assert_eq!(checkpoints.len(), 5);
    assert_eq!(bench.engine.verify(None).unwrap().problems, [""; 0]);
    let mut hurt = Hurt {
        bench,
        runs,
        checkpoints,
        whole: BTreeMap::new(),
    };
    let seen = hurt.look(&hurt.bench.elsewhere("whole"));
    hurt.whole = seen
        .into_iter()
        .map(|(what, read)| (what, read.unwrap()))
        .collect();
    hurt
}

fn load(engine: &Engine, name: CheckpointName) -> Result<String> {
    let manifest = engine.load_plan(name)?;
    let mut digest = Vec::new();
    for (part, record) in manifest.parts.iter().enumerate() {
        for entry in &record.entries {
            let runtree_core::manifest::EntryContent::State { tensors, .. } = &entry.content else {
                continue;
            };
            for tensor in tensors {
                let mut bytes = vec![0; tensor.byte_len().unwrap() as usize];
                let job = ReadJob {
                    part,
                    extents: &tensor.extents,
                    what: &tensor.name,
                    into: &mut bytes,
                };
                engine.read_tensors(&manifest, vec![job], 1)?;
                digest.extend(bytes);
            }
        }
    }
    Ok(blake3::hash(&digest).to_string())
}

impl Hurt {
    /// What a user reads, by what it is called.
    fn look(&self, engine: &Engine) -> BTreeMap<String, Result<String>> {
        let mut seen = BTreeMap::new();
        let scope = CheckpointScope {
            inherited: true,
            deleted: true,
            ..CheckpointScope::default()
        };
        for run in &self.runs {
            let steps = |columns: runtree_engine::HistoryColumns| {
                format!("{:?} {:?}", columns.steps, columns.values)
            };
            let history = engine.history(*run, "loss", HistoryQuery::default());
            seen.insert(format!("history {run}"), history.map(steps));
            let listed = engine.checkpoints(*run, scope).map(|infos| {
                let show = |info: &runtree_core::wire::CheckpointInfo| {
                    format!("{} {:?} {}", info.step, info.state, info.bytes)
                };
                infos.iter().map(show).collect::<Vec<_>>().join(", ")
            });
            seen.insert(format!("checkpoints {run}"), listed);
            let latest = format!("{run}@latest").parse().unwrap();
            let latest = engine.resolve_checkpoint(&latest, None, Purpose::Read);
            seen.insert(
                format!("latest {run}"),
                latest.map(|name| name.key.to_string()),
            );
            let named = engine
                .run(*run)
                .map(|detail| format!("{} {:?}", detail.summary.name, detail.summary.last_step));
            seen.insert(format!("run {run}"), named);
        }
        for name in &self.checkpoints {
            seen.insert(
                format!("load {} {}", name.run, name.key),
                load(engine, *name),
            );
        }
        seen
    }

    fn kind_of(&self, path: &str) -> Kind {
        let recorded = |path: &str| {
            let mut parts = path.split('/').skip(1);
            let run: RunId = parts.next().unwrap().parse().unwrap();
            let writer: runtree_core::WriterId = parts.nth(1).unwrap().parse().unwrap();
            let piece = parts.next().unwrap().strip_suffix(".log").unwrap();
            let piece: u64 = piece.parse().unwrap();
            let store = self.bench.engine.store();
            if store.list_pieces(run, writer).unwrap().last() != Some(&piece) {
                // The next one shows what is missing.
                return self.bench.size(path);
            }
            let own = self.checkpoints.iter().filter(|name| name.run == run);
            let ordinal = own
                .flat_map(|name| self.bench.engine.load_plan(*name).unwrap().parts)
                .filter(|part| part.journal.writer == writer)
                .map(|part| part.journal.ordinal)
                .max();
            let ordinal = ordinal.unwrap_or(0);
            if ordinal <= piece {
                return 0;
            }
            let mut reader = JournalReader::open(store, run, writer, Cursor::START).unwrap();
            while reader.cursor().ordinal < ordinal {
                reader.next_frame().unwrap().unwrap();
            }
            reader.cursor().offset
        };
        let kind = |name: &str| path.contains(&format!("/{name}/"));
        let is_seat = kind("attempts") && path.contains('.');
        if is_seat
            || path.strip_suffix(".ok").is_some()
            || path.starts_with("pins/")
            || kind("tombstones")
        {
            Kind::Verify {
                notices_absence: kind("tombstones") && path.ends_with(".0"),
            }
        } else if path.starts_with("projects/") {
            Kind::Verify {
                // A project's letters may not be set yet.
                notices_absence: !path.ends_with("prefix"),
            }
        } else if kind("files") {
            Kind::Verify {
                notices_absence: true,
            }
        } else if kind("journal") {
            Kind::Journal(recorded(path))
        } else if kind("attempts") || path.ends_with("/run") {
            Kind::Fold
        } else {
            Kind::Read
        }
    }

    /// Whether it is a chunk of an attached file.
    fn is_attachment(path: &str) -> bool {
        path.contains(&blake3::hash(b"attached").to_string())
    }

    /// Looks with a process that knows nothing, and with one whose index was whole, and compares.
    fn check(&self, path: &str, how: &How, cache: usize) {
        let what = format!("{path}, {how:?}");
        let kind = if Self::is_attachment(path) {
            Kind::Verify {
                notices_absence: true,
            }
        } else {
            Self::kind_before(path)
        };
        let (by_fold, by_warm, by_verify) = match (kind, how) {
            (Kind::Read, _) | (Kind::Fold, How::Gone) => (true, true, true),
            (Kind::Fold, _) => (true, false, true),
            // An index that folded it whole knows better than one that may take the end for torn.
            (Kind::Journal(recorded), How::Flipped(at)) => (*at < recorded, true, true),
            (Kind::Journal(recorded), How::Cut(length)) => {
                let below = *length < recorded;
                (below, below, below)
            }
            (Kind::Journal(recorded), How::Gone) => (recorded > 0, true, recorded > 0),
            (Kind::Verify { notices_absence }, How::Gone) => (false, false, notices_absence),
            (Kind::Verify { .. }, _) => (false, false, true),
        };
        let token = token_of(path);
        for (cache, must) in [
            (format!("cold-{cache}"), by_fold),
            ("whole".to_owned(), by_warm),
        ] {
            let engine = match self.bench.try_open(&cache, OpenMode::ReadWrite) {
                Ok(engine) => engine,
                Err(error) => {
                    assert_eq!(path, "runtree.json", "{what}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                    assert!(error.message().contains(path), "{what}: {error}");
                    continue;
                }
            };
            let seen = self.look(&engine);
            let found = self.compare(&what, kind, &seen);
            if must {
                assert!(!found.is_empty(), "{what}: nobody noticed ({cache})");
                assert!(
                    found.iter().any(|text| text.contains(&token)),
                    "{what}: {token} is not named: {found:?}"
                );
            }
            let problems = engine.verify(None).unwrap().problems;
            if by_verify {
                assert!(
                    problems.iter().any(|text| text.contains(&token)),
                    "{what}: verify says {problems:?}"
                );
            }
        }
        if cache > 0 {
            let _ = std::fs::remove_dir_all(self.bench.dir.path().join(format!("cold-{cache}")));
        }
    }

    /// What was noticed. Nothing may be another answer than before: only the end of a journal that nobody recorded may be missing.
    fn compare(
        &self,
        what: &str,
        kind: Kind,
        seen: &BTreeMap<String, Result<String>>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for (read, answer) in seen {
            match answer {
                Ok(text) if *text == self.whole[read] => {}
                Ok(text) if text.contains(&format!("{:?}", CheckpointState::Quarantined)) => {}
                Ok(text) => {
                    // Tombstones that are gone delete nothing; journals may end earlier.
                    let quiet = matches!(kind, Kind::Journal(_) | Kind::Verify { .. });
                    assert!(
                        quiet,
                        "{what}: {read} says {text}, not {}",
                        self.whole[read]
                    );
                }
                // Without the tombstone that restored it, the checkpoint is deleted.
                Err(error)
                    if error.kind() == ErrorKind::NotFound && what.contains("/tombstones/") => {}
                Err(error) => found.push(damage_of(what, read, error)),
            }
        }
        found
    }

    fn kind_before(path: &str) -> Kind {
        KINDS.with(|kinds| kinds.borrow()[path])
    }
}

thread_local! {
    /// Kinds of files, computed while they were whole.
    static KINDS: std::cell::RefCell<BTreeMap<String, Kind>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

fn damage_of(what: &str, read: &str, error: &Error) -> String {
    assert_eq!(
        error.kind(),
        ErrorKind::Corrupt,
        "{what}: {read}: {}",
        error.chain()
    );
    error.chain()
}

/// What an error has to say to name a file.
fn token_of(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap();
    if path.contains("/journal/") {
        return parts.next().unwrap().to_owned();
    }
    match path.split_once('/') {
        Some(("chunks", _)) => name[..64].to_owned(),
        // A list that is gone is missed by who needs one of the run's.
        _ if path.contains("/files/") => path[..path.len() - name.len()]
            .trim_end_matches('/')
            .to_owned(),
        // Pins are named by what they pin, and everything else by its whole path.
        _ => path.to_owned(),
    }
}

/// What kind of object a path names, journals by their first piece and the later ones.
fn sort_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["runs", _, "journal", _, piece] => {
            format!("journal {}", piece.starts_with("00000000000000000000."))
        }
        ["runs", _, "parts", _, part] => format!("parts {}", part.strip_suffix(".ok").is_some()),
        ["runs", _, "attempts", attempt] => format!("attempts {}", attempt.contains('.')),
        ["runs", _, folder, ..] => format!("run {folder}"),
        ["projects", _, folder, ..] => format!("project {folder}"),
        [folder, ..] => folder.to_owned(),
        [] => String::new(),
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Flipped(u64),
    Cut(u64),
    Gone,
}

/// Some bits of each region, the first and the last among them.
fn hows(length: u64, seed: u64) -> Vec<How> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    let mut hows = vec![How::Gone, How::Cut(0), How::Cut(length - 1)];
    hows.push(How::Cut(length / 2));
    let regions = 3;
    for region in 0..regions {
        let (from, to) = (length * region / regions, length * (region + 1) / regions);
        hows.push(How::Flipped(from + random(to - from)));
    }
    hows.extend([How::Flipped(0), How::Flipped(length - 1)]);
    hows
}

fn hurt(bench: &Bench, path: &str, whole: &[u8], how: How, bit: u32) {
    match how {
        How::Flipped(at) => {
            let mut bytes = whole.to_vec();
            bytes[at as usize] ^= 1 << bit;
            bench.write(path, bytes);
        }
        How::Cut(length) => bench.write(path, &whole[..length as usize]),
        How::Gone => bench.remove(path),
    }
}

/// What `kill -9` right after the acknowledgement leaves: nobody said goodbye, and the second of the flush interval is not over.
#[test]
fn a_commit_that_was_acknowledged_a_moment_ago_is_missed() {
    let bench = Bench::new();
    let run = bench.start(named("A"));
    let name = save(&run, 5);
    let path = runtree_store::layout::commit(name.run, name.key).to_string();
    bench.remove(&path);
    let engine = bench.elsewhere("cold");
    let listed = engine.checkpoints(run.run(), CheckpointScope::default());
    let states: Vec<_> = listed.unwrap().iter().map(|info| info.state).collect();
    assert_eq!(states, [CheckpointState::Quarantined]);
    assert_error(load(&engine, name), ErrorKind::Corrupt, &[&path]);
    let latest = format!("{}@latest", run.run()).parse().unwrap();
    let latest = engine.resolve_checkpoint(&latest, None, Purpose::Read);
    assert_error(latest, ErrorKind::Corrupt, &[&path]);
}

/// What no stamp of a file shows, as when a disk forgets a bit: the launch that goes on with the run reads its journals from their beginning.
#[test]
fn the_next_launch_notices_a_bit_that_flipped_in_silence() {
    let bench = Bench::on_disk();
    let run = bench.trained("A", 0..=50, &[20]);
    let launch = || RunSpec {
        run: Some(run),
        ..spec()
    };
    let [journal] = &bench.engine.store().list_journals(run).unwrap()[..] else {
        panic!("one writer")
    };
    let writer = journal.writer;
    let path = runtree_store::layout::journal_piece(run, writer, 0);
    bench.steps(run);
    let file = bench.store_dir().join(path.as_ref());
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    bench.damage(path.as_ref(), |bytes| bytes[300] ^= 4);
    let file = std::fs::File::options().write(true).open(&file).unwrap();
    file.set_modified(before).unwrap();
    assert_eq!(bench.steps(run).len(), 51, "the index has what was folded");
    let resumed = bench.other().start_run(launch()).unwrap();
    let [warning] = &resumed.take_warnings()[..] else {
        panic!("one warning")
    };
    assert!(
        warning.message.contains(&writer.to_string()) && warning.message.contains("is damaged"),
        "{warning:?}"
    );
    let history = bench
        .elsewhere("whole")
        .history(run, "loss", HistoryQuery::default());
    assert_error(history, ErrorKind::Corrupt, &[&writer.to_string()]);
    let history = bench.other().history(run, "loss", HistoryQuery::default());
    assert_error(history, ErrorKind::Corrupt, &[&writer.to_string()]);
}

#[test]
fn whatever_is_hurt_is_noticed_and_named() {
    let store = store();
    let files: Vec<String> = store
        .bench
        .files("")
        .into_iter()
        .map(|path| path.to_string_lossy().into_owned())
        // Of the files of `touched/` the times count, and they are hints.
        .filter(|name| name != ".gitignore" && !name.starts_with("touched/"))
        .collect();
    KINDS.with(|kinds| {
        for name in &files {
            kinds.borrow_mut().insert(name.clone(), store.kind_of(name));
        }
    });
    assert!(files.len() > 40, "{} files", files.len());
    let mut count = 0;
    let mut seen = BTreeSet::new();
    for (seed, name) in files.iter().enumerate() {
        let whole = store.bench.read(name);
        let mut hows = hows(whole.len() as u64, seed as u64 + 1);
        if store.bench.is_bucket() {
            // Each look is hundreds of requests there: of each kind of object one, each hurt in another way.
            if !seen.insert(sort_of(name)) {
                continue;
            }
            let one = seen.len() % hows.len();
            hows = vec![hows[one]];
        }
        for how in hows {
            count += 1;
            hurt(&store.bench, name, &whole, how, count as u32 % 8);
            store.check(name, &how, count);
            store.bench.write(name, whole.as_slice());
            // The warm index follows before the next harm: that it has folded everything is what the next look is about.
            let healed = store.bench.try_open("whole", OpenMode::ReadWrite);
            let healed = healed.map(|engine| engine.refresh());
            assert!(matches!(healed, Ok(Ok(()))), "{name}, {how:?}: {healed:?}");
        }
    }
    assert!(count > 10, "{count}");
    let after = store.look(&store.bench.elsewhere("after"));
    for (read, answer) in after {
        assert_eq!(answer.unwrap(), store.whole[&read], "mended again");
    }
    assert_eq!(store.bench.engine.verify(None).unwrap().problems, [""; 0]);
}
