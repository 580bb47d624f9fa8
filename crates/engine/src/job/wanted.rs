//! What a job loads, in the words of who starts it.

use std::str::FromStr;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::{Reference, Selector};
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_core::{CheckpointId, Error, ErrorKind, ProjectName, Result, RunId};

use super::names::step_in;
use crate::engine::Engine;
use crate::queries::{CheckpointScope, RunQuery};
use crate::resolve::Purpose;

/// How many runs of a project are asked for at a time.
const PAGE: usize = 100;

/// A checkpoint that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By its id.
    Id(CheckpointId),
    /// By a REF; of a bare run the newest.
    Reference(Reference),
    /// `PROJECT/`: the newest of the most recent run of the project that has one.
    Project(ProjectName),
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(project) = text
            .strip_suffix('/')
            .filter(|_| !text.contains(['@', '#']))
        {
            return project.parse().map(Self::Project);
        }
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Reference),
        }
    }
}

impl Engine {
    /// The checkpoint that is wanted. `run@checkpoint-20` is the one of that name, else the one of step 20: what a trainer would call it.
    ///
    /// # Errors
    /// `NotFound` that lists what there is.
    pub fn resolve_wanted(&self, wanted: &Wanted, project: Option<&str>) -> Result<CheckpointName> {
        match wanted {
            Wanted::Id(id) => self.find_checkpoint(*id),
            Wanted::Project(project) => self.newest_of_project(project),
            Wanted::Reference(reference) => {
                let found = self.resolve_checkpoint(reference, project, Purpose::Read);
                let step = match &reference.selector {
                    Some(Selector::Name(name)) => step_in(name),
                    _ => None,
                };
                match (found, step) {
                    (Err(error), Some(step)) if error.kind() == ErrorKind::NotFound => {
                        let by_step = Reference {
                            selector: Some(Selector::Step(step)),
                            ..reference.clone()
                        };
                        self.resolve_checkpoint(&by_step, project, Purpose::Read)
                            .map_err(|_| error)
                    }
                    (found, _) => found,
                }
            }
        }
    }

    /// The newest checkpoint of the run of a project that was made last, of those that have one.
    fn newest_of_project(&self, project: &ProjectName) -> Result<CheckpointName> {
        let mut query = RunQuery {
            project: Some(project.to_string()),
            limit: PAGE,
            metrics: Some(Vec::new()),
            ..RunQuery::default()
        };
        let mut total = 0;
        loop {
            let page = self.runs(&query)?;
            total = page.total.max(total);
            for run in &page.runs {
                if let Some(name) = self.newest_saved(run.id.parse()?)? {
                    return Ok(name);
                }
            }
            let Some(cursor) = page.next_cursor else {
                break;
            };
            query.cursor = Some(cursor);
        }
        Err(if total == 0 {
            Error::not_found(format!(
                "project {project} has no runs in {}",
                self.location()
            ))
            .with_hint("see what there is: runtree runs; another store: --store, RUNTREE_STORE")
        } else {
            Error::not_found(format!(
                "none of the {total} runs of project {project} has a checkpoint"
            ))
            .with_hint("name another project, or start without --load")
        })
    }

    /// The newest checkpoint that a run can go on from: also one that it inherited.
    fn newest_saved(&self, run: RunId) -> Result<Option<CheckpointName>> {
        let scope = CheckpointScope {
            inherited: true,
            ..CheckpointScope::default()
        };
        let all = self.checkpoints(run, scope)?;
        let newest = all
            .iter()
            .rfind(|info| info.effective && info.state == CheckpointState::Complete);
        newest.map(CheckpointInfo::checkpoint_name).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_ends_in_a_slash() {
        assert!(
            matches!("gpt-finetuning/".parse(), Ok(Wanted::Project(project)) if project.as_str() == "gpt-finetuning")
        );
        assert!(matches!(
            "gpt-finetuning/job".parse(),
            Ok(Wanted::Reference(_))
        ));
        assert!(matches!(
            "job@checkpoint-20".parse(),
            Ok(Wanted::Reference(_))
        ));
        assert!("/".parse::<Wanted>().is_err());
    }
}
