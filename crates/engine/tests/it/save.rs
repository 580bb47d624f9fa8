//! Saving: what is acknowledged is there, what is not is invisible, and every error surfaces.

use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use runtree_core::ErrorKind;
use runtree_core::manifest::Outcome;
use runtree_core::state::Dtype;
use runtree_engine::{Engine, EngineOptions, IfBusy, RunSpec, SaveRequest};
use runtree_testkit::place::{self, Place};

use crate::save_support::*;

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let dtype = prop_oneof![
        Just("u8"),
        Just("bf16"),
        Just("f32"),
        Just("c128"),
        Just("numpy:<U3"),
        Just("f8_e5m2")
    ];
    let shape = prop_oneof![
        Just(vec![]),
        Just(vec![0]),
        Just(vec![3, 0, 2]),
        proptest::collection::vec(1_u64..40, 1..4),
        Just(vec![1 << 18]),
        Just(vec![700, 1000]),
    ];
    (dtype, shape, any::<u64>()).prop_map(|(dtype, shape, seed)| {
        let dtype: Dtype = dtype.parse().unwrap();
        let count = shape.iter().product::<u64>() * dtype.item_bytes();
        Tensor {
            name: String::new(),
            dtype,
            shape,
            data: noise(seed, count as usize),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(place::cases(24, 8)))]
    #[test]
    fn whatever_is_saved_comes_back_equal(
        mut tensors in proptest::collection::vec(any_tensor(), 0..24),
        blobs in proptest::collection::vec((any::<u64>(), 0_usize..70_000), 0..4),
    ) {
        for (index, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = format!("layer.{index}");
        }
        let blobs: Vec<Vec<u8>> = blobs.into_iter().map(|(seed, count)| noise(seed, count)).collect();
        let bench = Bench::new();
        let run = bench.run();
        let pending = run.save(at(3, vec![state(&tensors, &blobs)])).unwrap();
        pending.wait(None).unwrap();
        prop_assert_eq!(load(&bench.engine, pending.name()).unwrap(), expected(&tensors, &blobs));
        // Another process sees the same.
        let other = bench.other();
        prop_assert_eq!(load(&other, pending.name()).unwrap(), expected(&tensors, &blobs));
    }
}

#[test]
fn tensors_larger_than_a_chunk_come_back_equal() {
    let bench = Bench::new();
    let tensors = [
        bytes("large", noise(1, (129 << 20) + 3)),
        bytes("exact", noise(2, 64 << 20)),
        bytes("small", noise(3, 5)),
        bytes("block", noise(4, (1 << 20) + 1)),
    ];
    let name = save(&bench.run(), 1, &tensors);
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&tensors, &[]));
}

#[test]
fn ten_thousand_small_tensors_are_a_few_objects() {
    let bench = Bench::new();
    let tensors: Vec<Tensor> = (0..10_000)
        .map(|i| bytes(&format!("t{i}"), noise(i, 2000)))
        .collect();
    let name = save(&bench.run(), 1, &tensors);
    assert_eq!(bench.files("chunks").len(), 3);
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&tensors, &[]));
}

#[test]
fn the_trainer_may_change_its_tensors_as_soon_as_save_returns() {
    let bench = Bench::new();
    let run = bench.run();
    let mut tensors = vec![bytes("w", noise(1, 30 << 20))];
    let before = expected(&tensors, &[]);
    let pending = run.save(at(1, vec![state(&tensors, &[])])).unwrap();
    tensors[0].data.fill(7);
    pending.wait(None).unwrap();
    assert_eq!(load(&bench.engine, pending.name()).unwrap(), before);
}

#[test]
fn what_is_there_already_is_not_written_again_in_any_run() {
    let bench = Bench::new();
    let tensors = [bytes("w", noise(1, 5 << 20)), bytes("b", noise(2, 100))];
    let run = bench.run();
    save(&run, 1, &tensors);
    let written = bench.chunk_bytes();
    assert_eq!(written, (5 << 20) + 100);
    save(&run, 2, &tensors);
    save(&bench.run(), 1, &tensors);
    // A process that remembers nothing finds them by listing.
    let other = bench.other();
    save(
        &other
            .start_run(RunSpec::new("digits".parse().unwrap()))
            .unwrap(),
        9,
        &tensors,
    );
    assert_eq!(bench.chunk_bytes(), written, "no chunk byte was written");
    // One tensor changes: only it is written.
    let changed = [tensors[0].clone(), bytes("b", noise(3, 100))];
    save(&run, 3, &changed);
    assert_eq!(bench.chunk_bytes(), written + 100);
}

#[test]
fn the_same_step_saved_again_is_another_checkpoint() {
    let bench = Bench::new();
    let run = bench.run();
    let (one, two) = ([bytes("w", vec![1; 10])], [bytes("w", vec![2; 10])]);
    let (first, second) = (save(&run, 5, &one), save(&run, 5, &two));
    assert_eq!((first.key.k, second.key.k), (0, 1));
    assert_eq!(load(&bench.engine, first).unwrap(), expected(&one, &[]));
    assert_eq!(load(&bench.engine, second).unwrap(), expected(&two, &[]));
}

#[test]
fn a_part_records_how_far_the_journal_was_durable() {
    let bench = Bench::new();
    let run = bench.run();
    let name = save(&run, 1, &[bytes("w", vec![1])]);
    let manifest = bench.engine.load_plan(name).unwrap();
    let position = manifest.parts[0].journal;
    assert_eq!(run.flush().unwrap().writer, position.writer);
}

#[test]
fn wrong_calls_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let run = bench.run();
    let good = [bytes("w", vec![1; 4])];
    let mut wrong = good.clone();
    wrong[0].shape = vec![5];
    let mut no_rank = at(1, vec![state(&good, &[])]);
    (no_rank.rank, no_rank.world_size) = (2, 2);
    let mut other_parts = at(1, vec![state(&good, &[])]);
    other_parts.parts = Some([("orchestrator".parse().unwrap(), 1)].into());
    let mut named = at(1, vec![state(&good, &[])]);
    named.name = Some("a@b".to_owned());
    let cases = [
        at(1, vec![state(&wrong, &[])]),
        no_rank,
        other_parts,
        named,
        at(1, vec![]),
        at(1, vec![state(&good, &[]), state(&good, &[])]),
    ];
    for request in cases {
        assert_eq!(run.save(request).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(bench.files("chunks").is_empty());
    assert_eq!(
        save(&run, 1, &good).key.k,
        0,
        "refused calls count for nothing"
    );
}

#[test]
fn a_second_rank_that_saves_the_same_is_told_what_to_do() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let request = |rank: u32, data: &'static [Tensor]| SaveRequest {
        rank,
        world_size: 2,
        ..at(1, vec![state(data, &[])])
    };
    let data: &'static [Tensor] = vec![bytes("w", vec![1; 4])].leak();
    ranks[0].save(request(0, data)).unwrap().wait(None).unwrap();
    let error = failure(&ranks[1].save(request(1, data)).unwrap());
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.hint(),
        Some("save on rank 0 only, or pass sharded=True")
    );
    let lost = ranks[1].finish(None, None, None).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LostData);
    ranks[0].finish(None, None, None).unwrap();
}

#[test]
fn what_a_ref_reads_as_something_else_names_no_checkpoint() {
    let bench = Bench::new();
    let run = bench.run();
    let data = [bytes("w", vec![1; 4])];
    let id = runtree_core::CheckpointId::of(run.run(), save(&run, 0, &data).key).to_string();
    let selectors = [
        "latest",
        "500",
        "-1",
        "<=5",
        "best:x",
        "best:",
        "last-good",
        "last-good:loss",
        "a@b",
        "a#b",
        "a/b",
        "a\nb",
        "",
        &id,
    ];
    for name in selectors {
        let mut request = at(1, vec![state(&data, &[])]);
        request.name = Some(name.to_owned());
        let error = run.save(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        assert!(error.hint().is_some(), "{name}");
    }
    for name in ["warm", "latest-good", "5k", "best", "step 500"] {
        let mut request = at(1, vec![state(&data, &[])]);
        request.name = Some(name.to_owned());
        run.save(request).unwrap().wait(None).unwrap();
        let reference = format!("{}@{name}", run.display_id()).parse().unwrap();
        bench
            .engine
            .resolve_checkpoint(&reference, None, runtree_engine::Purpose::Read)
            .unwrap();
    }
}

#[test]
fn several_parts_need_a_launch_that_is_not_random() {
    let bench = Bench::new();
    let data = [bytes("w", vec![1; 4])];
    let request = SaveRequest {
        sharded: true,
        world_size: 2,
        ..at(1, vec![state(&data, &[])])
    };
    let error = bench.run().save(request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("RUNTREE_ATTEMPT"));
}

fn sharded(rank: u32, world_size: u32, step: i64, data: &[Tensor]) -> SaveRequest<'_> {
    SaveRequest {
        sharded: true,
        rank,
        world_size,
        ..at(step, vec![state(data, &[])])
    }
}

#[test]
fn all_ranks_are_told_that_the_checkpoint_exists_and_all_write_the_same_commit() {
    let bench = Bench::new();
    let ranks = bench.ranks(4);
    let data: Vec<[Tensor; 1]> = (0..4)
        .map(|rank| [bytes(&format!("shard{rank}"), noise(rank, 3 << 20))])
        .collect();
    for step in 0..5 {
        std::thread::scope(|scope| {
            for (rank, run) in ranks.iter().enumerate() {
                let data = &data[rank];
                scope.spawn(move || {
                    let pending = run.save(sharded(rank as u32, 4, step, data)).unwrap();
                    pending.wait(Some(Duration::from_secs(60))).unwrap();
                });
            }
        });
    }
    assert_eq!(
        bench
            .files("runs")
            .iter()
            .filter(|path| path.to_string_lossy().contains("/commits/"))
            .count(),
        5
    );
    let name = runtree_core::manifest::CheckpointName {
        run: ranks[0].run(),
        key: "1-4-0".parse().unwrap(),
    };
    let all: Vec<Tensor> = data.into_iter().flatten().collect();
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&all, &[]));
}

#[test]
fn with_a_rank_missing_there_is_no_checkpoint_and_the_error_says_who_is_here() {
    let bench = Bench::new();
    let ranks = bench.ranks(4);
    let data = [bytes("w", vec![1; 4])];
    let other = ranks[1].save(sharded(1, 4, 7, &data)).unwrap();
    let pending = ranks[0].save(sharded(0, 4, 7, &data)).unwrap();
    assert_eq!(
        pending
            .wait(Some(Duration::from_secs(2)))
            .unwrap_err()
            .kind(),
        ErrorKind::Unavailable
    );
    let error = pending.wait(Some(Duration::from_millis(1))).unwrap_err();
    assert!(
        error
            .message()
            .contains("2 of 4 parts here (ranks 0, 1); are all ranks on the same store?"),
        "{error}"
    );
    assert_eq!(
        bench.engine.load_plan(pending.name()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(!pending.done());
    // The run can not be finished as if all were well, and does not wait for ever.
    let lost = ranks[0]
        .finish(None, None, Some(Duration::from_millis(100)))
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LostData);
    // The others come after all: it is a checkpoint.
    for rank in [2, 3] {
        ranks[rank].save(sharded(rank as u32, 4, 7, &data)).unwrap();
    }
    pending.wait(Some(Duration::from_secs(20))).unwrap();
    other.wait(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(
        bench.engine.load_plan(pending.name()).unwrap().parts.len(),
        4
    );
}

#[test]
fn ranks_that_declare_different_parts_are_told_both() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let data = [bytes("w", vec![1; 4])];
    let _first = ranks[0].save(sharded(0, 2, 1, &data)).unwrap();
    // The first part is there before the second one looks.
    while bench
        .files("runs")
        .iter()
        .all(|path| !path.ends_with("trainer-0.ok"))
    {
        std::thread::yield_now();
    }
    let error = failure(&ranks[1].save(sharded(1, 3, 1, &data)).unwrap());
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("trainer: 2") && error.message().contains("trainer: 3"),
        "{error}"
    );
}

#[test]
fn components_make_one_checkpoint_together() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let data = [bytes("w", vec![1; 4])];
    let parts: std::collections::BTreeMap<_, _> = [
        ("trainer".parse().unwrap(), 1),
        ("orchestrator".parse().unwrap(), 1),
    ]
    .into();
    let request = |component: &str| SaveRequest {
        component: component.parse().unwrap(),
        parts: Some(parts.clone()),
        ..at(4, vec![state(&data, &[])])
    };
    let trainer = ranks[0].save(request("trainer")).unwrap();
    let orchestrator = ranks[1].save(request("orchestrator")).unwrap();
    trainer.wait(Some(Duration::from_secs(20))).unwrap();
    orchestrator.wait(Some(Duration::from_secs(20))).unwrap();
    let manifest = bench.engine.load_plan(trainer.name()).unwrap();
    let names: Vec<String> = manifest
        .parts
        .iter()
        .map(|part| part.component.to_string())
        .collect();
    assert_eq!(names, ["orchestrator", "trainer"]);
}

#[test]
fn a_launch_that_was_superseded_never_commits() {
    let bench = Bench::new();
    let run = bench.run();
    save(&run, 1, &[bytes("w", vec![1])]);
    let mut newer = run.attempt_record();
    newer.attempt = newer.attempt.next();
    newer.launch_key = "the next launch".to_owned();
    assert_eq!(
        bench.engine.store().create_attempt(&newer).unwrap(),
        runtree_store::Created::Created
    );
    let pending = run
        .save(at(2, vec![state(&[bytes("w", vec![2])], &[])]))
        .unwrap();
    let error = failure(&pending);
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("continued elsewhere as attempt 2"),
        "{error}"
    );
    assert_eq!(
        bench
            .engine
            .store()
            .read_commit(run.run(), pending.key())
            .unwrap(),
        None
    );
}

#[test]
fn a_cancelled_save_is_no_checkpoint_and_no_loss() {
    let bench = Bench::new();
    let run = bench.run();
    let data = [bytes("w", noise(1, 80 << 20))];
    let pending = run.save(at(1, vec![state(&data, &[])])).unwrap();
    pending.cancel();
    match pending.wait(Some(Duration::from_secs(60))) {
        Ok(()) => {} // it was faster
        Err(error) => {
            assert!(error.message().contains("cancelled"), "{error}");
            assert!(pending.was_declined());
            assert_eq!(
                bench.engine.load_plan(pending.name()).unwrap_err().kind(),
                ErrorKind::NotFound
            );
        }
    }
    run.finish(None, None, None).unwrap();
}

#[test]
fn saving_faster_than_the_disk_waits_or_skips_but_never_mixes_states() {
    let bench = Bench::new();
    let run = bench.run();
    let mut kept = Vec::new();
    let mut skipped = 0;
    let mut data = [bytes("w", vec![0; 40 << 20])];
    let steps = if bench.is_bucket() { 9 } else { 24 };
    for step in 0..steps {
        data[0].data.fill(step as u8);
        let request = SaveRequest {
            if_busy: if step % 3 == 2 {
                IfBusy::Skip
            } else {
                IfBusy::Wait
            },
            ..at(step, vec![state(&data, &[])])
        };
        kept.push(run.save(request).unwrap());
    }
    for (step, pending) in kept.iter().enumerate() {
        match pending.wait(None) {
            Ok(()) => {
                let loaded = load(&bench.engine, pending.name()).unwrap();
                assert!(loaded["w"].iter().all(|&byte| byte == step as u8));
            }
            Err(error) => {
                assert!(step % 3 == 2 && pending.was_declined(), "{error}");
                skipped += 1;
            }
        }
    }
    assert!(skipped < steps);
    run.finish(None, None, None).unwrap();
}

#[test]
fn a_dropped_handle_loses_nothing() {
    let bench = Bench::new();
    let run = bench.run();
    let data = [bytes("w", noise(1, 20 << 20))];
    let name = run.save(at(1, vec![state(&data, &[])])).unwrap().name();
    let report = run.finish(None, None, None).unwrap();
    assert_eq!(report.saves, 1);
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&data, &[]));
}

#[test]
fn a_full_disk_surfaces_in_the_result_and_at_the_end_and_the_old_checkpoint_stays() {
    let place = Place::on_disk();
    let dir = &place.dir;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "none"])
        .arg(dir.path())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    }
    let engine = Engine::open(place.options("cache")).unwrap();
    let run = engine
        .start_run(RunSpec::new("digits".parse().unwrap()))
        .unwrap();
    let small = [bytes("w", noise(1, 2 << 20))];
    let first = save(&run, 1, &small);
    let pending = run
        .save(at(2, vec![state(&[bytes("w", noise(2, 60 << 20))], &[])]))
        .unwrap();
    let error = failure(&pending);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert_eq!(load(&engine, first).unwrap(), expected(&small, &[]));
    assert_eq!(
        engine
            .store()
            .read_commit(run.run(), pending.key())
            .unwrap(),
        None
    );
    // There is room again: the next save works, the failed one is still told at the end.
    let third = save(&run, 3, &[bytes("w", noise(3, 1 << 20))]);
    assert!(load(&engine, third).is_ok());
    assert_eq!(
        run.finish(None, None, None).unwrap_err().kind(),
        ErrorKind::LostData
    );
    drop((run, pending, engine));
    let unmounted = Command::new("umount")
        .arg("-l")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(unmounted.success());
}

const CHILD_DIR: &str = "RUNTREE_TEST_SAVE_CHILD";
const CHILD_STORE: &str = "RUNTREE_TEST_SAVE_STORE";

/// Not a test: what [`kill_nine_at_any_moment_leaves_only_whole_checkpoints`] runs and kills.
#[test]
#[ignore = "run by another test"]
#[expect(clippy::disallowed_methods, reason = "the parent test says where")]
fn child_that_saves_until_it_is_killed() {
    use std::io::Write as _;
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let cache = std::path::Path::new(&dir).join("cache");
    let options = EngineOptions::new(std::env::var(CHILD_STORE).unwrap(), cache);
    let engine = Engine::open(options.with_settings(place::settings())).unwrap();
    let run = engine
        .start_run(RunSpec::new("digits".parse().unwrap()))
        .unwrap();
    let mut acknowledged = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(format!("{dir}/acknowledged"))
        .unwrap();
    for step in 0.. {
        let data = [
            bytes("w", vec![step as u8; 3 << 20]),
            bytes("n", noise(step, 700)),
        ];
        let pending = run.save(at(step as i64, vec![state(&data, &[])])).unwrap();
        pending.wait(None).unwrap();
        // One write: `writeln!` makes one of each piece, and a kill between them leaves a line that acknowledges nothing.
        let line = format!("{} {}\n", run.run(), pending.key());
        acknowledged.write_all(line.as_bytes()).unwrap();
        acknowledged.sync_data().unwrap();
    }
}

#[test]
fn kill_nine_at_any_moment_leaves_only_whole_checkpoints() {
    let bench = Bench::new();
    let mut whole = 0;
    let mut round = 0;
    // A server that many ask may keep a child from saving anything in its time: then others get more.
    while round < 12 || (whole == 0 && round < 40) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "save::child_that_saves_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD_DIR, bench.dir.path())
            .env(CHILD_STORE, bench.location())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let slower = if bench.is_bucket() { 3 } else { 1 };
        let slower = slower * (1 + round / 12 * 4);
        let moment = Duration::from_millis(slower * (60 + round * 37 % 250));
        round += 1;
        let waited = std::sync::mpsc::channel::<()>().1.recv_timeout(moment);
        assert!(waited.is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        let engine = bench.other();
        let acknowledged =
            std::fs::read_to_string(bench.dir.path().join("acknowledged")).unwrap_or_default();
        let mut seen = 0;
        for run in engine.store().list_runs().unwrap() {
            for key in engine.store().list_commits(run).unwrap() {
                let name = runtree_core::manifest::CheckpointName { run, key };
                let loaded = load(&engine, name).unwrap();
                let step = key.step.0 as u64;
                assert!(loaded["w"].iter().all(|&byte| byte == step as u8));
                assert_eq!(loaded["n"], noise(step, 700));
                if acknowledged.contains(&format!("{run} {key}\n")) {
                    seen += 1;
                }
            }
        }
        assert_eq!(
            seen,
            acknowledged.lines().count(),
            "every acknowledged checkpoint is listed"
        );
        whole = seen;
    }
    assert!(whole > 0, "no child came to save anything: give it longer");
}

#[test]
fn what_was_given_up_stays_given_up() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let data = [bytes("w", vec![1; 4])];
    let first = ranks[0].save(sharded(0, 2, 1, &data)).unwrap();
    while bench
        .files("runs")
        .iter()
        .all(|path| !path.ends_with("trainer-0.ok"))
    {
        std::thread::yield_now();
    }
    let record = bench
        .engine
        .store()
        .abandon(ranks[0].run(), first.key())
        .unwrap();
    assert_eq!(record.outcome, Outcome::Abandoned);
    let second = ranks[1].save(sharded(1, 2, 1, &data)).unwrap();
    for pending in [&first, &second] {
        let error = failure(pending);
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("given up"), "{error}");
    }
}

#[test]
fn a_pinned_save_is_pinned() {
    let bench = Bench::new();
    let run = bench.run();
    let data = [bytes("w", vec![1; 4])];
    let pending = run
        .save(SaveRequest {
            pin: true,
            ..at(1, vec![state(&data, &[])])
        })
        .unwrap();
    pending.wait(None).unwrap();
    let pins = bench.engine.store().list_pins().unwrap();
    assert_eq!(
        bench.engine.store().read_pin(&pins[0]).unwrap().checkpoint,
        pending.name()
    );
}

#[test]
fn errors_are_shared_by_everyone_who_asks() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let data = [bytes("w", vec![1; 4])];
    ranks[0]
        .save(at(1, vec![state(&data, &[])]))
        .unwrap()
        .wait(None)
        .unwrap();
    let pending = ranks[1].save(at(1, vec![state(&data, &[])])).unwrap();
    let clone = pending.clone();
    let message = failure(&pending).chain();
    assert_eq!(failure(&clone).chain(), message);
    assert_eq!(
        pending.exception().map(|error| error.kind()),
        Some(ErrorKind::Conflict)
    );
}
