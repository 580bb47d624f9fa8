//! Checkpoints: parts, commits, tombstones, pins, what is said about them.

use std::collections::BTreeMap;

use runtree_core::event::{Event, Lamport};
use runtree_core::manifest::{CheckpointName, Outcome, PinRecord, TombstoneRecord};
use runtree_core::{CheckpointId, SaveKey, Timestamp};
use runtree_index::{CheckpointRow, FoldItem, Index, PinFacts};

use crate::builder::{Journal, commit, fold, key, part, run, run_id, show};

crate::indexes! {
    a_checkpoint_is_pending_until_its_commit,
    the_highest_tombstone_decides,
    metrics_given_later_win_and_tags_come_and_go,
    pins_come_and_go,
    they_are_found_by_id_and_sorted_by_step,
    launches_that_start_from_a_checkpoint_are_found,
}

fn name(key: SaveKey) -> CheckpointName {
    CheckpointName {
        run: run_id(1),
        key,
    }
}

fn rows(index: &dyn Index) -> Vec<CheckpointRow> {
    index.snapshot().unwrap().checkpoints(run_id(1)).unwrap()
}

fn tombstone(key: SaveKey, number: u32) -> FoldItem {
    FoldItem::Tombstone {
        checkpoint: name(key),
        number,
        record: TombstoneRecord {
            checkpoint: name(key),
            reason: format!("reason {number}"),
            created: Timestamp(0),
        },
    }
}

fn a_checkpoint_is_pending_until_its_commit(index: &dyn Index) {
    fold(index, run(1, None));
    let saved = key(1, 500, 0);
    let mut first = part(1, saved, 0, 2);
    first.name = Some("before the change".to_owned());
    first.confirmed = false;
    fold(index, [FoldItem::Part(Box::new(first.clone()))]);
    let row = &rows(index)[0];
    assert_eq!(row.outcome, None);
    assert_eq!(row.label.as_deref(), Some("before the change"));
    let parts: Vec<_> = row
        .parts
        .iter()
        .map(|part| (part.rank, part.present, part.confirmed))
        .collect();
    assert_eq!(parts, [(0, true, false), (1, false, false)]);
    assert_eq!(show(index, 1).checkpoints, 0);

    first.confirmed = true;
    fold(index, [FoldItem::Part(Box::new(first.clone()))]);
    first.confirmed = false;
    fold(
        index,
        [
            FoldItem::Part(Box::new(part(1, saved, 1, 2))),
            FoldItem::Part(Box::new(first)),
            commit(1, saved, Outcome::Committed),
        ],
    );
    let row = &rows(index)[0];
    assert!(row.is_complete());
    assert!(row.parts[0].confirmed, "a confirmation is never taken back");
    assert_eq!((row.bytes, row.tensors), (200, 6));
    assert_eq!(show(index, 1).checkpoints, 1);
}

fn the_highest_tombstone_decides(index: &dyn Index) {
    fold(index, run(1, None));
    let saved = key(1, 5, 0);
    fold(index, [commit(1, saved, Outcome::Committed)]);
    fold(index, [tombstone(saved, 1)]);
    fold(index, [tombstone(saved, 0)]);
    assert!(rows(index)[0].is_complete());
    assert_eq!(rows(index)[0].tombstone, Some((1, "reason 1".to_owned())));
    fold(index, [tombstone(saved, 2)]);
    assert!(rows(index)[0].deleted);
    assert_eq!(show(index, 1).checkpoints, 0);
}

fn metrics_given_later_win_and_tags_come_and_go(index: &dyn Index) {
    fold(index, run(1, None));
    let saved = key(1, 5, 0);
    let mut facts = part(1, saved, 0, 1);
    facts.metrics = BTreeMap::from([("loss".to_owned(), f64::INFINITY), ("acc".to_owned(), 0.5)]);
    let said = |lamport, score: f64, tag: &str, untag: &[&str]| {
        let lamport = Lamport(lamport);
        [
            Event::CheckpointMetrics {
                lamport,
                key: saved,
                metrics: BTreeMap::from([("acc".to_owned(), score)]),
            },
            Event::CheckpointTags {
                lamport,
                key: saved,
                add: vec![tag.to_owned()],
                remove: untag.iter().map(|&tag| tag.to_owned()).collect(),
            },
        ]
    };
    let mut journal = Journal::tool(1, 1);
    for event in said(1, 0.7, "good", &[]) {
        journal = journal.event(event);
    }
    for event in said(2, f64::NAN, "best", &["good"]) {
        journal = journal.event(event);
    }
    fold(index, [journal.whole(), FoldItem::Part(Box::new(facts))]);
    let row = &rows(index)[0];
    assert_eq!(row.metrics["loss"], f64::INFINITY);
    assert!(row.metrics["acc"].is_nan());
    assert_eq!(row.tags, ["best"]);
}

fn pins_come_and_go(index: &dyn Index) {
    fold(index, run(1, None));
    let saved = key(1, 5, 0);
    fold(index, [commit(1, saved, Outcome::Committed)]);
    let pin = |record| {
        FoldItem::Pin(PinFacts {
            name: "keep-it".to_owned(),
            record,
        })
    };
    let record = PinRecord {
        checkpoint: name(saved),
        reason: "paper".to_owned(),
        created: Timestamp(3),
        ttl_seconds: None,
    };
    fold(index, [pin(Some(record.clone()))]);
    assert_eq!(rows(index)[0].pins, ["keep-it"]);
    let pins = index.snapshot().unwrap().pins().unwrap();
    assert_eq!(pins[0].record, Some(record));
    fold(index, [pin(None)]);
    assert_eq!(rows(index)[0].pins, [""; 0]);
    assert_eq!(index.snapshot().unwrap().pins().unwrap(), []);
}

fn they_are_found_by_id_and_sorted_by_step(index: &dyn Index) {
    fold(index, run(1, None));
    let keys = [
        key(2, -5, 0),
        key(1, 3, 0),
        key(2, 3, 0),
        key(2, 3, 1),
        key(1, 9, 0),
    ];
    for &key in keys.iter().rev() {
        fold(index, [commit(1, key, Outcome::Committed)]);
    }
    let sorted: Vec<_> = rows(index).iter().map(|row| row.name.key).collect();
    assert_eq!(sorted, keys);
    let snapshot = index.snapshot().unwrap();
    for row in rows(index) {
        assert_eq!(row.id, CheckpointId::of(run_id(1), row.name.key));
        assert_eq!(snapshot.find_checkpoint(row.id).unwrap(), Some(row.name));
    }
    let nobody = CheckpointId::from_bits(1);
    assert_eq!(snapshot.find_checkpoint(nobody).unwrap(), None);
}

fn launches_that_start_from_a_checkpoint_are_found(index: &dyn Index) {
    fold(index, run(1, None));
    let saved = key(1, 5, 0);
    let mut items = run(2, Some(crate::builder::base(1, 1, 5)));
    let Some(FoldItem::Attempt(record)) = items.last_mut() else {
        unreachable!()
    };
    record.checkpoint = Some(name(saved));
    fold(index, items);
    let found = index.snapshot().unwrap().started_from(run_id(1)).unwrap();
    assert_eq!(found, [(crate::builder::attempt_id(2, 1), name(saved))]);
}
