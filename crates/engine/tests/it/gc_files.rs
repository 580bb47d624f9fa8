//! What collecting has to do with journals: the chunks that they name, and the pieces that segments stand for. And damage.

use runtree_core::manifest::{Record as _, StoreRecord};
use runtree_core::{ErrorKind, RunId, Timestamp};
use runtree_engine::gc::Reliance;
use runtree_store::ObjectName;
use runtree_testkit::place::Place;

use crate::gc::{all_gone, assert_whole, gc, now, saved};
use crate::save_support::{Bench, noise};
use crate::support::assert_error;

/// Makes a store one that was made before there were lists.
fn make_old(bench: &Bench) {
    let bytes = bench.read("runtree.json");
    let mut record = StoreRecord::load(&bytes, "runtree.json").unwrap();
    assert_eq!(record.required_to_write, ["file-lists"]);
    record.required_to_write.clear();
    bench.write("runtree.json", record.to_bytes());
}

/// Pieces of a run's journals: on disk one of each process, in a bucket one of each sync.
fn pieces(bench: &impl std::ops::Deref<Target = Place>, run: RunId) -> u64 {
    bench.files(&format!("runs/{run}/journal")).len() as u64
}

#[test]
fn attached_files_are_kept_by_their_lists() {
    let bench = Bench::new();
    let run = bench.run();
    run.log_file_bytes("notes", noise(1, 5000).into()).unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(
        bench
            .files("runs")
            .iter()
            .filter(|path| path.parent().unwrap().ends_with("files"))
            .count(),
        1
    );
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 0);
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn a_store_without_lists_has_its_journals_and_segments_read() {
    let mut bench = Bench::new();
    make_old(&bench);
    bench.engine = bench.other();
    let run = bench.run();
    run.log_file_bytes("notes", noise(1, 5000).into()).unwrap();
    run.log_file_bytes("more", noise(2, 5000).into()).unwrap();
    run.log(Some(runtree_core::Step(1)), None, &[("loss", 1.0)], true)
        .unwrap();
    run.finish(None, None, None).unwrap();
    // As a runtree of before leaves it.
    bench.remove_below(format!("runs/{}/files", run.run()));
    assert_eq!(gc(&bench.engine, all_gone()).removed_objects, 0);
    bench.engine.seal(&[run.run()], &mut |_| {}).unwrap();
    let pieces = pieces(&bench, run.run());
    let report = gc(&bench.engine, all_gone());
    assert_eq!((report.removed_objects, report.journal_pieces), (0, pieces));
    let report = gc(&bench.other(), all_gone());
    assert_eq!((report.removed_objects, report.kept_objects), (0, 2));
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
    assert!(
        bench
            .engine
            .store()
            .list_rounds()
            .unwrap()
            .numbers
            .is_empty()
    );
}

#[test]
fn finished_journals_go_when_whole_segments_stand_for_them() {
    let bench = crate::support::Bench::new();
    let run = bench.trained("a", 0..=50, &[]);
    let live = bench.start(crate::support::named("b"));
    crate::support::train(&live, 0..=10, &[]);
    live.flush().unwrap();
    bench.engine.seal(&[run, live.run()], &mut |_| {}).unwrap();
    let before = (bench.steps(run), bench.values(run), bench.steps(live.run()));
    // A damaged segment stands for nothing.
    let name = bench.engine.store().list_segments(run).unwrap()[0];
    let path = format!("runs/{run}/metrics/{name}");
    bench.damage(&path, |bytes| bytes[20] ^= 1);
    assert_eq!(gc(&bench.engine, now()).journal_pieces, 0);
    bench.damage(&path, |bytes| bytes[20] ^= 1);
    let finished = pieces(&bench, run);
    let report = gc(&bench.engine, now());
    assert_eq!(
        report.journal_pieces, finished,
        "not those that are still written to"
    );
    assert!(report.journal_bytes > 0);
    let now = (bench.steps(run), bench.values(run), bench.steps(live.run()));
    assert_eq!(now, before);
    crate::support::train(&live, 11..=20, &[]);
    live.finish(None, None, None).unwrap();
    let elsewhere = bench.elsewhere("elsewhere");
    assert!(elsewhere.verify(None).unwrap().problems.is_empty());
    let history = elsewhere
        .history(run, "loss", runtree_engine::HistoryQuery::default())
        .unwrap();
    assert_eq!(history.steps, before.0);
}

#[test]
fn who_relies_on_what_a_collector_takes_meanwhile_is_told() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 2);
    let store = bench.engine.store();
    let reliance = Reliance::begin(store).unwrap();
    let plan = bench.engine.load_plan(names[0]).unwrap();
    let object: ObjectName = plan.parts[0].chunks[0].object.parse().unwrap();
    let rounds = store.open_rounds([object], Timestamp(0)).unwrap().unwrap();
    // It is there, and may be gone at any moment.
    let words = &["1 of its 1 chunks are gone", "runtree checkpoints"];
    assert_error(reliance.check(store, names[0]), ErrorKind::Conflict, words);
    reliance.check(store, names[1]).unwrap();
    rounds.close().unwrap();
    reliance.check(store, names[0]).unwrap();
}

#[test]
fn a_damaged_object_goes_if_another_one_is_whole() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 1);
    let plan = bench.engine.load_plan(names[0]).unwrap();
    let chunk = &plan.parts[0].chunks[0];
    let folder = std::path::Path::new("chunks").join(&chunk.object[..2]);
    let copy = folder.join(format!(
        "{}.{}",
        chunk.hash,
        runtree_core::PutId::from_bits(1)
    ));
    bench.copy(folder.join(&chunk.object), &copy);
    bench.damage(folder.join(&chunk.object), |bytes| bytes[77] ^= 2);
    let would = bench.engine.repair(true, None).unwrap();
    assert_eq!((would.damaged_objects, would.removed_objects), (1, 1));
    assert_eq!(bench.files("chunks").len(), 2);
    let report = bench.engine.repair(false, None).unwrap();
    assert_eq!((report.removed_objects, report.condemned_objects), (1, 0));
    assert_eq!(bench.files("chunks"), [copy]);
    assert_whole(&bench, names[0]);
    assert!(report.unreadable.is_empty());
}

#[test]
fn a_damaged_object_that_is_all_there_is_waits_for_the_next_save_of_its_bytes() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 2);
    let plan = bench.engine.load_plan(names[0]).unwrap();
    let object = &plan.parts[0].chunks[0].object;
    let path = format!("chunks/{}/{object}", &object[..2]);
    bench.damage(&path, |bytes| bytes[77] ^= 2);
    let report = bench.engine.repair(false, None).unwrap();
    assert_eq!((report.damaged_objects, report.condemned_objects), (1, 1));
    let id = runtree_core::CheckpointId::of(names[0].run, names[0].key).to_string();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(
        (&report.unreadable[0].id, report.unreadable[0].bytes),
        (&id, 200_000)
    );
    // Once is enough.
    let again = bench.engine.repair(false, None).unwrap();
    assert_eq!((again.damaged_objects, again.condemned_objects), (1, 0));
    // The size is right, so without the round it would be a hit.
    let run = bench.run();
    crate::save_support::save(&run, 7, &crate::gc::state(1000));
    run.finish(None, None, None).unwrap();
    assert_whole(&bench, names[0]);
    let report = gc(&bench.engine, now());
    assert_eq!(report.removed_objects, 1);
    assert!(!bench.exists(&path));
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn a_list_that_is_damaged_or_gone_is_written_anew() {
    let bench = Bench::new();
    let run = bench.run();
    run.log_file_bytes("notes", noise(1, 5000).into()).unwrap();
    run.finish(None, None, None).unwrap();
    let list = || {
        let mut files = bench.files("runs");
        files.retain(|path| path.parent().unwrap().ends_with("files"));
        files
    };
    bench.damage(&list()[0], |bytes| bytes[60] ^= 1);
    assert_error(
        bench.engine.gc(&now(), &mut |_| {}),
        ErrorKind::Corrupt,
        &["files/"],
    );
    assert_eq!(bench.engine.repair(false, None).unwrap().mended_lists, 1);
    assert_eq!(gc(&bench.engine, now()).removed_objects, 0);
    bench.remove(&list()[0]);
    assert!(!bench.engine.verify(None).unwrap().problems.is_empty());
    assert_eq!(bench.engine.repair(false, None).unwrap().mended_lists, 1);
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
    assert_eq!(gc(&bench.engine, now()).removed_objects, 0);
}

#[test]
fn a_sample_is_some_of_the_chunks() {
    let bench = Bench::new();
    saved(&bench, 4);
    let report = |sample| bench.engine.verify_sample(None, sample).unwrap();
    let three = report(runtree_engine::Sample::Count(3));
    assert_eq!(
        (three.chunks, three.sampled_from, three.bytes),
        (3, Some(4), 600_000)
    );
    assert_eq!(report(runtree_engine::Sample::Fraction(0.3)).chunks, 2);
    assert_eq!(report(runtree_engine::Sample::Count(99)).chunks, 4);
    for wrong in [0.0, -1.0, 1.5, f64::NAN] {
        let sample = runtree_engine::Sample::Fraction(wrong);
        assert_error(
            bench.engine.verify_sample(None, sample),
            ErrorKind::Invalid,
            &[],
        );
    }
}
