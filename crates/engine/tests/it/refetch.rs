//! Repairing from another store that has what is lost here.

use runtree_core::CheckpointId;
use runtree_engine::sync::{self, SyncSelection};
use runtree_engine::{Engine, RepairReport};
use runtree_store::{ObjectEncoding, layout};
use runtree_testkit::place::Place;

use crate::gc::{assert_whole, saved};
use crate::save_support::{Bench, bytes, expected, load, noise, save};

/// Another store with all of this one's.
fn copy_of(bench: &Bench) -> (std::sync::Arc<Engine>, Place) {
    let place = Place::directory();
    let engine = Engine::open(place.options("cache")).unwrap();
    let selection = SyncSelection::default();
    sync::sync(bench.engine.store(), engine.store(), &selection, &|_| {}).unwrap();
    (engine, place)
}

fn fetched(report: &RepairReport) -> (u64, u64, usize) {
    (
        report.refetched_chunks,
        report.refetched_records,
        report.unreadable.len(),
    )
}

#[test]
fn what_is_damaged_or_gone_here_comes_from_another_store() {
    let bench = Bench::new();
    let (run, names) = saved(&bench, 4);
    let (other, _place) = copy_of(&bench);
    let object = |at: usize| {
        let plan = other.load_plan(names[at]).unwrap();
        let chunk = &plan.parts[0].chunks[0];
        let [name] = bench.engine.store().list_objects(chunk.hash).unwrap()[..] else {
            panic!("one object");
        };
        layout::chunk_object(&name).to_string()
    };
    // A chunk with another bit, one that is gone, a part and a commit that can not be read.
    bench.damage(object(0), |bytes| bytes[77] ^= 2);
    bench.remove(object(1));
    let part = layout::part(run, names[2].key, &"trainer".parse().unwrap(), 0);
    bench.damage(part.as_ref(), |bytes| bytes.truncate(40));
    bench.damage(layout::commit(run, names[3].key).as_ref(), |bytes| {
        bytes[5] ^= 1;
    });
    assert_eq!(bench.engine.verify(None).unwrap().problems.len(), 4);

    let would = bench.engine.repair(true, Some(other.store())).unwrap();
    assert_eq!(fetched(&would), (2, 2, 0));
    assert_eq!(bench.engine.verify(None).unwrap().problems.len(), 4);
    let report = bench.engine.repair(false, Some(other.store())).unwrap();
    assert_eq!(fetched(&report), (2, 2, 0), "{report:?}");
    assert_eq!((report.condemned_objects, report.removed_objects), (0, 1));
    assert_eq!(bench.engine.verify(None).unwrap().problems, [""; 0]);
    for name in names {
        assert_whole(&bench, name);
    }
    let again = bench.engine.repair(false, Some(other.store())).unwrap();
    assert_eq!(fetched(&again), (0, 0, 0));
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn a_difference_is_whole_again_with_its_base() {
    let bench = Bench::new();
    let store = bench.engine.store();
    let run = bench.run();
    let mut values: Vec<u8> = noise(3, 200_000).iter().map(|byte| byte % 7).collect();
    let mut saved = Vec::new();
    for step in 0..2 {
        values[100] ^= 1;
        saved.push((
            save(&run, step, &[bytes("w", values.clone())]),
            values.clone(),
        ));
    }
    run.finish(None, None, None).unwrap();
    let chunks: Vec<_> = saved
        .iter()
        .map(|(name, _)| bench.engine.load_plan(*name).unwrap().parts[0].chunks[0].clone())
        .collect();
    for (chunk, base) in [(&chunks[0], None), (&chunks[1], Some(&chunks[0]))] {
        let rounds = store.list_rounds().unwrap();
        let encoded = store.encode_chunk(chunk, Some(1), base, &rounds).unwrap();
        assert_eq!(
            matches!(encoded.unwrap().name.encoding, ObjectEncoding::Delta(_)),
            base.is_some()
        );
        bench.remove(layout::chunk_object(&chunk.object.parse().unwrap()).to_string());
    }
    let (other, _place) = copy_of(&bench);
    let [base] = store.list_objects(chunks[0].hash).unwrap()[..] else {
        panic!("one object");
    };
    bench.remove(layout::chunk_object(&base).to_string());
    assert_eq!(bench.engine.repair(true, None).unwrap().unreadable.len(), 2);
    let report = bench.engine.repair(false, Some(other.store())).unwrap();
    assert_eq!(fetched(&report), (2, 0, 0));
    for (name, values) in &saved {
        let state = [bytes("w", values.clone())];
        assert_eq!(load(&bench.engine, *name).unwrap(), expected(&state, &[]));
    }
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn what_is_damaged_there_too_is_not_taken() {
    let bench = Bench::new();
    let (_, names) = saved(&bench, 1);
    let (other, place) = copy_of(&bench);
    for (engine, is_here) in [(&bench.engine, true), (&other, false)] {
        let plan = engine.load_plan(names[0]).unwrap();
        let [name] = engine
            .store()
            .list_objects(plan.parts[0].chunks[0].hash)
            .unwrap()[..]
        else {
            panic!("one object");
        };
        let path = layout::chunk_object(&name).to_string();
        if is_here {
            bench.damage(path, |bytes| bytes[9] ^= 1);
        } else {
            place.damage(path, |bytes| bytes[9] ^= 1);
        }
    }
    let report = bench.engine.repair(false, Some(other.store())).unwrap();
    assert_eq!(fetched(&report), (0, 0, 1));
    let id = CheckpointId::of(names[0].run, names[0].key).to_string();
    assert_eq!(report.unreadable[0].id, id);
}
