//! What a project remembers for people: saved views, and the head of each experiment.

use std::collections::BTreeMap;

use runtree_core::manifest::SettingRecord;
use runtree_core::{Error, ProjectName, Result, RunId, wire};
use runtree_index::{MetricChoice, RunRow, Snapshot};
use runtree_store::layout::SettingScope;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::queries::legible;
use crate::runs::require_row;

const VIEW: &str = "view/";
const HEAD: &str = "head/";

/// Longest name of a view, and longest query: a view is an address, not a document.
const MAX_NAME_BYTES: usize = 200;
const MAX_QUERY_BYTES: usize = 16 << 10;

impl Engine {
    /// Saved views of a project, by name.
    ///
    /// # Errors
    /// `Invalid` if `project` can not be a project's name; as the store says.
    pub fn views(&self, project: &str) -> Result<Vec<wire::SavedView>> {
        let settings = self.project_settings(&project.parse()?)?;
        let view = |(key, record): (String, SettingRecord)| {
            Some(wire::SavedView {
                name: key.strip_prefix(VIEW)?.to_owned(),
                query: record.value?.get("query")?.as_str()?.to_owned(),
                updated: record.created,
            })
        };
        Ok(settings.into_iter().filter_map(view).collect())
    }

    /// Saves a view under a name, over what was there. Durable when it returns.
    ///
    /// # Errors
    /// `Invalid` if name or query are too long or empty; `NotFound` if there is no such project.
    pub fn save_view(&self, project: &str, name: &str, query: &str) -> Result<()> {
        self.require_writable()?;
        if name.trim().is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Error::invalid(format!(
                "a view's name has 1 to {MAX_NAME_BYTES} bytes, not {}",
                name.len()
            )));
        }
        if query.len() > MAX_QUERY_BYTES {
            return Err(Error::invalid(format!(
                "a view has at most {MAX_QUERY_BYTES} bytes, not {}",
                query.len()
            ))
            .with_hint("choose fewer runs by hand; a filter says the same in a line"));
        }
        let project: ProjectName = project.parse()?;
        let projects = self.projects()?;
        if !projects.iter().any(|known| known.name == project.as_str()) {
            return Err(Error::not_found(format!(
                "there is no project {:?}",
                project.as_str()
            )));
        }
        let value = json!({"query": query});
        self.set(&project, format!("{VIEW}{name}"), Some(value))
    }

    /// Takes a saved view away.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub fn delete_view(&self, project: &str, name: &str) -> Result<()> {
        self.require_writable()?;
        let views = self.views(project)?;
        if !views.iter().any(|view| view.name == name) {
            let error = Error::not_found(format!("project {project} has no view {name:?}"));
            let names: Vec<_> = views.iter().map(|view| legible(&view.name)).collect();
            return Err(if names.is_empty() {
                error.with_hint("it has none")
            } else {
                error.with_hint(format!("it has {}", names.join(", ")))
            });
        }
        self.set(&project.parse()?, format!("{VIEW}{name}"), None)
    }

    /// Makes a run the head of its experiment: what its lineage has come to, for people. Nothing is decided by it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the run is deleted.
    pub fn set_head(&self, run: RunId) -> Result<()> {
        self.require_writable()?;
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let row = require_row(self, &*snapshot, run)?;
        if row.deleted {
            let error = Error::invalid(format!("run {} is deleted", row.record.display_id));
            return Err(error.with_hint(format!("runtree undelete {run}")));
        }
        let root = require_row(self, &*snapshot, row.root)?;
        let key = format!("{HEAD}{}", row.root);
        self.set(
            &root.record.project,
            key,
            Some(Value::String(run.to_string())),
        )
    }

    /// Leaves an experiment without a head that somebody set.
    ///
    /// # Errors
    /// `NotFound` if the run is not there.
    pub fn clear_head(&self, run: RunId) -> Result<()> {
        self.require_writable()?;
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let root = require_row(self, &*snapshot, run)?.root;
        let project = require_row(self, &*snapshot, root)?.record.project;
        self.set(&project, format!("{HEAD}{root}"), None)
    }

    /// The head of a run's experiment: the run that was made it, else the one of its lineage that was active last.
    ///
    /// # Errors
    /// `NotFound` if the run is not there.
    pub fn head(&self, run: RunId) -> Result<RunId> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let root = require_row(self, &*snapshot, run)?.root;
        if let Some(head) = self.chosen_head(&*snapshot, root)? {
            return Ok(head);
        }
        let rows = self.family_rows(&*snapshot, root)?;
        Ok(active_last(rows.values()).unwrap_or(root))
    }

    /// The run that was made head of a lineage, as long as it is there.
    pub(crate) fn chosen_head(
        &self,
        snapshot: &dyn Snapshot,
        root: RunId,
    ) -> Result<Option<RunId>> {
        let project = require_row(self, snapshot, root)?.record.project;
        let settings = self.project_settings(&project)?;
        let record = settings.get(&format!("{HEAD}{root}"));
        let chosen =
            record.and_then(|record| record.value.as_ref()?.as_str()?.parse::<RunId>().ok());
        let Some(head) = chosen else {
            return Ok(None);
        };
        let row = snapshot.run(head, &MetricChoice::None, self.liveness())?;
        Ok(row
            .filter(|row| row.root == root && !row.deleted)
            .map(|row| row.record.run))
    }

    fn project_settings(&self, project: &ProjectName) -> Result<BTreeMap<String, SettingRecord>> {
        let scope = SettingScope::Project(project.clone());
        self.store.settings(&scope, &self.settings)
    }

    fn set(&self, project: &ProjectName, key: String, value: Option<Value>) -> Result<()> {
        self.store.write_setting(
            &SettingScope::Project(project.clone()),
            &SettingRecord {
                key,
                value,
                created: self.now(),
            },
        )
    }
}

/// Of a family without a head that somebody set: the run that was active last, deleted ones left out.
pub(crate) fn active_last<'a>(rows: impl Iterator<Item = &'a RunRow>) -> Option<RunId> {
    let present = rows.filter(|row| !row.deleted);
    let last = present.max_by_key(|row| (row.last_activity, row.record.run));
    last.map(|row| row.record.run)
}
