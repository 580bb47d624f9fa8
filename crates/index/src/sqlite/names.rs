//! Names that runs are described by.
//!
//! A project of few runs is gone through. In a large one each name there is, interned over all projects and few, is tried once, and the first run
//! found with it ends the search.

use std::collections::BTreeSet;

use runtree_core::{ProjectName, Result};
use rusqlite::params;

use super::read::SqliteSnapshot;
use crate::row::KnownKeys;

/// Values of a project's runs that are gone through, some milliseconds.
const FEW: usize = 50_000;

/// Of a project.
pub(super) fn of(snapshot: &SqliteSnapshot<'_>, project: &ProjectName) -> Result<KnownKeys> {
    let metrics = "latest CROSS JOIN name ON name.id = latest.metric_id";
    let config = "config CROSS JOIN name ON name.id = config.key_id";
    Ok(KnownKeys {
        metrics: match few(snapshot, project, "name.text", "latest", metrics)? {
            Some(found) => found,
            None => tried(snapshot, project, "latest", "metric_id")?,
        },
        config: match few(snapshot, project, "name.text", "config", config)? {
            Some(found) => found,
            None => tried(snapshot, project, "config", "key_id")?,
        },
        tags: match few(snapshot, project, "tag.tag", "tag", "tag")? {
            Some(found) => found,
            None => tried_tags(snapshot, project)?,
        },
    })
}

/// What the runs of a project have in a table, sorted; `None` if that is much.
fn few(
    snapshot: &SqliteSnapshot<'_>,
    project: &ProjectName,
    value: &str,
    table: &str,
    joined: &str,
) -> Result<Option<Vec<String>>> {
    let sql = format!(
        "SELECT {value} FROM run CROSS JOIN {joined} WHERE run.shown = 0 AND run.project = ?1 AND {table}.run_id = run.id LIMIT ?2"
    );
    let limit = FEW as i64 + 1;
    let found = snapshot.rows(&sql, params![project.as_str(), limit], |row| {
        row.get::<_, String>(0)
    })?;
    let is_all = found.len() <= FEW;
    let sorted = || BTreeSet::from_iter(found).into_iter().collect();
    Ok(is_all.then(sorted))
}

/// Names that a run of a project has in a table.
fn tried(
    snapshot: &SqliteSnapshot<'_>,
    project: &ProjectName,
    table: &str,
    key: &str,
) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT text FROM name WHERE EXISTS (
           SELECT 1 FROM {table} JOIN run ON run.id = {table}.run_id
           WHERE {table}.{key} = name.id AND run.project = ?1 AND +run.shown = 0) ORDER BY text"
    );
    snapshot.rows(&sql, [project.as_str()], |row| row.get(0))
}

/// Tags that a run of a project has; the next tag is looked up behind the one before, so that those of many runs are not gone through.
fn tried_tags(snapshot: &SqliteSnapshot<'_>, project: &ProjectName) -> Result<Vec<String>> {
    snapshot.rows(
        "WITH RECURSIVE each(tag) AS (
           SELECT min(tag) FROM tag
           UNION ALL SELECT (SELECT min(tag) FROM tag WHERE tag > each.tag) FROM each WHERE each.tag IS NOT NULL)
         SELECT tag FROM each WHERE tag IS NOT NULL AND EXISTS (
           SELECT 1 FROM tag AS it JOIN run ON run.id = it.run_id
           WHERE it.tag = each.tag AND run.project = ?1 AND +run.shown = 0)",
        [project.as_str()],
        |row| row.get(0),
    )
}
