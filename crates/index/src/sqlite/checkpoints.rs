//! Checkpoints of some runs, in a fixed number of queries however many there are: a chain of a thousand forks asks for a thousand runs.

use std::collections::{BTreeMap, HashMap};

use runtree_core::float::JsonFloat;
use runtree_core::manifest::{CheckpointName, Outcome};
use runtree_core::{AttemptNumber, CheckpointId, ComponentName, Result, RunId, SaveKey, Step};

use super::fields::kind;
use super::fold::PartColumns;
use super::keys::{from_json, to_json, unsorted};
use super::read::SqliteSnapshot;
use crate::row::{CheckpointRow, PartRow};

/// Where the row of a checkpoint is: row of its run, and key.
type Places = HashMap<(i64, String), usize>;

/// What is known of the parts of one checkpoint.
struct StoredPart {
    component: String,
    rank: u32,
    confirmed: bool,
    facts: String,
}

/// Checkpoints that runs saved themselves: run by run, ascending by (step, attempt, k).
pub(super) fn of(snapshot: &SqliteSnapshot<'_>, runs: &[RunId]) -> Result<Vec<CheckpointRow>> {
    let mut ids: HashMap<i64, RunId> = HashMap::new();
    for &run in runs {
        if let Some(id) = snapshot.row_of_run(run)? {
            ids.insert(id, run);
        }
    }
    let wanted = to_json(&ids.keys().collect::<Vec<_>>());
    let mut rows = snapshot.rows(
        "SELECT checkpoint.attempt, step, k, checkpoint.id, committed, tombstone, reason, checkpoint, run_id
         FROM json_each(?1) AS wanted CROSS JOIN checkpoint ON checkpoint.run_id = wanted.value
         ORDER BY run_id, step, checkpoint.attempt, k",
        [&wanted],
        |row| {
            let key = save_key(row, 0)?;
            let tombstone: Option<u32> = row.get(5)?;
            let committed: Option<bool> = row.get(4)?;
            let run_id: i64 = row.get(8)?;
            let checkpoint = CheckpointRow {
                name: CheckpointName {
                    run: ids[&run_id],
                    key,
                },
                id: CheckpointId::from_bits(unsorted(row.get(7)?)),
                outcome: committed.map(|committed| {
                    if committed {
                        Outcome::Committed
                    } else {
                        Outcome::Abandoned
                    }
                }),
                deleted: tombstone.is_some_and(|number| number.is_multiple_of(2)),
                tombstone: match tombstone {
                    Some(number) => Some((number, row.get(6)?)),
                    None => None,
                },
                label: None,
                created: None,
                bytes: 0,
                tensors: 0,
                metrics: BTreeMap::new(),
                tags: Vec::new(),
                pins: Vec::new(),
                parts: Vec::new(),
            };
            Ok((row.get::<_, i64>(3)?, run_id, checkpoint))
        },
    )?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = stored_parts(snapshot, rows.iter().map(|(id, ..)| *id).collect())?;
    let mut places = Places::new();
    for (place, (id, run_id, row)) in rows.iter_mut().enumerate() {
        places.insert((*run_id, row.name.key.to_string()), place);
        add_parts(parts.remove(id).unwrap_or_default(), row)?;
    }
    let mut rows: Vec<CheckpointRow> = rows.into_iter().map(|(_, _, row)| row).collect();
    add_words(snapshot, &wanted, &places, &mut rows)?;
    for row in &mut rows {
        row.tags.sort_unstable();
    }
    Ok(rows)
}

pub(super) fn save_key(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<SaveKey> {
    Ok(SaveKey {
        attempt: AttemptNumber(row.get(first)?),
        step: Step(row.get(first + 1)?),
        k: row.get(first + 2)?,
    })
}

/// Parts by the row of their checkpoint, sorted by component and rank.
fn stored_parts(
    snapshot: &SqliteSnapshot<'_>,
    checkpoints: Vec<i64>,
) -> Result<HashMap<i64, Vec<StoredPart>>> {
    let found = snapshot.rows(
        "SELECT checkpoint_id, component, rank, confirmed, facts
         FROM json_each(?1) AS wanted CROSS JOIN part ON part.checkpoint_id = wanted.value
         ORDER BY checkpoint_id, component, rank",
        [to_json(&checkpoints)],
        |row| {
            let part = StoredPart {
                component: row.get(1)?,
                rank: row.get(2)?,
                confirmed: row.get(3)?,
                facts: row.get(4)?,
            };
            Ok((row.get::<_, i64>(0)?, part))
        },
    )?;
    let mut parts: HashMap<i64, Vec<StoredPart>> = HashMap::new();
    for (checkpoint, part) in found {
        parts.entry(checkpoint).or_default().push(part);
    }
    Ok(parts)
}

/// What people and programs said about checkpoints: metrics, tags, pins.
fn add_words(
    snapshot: &SqliteSnapshot<'_>,
    wanted: &str,
    places: &Places,
    rows: &mut [CheckpointRow],
) -> Result<()> {
    let fields = snapshot.rows(
        "SELECT field.run_id, kind, field.key, field.value
         FROM json_each(?1) AS wanted CROSS JOIN field ON field.run_id = wanted.value AND kind IN (5, 6)",
        [wanted],
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
            ))
        },
    )?;
    for (run_id, field, key, value) in fields {
        let Some((key, name)) = key.split_once('\n') else {
            continue;
        };
        let Some(&place) = places.get(&(run_id, key.to_owned())) else {
            continue;
        };
        let row = &mut rows[place];
        if field == kind::CHECKPOINT_METRIC {
            let value: JsonFloat = from_json(&value, "a checkpoint's metric")?;
            row.metrics.insert(name.to_owned(), value.0);
        } else if field == kind::CHECKPOINT_TAG && value == "1" {
            row.tags.push(name.to_owned());
        }
    }
    let pins = snapshot.rows(
        "SELECT run.id, pin.key, pin.name FROM pin JOIN run ON run.run = pin.run
         WHERE run.id IN (SELECT value FROM json_each(?1)) ORDER BY pin.name",
        [wanted],
        |row| {
            Ok((
                (row.get::<_, i64>(0)?, row.get::<_, String>(1)?),
                row.get::<_, String>(2)?,
            ))
        },
    )?;
    for (place, name) in pins {
        if let Some(&place) = places.get(&place) {
            rows[place].pins.push(name);
        }
    }
    Ok(())
}

fn add_parts(found: Vec<StoredPart>, row: &mut CheckpointRow) -> Result<()> {
    let mut parts: BTreeMap<(ComponentName, u32), PartRow> = BTreeMap::new();
    let mut declared: BTreeMap<ComponentName, u32> = BTreeMap::new();
    for part in found {
        let (rank, confirmed) = (part.rank, part.confirmed);
        let component: ComponentName = part.component.parse()?;
        let facts: PartColumns = from_json(&part.facts, "a part")?;
        row.bytes += facts.bytes;
        row.tensors += facts.tensors;
        row.created = Some(
            row.created
                .map_or(facts.created, |at| at.min(facts.created)),
        );
        if row.label.is_none() {
            row.label = facts.name;
        }
        // Two parts that disagree about a metric: the first by component and rank speaks.
        for (name, value) in facts.metrics {
            row.metrics.entry(name).or_insert(value.0);
        }
        for (component, ranks) in facts.declared {
            let known = declared.entry(component).or_insert(ranks);
            *known = ranks.max(*known);
        }
        parts.insert(
            (component.clone(), rank),
            PartRow {
                component,
                rank,
                present: true,
                confirmed,
                bytes: facts.bytes,
            },
        );
    }
    for (component, ranks) in declared {
        for rank in 0..ranks {
            parts
                .entry((component.clone(), rank))
                .or_insert_with(|| PartRow {
                    component: component.clone(),
                    rank,
                    present: false,
                    confirmed: false,
                    bytes: 0,
                });
        }
    }
    row.parts = parts.into_values().collect();
    Ok(())
}
